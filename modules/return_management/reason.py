# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from pathlib import PurePath

from sql.conditionals import Coalesce

from trytond.i18n import gettext
from trytond.model import (
    DeactivableMixin, Index, ModelSQL, ModelView, fields, sequence_ordered,
    tree)
from trytond.model.exceptions import RequiredValidationError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval

from .exceptions import ReasonError

CATEGORIES = [
    ('quality', "Product Quality"),
    ('demand', "Customer Demand Change"),
    ('sales', "Sales Misleading"),
    ('logistics', "Logistics"),
    ('other', "Other"),
    ]
FREIGHT_PAYERS = [
    ('customer', "Customer"),
    ('company', "Company"),
    ]
IMAGES = {
    '.bmp', '.gif', '.heic', '.heif', '.jpeg', '.jpg', '.png', '.tif',
    '.tiff', '.webp'}


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
        states={
            'readonly': Bool(Eval('parent')),
            },
        help="The kind of cause: decides which policy line applies, "
        "who looks at the goods and where they are kept.\n"
        "That of the parent, if there is one.")
    category_string = category.translated('category')
    inspect = fields.Boolean(
        "Inspect before Approval",
        help="Check to ask for the goods after the initial review "
        "and inspect them before the final one.")
    evidence = fields.Boolean(
        "Evidence Required",
        help="Check to refuse the submission of a return "
        "without attachment.")
    photos = fields.Boolean(
        "Photos Required",
        help="Check to refuse the submission of a return "
        "without attached image.")
    freight_payer = fields.Selection(
        FREIGHT_PAYERS, "Freight Borne by", required=True,
        help="Who bears the cost of sending the goods back.")
    default_action = fields.Selection(
        'get_default_actions', "Default Disposition",
        help="Where goods accepted for this reason go "
        "when nobody decides otherwise.")
    forbidden_actions = fields.MultiSelection(
        'get_actions', "Forbidden Dispositions",
        help="Where goods returned for this reason or one below it "
        "must never go.")

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
    def default_photos(cls):
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

    @classmethod
    def get_default_actions(cls):
        return [(None, "")] + cls.get_actions()

    @property
    def all_forbidden_actions(self):
        "What the reason and those above it forbid"
        actions, reason = set(), self
        while reason:
            actions.update(reason.forbidden_actions or [])
            reason = reason.parent
        return actions

    @classmethod
    def create(cls, vlist):
        vlist = [v.copy() for v in vlist]
        for values in vlist:
            if values.get('parent'):
                values.setdefault(
                    'category', cls(values['parent']).category)
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        actions, to_write, changed = iter(args), [], []
        for reasons, values in zip(actions, actions):
            if values.get('parent') and 'category' not in values:
                values = values.copy()
                values['category'] = cls(values['parent']).category
            if 'category' in values:
                changed.extend(reasons)
            to_write.extend((reasons, values))
        super().write(*to_write)
        # Those below follow, level by level
        children = defaultdict(list)
        if changed:
            for child in cls.search([
                        ('parent', 'in', [r.id for r in changed]),
                        ('active', 'in', [True, False]),
                        ]):
                if child.category != child.parent.category:
                    children[child.parent.category].append(child)
        to_write = []
        for category, reasons in children.items():
            to_write.extend((reasons, {'category': category}))
        if to_write:
            cls.write(*to_write)

    @classmethod
    def validate_fields(cls, reasons, field_names):
        super().validate_fields(reasons, field_names)
        if field_names & {'parent', 'category'}:
            cls.check_category(reasons)
        if field_names & {'parent', 'default_action', 'forbidden_actions'}:
            cls.check_default_action(reasons)

    @classmethod
    def check_category(cls, reasons):
        "Check that reasons have the category of what they stand below"
        for reason in reasons:
            if reason.parent and reason.category != reason.parent.category:
                raise ReasonError(gettext(
                        'return_management.msg_reason_category',
                        reason=reason.rec_name,
                        parent=reason.parent.rec_name))

    @classmethod
    def check_default_action(cls, reasons):
        for reason in reasons:
            if reason.default_action in reason.all_forbidden_actions:
                raise ReasonError(gettext(
                        'return_management.msg_reason_default_action',
                        reason=reason.rec_name))

    def get_default_action(self):
        "Return where accepted goods go by default or None"
        if self.default_action not in self.all_forbidden_actions:
            return self.default_action


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _check_evidence(cls, orders):
        super()._check_evidence(orders)
        needed = [
            o for o in orders if any(l.reason.photos for l in o.lines)]
        attachments = cls._get_attachments(needed)
        for order in needed:
            if not any(
                    PurePath(n).suffix.lower() in IMAGES
                    for n in attachments[order]):
                raise RequiredValidationError(gettext(
                        'return_management.msg_order_photos_required',
                        order=order.rec_name,
                        reason=next(
                            l.reason.rec_name for l in order.lines
                            if l.reason.photos)))


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @fields.depends(
        'line', '_parent_line.reason', '_parent_line.wish', 'action',
        methods=['on_change_action'])
    def on_change_line(self):
        super().on_change_line()
        if self.line and not self.action:
            self.action = self.line._get_default_action()
            if self.action:
                self.on_change_action()

    def _check_decide(self):
        super()._check_decide()
        # The reason may forbid more than when the disposition was entered
        self.check_action([self])


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_default_action(self):
        "Return where goods go when they are accepted, or None"
        return self.reason.get_default_action()
