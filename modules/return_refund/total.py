# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from dateutil.relativedelta import relativedelta
from sql import Literal, Null, Union, Window
from sql.aggregate import Count, Min, Sum
from sql.conditionals import Case, Coalesce
from sql.functions import CurrentTimestamp, Round, RowNumber

from trytond.model import ModelSQL, ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool
from trytond.pyson import Eval, If
from trytond.transaction import Transaction


class TotalMixin:
    """Give the totals of the refunds whose credit note is of the period

    In the company, from and to the dates of the context.
    """
    __slots__ = ()

    company = fields.Many2One('company.company', "Company")
    currency = fields.Many2One('currency.currency', "Currency")
    number = fields.Integer("Refunds", help="The number of refunds.")

    @classmethod
    def table_query(cls):
        refund = cls._refunds()
        lines, key, id_, columns = cls._lines(refund)
        return lines.select(
            id_.as_('id'),
            Literal(0).as_('create_uid'),
            CurrentTimestamp().as_('create_date'),
            cls.write_uid.sql_cast(Literal(Null)).as_('write_uid'),
            cls.write_date.sql_cast(Literal(Null)).as_('write_date'),
            lines.company.as_('company'),
            lines.currency.as_('currency'),
            Count(lines.refund, distinct=True).as_('number'),
            *columns,
            group_by=[lines.company, lines.currency, key])

    @classmethod
    def _refunds(cls):
        pool = Pool()
        Invoice = pool.get('account.invoice')
        Refund = pool.get('return.refund')
        context = Transaction().context
        refund = Refund.__table__()
        invoice = Invoice.__table__()
        where = (
            (refund.company == context.get('company'))
            & invoice.state.in_(['posted', 'paid'])
            & ~refund.state.in_(['draft', 'cancelled']))
        if context.get('from_date'):
            where &= invoice.invoice_date >= context['from_date']
        if context.get('to_date'):
            where &= invoice.invoice_date <= context['to_date']
        return (refund
            .join(invoice, condition=refund.credit_note == invoice.id)
            .select(
                refund.id.as_('refund'),
                refund.company,
                refund.currency,
                refund.method,
                refund.amount,
                refund.state,
                where=where))

    @classmethod
    def _lines(cls, refund):
        "Return the table to sum up, its key, id and the columns of the sums"
        raise NotImplementedError


class MethodTotal(TotalMixin, ModelSQL, ModelView):
    "Refund Total by Method"
    __name__ = 'return.refund.total.method'

    method = fields.Many2One(
        'return.refund.method', "Method",
        help="Empty for what goes back by none.")
    amount = Monetary(
        "Amount", currency='currency', digits='currency',
        help="What was granted and credited, tax included, of a refund by "
        "several methods its part.")
    paid_amount = Monetary(
        "Paid", currency='currency', digits='currency',
        help="What has gone back as money.")
    settled_amount = Monetary(
        "Settled", currency='currency', digits='currency',
        help="The amount that was set against invoices: of the refunds that "
        "moved no money, and what the others did not pay by a method.")
    open_amount = Monetary(
        "Open", currency='currency', digits='currency',
        help="What has not gone back yet.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [
            ('method', 'ASC NULLS FIRST'), ('currency', 'ASC')]

    def get_rec_name(self, name):
        return self.method.rec_name if self.method else '-'

    @classmethod
    def _lines(cls, refund):
        lines = Union(
            cls._parts(refund), cls._rests(refund), all_=True)
        amounts = {'amount': lines.amount}
        for name, where in [
                ('paid_amount', lines.state == 'paid'),
                ('settled_amount', lines.state == 'settled'),
                ('open_amount', ~lines.state.in_(['paid', 'settled']))]:
            amounts[name] = Case((where, lines.amount), else_=0)
        id_ = RowNumber(window=Window(
                [], order_by=[lines.currency, Coalesce(lines.method, 0)]))
        return lines, lines.method, id_, [
            lines.method.as_('method'),
            *(getattr(cls, n).sql_cast(Sum(a)).as_(n)
                for n, a in amounts.items())]

    @classmethod
    def _parts(cls, refund):
        "Return the query of what goes back by each method"
        pool = Pool()
        Method = pool.get('return.refund.method')
        Part = pool.get('return.refund.part')
        Payment = pool.get('account.payment')
        part = Part.__table__()
        method = Method.__table__()
        payment = Payment.__table__()
        state = Case(
            ((part.move != Null) | (payment.state == 'succeeded'), 'paid'),
            ((method.kind == 'balance') & (refund.state == 'paid'),
                'settled'),
            else_=refund.state)
        return (refund
            .join(part, condition=part.refund == refund.refund)
            .join(method, condition=part.method == method.id)
            .join(payment, 'LEFT', condition=part.payment == payment.id)
            .select(
                refund.refund, refund.company, refund.currency, part.method,
                part.amount, state.as_('state')))

    @classmethod
    def _rests(cls, refund):
        "Return the query of what goes back by no part"
        pool = Pool()
        Part = pool.get('return.refund.part')
        part = Part.__table__()
        parts = part.select(
            part.refund, Sum(part.amount).as_('amount'),
            group_by=[part.refund])
        whole = parts.refund == Null
        rest = refund.amount - Coalesce(parts.amount, 0)
        return (refund
            .join(parts, 'LEFT', condition=parts.refund == refund.refund)
            .select(
                refund.refund, refund.company, refund.currency,
                Case((
                        whole & (refund.state != 'settled'), refund.method)
                    ).as_('method'),
                rest.as_('amount'),
                Case((whole, refund.state), else_='settled').as_('state'),
                where=whole | (Round(rest, 4) != 0)))


