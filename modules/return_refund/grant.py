# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.cache import Cache
from trytond.i18n import gettext
from trytond.model import fields
from trytond.pool import Pool, PoolMeta
from trytond.transaction import Transaction, without_check_access

from .exceptions import GrantError


def limit_field(name, string, help_):
    return fields.Numeric(
        string, digits=(16, 2),
        domain=['OR',
            (name, '=', None),
            (name, '>=', 0),
            ],
        help="\n".join([
                help_ + ", in the company's currency and without tax.",
                "Leave empty for no limit."]))


ahead_sales_limit = limit_field(
    'ahead_sales_limit', "Before Goods, Sales",
    "The amount of a return up to which sales grants money before the goods "
    "have come; above it finance must sign the final review")
ahead_finance_limit = limit_field(
    'ahead_finance_limit', "Before Goods, Finance",
    "The amount of a return up to which finance grants money before the "
    "goods have come; above it nobody does")
returnless_sales_limit = limit_field(
    'returnless_sales_limit', "Without Goods, Sales",
    "The amount of a return up to which sales grants money for goods that "
    "do not come back; above it finance must sign the final review")
returnless_finance_limit = limit_field(
    'returnless_finance_limit', "Without Goods, Finance",
    "The amount of a return up to which finance grants money for goods that "
    "do not come back; above it nobody does")
goodwill_finance_limit = limit_field(
    'goodwill_finance_limit', "Without Sale, Finance",
    "The amount of a return up to which finance grants goodwill for goods "
    "without a sale; above it nobody does")

_names = {
    'ahead_sales_limit', 'ahead_finance_limit', 'returnless_sales_limit',
    'returnless_finance_limit', 'goodwill_finance_limit'}


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    ahead_sales_limit = fields.MultiValue(ahead_sales_limit)
    ahead_finance_limit = fields.MultiValue(ahead_finance_limit)
    returnless_sales_limit = fields.MultiValue(returnless_sales_limit)
    returnless_finance_limit = fields.MultiValue(returnless_finance_limit)
    goodwill_finance_limit = fields.MultiValue(goodwill_finance_limit)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in _names:
            return pool.get('return.configuration.refund')
        return super().multivalue_model(field)


class ConfigurationRefund(metaclass=PoolMeta):
    __name__ = 'return.configuration.refund'

    ahead_sales_limit = ahead_sales_limit
    ahead_finance_limit = ahead_finance_limit
    returnless_sales_limit = returnless_sales_limit
    returnless_finance_limit = returnless_finance_limit
    goodwill_finance_limit = goodwill_finance_limit

    _limits_cache = Cache('return.configuration.refund.limits', context=False)

    @classmethod
    def get_limits(cls, company):
        "Map the kinds of grants and the roles to the limits of the company"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        limits = cls._limits_cache.get(company.id)
        if limits is None:
            config = Configuration(1)
            limits = {}
            # What is kept must not depend on who asks first
            with without_check_access():
                for name in _names:
                    kind, role, _ = name.split('_')
                    limit = config.get_multivalue(name, company=company.id)
                    if limit is not None:
                        limits[kind, role] = limit
            cls._limits_cache.set(company.id, limits)
        return limits

    @classmethod
    def create(cls, vlist):
        cls._limits_cache.clear()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        cls._limits_cache.clear()
        super().write(*args)

    @classmethod
    def delete(cls, records):
        cls._limits_cache.clear()
        super().delete(records)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    def _get_grants(self):
        "Map the kinds of grants to their amount in the company's currency"
        pool = Pool()
        Currency = pool.get('currency.currency')
        grants = defaultdict(Decimal)
        for line in self.lines:
            kind, amount = line._get_grant()
            if amount:
                grants[kind] += amount
        with Transaction().set_context(date=self.requested_on):
            return {
                k: Currency.compute(self.currency, a, self.company.currency)
                for k, a in grants.items()}

    def _get_exceeded(self, role):
        "Return the kinds of grants that are above the limits of the role"
        pool = Pool()
        Limit = pool.get('return.configuration.refund')
        limits = Limit.get_limits(self.company)
        if not any(r == role for _, r in limits):
            return []
        return [
            (kind, amount, limits[kind, role])
            for kind, amount in self._get_grants().items()
            if (kind, role) in limits and amount > limits[kind, role]]

    def _required_roles(self, stage):
        roles = super()._required_roles(stage)
        if stage == 'final' and self._get_exceeded('sales'):
            roles.add('finance')
        return roles

    def _is_automatic(self):
        return (
            super()._is_automatic()
            and not self._get_exceeded('sales')
            and not self._get_exceeded('finance'))

    def _check_approved(self):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Lang = pool.get('ir.lang')
        super()._check_approved()
        lang = Lang.get()
        for kind, amount, limit in self._get_exceeded('finance'):
            raise GrantError(gettext(
                    'return_refund.msg_order_grant_limit',
                    order=self.rec_name,
                    amount=lang.currency(amount, self.company.currency),
                    limit=lang.currency(limit, self.company.currency),
                    **Configuration.__names__(f'{kind}_finance_limit')))


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_grant(self):
        "Return the kind of what is granted without goods and its amount"
        if not self.expects_refund:
            return None, Decimal(0)
        quantity = (
            self.open_quantity if self.approved_quantity is None
            else self.approved_quantity)
        share = Decimal(1)
        if not self.sale_line:
            kind = 'goodwill'
        elif self.wish == 'price_reduction':
            kind, share = 'returnless', self.price_reduction
        elif not self._is_goods(self.product):
            return None, Decimal(0)
        elif not self.expects_goods:
            kind = 'returnless'
        elif self._get_refund_timing() == 'approval':
            kind = 'ahead'
            quantity = max(0, quantity - self.received_quantity)
        else:
            return None, Decimal(0)
        amount = Decimal(str(quantity)) * (self.unit_price or Decimal(0))
        return kind, amount * (share or Decimal(0))
