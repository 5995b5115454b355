# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from sql.conditionals import Coalesce

from trytond.model import (
    DeactivableMixin, Index, ModelSQL, ModelView, fields, sequence_ordered,
    tree)
from trytond.pool import Pool

CATEGORIES = [
    ('quality', "Product Quality"),
    ('demand', "Customer Demand Change"),
    ('sales', "Sales Misleading"),
    ('logistics', "Logistics"),
    ('other', "Other"),
    ]


class Reason(
        tree(separator=' / '), sequence_ordered(), DeactivableMixin,
        ModelSQL, ModelView):
    "Return Reason"
    __name__ = 'return.reason'

    name = fields.Char("Name", required=True, translate=True)
    parent = fields.Many2One(
        'return.reason', "Parent",
        help="Add the reason below the parent.")
    children = fields.One2Many('return.reason', 'parent', "Children")
    category = fields.Selection(
        CATEGORIES, "Category", required=True, sort=False,
        help="The kind of cause: decides which policy line applies, "
        "who looks at the goods and where they are kept.")
    inspect = fields.Boolean(
        "Inspect before Approval",
        help="Check to ask for the goods after the initial review "
        "and inspect them before the final one.")
    evidence = fields.Boolean(
        "Evidence Required",
        help="Check to refuse the submission of a return "
        "without attachment.")
    freight_payer = fields.Selection([
            ('customer', "Customer"),
            ('company', "Company"),
            ], "Freight Borne by", required=True,
        help="Who bears the cost of sending the goods back.")
    forbidden_actions = fields.MultiSelection(
        'get_actions', "Forbidden Dispositions",
        help="Where goods returned for this reason must never go.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (Coalesce(t.parent, 0), Index.Range())))

    @classmethod
    def default_inspect(cls):
        return False

    @classmethod
    def default_evidence(cls):
        return False

    @classmethod
    def default_freight_payer(cls):
        return 'customer'

    @fields.depends('parent', '_parent_parent.category')
    def on_change_parent(self):
        if self.parent:
            self.category = self.parent.category

    @classmethod
    def get_actions(cls):
        Disposition = Pool().get('return.disposition')
        return Disposition.fields_get(['action'])['action']['selection']