class TaxTotal(TotalMixin, ModelSQL, ModelView):
    "Refund Total by Tax"
    __name__ = 'return.refund.total.tax'

    tax = fields.Many2One(
        'account.tax', "Tax", help="Empty for what bears no tax.")
    base_amount = Monetary(
        "Base", currency='currency', digits='currency',
        help="What was credited without tax and bears it.")
    tax_amount = Monetary(
        "Tax Amount", currency='currency', digits='currency',
        help="The tax that was credited.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('tax', 'ASC NULLS FIRST'), ('currency', 'ASC')]

    def get_rec_name(self, name):
        return self.tax.rec_name if self.tax else '-'

    @classmethod
    def _lines(cls, refund):
        pool = Pool()
        Line = pool.get('return.refund.line')
        LineTax = pool.get('return.refund.line.tax')
        line = Line.__table__()
        tax = LineTax.__table__()
        query = (refund
            .join(line, condition=line.refund == refund.refund)
            .join(tax, 'LEFT', condition=tax.line == line.id))
        lines = query.select(
            Coalesce(tax.id * 2, line.id * 2 + 1).as_('id'),
            refund.refund.as_('refund'),
            refund.company.as_('company'),
            refund.currency.as_('currency'),
            tax.tax.as_('tax'),
            line.amount.as_('base_amount'),
            tax.amount.as_('tax_amount'))
        return lines, lines.tax, Min(lines.id), [
            lines.tax.as_('tax'),
            cls.base_amount.sql_cast(
                Sum(lines.base_amount)).as_('base_amount'),
            cls.tax_amount.sql_cast(
                Sum(Coalesce(lines.tax_amount, 0))).as_('tax_amount')]


class TotalContext(ModelView):
    "Refund Total Context"
    __name__ = 'return.refund.total.context'

    company = fields.Many2One('company.company', "Company", required=True)
    from_date = fields.Date(
        "From Date",
        domain=[
            If(Eval('to_date') & Eval('from_date'),
                ('from_date', '<=', Eval('to_date')),
                ()),
            ],
        help="The first date of the credit notes.")
    to_date = fields.Date(
        "To Date",
        domain=[
            If(Eval('from_date') & Eval('to_date'),
                ('to_date', '>=', Eval('from_date')),
                ()),
            ],
        help="The last date of the credit notes.")

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_from_date(cls):
        pool = Pool()
        Date = pool.get('ir.date')
        return Transaction().context.get(
            'from_date', Date.today() + relativedelta(day=1))

    @classmethod
    def default_to_date(cls):
        pool = Pool()
        Date = pool.get('ir.date')
        return Transaction().context.get('to_date', Date.today())
