# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from sql import Null
from sql.functions import Extract

from trytond.i18n import gettext
from trytond.model import Index, ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.modules.return_management.calendar import (
    get_local_date, get_zone)
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

OPEN_STATES = ['draft', 'approved', 'posted', 'failed']


class Ledger:
    """What the account moves say of a refund

    credited is what the credit note owes to the customer; of it paid left as
    money, set_off is set against invoices, missing is reconciled with neither
    and open is not settled yet.  lines are those of the money.
    """
    __slots__ = ('credited', 'paid', 'set_off', 'missing', 'open', 'lines')

    def __init__(self):
        self.credited = Decimal(0)
        self.paid = Decimal(0)
        self.set_off = Decimal(0)
        self.missing = Decimal(0)
        self.open = Decimal(0)
        self.lines = []


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    age = fields.Function(fields.Integer(
            "Age",
            help="The number of days since the refund was prepared, as long "
            "as the customer has not got it."),
        'get_age')
    executed = fields.Function(fields.Boolean(
            "Executed",
            help="Whether only the reconciliation may be missing: a payment "
            "is processed, or money or an invoice is set against the credit "
            "note."),
        'get_executed', searcher='search_executed')
    credited_amount = fields.Function(Monetary(
            "Credited", currency='currency', digits='currency',
            help="What the customer is owed by the account move of the credit "
            "note, tax included."),
        'get_ledger_amounts')
    paid_amount = fields.Function(Monetary(
            "Money Paid", currency='currency', digits='currency',
            help="The part of the credit note that left as money, by the "
            "account moves of payments, cash and bank."),
        'get_ledger_amounts')
    set_off_amount = fields.Function(Monetary(
            "Set Off", currency='currency', digits='currency',
            help="The part of the credit note that is set against what the "
            "customer owed."),
        'get_ledger_amounts')
    open_amount = fields.Function(Monetary(
            "Open", currency='currency', digits='currency',
            help="The part of the credit note that is neither paid nor set "
            "off yet."),
        'get_ledger_amounts')
    difference = Monetary(
        "Difference", currency='currency', digits='currency', readonly=True,
        states={
            'invisible': ~Eval('difference'),
            },
        help="By how much the books differ from what was granted; "
        "positive when the customer got less.\n"
        "Found by the daily check.")
    difference_cause = fields.Selection([
            (None, ""),
            ('lines', "The lines do not add up to the amount"),
            ('credit_note', "The credit note is not of the amount"),
            ('payment', "The payments are not what was booked"),
            ('open', "The credit note is not reconciled"),
            ('missing', "Reconciled with neither money nor an invoice"),
            ], "Cause", readonly=True, sort=False,
        states={
            'invisible': ~Eval('difference_cause'),
            })
    difference_cause_string = difference_cause.translated('difference_cause')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'difference', 'difference_cause'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.difference_cause, Index.Equality()),
                where=t.difference_cause != Null))
        cls._buttons.update({
                'check': {
                    'invisible': Eval('state').in_(['draft', 'cancelled']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="difference"]', 'visual',
                If(Eval('difference', 0) != 0, 'danger', '')),
            ]

    @classmethod
    def get_age(cls, refunds, name):
        pool = Pool()
        Date = pool.get('ir.date')
        today = {}
        for company in {r.company for r in refunds}:
            with Transaction().set_context(company=company.id):
                today[company] = Date.today()
        zones = {c: get_zone(c) for c in today}
        return {
            r.id: (
                today[r.company] - get_local_date(
                    r.company, r.create_date, zones[r.company])).days
            if r.state in OPEN_STATES else None
            for r in refunds}

    @classmethod
    def order_age(cls, tables):
        table, _ = tables[None]
        return [-Extract('EPOCH', table.create_date)]

    @classmethod
    def get_executed(cls, refunds, name):
        executed = {r.id for r in cls.search([
                    ('id', 'in', [r.id for r in refunds]),
                    ('executed', '=', True),
                    ], order=[])}
        return {r.id: r.id in executed for r in refunds}

    @classmethod
    def search_executed(cls, name, clause):
        _, operator, value = clause
        with without_check_access():
            waiting = cls.search([
                    ('parts', 'where', ['OR',
                            [
                                ('move', '=', None),
                                ('payment', '=', None),
                                ('method.kind', '!=', 'balance'),
                                ],
                            ('payment.state', 'in', [
                                    'draft', 'submitted', 'approved']),
                            ]),
                    ], order=[], query=True)
            executed = cls.search([
                    ('id', 'not in', waiting),
                    ['OR',
                        ('payment.state', 'in', ['processing', 'succeeded']),
                        ('credit_note.payment_lines', '!=', None),
                        ('credit_note.move.lines.invoice_payments', '!=',
                            None),
                        ],
                    ], order=[], query=True)
        if (operator == '=') == bool(value):
            return [('id', 'in', executed)]
        return [('id', 'not in', executed)]

    @classmethod
    def get_ledger_amounts(cls, refunds, names):
        ledgers = cls.get_ledgers(refunds)
        return {
            n: {
                r.id: getattr(ledgers[r], n[:-len('_amount')])
                for r in refunds}
            for n in names}

    @classmethod
    @without_check_access
    def get_ledgers(cls, refunds):
        "Map the refunds to what the ledger says of them"
        pool = Pool()
        Reconciliation = pool.get('account.move.reconciliation')
        refunds = cls.browse(refunds)
        ledgers = {r: Ledger() for r in refunds}
        reconciliations = set()
        for refund, ledger in ledgers.items():
            if not refund.credit_note:
                continue
            for line in refund.credit_note.lines_to_pay:
                amount = -line.get_return_amount(refund.currency)
                ledger.credited += amount
                if line.reconciliation:
                    reconciliations.add(line.reconciliation.id)
                elif line.invoice_payments:
                    ledger.set_off += amount
                else:
                    ledger.open += amount
            for line in refund.credit_note.payment_lines:
                amount = line.get_return_amount(refund.currency)
                if not line.reconciliation and line.is_return_money:
                    ledger.paid += amount
                    ledger.open -= amount
                    ledger.lines.append(line)
        for reconciliation in Reconciliation.browse(
                sorted(reconciliations)):
            for refund, part in cls._divide(reconciliation).items():
                if refund in ledgers:
                    ledger = ledgers[refund]
                    ledger.paid += part.paid
                    ledger.set_off += part.set_off
                    ledger.missing += part.missing
                    ledger.lines.extend(part.lines)
        return ledgers

    @classmethod
    def _divide(cls, reconciliation):
        """Map the refunds of the reconciliation to their part of it

        What does not say which one it is for is for the oldest.
        """
        pool = Pool()
        Currency = pool.get('currency.currency')
        parts = defaultdict(Ledger)
        rest, explained = [], Decimal(0)
        for line in reconciliation.lines:
            for refund in line.return_refunds:
                parts[refund].credited -= line.get_return_amount(
                    refund.currency)
        refunds = sorted(parts, key=int)
        if not refunds:
            return parts
        currency = refunds[0].currency
        for line in reconciliation.lines:
            if not line.is_return_settling:
                continue
            explained += line.debit - line.credit
            amount = line.get_return_amount(currency)
            if amount <= 0 or not line.is_return_money:
                continue
            paid = [r for r in line.return_paid_refunds if r in parts]
            if paid:
                parts[paid[0]].paid += amount
                parts[paid[0]].lines.append(line)
            else:
                rest.append((line, amount))
        for line, amount in rest:
            for refund in refunds:
                part = parts[refund]
                paid = min(amount, part.credited - part.paid)
                if paid > 0:
                    part.paid += paid
                    part.lines.append(line)
                    amount -= paid
        for part in parts.values():
            part.set_off = part.credited - part.paid
        if explained:
            company_currency = reconciliation.company.currency
            with Transaction().set_context(date=reconciliation.date):
                missing = Currency.compute(
                    company_currency, -explained, currency)
            part = parts[refunds[-1]]
            part.missing = missing
            part.set_off -= missing
        return parts

    @classmethod
    @ModelView.button
    def check(cls, refunds):
        "Compare the refunds with the books"
        cls._check(refunds)

    @classmethod
    def _check(cls, refunds):
        "Store the differences and return the refunds that have a new one"
        ledgers = cls.get_ledgers(refunds)
        to_write, different = [], []
        for refund in cls.browse(refunds):
            cause, difference = next(
                refund._get_differences(ledgers[refund]), (None, None))
            if (refund.difference_cause, refund.difference) != (
                    cause, difference):
                to_write.extend(([refund], {
                            'difference': difference,
                            'difference_cause': cause,
                            }))
                if cause:
                    different.append(refund)
        if to_write:
            cls.write(*to_write)
        return different

    def _get_differences(self, ledger):
        "Yield the causes and amounts by which the books differ"
        if not self.is_granted:
            return
        lines = sum(
            (l.amount + sum(t.amount for t in l.taxes) for l in self.lines),
            Decimal(0))
        if lines != self.amount:
            yield 'lines', self.amount - lines
        if self.state != 'approved' and ledger.credited != self.amount:
            yield 'credit_note', self.amount - ledger.credited
        if ledger.missing:
            yield 'missing', ledger.missing
        payments = sum(
            (p.amount for p in self.payments if p.state != 'failed'),
            Decimal(0))
        if payments > self.amount:
            yield 'payment', self.amount - payments
        elif ledger.open < 0:
            yield 'payment', ledger.open
        if self.state in {'paid', 'settled'}:
            if ledger.open:
                yield 'open', ledger.open
            elif ledger.paid < payments:
                yield 'payment', payments - ledger.paid

    @classmethod
    def check_ledger(cls):
        "Compare all granted refunds with the books and tell what differs"
        domain = [('state', 'not in', ['draft', 'cancelled'])]
        company = Transaction().context.get('company')
        if company is not None and company >= 0:
            domain.append(('company', '=', company))
        different = []
        for sub_refunds in grouped_slice(
                cls.search(domain, order=[('id', 'ASC')])):
            different.extend(cls._check(list(sub_refunds)))
        cls._notify_differences(different)

    @classmethod
    def _notify_differences(cls, refunds):
        "Tell finance about the differences"
        pool = Pool()
        Stage = pool.get('return.order.stage')
        if not refunds:
            return
        refunds = cls.browse(refunds)
        users = Stage._get_users({r.company for r in refunds})
        to_notify = defaultdict(list)
        for refund in refunds:
            for user in users[refund.company, 'finance']:
                to_notify[user].append(refund)
        for user, u_refunds in to_notify.items():
            language = user.language.code if user.language else None
            with Transaction().set_context(language=language):
                Stage._send_notice(
                    user,
                    gettext('return_refund.msg_refund_difference'),
                    [
                        r._get_difference_notice()
                        for r in cls.browse(u_refunds)])

    def _get_difference_notice(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        return gettext(
            'return_refund.msg_refund_difference_line',
            refund=self.rec_name,
            order=self.return_order.rec_name,
            difference=Lang.get().currency(self.difference, self.currency),
            cause=self.difference_cause_string)


class MoveLine(metaclass=PoolMeta):
    __name__ = 'account.move.line'

    @property
    def return_refunds(self):
        "The refunds whose credit note the line is of"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        origin = self.move.origin
        # The invoice is also the origin of money that is paid at once
        if (isinstance(origin, Invoice)
                and self.account == origin.account
                and not self.is_return_money):
            return origin.return_refunds
        return []

    @property
    def return_paid_refunds(self):
        "The refunds that the money of the line is known to be for"
        pool = Pool()
        Payment = pool.get('account.payment')
        Refund = pool.get('return.refund')
        if isinstance(self.move.origin, Payment):
            origin = self.move.origin.origin
            return [origin] if isinstance(origin, Refund) else []
        return [r for i in self.invoice_payments for r in i.return_refunds]

    @property
    def is_return_settling(self):
        "Whether the line may settle a credit note"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        return (
            self.is_return_money
            or isinstance(self.move.origin, Invoice)
            or self.is_return_exchange
            or self.is_return_remitted)

    @property
    def is_return_remitted(self):
        "Whether the line forgives a debt, which takes nothing of a credit"
        return (
            self.move.journal.type == 'write-off'
            and self.credit > self.debit)

    @property
    def is_return_exchange(self):
        "Whether the line is what only the rate made"
        return bool(
            self.move.journal.type == 'write-off'
            and not self.second_currency
            and any(
                l.second_currency for l in self.reconciliation.lines))


class Refund_Statement(metaclass=PoolMeta):
    __name__ = 'return.refund'

    statement_lines = fields.Function(fields.Many2Many(
            'account.statement.line', None, None, "Statement Lines",
            help="The lines of bank statements with the money that left."),
        'get_statement_lines')

    @classmethod
    def get_statement_lines(cls, refunds, name):
        pool = Pool()
        StatementLine = pool.get('account.statement.line')
        moves = {
            refund: {l.move for l in ledger.lines}
            for refund, ledger in cls.get_ledgers(refunds).items()}
        found = defaultdict(list)
        with without_check_access():
            for sub_moves in grouped_slice({
                        m.id for ms in moves.values() for m in ms}):
                for line in StatementLine.search([
                            ('move', 'in', list(sub_moves)),
                            ], order=[('id', 'ASC')]):
                    found[line.move].append(line.id)
        return {
            r.id: [l for m in ms for l in found[m]]
            for r, ms in moves.items()}
