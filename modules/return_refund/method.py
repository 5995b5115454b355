# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import (
    Check, DeactivableMixin, Index, ModelSQL, ModelView, fields,
    sequence_ordered)
from trytond.pool import Pool
from trytond.pyson import Bool, Eval
from trytond.transaction import Transaction

from .exceptions import MethodError


class Method(sequence_ordered(), DeactivableMixin, ModelSQL, ModelView):
    "Return Refund Method"
    __name__ = 'return.refund.method'

    name = fields.Char(
        "Name", required=True, translate=True,
        help="The method as customer service tells it.")
    company = fields.Many2One('company.company', "Company", required=True)
    kind = fields.Selection([
            ('cash', "Cash"),
            ('bank', "Bank Transfer"),
            ('card', "Bank Card"),
            ('epayment', "E-Payment"),
            ('balance', "Balance"),
            ('voucher', "Voucher"),
            ], "Kind", required=True, sort=False,
        help="The way in which the money goes back to the customer.\n"
        "Balance: the customer keeps the credit for a later invoice.\n"
        "Voucher: the customer gets a voucher, which the company owes.")
    kind_string = kind.translated('kind')
    payment_journal = fields.Many2One(
        'account.payment.journal', "Payment Journal", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        states={
            'invisible': ~Eval('kind').in_(['bank', 'card', 'epayment']),
            'required': Eval('kind').in_(['card', 'epayment']),
            'readonly': Bool(Eval('payment_method')),
            },
        help="A payment is made with this journal; "
        "it is also the journal that the customer paid with.")
    payment_method = fields.Many2One(
        'account.invoice.payment.method', "Invoice Payment Method",
        ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        states={
            'invisible': ~Eval('kind').in_(['cash', 'bank', 'voucher']),
            'required': Eval('kind').in_(['cash', 'voucher']),
            'readonly': Bool(Eval('payment_journal')),
            },
        help="The credit note is paid at once with this method; "
        "it is also the method that the customer paid with.")
    days = fields.Integer(
        "Days", required=True,
        domain=[
            ('days', '>=', 0),
            ],
        help="The number of working days of the company after the approval "
        "of the refund within which the customer must have the money.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('days_positive', Check(t, t.days >= 0),
                'return_refund.msg_method_days_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.payment_journal, Index.Range())),
                Index(t, (t.payment_method, Index.Range())),
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_days(cls):
        return 7

    @fields.depends('kind', 'payment_journal', 'payment_method')
    def on_change_kind(self):
        if self.kind not in {'bank', 'card', 'epayment'}:
            self.payment_journal = None
        if self.kind not in {'cash', 'bank', 'voucher'}:
            self.payment_method = None

    @classmethod
    def validate_fields(cls, methods, field_names):
        super().validate_fields(methods, field_names)
        if field_names & {'kind', 'payment_journal', 'payment_method'}:
            for method in methods:
                ways = [method.payment_journal, method.payment_method]
                if sum(map(bool, ways)) != (method.kind != 'balance'):
                    raise MethodError(gettext(
                            'return_refund.msg_method_one_way',
                            method=method.rec_name))

    @classmethod
    def get_slowest(cls, companies):
        "Map the companies to their method with the most days, if any"
        return {
            m.company: m for m in cls.search([
                    ('company', 'in', [c.id for c in companies]),
                    ], order=[('days', 'ASC'), ('id', 'DESC')])}

    def get_due_date(self, date):
        "Return the date by which a refund approved on date must be paid"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        return Calendar.get(self.company).add_days(date, self.days)

    def check_currency(self, refund):
        "Check that the method can pay in the currency of the refund"
        if (self.payment_journal
                and self.payment_journal.currency != refund.currency):
            raise MethodError(gettext(
                    'return_refund.msg_method_currency',
                    method=self.rec_name,
                    refund=refund.rec_name,
                    currency=refund.currency.rec_name))

    @classmethod
    def find(cls, invoices):
        """Map each invoice to the method by which it was paid, or None

        When it was paid in several ways it is the first in sequence.
        """
        return {
            i: next(iter(amounts), None)
            for i, amounts in cls.get_amounts(invoices).items()}

    @classmethod
    def get_amounts(cls, invoices):
        "Map each invoice to a dictionary of methods and what came by them"
        methods = cls.search([
                ('company', 'in', list({i.company.id for i in invoices})),
                ], order=[('sequence', 'ASC NULLS FIRST'), ('id', 'ASC')])
        found = {}
        for invoice in invoices:
            amounts = defaultdict(Decimal)
            for line, amount in invoice.get_settling_lines():
                for method in methods:
                    if (method.company == invoice.company
                            and method._match_money(line, invoice)):
                        amounts[method] += amount
                        break
            found[invoice] = {
                m: amounts[m] for m in methods if m in amounts}
        return found

    def _match_money(self, line, invoice):
        "Test if the money of the account move line came by the method"
        pool = Pool()
        Payment = pool.get('account.payment')
        move = line.move
        if self.kind == 'balance':
            return not line.is_return_money
        if self.payment_journal:
            if isinstance(move.origin, Payment):
                payments = [move.origin]
            elif move.journal.type == 'statement':
                payments = [
                    p for l in invoice.lines_to_pay for p in l.payments
                    if p.state == 'succeeded']
            else:
                payments = []
            return any(p.journal == self.payment_journal for p in payments)
        accounts = {
            self.payment_method.debit_account,
            self.payment_method.credit_account}
        return (
            not isinstance(move.origin, Payment)
            and move.journal == self.payment_method.journal
            and any(l.account in accounts for l in move.lines))
