# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, ModelSQL, ModelStorage, ModelView, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits, round_price
from trytond.pool import Pool
from trytond.pyson import Eval
from trytond.tools import grouped_slice
from trytond.transaction import Transaction

from .exceptions import AccountError


class Used:
    """What other refunds take of an invoice line

    quantity and amount are those of goods that come back, reduction is the
    amount of the price reductions, deducted the part of it that is already
    taken off the amount of goods, withheld what is not given back of goods,
    limited what was not because it had been credited otherwise.
    """
    __slots__ = (
        'quantity', 'amount', 'reduction', 'deducted', 'withheld', 'limited',
        'taxes')

    def __init__(self):
        self.quantity = 0
        self.amount = Decimal(0)
        self.reduction = Decimal(0)
        self.deducted = Decimal(0)
        self.withheld = Decimal(0)
        self.limited = Decimal(0)
        self.taxes = defaultdict(Decimal)

    def add(self, line):
        if line.kind == 'price_reduction':
            self.reduction += line.amount
        else:
            self.quantity += line.quantity
            self.amount += line.amount
            self.deducted += line.deducted_amount or 0
            self.withheld += line.withheld_amount or 0
            self.limited += line.limited_amount or 0
        for tax in line.taxes:
            self.taxes[tax.tax] += tax.amount

    @property
    def total(self):
        "What the customer gets back in all"
        return self.amount + self.reduction

    def get_deduction(self, quantity, total, currency):
        """Return what reductions take off the price of the quantity

        They are spread over all goods that have not come back yet.
        """
        left = self.reduction - self.deducted
        rest = Decimal(str(total)) - Decimal(str(self.quantity))
        if not left or Decimal(str(quantity)) >= rest:
            return left
        return currency.round(left * Decimal(str(quantity)) / rest)

    def get_tax(self, tax, charged_tax, amount, charged, currency):
        "Return the tax on a further amount of what was charged"
        if not amount or not charged:
            return Decimal(0)
        share = min((self.total + amount) / charged, Decimal(1))
        return currency.round(charged_tax * share) - self.taxes[tax]


class PreparedMixin(ModelStorage):
    "Keep what only processes prepare from the users"
    __slots__ = ()

    @classmethod
    def create(cls, vlist):
        cls._check_prepared()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        cls._check_prepared()
        super().write(*args)

    @classmethod
    def delete(cls, records):
        cls._check_prepared()
        super().delete(records)

    @classmethod
    def _check_prepared(cls):
        if Transaction().check_access:
            raise AccessError(gettext(
                    'return_refund.msg_prepared',
                    **cls.__names__()))


