# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.model import (
    Check, Index, MatchMixin, ModelSQL, ModelView, fields, sequence_ordered)
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool
from trytond.transaction import Transaction

from .reason import CATEGORIES


class Policy(ModelSQL, ModelView):
    "Return Policy"
    __name__ = 'return.policy'

    name = fields.Char("Name", required=True, translate=True)
    company = fields.Many2One(
        'company.company', "Company", ondelete='RESTRICT',
        help="The company that the policy binds.\n"
        "Leave empty for all companies.")
    start_date = fields.Date(
        "Start Date", required=True,
        help="The policy is in force for sales made from this date "
        "until a later version starts.")
    lines = fields.One2Many('return.policy.line', 'policy', "Lines")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.start_date, Index.Range(order='DESC'))))
        cls._order.insert(0, ('start_date', 'DESC'))

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def in_force(cls, keys):
        """Map each (company id, date) of keys to the policy in force then.

        A policy of the company is preferred to a common one that starts on
        the same day.  The value is None where no policy had started.
        """
        versions = cls.search(
            [('company', 'in', list({c for c, _ in keys}) + [None])],
            order=[
                ('start_date', 'DESC'),
                ('company', 'ASC NULLS LAST'),
                ('id', 'DESC')])
        return {
            (company, date): next((
                    v for v in versions
                    if (not v.company or v.company.id == company)
                    and v.start_date <= date), None)
            for company, date in keys}

    def find(self, pattern):
        "Return the first line that matches the pattern or None"
        for line in self.lines:
            if line.match(pattern):
                return line


class Line(sequence_ordered(), MatchMixin, ModelSQL, ModelView):
    "Return Policy Line"
    __name__ = 'return.policy.line'

    policy = fields.Many2One(
        'return.policy', "Policy", required=True, ondelete='CASCADE')
    product = fields.Many2One(
        'product.product', "Product", ondelete='RESTRICT',
        help="Leave empty for all products.")
    product_category = fields.Many2One(
        'product.category', "Product Category", ondelete='RESTRICT',
        help="The category or one of its children.\n"
        "Leave empty for all categories.")
    reason_category = fields.Selection(
        [(None, "")] + CATEGORIES, "Reason Category", sort=False,
        help="Leave empty for all reasons.")
    party = fields.Many2One(
        'party.party', "Customer", ondelete='RESTRICT',
        help="Leave empty for all customers.")
    channel = fields.Selection(
        'get_channels', "Channel",
        help="How the customer applied.\n"
        "Leave empty for all channels.")
    period = fields.Integer(
        "Period", required=True,
        help="The number of calendar days within which the customer "
        "may apply; the last day included.")
    period_from = fields.Selection([
            ('delivery', "Delivery"),
            ('invoice', "Invoice"),
            ('order', "Order"),
            ], "Counted from", required=True,
        help="The date from which the period counts.")
    period_from_string = period_from.translated('period_from')
    fee_rate = fields.Numeric(
        "Restocking Fee", digits=(5, 4), required=True,
        domain=[
            ('fee_rate', '>=', 0),
            ('fee_rate', '<=', 1),
            ],
        help="The share of the goods' amount, tax included, "
        "kept from the refund.")
    refund_timing = fields.Selection([
            ('approval', "Approval"),
            ('receipt', "Receipt"),
            ('inspection', "Inspection"),
            ], "Refund after", required=True, sort=False,
        help="Which quantity is refunded: the approved one, "
        "the received one or the one accepted by the disposition.")
    roles = fields.MultiSelection([
            ('sales', "Sales"),
            ('quality', "Quality"),
            ('finance', "Finance"),
            ], "Final Signatures", required=True,
        help="The roles that must sign the final review.")
    inspection = fields.Boolean(
        "Inspection",
        help="Check to require an inspection of the received goods.")
    automatic_amount = Monetary(
        "Automatic Approval up to", currency='currency', digits='currency',
        domain=['OR',
            ('automatic_amount', '=', None),
            ('automatic_amount', '>=', 0),
            ],
        help="A return whose goods are worth at most this amount, untaxed, "
        "is approved without signature when it is eligible.\n"
        "In the currency of the company; leave empty for never.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('period_positive', Check(t, t.period >= 0),
                'return_management.msg_policy_period_positive'),
            ]
        cls.__access__.add('policy')

    @classmethod
    def default_period_from(cls):
        return 'delivery'

    @classmethod
    def default_fee_rate(cls):
        return 0

    @classmethod
    def default_refund_timing(cls):
        return 'inspection'

    @classmethod
    def default_roles(cls):
        return ['sales']

    @classmethod
    def default_inspection(cls):
        return False

    @fields.depends('policy', '_parent_policy.company')
    def on_change_with_currency(self, name=None):
        if self.policy and self.policy.company:
            return self.policy.company.currency

    @classmethod
    def get_channels(cls):
        pool = Pool()
        Order = pool.get('return.order')
        return [(None, "")] + Order.fields_get(
            ['channel'])['channel']['selection']

    def match(self, pattern, match_none=False):
        pattern = pattern.copy()
        categories = pattern.pop('product_categories', set())
        if (self.product_category
                and self.product_category.id not in categories):
            return False
        return super().match(pattern, match_none=match_none)

    def last_date(self, start):
        "Return the last date to apply when the period counts from start"
        return start + dt.timedelta(days=self.period)
