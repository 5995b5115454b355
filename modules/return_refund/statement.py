# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict, namedtuple
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import fields
from trytond.modules.company import CompanyReport
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.transaction import check_access, without_check_access

from .exceptions import StatementError

Row = namedtuple('Row', ['label', 'reason', 'amount'])


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    statement = fields.Function(fields.Text(
            "Why this Amount",
            help="The figures of each line and the rule that set them, as "
            "they were stored when the refund was prepared."),
        'get_statement')

    @classmethod
    @without_check_access
    def get_statement(cls, refunds, name):
        return {r.id: r._get_statement() for r in cls.browse(refunds)}

    def _get_statement(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        texts = []
        for line in self.lines:
            texts.append(gettext(
                    'return_refund.msg_statement_total',
                    line=line.get_statement_title(),
                    amount=lang.currency(line.total_amount, self.currency)))
            rule = line.get_statement_rule()
            if rule:
                texts.append(rule)
            for row in line.get_statement_rows():
                texts.append('• ' + gettext(
                        'return_refund.msg_statement_row',
                        label=row.label,
                        reason=row.reason,
                        amount=lang.currency(row.amount, self.currency)))
            texts.append('')
        return '\n'.join(texts).strip()

    def get_statement_taxes(self):
        "Return the taxes and their amounts, those of the most money first"
        amounts = defaultdict(Decimal)
        for line in self.lines:
            for tax in line.taxes:
                amounts[tax.tax] += tax.amount
        return sorted(amounts.items(), key=lambda t: (-t[1], t[0].id))


class Line(metaclass=PoolMeta):
    __name__ = 'return.refund.line'

    total_amount = fields.Function(Monetary(
            "Total", currency='currency', digits='currency',
            help="Tax included; positive for the customer, negative for a "
            "fee."),
        'get_total_amount')

    def get_total_amount(self, name):
        return self.amount + self.tax_amount

    def get_statement_title(self):
        return '%s: %s' % (
            self.kind_string, self.return_line.product.rec_name)

    def get_statement_rule(self):
        if self.policy_line:
            return gettext(
                'return_refund.msg_statement_rule',
                policy=self.policy_line.policy.rec_name,
                reason=self.return_line.reason.rec_name)

    def get_statement_rows(self):
        """Return the figures of the line with what set them

        They are those that were stored and add up to the total.
        """
        get_rows = getattr(self, '_get_%s_rows' % self.kind)
        return get_rows() + self._get_tax_rows()

    def _get_goods_rows(self):
        rows = [*self._get_base_rows()]
        if self.deducted_amount:
            rows.append(self._get_row('deducted', -self.deducted_amount))
        if self.withheld_amount:
            rows.append(self._get_row('share', -self.withheld_amount))
        return rows + self._get_limited_rows()

    def _get_price_reduction_rows(self):
        return [
            *self._get_base_rows(),
            self._get_row('reduction', -self.withheld_amount),
            *self._get_limited_rows()]

    def _get_fee_rows(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        rule = self.policy_line
        reason = gettext(
            'return_refund.msg_statement_fee_fixed_reason' if rule.fee_amount
            else 'return_refund.msg_statement_fee_reason',
            rate=lang.format('%.2f', self.share * 100),
            base=lang.currency(self.base_amount, self.currency),
            fixed=lang.currency(
                rule.fee_amount or 0, self.refund.company.currency))
        if self.deducted_amount:
            reason += ' ' + gettext(
                'return_refund.msg_statement_fee_before',
                before=lang.currency(self.deducted_amount, self.currency))
        return [Row(
                gettext('return_refund.msg_statement_fee'), reason,
                self.amount)]

    def _get_base_rows(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()

        def number(quantity):
            return lang.format_number_symbol(
                quantity, self.unit, digits=self.unit.digits)

        label = gettext(
            'return_refund.msg_statement_base',
            quantity=number(self.quantity),
            price=lang.currency(
                self.unit_price, self.currency, digits=price_digits[1]))
        if self.invoice_line:
            invoice = self.invoice_line.invoice
            reason = gettext(
                'return_refund.msg_statement_base_invoice',
                invoice=invoice.number,
                date=lang.strftime(invoice.invoice_date),
                total=number(self.invoice_line.quantity))
        else:
            reason = gettext('return_refund.msg_statement_base_goodwill')
        rows = [Row(label, reason, self.base_amount)]
        if self.rounding_amount:
            rows.append(self._get_row('rounding', self.rounding_amount))
        return rows

    def _get_limited_rows(self):
        if not self.limited_amount:
            return []
        return [self._get_row('limited', -self.limited_amount)]

    def _get_tax_rows(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        return [
            Row(t.tax.rec_name, gettext(
                    'return_refund.msg_statement_tax_reason',
                    date=lang.strftime(self.invoice_line.tax_date)),
                t.amount)
            for t in self.taxes]

    def _get_row(self, name, amount):
        pool = Pool()
        Lang = pool.get('ir.lang')
        label = 'return_refund.msg_statement_' + name
        return Row(
            gettext(
                label,
                share=Lang.get().format('%.2f', (self.share or 0) * 100)),
            gettext(label + '_reason'), amount)


class Statement(CompanyReport):
    __name__ = 'return.refund.statement'

    @classmethod
    def execute(cls, ids, data):
        pool = Pool()
        Refund = pool.get('return.refund')
        data = data.copy()
        model = data.get('model') or Refund.__name__
        # Of returns and invoices the refunds are printed
        names = {
            'return.order': ['return_order'],
            'account.invoice': ['credit_note', 'invoice'],
            }.get(model)
        if names:
            ids = list(map(int, ids))
            with check_access():
                refunds = Refund.search([
                        ['OR', *((n, 'in', ids) for n in names)],
                        ('state', '!=', 'cancelled'),
                        ], order=[('number', 'ASC'), ('id', 'ASC')])
            if not refunds:
                Model = pool.get(model)
                raise StatementError(gettext(
                        'return_refund.msg_statement_none',
                        record=Model(ids[0]).rec_name))
            ids = list(map(int, refunds))
            data.update(model=Refund.__name__, id=ids[0], ids=ids)
        return super().execute(ids, data)

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        context['get_address'] = cls.get_address
        context['format_amount'] = cls.format_amount
        return context

    @classmethod
    def get_address(cls, refund):
        address = (
            refund.invoice.invoice_address if refund.invoice
            else refund.party.address_get(type='invoice'))
        return [
            refund.party.full_name,
            *(address.full_address.splitlines() if address else [])]

    @classmethod
    def format_amount(cls, refund, amount):
        return cls.format_currency(amount, None, refund.currency)