class Line(PreparedMixin, ModelSQL, ModelView):
    "Return Refund Line"
    __name__ = 'return.refund.line'

    refund = fields.Many2One(
        'return.refund', "Refund", required=True, readonly=True,
        ondelete='CASCADE')
    kind = fields.Selection([
            ('goods', "Goods"),
            ('price_reduction', "Price Reduction"),
            ('fee', "Restocking Fee"),
            ], "Kind", required=True, readonly=True, sort=False)
    kind_string = kind.translated('kind')
    return_line = fields.Many2One(
        'return.order.line', "Return Line", required=True, readonly=True,
        ondelete='RESTRICT')
    invoice_line = fields.Many2One(
        'account.invoice.line', "Invoice Line", readonly=True,
        ondelete='RESTRICT',
        help="The line of the invoice that is given back.\n"
        "Empty for goodwill on goods without a sale.")
    product = fields.Function(
        fields.Many2One('product.product', "Product"),
        'on_change_with_product')
    quantity = fields.Float(
        "Quantity", digits='unit', readonly=True,
        states={
            'invisible': Eval('kind') == 'fee',
            },
        help="The refunded quantity, in the unit of the invoice line.")
    unit = fields.Many2One(
        'product.uom', "Unit", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': Eval('kind') == 'fee',
            })
    unit_price = Monetary(
        "Unit Price", currency='currency', digits=price_digits, readonly=True,
        help="The price charged, without tax, all discounts taken off.")
    base_amount = Monetary(
        "Base", currency='currency', digits='currency', readonly=True,
        help="The price of the quantity, without tax, rounded by itself; "
        "of a fee the amount of the goods that it is a share of, with tax.")
    rounding_amount = Monetary(
        "Rounding", currency='currency', digits='currency', readonly=True,
        states={
            'invisible': ~Eval('rounding_amount'),
            },
        help="What is added such that all refunds of the invoice line add up "
        "to it.")
    share = fields.Numeric(
        "Share", digits=(5, 4), readonly=True,
        help="The share of the goods' price that is given back; "
        "of a price reduction the share that the customer wished; "
        "of a fee the share of the goods' amount, tax included.")
    deducted_amount = Monetary(
        "Deducted", currency='currency', digits='currency', readonly=True,
        states={
            'invisible': ~Eval('deducted_amount'),
            },
        help="What the customer got back earlier by price reductions, "
        "without tax; of a fee what earlier refunds kept; positive.")
    withheld_amount = Monetary(
        "Withheld", currency='currency', digits='currency', readonly=True,
        states={
            'invisible': ~Eval('withheld_amount'),
            },
        help="What is not given back because of the share, without tax; "
        "positive.")
    limited_amount = Monetary(
        "Credited Otherwise", currency='currency', digits='currency',
        readonly=True,
        states={
            'invisible': ~Eval('limited_amount'),
            },
        help="What is not given back because no more is left of the invoice "
        "line, without tax; positive.\n"
        "Negative for what an earlier refund could not give back.")
    amount = Monetary(
        "Amount", currency='currency', digits='currency', required=True,
        readonly=True,
        help="Without tax; positive for the customer, negative for a fee.")
    tax_amount = Monetary(
        "Tax", currency='currency', digits='currency', required=True,
        readonly=True,
        help="The part of the tax on the invoice.")
    taxes = fields.One2Many(
        'return.refund.line.tax', 'line', "Taxes", readonly=True)
    policy_line = fields.Many2One(
        'return.policy.line', "Rule", readonly=True, ondelete='RESTRICT',
        help="The rule of the policy that held when it was prepared.")
    explanation = fields.Text(
        "Explanation", readonly=True,
        help="How the amount was found; stored when it was prepared.")
    credit_lines = fields.One2Many(
        'account.invoice.line', 'return_refund_line', "Credit Note Lines",
        readonly=True)
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('refund')
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive',
                Check(t, (t.quantity > 0) | (t.kind == 'fee')),
                'return_refund.msg_refund_line_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.return_line, Index.Range())),
                Index(t, (t.invoice_line, Index.Range())),
                })

    @fields.depends('return_line', '_parent_return_line.product')
    def on_change_with_product(self, name=None):
        return self.return_line.product if self.return_line else None

    @fields.depends('refund', '_parent_refund.currency')
    def on_change_with_currency(self, name=None):
        return self.refund.currency if self.refund else None

    def get_rec_name(self, name):
        return ' @ '.join([
                '%s %s' % (
                    self.kind_string, self.return_line.product.rec_name),
                self.refund.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, _ = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('return_line.product.rec_name', *clause[1:]),
            ('refund.rec_name', *clause[1:]),
            ]

    @classmethod
    def write(cls, *args):
        cls._check_draft(sum(args[::2], []))
        super().write(*args)

    @classmethod
    def delete(cls, lines):
        cls._check_draft(lines)
        super().delete(lines)

    @classmethod
    def _check_draft(cls, lines):
        for line in lines:
            if line.refund.state != 'draft':
                raise AccessError(gettext(
                        'return_refund.msg_refund_modify',
                        refund=line.refund.rec_name))

    @property
    def figures(self):
        "What makes the line differ from another one"
        return (
            self.kind, self.return_line, self.invoice_line,
            self.quantity, self.amount, self.tax_amount,
            sorted((t.tax.id, t.amount) for t in self.taxes))

    def get_return_quantity(self):
        "Return the quantity in the unit of the return line"
        pool = Pool()
        Uom = pool.get('product.uom')
        return Uom.compute_qty(
            self.unit, self.quantity, self.return_line.unit)

    @classmethod
    def get_used(cls, invoice_lines, return_lines, exclude=()):
        """Map invoice lines to what refunds take of them

        And return lines to what is taken without invoice.  The refunds of
        exclude do not count.
        """
        exclude = {r.id for r in exclude}
        used = defaultdict(Used)
        for sub_lines in grouped_slice(invoice_lines):
            for line in cls.search([
                        ('invoice_line', 'in', [l.id for l in sub_lines]),
                        ('kind', '!=', 'fee'),
                        ('refund.state', '!=', 'cancelled'),
                        ('refund', 'not in', list(exclude)),
                        ], order=[('id', 'ASC')]):
                used[line.invoice_line].add(line)
        for return_line in return_lines:
            for line in return_line.refund_lines:
                if (line.refund.state == 'cancelled'
                        or line.refund.id in exclude):
                    continue
                if line.kind == 'fee':
                    used[return_line, 'fee'].amount -= line.amount
                else:
                    used[return_line, 'gross'].amount += (
                        line.amount + line.tax_amount)
                    if not line.invoice_line:
                        used[return_line].add(line)
        return used

    @classmethod
    def split(cls, return_line, quantity, invoice_lines, used):
        """Yield the invoice lines and the quantity to give back of each

        In the unit of the invoice line, oldest first.  What is not invoiced
        is left out.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        if not return_line.sale_line:
            yield None, quantity
            return
        for line in invoice_lines:
            free = line.unit.round(line.quantity - used[line].quantity)
            part = min(free, Uom.compute_qty(
                    return_line.unit, quantity, line.unit))
            if part <= 0:
                continue
            yield line, part
            quantity = return_line.unit.round(
                quantity - Uom.compute_qty(line.unit, part, return_line.unit))
            if quantity <= 0:
                break

    @classmethod
    def get_goods(
            cls, return_line, invoice_line, quantity, taxes, used, credited,
            share=Decimal(1)):
        """Return the line that gives back the share of the quantity's price

        taxes maps the taxes to what was charged on the invoice line, used is
        what other refunds take of it and credited what was credited without
        refund.  Amounts are rounded on the sum of all refunds such that they
        add up to the invoice line.
        """
        pool = Pool()
        Tax = pool.get('return.refund.line.tax')
        if invoice_line:
            currency = invoice_line.invoice.currency
            charged, total = invoice_line.amount, invoice_line.quantity
            unit, unit_price = invoice_line.unit, invoice_line.unit_price
        else:
            currency = return_line.order.currency
            charged, total = return_line.amount, return_line.quantity
            unit, unit_price = return_line.unit, return_line.unit_price
        part = Decimal(1)
        if unit.round(used.quantity + quantity - total) < 0:
            part = (
                Decimal(str(used.quantity + quantity)) / Decimal(str(total)))
        deducted = used.get_deduction(quantity, total, currency)
        due = currency.round(charged * part) - used.amount - used.deducted
        due -= used.withheld
        base = currency.round(Decimal(str(quantity)) * unit_price)
        rounding = due - used.limited - base
        due -= deducted
        withheld = due - currency.round(due * share)
        due -= withheld
        amount = max(min(due, charged - used.total - credited), Decimal(0))
        line_taxes = []
        for tax, charged_tax in taxes.items():
            if used.reduction or used.withheld or withheld:
                line_taxes.append(Tax(
                        tax=tax, amount=used.get_tax(
                            tax, charged_tax, amount, charged, currency)))
                continue
            tax_amount = (
                currency.round(charged_tax * part) - used.taxes[tax])
            if amount != due:
                tax_amount = currency.round(
                    tax_amount * amount / due if due else Decimal(0))
            line_taxes.append(Tax(tax=tax, amount=tax_amount))
        line = cls(
            kind='goods',
            return_line=return_line,
            invoice_line=invoice_line,
            quantity=unit.round(quantity),
            unit=unit,
            unit_price=unit_price,
            base_amount=base,
            rounding_amount=rounding,
            share=share,
            deducted_amount=deducted,
            withheld_amount=withheld,
            limited_amount=(
                base + rounding - deducted - withheld - amount),
            policy_line=return_line.policy_line,
            amount=amount,
            tax_amount=sum((t.amount for t in line_taxes), Decimal(0)),
            taxes=line_taxes)
        line.explanation = line._explain_goods(
            currency, charged, total, used, due)
        return line

    def _explain_goods(self, currency, charged, total, used, due):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()

        def number(quantity):
            return lang.format_number_symbol(
                quantity, self.unit, digits=self.unit.digits)

        values = {
            'line': (
                self.invoice_line.rec_name if self.invoice_line else ''),
            'quantity': number(self.quantity),
            'total': number(total),
            'price': lang.currency(
                self.unit_price, currency, digits=price_digits[1]),
            'charged': lang.currency(charged, currency),
            'before': lang.currency(used.amount, currency),
            'amount': lang.currency(self.amount, currency),
            }
        texts = [gettext(
                'return_refund.msg_explain_goods' if self.invoice_line
                else 'return_refund.msg_explain_goodwill', **values)]
        if used.quantity:
            texts.append(gettext(
                    'return_refund.msg_explain_before',
                    used=number(used.quantity),
                    **values))
        if self.deducted_amount:
            texts.append(gettext(
                    'return_refund.msg_explain_deducted',
                    deducted=lang.currency(self.deducted_amount, currency)))
        if self.withheld_amount:
            texts.append(gettext(
                    'return_refund.msg_explain_share',
                    share=lang.format('%.2f', self.share * 100),
                    withheld=lang.currency(self.withheld_amount, currency)))
        if self.amount != due:
            texts.append(gettext(
                    'return_refund.msg_explain_credited',
                    due=lang.currency(due, currency), **values))
        return '\n'.join(texts + self._explain_taxes(currency))

    def _explain_taxes(self, currency):
        "Return the texts about the taxes and the rule"
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        texts = []
        for tax in self.taxes:
            texts.append(gettext(
                    'return_refund.msg_explain_tax',
                    tax=tax.tax.rec_name,
                    date=lang.strftime(self.invoice_line.tax_date),
                    amount=lang.currency(tax.amount, currency)))
        rule = self.policy_line
        if rule:
            texts.append(gettext(
                    'return_refund.msg_explain_rule',
                    policy=rule.policy.rec_name,
                    reason=self.return_line.reason.rec_name))
        return texts

    @classmethod
    def get_price_reduction(
            cls, return_line, invoice_line, quantity, taxes, used, credited):
        """Return the line that lowers the price of the quantity

        The parameters are those of get_goods.  No reduction gives back more
        than what is left of the invoice line.
        """
        pool = Pool()
        Tax = pool.get('return.refund.line.tax')
        currency = invoice_line.invoice.currency
        charged, share = invoice_line.amount, return_line.price_reduction
        price = (
            charged * Decimal(str(quantity))
            / Decimal(str(invoice_line.quantity)))
        due = currency.round(price * share)
        price = currency.round(price)
        base = currency.round(
            Decimal(str(quantity)) * invoice_line.unit_price)
        amount = max(min(due, charged - used.total - credited), Decimal(0))
        line_taxes = [
            Tax(tax=tax, amount=used.get_tax(
                    tax, charged_tax, amount, charged, currency))
            for tax, charged_tax in taxes.items()]
        line = cls(
            kind='price_reduction',
            return_line=return_line,
            invoice_line=invoice_line,
            quantity=invoice_line.unit.round(quantity),
            unit=invoice_line.unit,
            unit_price=invoice_line.unit_price,
            base_amount=base,
            rounding_amount=price - base,
            share=share,
            withheld_amount=price - due,
            limited_amount=due - amount,
            policy_line=return_line.policy_line,
            amount=amount,
            tax_amount=sum((t.amount for t in line_taxes), Decimal(0)),
            taxes=line_taxes)
        line.explanation = line._explain_price_reduction(currency, due)
        return line

    def _explain_price_reduction(self, currency, due):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        texts = [gettext(
                'return_refund.msg_explain_price_reduction',
                rate=lang.format('%.2f', self.share * 100),
                quantity=lang.format_number_symbol(
                    self.quantity, self.unit, digits=self.unit.digits),
                line=self.invoice_line.rec_name,
                price=lang.currency(
                    self.unit_price, currency, digits=price_digits[1]),
                amount=lang.currency(due, currency))]
        if self.amount != due:
            texts.append(gettext(
                    'return_refund.msg_explain_price_reduction_rest',
                    amount=lang.currency(self.amount, currency)))
        return '\n'.join(texts + self._explain_taxes(currency))

    @classmethod
    def get_fee(cls, return_line, invoice_line, goods, used):
        "Return the line that keeps the fee on the goods, if there is one"
        pool = Pool()
        Lang = pool.get('ir.lang')
        gross = used[return_line, 'gross']
        gross.amount += goods.amount + goods.tax_amount
        if not invoice_line:
            return
        currency = invoice_line.invoice.currency
        fee, rule = return_line._get_fee(gross.amount, currency)
        kept = used[return_line, 'fee']
        before = kept.amount
        fee -= before
        if fee <= 0:
            return
        kept.amount += fee
        lang = Lang.get()
        texts = [gettext(
                'return_refund.msg_explain_fee_fixed' if rule.fee_amount
                else 'return_refund.msg_explain_fee',
                rate=lang.format('%.2f', rule.fee_rate * 100),
                fixed=lang.currency(
                    rule.fee_amount or 0,
                    return_line.order.company.currency),
                gross=lang.currency(gross.amount, currency),
                fee=lang.currency(fee, currency),
                policy=rule.policy.rec_name,
                reason=return_line.reason.rec_name)]
        if before:
            texts.append(gettext(
                    'return_refund.msg_explain_fee_before',
                    before=lang.currency(before, currency)))
        return cls(
            kind='fee',
            return_line=return_line,
            invoice_line=invoice_line,
            quantity=None,
            base_amount=gross.amount,
            share=rule.fee_rate,
            deducted_amount=before,
            policy_line=rule,
            amount=-fee,
            tax_amount=Decimal(0),
            taxes=[],
            explanation='\n'.join(texts))

    def get_account(self):
        "Return the account that replaces that of the invoice line, or None"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        if self.kind == 'fee':
            name = 'restocking_fee_account'
        elif not self.invoice_line:
            name = 'goodwill_account'
        else:
            return
        config = Configuration(1)
        account = config.get_multivalue(
            name, company=self.refund.company.id)
        if not account:
            raise AccountError(gettext(
                    'return_refund.msg_account_missing',
                    refund=self.refund.rec_name,
                    **config.__names__(name)))
        return account.current()

    def get_credit_lines(self):
        "Return the lines of the credit note"
        if self.kind == 'fee':
            return [self._get_credit_line(-1, -self.amount)]
        elif self.kind == 'price_reduction':
            return [self._get_credit_line(1, self.amount)]
        return [
            self._get_credit_line(quantity, unit_price)
            for quantity, unit_price in self._get_prices()]

    def _get_prices(self):
        """Return quantities and unit prices whose amounts add up

        The price is as charged, unless its rounding makes the difference.
        """
        currency = self.refund.currency

        def amount(quantity, unit_price):
            return currency.round(Decimal(str(quantity)) * unit_price)

        quantity = Decimal(str(self.quantity))
        for unit_price in [
                self.unit_price, round_price(self.amount / quantity)]:
            if amount(quantity, unit_price) == self.amount:
                return [(self.quantity, unit_price)]
        # With many pieces no price is fine enough: one takes the difference
        one = min(self.unit.round(1) or self.unit.rounding, self.quantity)
        rest = self.unit.round(self.quantity - one)
        unit_price = round_price(self.amount / quantity)
        return [
            (rest, unit_price),
            (one, round_price(
                    (self.amount - amount(rest, unit_price))
                    / Decimal(str(one)))),
            ]

    def _get_credit_line(self, quantity, unit_price):
        pool = Pool()
        InvoiceLine = pool.get('account.invoice.line')
        if self.kind != 'fee' and self.invoice_line:
            line = self.invoice_line._credit()
            if self.kind == 'price_reduction':
                # No goods are given back
                line.product = line.unit = None
                line.description = self._get_description()
        else:
            line = InvoiceLine(
                type='line',
                invoice_type='out',
                company=self.refund.company,
                currency=self.refund.currency,
                party=self.refund.party,
                description=self._get_description(),
                taxes=[])
            if self.kind == 'goods':
                line.product = self.return_line.product
                line.unit = self.unit
            line.account = self.get_account()
        line.origin = self.return_line
        line.return_refund_line = self
        line.quantity = -quantity
        line.unit_price = unit_price
        line.stock_moves = self._get_stock_moves()
        return line

    def _get_description(self):
        if self.kind == 'fee':
            return self.explanation
        elif self.kind == 'price_reduction':
            return self.explanation.splitlines()[0]
        return self.return_line.product.rec_name

    def _get_stock_moves(self):
        "Return the receipts that the credit is for"
        if self.kind != 'goods':
            return []
        return [
            m for m in self.return_line.moves
            if m.state != 'cancelled'
            and m.product == self.return_line.product]


class LineTax(PreparedMixin, ModelSQL, ModelView):
    "Return Refund Line Tax"
    __name__ = 'return.refund.line.tax'

    line = fields.Many2One(
        'return.refund.line', "Line", required=True, readonly=True,
        ondelete='CASCADE')
    tax = fields.Many2One(
        'account.tax', "Tax", required=True, readonly=True,
        ondelete='RESTRICT')
    amount = Monetary(
        "Amount", currency='currency', digits='currency', required=True,
        readonly=True,
        help="The tax given back, positive for the customer.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('line')

    @fields.depends('line', '_parent_line.currency')
    def on_change_with_currency(self, name=None):
        return self.line.currency if self.line else None
