# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal
from functools import partial
from itertools import groupby

from sql.functions import CharLength

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    employee_field, reset_employee, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.modules.return_management.model import GuardedMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.transaction import Transaction

from .exceptions import (
    ApproveError, CreditedError, CreditedWarning, ReceivedError,
    RefundedError, SeparationError)


class Refund(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Refund"
    __name__ = 'return.refund'
    _rec_name = 'number'

    _states = {
        'readonly': ~Eval('state').in_(['draft', 'failed']),
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the refund is prepared.")
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    return_order = fields.Many2One(
        'return.order', "Return Order", required=True, readonly=True,
        ondelete='RESTRICT')
    party = fields.Many2One(
        'party.party', "Customer", required=True, readonly=True,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who gets the credit note: the customer of the invoice.")
    invoice = fields.Many2One(
        'account.invoice', "Invoice", readonly=True, ondelete='RESTRICT',
        help="The invoice whose goods are refunded.\n"
        "Empty for goodwill on goods without a sale.")
    currency = fields.Many2One(
        'currency.currency', "Currency", required=True, readonly=True)
    lines = fields.One2Many(
        'return.refund.line', 'refund', "Lines", readonly=True)
    untaxed_amount = Monetary(
        "Untaxed", currency='currency', digits='currency', readonly=True,
        help="What the customer gets back without tax, fees deducted.")
    tax_amount = Monetary(
        "Tax", currency='currency', digits='currency', readonly=True,
        help="The tax given back, as charged on the invoice.")
    amount = Monetary(
        "Amount", currency='currency', digits='currency', readonly=True,
        help="What the customer gets back, tax included; "
        "computed when the refund is prepared.")
    found_method = fields.Many2One(
        'return.refund.method', "Paid by", readonly=True,
        ondelete='RESTRICT',
        help="The method by which the money for the invoice came; "
        "of several the first in sequence.")
    method = fields.Many2One(
        'return.refund.method', "Method", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        states=_states,
        help="How money goes back to the customer; "
        "not used for what is set against an unpaid invoice.")
    method_reason = fields.Char(
        "Reason", states={
            'readonly': _states['readonly'],
            'required': (
                (Eval('method', -1) != Eval('found_method', -1))
                & ~Eval('state').in_(['draft', 'cancelled'])),
            'invisible': (
                (Eval('method', -1) == Eval('found_method', -1))
                & ~Eval('method_reason')
                & _states['readonly']),
            },
        help="Why the money does not go back the way it came; "
        "all of it then goes by the method.")
    shares = fields.Function(fields.Text(
            "Shares",
            states={
                'invisible': ~Eval('shares'),
                },
            help="What goes back by which method: by each at most what came "
            "by it, in the sequence of the methods."),
        'get_shares')
    due_date = fields.Date(
        "Due Date", readonly=True,
        help="When the customer must have the money: the working days of the "
        "method counted from the approval, or earlier by the rules of the "
        "policy.")
    parts = fields.One2Many(
        'return.refund.part', 'refund', "Parts", readonly=True,
        help="What goes back by which method.")
    credit_note = fields.Many2One(
        'account.invoice', "Credit Note", readonly=True, ondelete='RESTRICT')
    open_credit = fields.Function(Monetary(
            "Open Credit", currency='currency', digits='currency',
            states={
                'invisible': Eval('state') != 'kept',
                },
            help="What the customer keeps and has not used yet."),
        'get_open_credit')
    payment = fields.Many2One(
        'account.payment', "Payment", readonly=True, ondelete='SET NULL',
        help="The payment on its way to the customer.")
    payments = fields.One2Many(
        'account.payment', 'origin', "Payments", readonly=True,
        help="All attempts to pay, the failed ones too.")
    failure = fields.Text(
        "Failure", readonly=True,
        states={
            'invisible': ~Eval('failure'),
            },
        help="Why the money could not be paid.")
    approved_by = employee_field(
        "Approved by",
        states=[
            'approved', 'posted', 'kept', 'paid', 'settled', 'failed'])
    cancelled_by = employee_field("Cancelled by", states=['cancelled'])
    state = fields.Selection([
            ('draft', "Draft"),
            ('approved', "Approved"),
            ('posted', "Posted"),
            ('kept', "Kept"),
            ('paid', "Paid"),
            ('settled', "Settled"),
            ('failed', "Failed"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Posted: the credit note is posted and waits for its payment.\n"
        "Kept: the customer keeps the credit for a later invoice.\n"
        "Paid: money has gone back and is reconciled.\n"
        "Settled: set against an invoice, no money moved.")

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        cls.approved_by.readonly = True
        cls.cancelled_by.readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.return_order, Index.Range())),
                Index(t, (t.invoice, Index.Range())),
                Index(t, (t.credit_note, Index.Range())),
                Index(t, (t.party, Index.Range())),
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(
                        ['draft', 'approved', 'posted', 'kept', 'failed'])),
                })
        cls._order = [('number', 'DESC'), ('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'approved'),
            ('draft', 'cancelled'),
            ('cancelled', 'draft'),
            ('approved', 'posted'),
            ('approved', 'settled'),
            ('posted', 'paid'),
            ('posted', 'settled'),
            ('posted', 'failed'),
            ('failed', 'posted'),
            ('failed', 'paid'),
            ('failed', 'settled'),
            ('posted', 'kept'),
            ('kept', 'posted'),
            ('kept', 'paid'),
            ('kept', 'settled'),
            ('kept', 'failed'),
            ('failed', 'kept'),
            ('paid', 'kept'),
            ('settled', 'kept'),
            ('paid', 'posted'),
            ('paid', 'settled'),
            ('paid', 'failed'),
            ('settled', 'posted'),
            ('settled', 'paid'),
            ('settled', 'failed'),
            }
        cls._buttons.update({
                'approve': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'cancel': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'draft': {
                    'invisible': Eval('state') != 'cancelled',
                    'depends': ['state'],
                    },
                'release': {
                    'invisible': Eval('state') != 'kept',
                    'depends': ['state'],
                    },
                'process': {
                    'invisible': ~Eval('state').in_(['approved', 'posted']),
                    'icon': 'tryton-refresh',
                    'depends': ['state'],
                    },
                'retry': {
                    'invisible': Eval('state') != 'failed',
                    'depends': ['state'],
                    },
                })

    @classmethod
    def order_number(cls, tables):
        table, _ = tables[None]
        return [CharLength(table.number), table.number]

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('method', 'found_method', 'method_reason')
    def on_change_method(self):
        if self.method == self.found_method:
            self.method_reason = None

    @property
    def is_granted(self):
        return self.state not in {'draft', 'cancelled'}

    @classmethod
    def get_open_credit(cls, refunds, name):
        return {
            r.id: (
                -r.credit_note.amount_to_pay
                if r.state == 'kept' and not any(
                    l.invoice_payments for l in r.credit_note.lines_to_pay)
                else Decimal(0))
            for r in refunds}

    @property
    def is_finished(self):
        "Whether the customer has what they get"
        return self.state in {'kept', 'paid', 'settled'}

    def get_rec_name(self, name):
        return self.number or '(%s)' % self.id

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual',
                If(Eval('state') == 'cancelled', 'muted',
                    If(Eval('state') == 'failed', 'danger', ''))),
            ]

    _guarded_fields = {
        'number', 'company', 'return_order', 'party', 'invoice', 'currency',
        'lines', 'untaxed_amount', 'tax_amount', 'amount', 'found_method',
        'due_date', 'parts', 'credit_note', 'payment', 'payments', 'failure',
        'approved_by', 'cancelled_by', 'state'}

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        vlist = [v.copy() for v in vlist]
        for values in vlist:
            if values.get('number') is None:
                company = values.get('company', cls.default_company())
                values['number'] = config.get_multivalue(
                    'return_refund_sequence', company=company).get()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for refunds, values in zip(actions, actions):
            if {'method', 'method_reason'} & set(values):
                for refund in refunds:
                    if refund.state not in {'draft', 'failed'}:
                        raise AccessError(gettext(
                                'return_refund.msg_refund_modify',
                                refund=refund.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, refunds):
        for refund in refunds:
            if refund.state != 'draft':
                raise AccessError(gettext(
                        'return_refund.msg_refund_delete',
                        refund=refund.rec_name))
        super().delete(refunds)

    @classmethod
    def copy(cls, refunds, default=None):
        raise AccessError(gettext('return_refund.msg_refund_copy'))

    @classmethod
    def _queue_process(cls, refunds):
        if refunds:
            transaction = Transaction()
            with transaction.set_context(
                    queue_batch=transaction.context.get('queue_batch', True)):
                cls.__queue__.process(refunds)

    @classmethod
    def prepare(cls, orders):
        """Keep one draft refund per order and invoice

        For what is refundable and neither granted nor declined.  What is not
        invoiced yet waits.
        """
        pool = Pool()
        InvoiceLine = pool.get('account.invoice.line')
        Line = pool.get('return.refund.line')
        Method = pool.get('return.refund.method')
        drafts, wanted = defaultdict(list), {}
        for order in orders:
            for refund in order.refunds:
                if refund.state == 'draft':
                    drafts[order, refund.invoice].append(refund)
            for line in order.lines:
                quantity = line.unit.round(
                    line.refundable_quantity - line._get_pending_quantity()
                    - line.granted_quantity - line.declined_quantity)
                if quantity > 0:
                    wanted[line] = quantity
        if not drafts and not wanted:
            return
        originals = {
            l: l.sale_line._get_posted_invoice_lines() if l.sale_line else []
            for l in wanted}
        invoice_lines = InvoiceLine.browse(sorted({
                    il.id for ils in originals.values() for il in ils}))
        InvoiceLine.lock_credited(invoice_lines)
        used = Line.get_used(
            invoice_lines, list(wanted), sum(drafts.values(), []))
        credited = cls._get_foreign_credits(invoice_lines)
        taxes = {}
        for invoice in {il.invoice for il in invoice_lines}:
            taxes.update(invoice.get_line_taxes())

        lines = defaultdict(list)
        # What comes back is not reduced in price
        for return_line, quantity in sorted(
                wanted.items(), key=lambda i: i[0].wish == 'price_reduction'):
            order = return_line.order
            for invoice_line, part, share in (
                    (il, p, s)
                    for s, q in return_line.split_by_share(quantity)
                    for il, p in Line.split(
                        return_line, q, originals[return_line], used)):
                invoice = invoice_line.invoice if invoice_line else None
                get_line = (
                    Line.get_price_reduction
                    if return_line.wish == 'price_reduction'
                    else partial(Line.get_goods, share=share))
                goods = get_line(
                    return_line, invoice_line, part,
                    taxes.get(invoice_line, {}),
                    used[invoice_line or return_line],
                    credited[invoice_line])
                lines[order, invoice].append(goods)
                used[invoice_line or return_line].add(goods)
                fee = Line.get_fee(return_line, invoice_line, goods, used)
                if fee:
                    lines[order, invoice].append(fee)

        to_save, old, new = [], [], []
        for (order, invoice), r_lines in lines.items():
            refunds = drafts[order, invoice]
            # Finance may have declined a refund and drafted it again
            refund = refunds.pop(0) if refunds else None
            prepared = cls._get_refund(order, invoice)
            if refund and not refund._is_like(prepared):
                # The return had another customer or currency then
                refunds.append(refund)
                refund = None
            if not refund:
                refund = prepared
                new.append(refund)
            elif [l.figures for l in refund.lines] == [
                    l.figures for l in r_lines]:
                continue
            else:
                old.extend(refund.lines)
            refund._set_lines(r_lines)
            to_save.append(refund)
        methods = Method.find(list({r.invoice for r in new if r.invoice}))
        for refund in new:
            refund.found_method = refund.method = methods.get(refund.invoice)
        Line.delete(old)
        cls.save(to_save)
        cls.delete(sum(drafts.values(), []))

    def _is_like(self, other):
        "Test if both give back to the same party in the same currency"
        return all(
            getattr(self, n) == getattr(other, n)
            for n in ['company', 'party', 'currency'])

    @classmethod
    def _get_foreign_credits(cls, invoice_lines):
        "Map each line to what was credited of it without refund"
        pool = Pool()
        InvoiceLine = pool.get('account.invoice.line')
        credited = defaultdict(Decimal)
        for line, credits in InvoiceLine.get_credits(invoice_lines).items():
            for document, amount in credits.items():
                if (document.__name__ != cls.__name__
                        and not document.return_refunds):
                    credited[line] += amount
        return credited

    @classmethod
    def _get_refund(cls, order, invoice):
        return cls(
            company=order.company,
            return_order=order,
            party=invoice.party if invoice else order.party,
            invoice=invoice,
            currency=invoice.currency if invoice else order.currency,
            state='draft')

    def _set_lines(self, lines):
        self.lines = lines
        self.untaxed_amount = sum((l.amount for l in lines), Decimal(0))
        self.tax_amount = sum((l.tax_amount for l in lines), Decimal(0))
        self.amount = self.untaxed_amount + self.tax_amount

    @classmethod
    @ModelView.button
    def approve(cls, refunds):
        cls._lock(refunds)
        refunds = [r for r in cls.browse(refunds) if r.state == 'draft']
        for refund in refunds:
            refund.check_separation()
            refund.check_amounts()
        cls.check_refundable(refunds)
        cls.check_credited(refunds)
        cls.check_received(refunds)
        cls.check_unattributed(refunds)
        for refund in refunds:
            refund.check_method()
        cls._approve(cls._sign(refunds))

    @classmethod
    def _sign(cls, refunds):
        "Sign the refunds and return those that need no other signature"
        return refunds

    @classmethod
    @Workflow.transition('approved')
    @set_employee('approved_by')
    def _approve(cls, refunds):
        cls._set_due_dates(refunds)
        cls.save(refunds)
        cls._queue_process(refunds)

    @classmethod
    def _set_due_dates(cls, refunds):
        pool = Pool()
        Date = pool.get('ir.date')
        for company, c_refunds in groupby(refunds, lambda r: r.company):
            with Transaction().set_context(company=company.id):
                today = Date.today()
            for refund in c_refunds:
                refund.due_date = refund.get_due_date(today)

    @classmethod
    def _lock(cls, refunds):
        pool = Pool()
        InvoiceLine = pool.get('account.invoice.line')
        cls.lock(refunds)
        InvoiceLine.lock_credited([
                l.invoice_line for r in refunds for l in r.lines
                if l.invoice_line])

    def check_separation(self):
        "Check that who handled the goods does not approve the refund"
        employee = self.return_order._get_employee(self.company)
        document = self._get_handled_document(employee)
        if document:
            raise SeparationError(gettext(
                    'return_refund.msg_refund_separation',
                    refund=self.rec_name,
                    employee=employee.rec_name,
                    document=document.rec_name))

    def _get_handled_document(self, employee):
        "Return on which document the person handled the goods, or None"
        persons = self._get_persons(employee)
        for document, employees in self._get_handlers():
            if persons & {e.party for e in employees}:
                return document

    @classmethod
    def _get_persons(cls, employee):
        "Return the persons who act as the user's employee"
        pool = Pool()
        User = pool.get('res.user')
        # One person may act as several employees
        return {
            employee.party,
            *(e.party for e in User(Transaction().user).employees)}

    def _get_handlers(self):
        "Return a list of documents and the set of who handled goods on them"
        shipments = dict.fromkeys(
            m.shipment for l in self.return_order.lines for m in l.moves
            if m.shipment)
        handlers = [
            (s, {s.received_by, s.done_by} - {None}) for s in shipments]
        for line in self.return_order.lines:
            for disposition in line.dispositions:
                if disposition.decided_by:
                    handlers.append((disposition, {disposition.decided_by}))
        return handlers

    def check_amounts(self):
        "Check that the amounts are those of the lines"
        untaxed = sum((l.amount for l in self.lines), Decimal(0))
        taxes = sum(
            (t.amount for l in self.lines for t in l.taxes), Decimal(0))
        if ((untaxed, taxes, untaxed + taxes) != (
                    self.untaxed_amount, self.tax_amount, self.amount)
                or any(
                    l.tax_amount != sum(t.amount for t in l.taxes)
                    for l in self.lines)):
            raise ApproveError(gettext(
                    'return_refund.msg_refund_amounts',
                    refund=self.rec_name,
                    order=self.return_order.rec_name))
        if self.amount < 0 or (
                not self.amount and any(l.kind == 'fee' for l in self.lines)):
            raise ApproveError(gettext(
                    'return_refund.msg_refund_fee_exceeds',
                    refund=self.rec_name))
        for line in self.lines:
            line.get_account()

    @classmethod
    def check_refundable(cls, refunds):
        "Check that what was prepared may still be refunded"
        quantities = defaultdict(float)
        for refund in refunds:
            for refund_line in refund.lines:
                if refund_line.kind == 'fee':
                    continue
                line = refund_line.return_line
                quantities[line] += refund_line.get_return_quantity()
                if line.unit.round(
                        line.refundable_quantity
                        - line._get_pending_quantity()
                        - line.granted_quantity - quantities[line]) < 0:
                    raise RefundedError(gettext(
                            'return_refund.msg_refund_changed',
                            refund=refund.rec_name,
                            line=line.rec_name,
                            order=refund.return_order.rec_name))

    @classmethod
    def check_credited(cls, refunds):
        "Check that not more is credited of the invoice lines than charged"
        pool = Pool()
        InvoiceLine = pool.get('account.invoice.line')
        amounts = defaultdict(Decimal)
        refund_of = {}
        for refund in refunds:
            for line in refund.lines:
                if line.invoice_line and line.kind != 'fee':
                    amounts[line.invoice_line] += line.amount
                    refund_of[line.invoice_line] = refund
        for line, credits in InvoiceLine.get_credits(list(amounts)).items():
            if sum(credits.values()) + amounts[line] > line.amount:
                refund = refund_of[line]
                raise CreditedError(gettext(
                        'return_refund.msg_refund_over_credited',
                        refund=refund.rec_name,
                        line=line.rec_name,
                        documents='\n'.join(dict.fromkeys(
                                d.rec_name for d in credits)),
                        order=refund.return_order.rec_name))

    @classmethod
    def check_received(cls, refunds):
        "Check that no more money leaves than came in for the invoices"
        amounts, keeping = defaultdict(Decimal), defaultdict(Decimal)
        for refund in refunds:
            if refund.invoice:
                amounts[refund.invoice] += refund.amount
                keeping[refund.invoice] += sum(
                    s for m, s in refund._get_shares(max(
                            refund.amount
                            - cls._get_open_amount(refund.invoice), 0))
                    if m and m.kind == 'balance')
        for invoice, amount in amounts.items():
            kept = keeping[invoice]
            money = amount - cls._get_open_amount(invoice)
            received = cls._get_available_money(invoice, kept=kept)
            if money > 0 and money - kept > received:
                refund = next(r for r in refunds if r.invoice == invoice)
                raise ReceivedError(
                    refund._get_received_message(money, received + kept))

    def _get_received_message(self, money, received):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        return gettext(
            'return_refund.msg_refund_over_received',
            refund=self.rec_name,
            invoice=self.invoice.rec_name,
            money=lang.currency(money, self.currency),
            received=lang.currency(received, self.currency))

    @classmethod
    def _get_open_amount(cls, invoice):
        "Return what the customer still owes of the invoice"
        if not invoice:
            return Decimal(0)
        return max(invoice.amount_to_pay, Decimal(0))

    @classmethod
    def _get_available_money(cls, invoice, exclude=None, kept=Decimal(0)):
        """Return the money that came in and has not gone back

        Credits that the customer keeps, also those about to be kept, use up
        what was set against the invoice, and then money.
        """
        money = invoice.get_received_amount()
        for refund in cls.search([
                    ('invoice', '=', invoice.id),
                    ('state', 'not in', ['draft', 'cancelled']),
                    ('id', '!=', exclude.id if exclude else -1),
                    ]):
            money -= refund.get_money_amount()
            kept += refund.get_kept_amount()
        if kept:
            money -= max(kept - invoice.get_offset_amount(), 0)
        return money - invoice.get_credited_money()

    def get_money_amount(self):
        "Return the money that goes back, on its way or arrived"
        if self.state == 'approved':
            return self.amount
        if not self.credit_note:
            return Decimal(0)
        return max(
            sum((
                    p.amount for p in self.parts
                    if p.method.kind != 'balance' and not p.has_failed),
                Decimal(0)),
            sum((
                    l.get_return_amount(self.currency)
                    for l in self._get_money_lines()), Decimal(0)))

    def get_kept_amount(self):
        "Return the credit that the customer keeps or has kept"
        return sum((
                p.amount for p in self.parts if p.method.kind == 'balance'),
            Decimal(0))

    def _get_money_lines(self):
        "Return the account move lines by which money went to the customer"
        return self.credit_note.get_returned_money_lines()

    @classmethod
    def check_unattributed(cls, refunds):
        """Warn about credits that may be for the same goods

        They name nothing that was invoiced and together with the others would
        exceed the invoice.
        """
        pool = Pool()
        Warning = pool.get('res.user.warning')
        amounts = defaultdict(Decimal)
        for refund in refunds:
            invoice = refund.invoice
            if not invoice:
                continue
            amounts[invoice] += refund.untaxed_amount
            lines = invoice.get_unattributed_lines()
            if not lines or (
                    invoice.get_credited_amount() + amounts[invoice]
                    <= invoice.untaxed_amount):
                continue
            key = Warning.format('refund_unattributed', [refund])
            if Warning.check(key):
                raise CreditedWarning(key, gettext(
                        'return_refund.msg_refund_unattributed',
                        refund=refund.rec_name,
                        invoice=invoice.rec_name,
                        documents='\n'.join(dict.fromkeys(
                                l.invoice.rec_name for l in lines))))

    def check_method(self):
        "Check that money that goes back has a method and a reason for it"
        if self._get_money() <= 0:
            return
        if not self.method:
            raise ApproveError(self._get_method_message())
        if self.method != self.found_method and not self.method_reason:
            raise ApproveError(gettext(
                    'return_refund.msg_refund_method_reason',
                    refund=self.rec_name,
                    method=self.method.rec_name))
        for method, _ in self._get_shares(self._get_money()):
            if not method:
                raise ApproveError(self._get_method_message())
            method.check_currency(self)

    def _get_method_message(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        if not self.method:
            return gettext(
                'return_refund.msg_refund_method_required',
                refund=self.rec_name)
        rest = sum(
            a for m, a in self._get_shares(self._get_money()) if not m)
        return gettext(
            'return_refund.msg_refund_method_rest',
            refund=self.rec_name,
            rest=lang.currency(rest, self.currency))

    def _get_money(self):
        "Return what is left to go back by methods"
        return (
            self.amount - self._get_open_amount(self.invoice)
            - sum(p.amount for p in self.parts if p.is_done))

    def _get_shares(self, money):
        """Return a list of methods and the part of the money that goes by each

        In the sequence of the methods, by each at most what came by it.  What
        came in no known way is without method.
        """
        pool = Pool()
        Method = pool.get('return.refund.method')
        Part = pool.get('return.refund.part')
        if money <= 0:
            return []
        if (not self.invoice or not self.method or self.method_reason
                or self.method != self.found_method):
            return [(self.method, money)]
        left = Method.get_amounts([self.invoice])[self.invoice]
        for part in Part.search([('refund.invoice', '=', self.invoice.id)]):
            if part.method not in left or part.has_failed:
                continue
            if part.refund != self or part.is_done:
                left[part.method] -= part.amount
        shares = []
        for method, amount in left.items():
            share = min(amount, money)
            if share > 0:
                shares.append((method, share))
                money -= share
        if money:
            shares.append((None, money))
        return shares

    def get_shares(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        if self.state not in {'draft', 'approved', 'failed'}:
            return None
        return '\n'.join(
            '%s: %s' % (
                m.rec_name if m else '?', lang.currency(a, self.currency))
            for m, a in self._get_shares(self._get_money()))

    def _get_parts(self, money):
        pool = Pool()
        Part = pool.get('return.refund.part')
        return [
            Part(method=m, amount=a) for m, a in self._get_shares(money)]

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @set_employee('cancelled_by')
    def cancel(cls, refunds):
        cls._queue_orders(refunds)

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('cancelled_by')
    def draft(cls, refunds):
        cls._queue_orders(refunds)

    @classmethod
    def _queue_orders(cls, refunds):
        pool = Pool()
        Order = pool.get('return.order')
        Order._queue_process(
            list(dict.fromkeys(r.return_order for r in refunds)))

    @classmethod
    @ModelView.button
    def retry(cls, refunds):
        cls._lock(refunds)
        refunds = [r for r in cls.browse(refunds) if r.state == 'failed']
        for refund in refunds:
            refund.check_separation()
            refund.check_method()
        cls._retry(cls._sign(refunds))

    @classmethod
    @Workflow.transition('posted')
    @set_employee('approved_by')
    def _retry(cls, refunds):
        pool = Pool()
        Part = pool.get('return.refund.part')
        Part.delete([p for r in refunds for p in r.parts if not p.is_done])
        refunds = cls.browse(refunds)
        for refund in refunds:
            if refund.parts:
                refund.parts = [
                    *refund.parts,
                    *refund._get_parts(refund._get_money())]
            refund.payment = refund.failure = None
        cls._set_due_dates([r for r in refunds if not r.due_date])
        cls.save(refunds)
        cls._queue_process(refunds)

    @classmethod
    @ModelView.button
    def release(cls, refunds):
        "Let the customer have the credit that they keep in another way"
        pool = Pool()
        Part = pool.get('return.refund.part')
        cls._lock(refunds)
        refunds = [r for r in cls.browse(refunds) if r.state == 'kept']
        for refund in refunds:
            invoices = refund._get_credit_line().invoice_payments
            if invoices:
                raise RefundedError(gettext(
                        'return_refund.msg_refund_release_used',
                        refund=refund.rec_name,
                        invoice=invoices[0].rec_name))
        Part.release([p for r in refunds for p in r.parts])
        cls.write(refunds, {
                'payment': None,
                'due_date': None,
                'failure': gettext('return_refund.msg_refund_released'),
                })
        cls._fail(refunds)
        cls._queue_orders(refunds)

    @classmethod
    @ModelView.button
    def process(cls, refunds):
        """Bring granted refunds as far as they come without a person

        Idempotent: whatever was done before is not done again.
        """
        refunds = [r for r in refunds if r.is_granted]
        if not refunds:
            return
        cls._lock(refunds)
        refunds = cls.browse(refunds)
        cls._credit([r for r in refunds if r.state == 'approved'])
        refunds = cls.browse(refunds)
        cls._follow(refunds)
        refunds = cls.browse(refunds)
        cls._execute([r for r in refunds if r.state == 'posted'])
        refunds = cls.browse(refunds)
        cls._follow(refunds)
        cls._queue_orders(refunds)

    @classmethod
    def _credit(cls, refunds):
        "Make and post the credit notes"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        cls._settle([r for r in refunds if not r._needs_credit_note()])
        refunds = [r for r in refunds if r._needs_credit_note()]
        if not refunds:
            return
        for refund in refunds:
            refund.credit_note = refund._get_credit_note()
        Invoice.save([r.credit_note for r in refunds])
        cls.save(refunds)
        cls._set_taxes(refunds)
        for refund in refunds:
            refund._check_credit_note()
        with Transaction().set_context(_skip_warnings=True):
            Invoice.post([r.credit_note for r in refunds])
        cls._post(refunds)

    def _needs_credit_note(self):
        "Test if there is something to book"
        return bool(self.amount)

    def _check_credit_note(self):
        "Check that the credit note gives back what was approved"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        Lang = pool.get('ir.lang')
        credit_note = Invoice(self.credit_note.id)
        if credit_note.total_amount != -self.amount:
            lang = Lang.get()
            raise CreditedError(gettext(
                    'return_refund.msg_refund_credit_note_differs',
                    refund=self.rec_name,
                    amount=lang.currency(self.amount, self.currency),
                    credited=lang.currency(
                        -credit_note.total_amount, self.currency)))

    @classmethod
    @Workflow.transition('posted')
    def _post(cls, refunds):
        pass

    @classmethod
    @Workflow.transition('kept')
    def _keep(cls, refunds):
        pass

    @classmethod
    @Workflow.transition('settled')
    def _settle(cls, refunds):
        pass

    @classmethod
    @Workflow.transition('paid')
    def _pay(cls, refunds):
        pass

    @classmethod
    @Workflow.transition('failed')
    def _fail(cls, refunds):
        pass

    def _get_credit_note(self):
        pool = Pool()
        Invoice = pool.get('account.invoice')
        if self.invoice:
            credit_note = self.invoice._credit()
            credit_note.return_origin_invoices = [self.invoice]
        else:
            credit_note = Invoice(
                company=self.company,
                type='out',
                currency=self.currency,
                party=self.party)
            credit_note.on_change_type()
            credit_note.on_change_party()
        credit_note.reference = self.return_order.number
        credit_note.payment_term = None
        credit_note.payment_term_date = self.due_date
        credit_note.lines = [
            i for l in self.lines for i in l.get_credit_lines()]
        credit_note.taxes = []
        return credit_note

    @classmethod
    def _set_taxes(cls, refunds):
        "Credit the taxes of the refunds, to the cent"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        InvoiceTax = pool.get('account.invoice.tax')
        to_save = []
        for refund in refunds:
            amounts = defaultdict(Decimal)
            for line in refund.lines:
                for tax in line.taxes:
                    amounts[tax.tax] -= tax.amount
            # Lines without amount have a tax of their own
            for tax in sorted(
                    Invoice(refund.credit_note.id).taxes,
                    key=lambda t: -abs(t.base)):
                amount = amounts.pop(tax.tax, Decimal(0))
                if tax.amount != amount:
                    tax.amount = amount
                    to_save.append(tax)
        InvoiceTax.save(to_save)

    @classmethod
    def payment_deleted(cls, refunds):
        "Let a person decide about refunds whose payment was deleted"
        refunds = [
            r for r in cls.browse(refunds)
            if r.state == 'posted' and not all(p.is_done for p in r.parts)]
        cls.write(refunds, {
                'payment': None,
                'failure': gettext(
                    'return_refund.msg_refund_payment_deleted'),
                })
        cls._fail(refunds)
        cls._queue_orders(refunds)

    @classmethod
    def _execute(cls, refunds):
        "Set the credit notes against their invoices or pay them"
        todo = list(refunds)
        while todo:
            # What one refund takes of an invoice the next must see
            invoices, batch, rest = set(), [], []
            for refund in todo:
                if refund.invoice and refund.invoice in invoices:
                    rest.append(refund)
                else:
                    invoices.add(refund.invoice)
                    batch.append(refund)
            cls._execute_batch(cls.browse(batch))
            todo = rest

    @classmethod
    def _execute_batch(cls, refunds):
        pool = Pool()
        Invoice = pool.get('account.invoice')
        MoveLine = pool.get('account.move.line')
        Part = pool.get('return.refund.part')
        to_reconcile, to_offset, to_pay, failed = [], {}, [], []
        blocked = []

        def reconcile(refund, lines):
            failure = refund._get_exchange_failure(lines)
            if not failure:
                to_reconcile.append(lines)
            elif refund.failure != failure:
                refund.failure = failure
                blocked.append(refund)

        for refund in refunds:
            lines = refund._get_reconcile_lines()
            if lines:
                reconcile(refund, lines)
                continue
            if refund._is_underway():
                continue
            if refund.parts:
                shares = [
                    (p.method, p.amount) for p in refund.parts
                    if not p.is_done]
            else:
                open_amount = cls._get_open_amount(refund.invoice)
                if open_amount >= refund.amount:
                    to_offset[refund.invoice] = [refund._get_credit_line()]
                    continue
                shares = refund._get_shares(refund.amount - open_amount)
            failure = refund._get_failure(shares)
            if failure:
                refund.failure = failure
                failed.append(refund)
                continue
            if not refund.parts:
                refund.parts = refund._get_parts(
                    refund.amount - open_amount)
            to_pay.append(refund)
        if to_offset:
            Invoice.add_payment_lines(to_offset)
        cls.save([*to_pay, *failed, *blocked])
        cls._fail(failed)
        blocked.clear()
        to_pay = cls.browse(to_pay)
        Part.pay([p for r in to_pay for p in r.parts if not p.is_done])
        for refund in cls.browse(to_pay):
            lines = refund._get_reconcile_lines()
            if lines:
                reconcile(refund, lines)
        cls.save(blocked)
        MoveLine.reconcile(*to_reconcile)

    def _get_credit_line(self):
        "Return the account move line that owes the customer the refund"
        for line in self.credit_note.lines_to_pay:
            if not line.reconciliation:
                return line

    def _get_reconcile_lines(self):
        "Return the lines that together settle the credit note, if they do"
        line = self._get_credit_line()
        if not line:
            return []

        def is_open(line):
            return not line.reconciliation

        def balance(lines):
            # As the ledger does, which then books the exchange difference
            if all(l.second_currency == self.currency for l in lines):
                return sum(l.amount_second_currency for l in lines)
            return sum(l.debit - l.credit for l in lines)

        payments = [p for p in line.payments if p.state != 'failed']
        paid = {l for p in payments for l in self._get_payment_lines(p)}
        lines = {line, *filter(is_open, self.credit_note.payment_lines)}
        lines.update(filter(is_open, paid))
        if balance(lines):
            if not self.invoice or (payments and not paid):
                return []
            owed = set(filter(is_open, self.invoice.lines_to_pay))
            if any(p.state != 'failed' for l in owed for p in l.payments):
                return []
            lines.update(owed)
            lines.update(filter(is_open, self.invoice.payment_lines))
            if balance(lines):
                return []
        if any(
                l.account != line.account or l.party != line.party
                or l.move.state != 'posted' for l in lines):
            return []
        return sorted(lines, key=int)

    def _get_exchange_failure(self, lines):
        "Return why the exchange difference of the lines cannot be booked"
        pool = Pool()
        Configuration = pool.get('account.configuration')
        difference = sum(l.debit - l.credit for l in lines)
        if not difference:
            return
        config = Configuration(1)
        for name in [
                'currency_exchange_journal',
                'currency_exchange_debit_account' if difference > 0
                else 'currency_exchange_credit_account']:
            if not config.get_multivalue(name, company=self.company.id):
                return gettext(
                    'return_refund.msg_refund_exchange_missing',
                    refund=self.rec_name,
                    **config.__names__(name))

    def _get_payment_lines(self, payment):
        "Return the lines that the payment booked against the customer"
        return []

    def _is_underway(self, exclude=None):
        """Test if something already happens with the credit note

        Besides the payment to exclude.
        """
        if not self.credit_note:
            return False
        line = self._get_credit_line()
        if not line:
            return True
        if any(
                p.state != 'failed' and p.origin != self and p != exclude
                for p in line.payments):
            return True
        if line.payment_blocked and not self.get_kept_amount():
            return True
        done = [
            p for p in self.parts
            if p.is_done and (not p.payment or p.payment != exclude)]
        if len(self.credit_note.payment_lines) > sum(
                bool(p.move) for p in done):
            return True
        payments = {self.payment, *line.payments}
        payments -= {None, exclude, *(p.payment for p in done)}
        payments = [p for p in payments if p.state != 'failed']
        if done or payments:
            return (
                sum(p.amount for p in [*done, *payments])
                >= sum(p.amount for p in self.parts))
        return bool(line.invoice_payments)

    def _get_failure(self, shares):
        "Return why the shares of the money cannot be paid or None"
        if not all(m for m, _ in shares):
            return self._get_method_message()
        if self.invoice:
            done = [p for p in self.parts if p.is_done]
            money = kept = Decimal(0)
            for method, amount in [
                    *shares, *((p.method, p.amount) for p in done)]:
                if method.kind == 'balance':
                    kept += amount
                else:
                    money += amount
            received = self._get_available_money(
                self.invoice, exclude=self, kept=kept)
            if money > received:
                return self._get_received_message(
                    money + kept, received + kept)

    @classmethod
    def _follow(cls, refunds):
        "Follow the payment and the reconciliation of the credit notes"
        states = defaultdict(list)
        for refund in refunds:
            if refund.credit_note:
                state, failure = refund._get_state()
                if state != refund.state:
                    refund.failure = failure
                    states[state].append(refund)
        cls.save([r for rs in states.values() for r in rs])
        for state, method in [
                ('posted', cls._post),
                ('kept', cls._keep),
                ('paid', cls._pay),
                ('settled', cls._settle),
                ('failed', cls._fail)]:
            method(states[state])

    def _get_state(self):
        "Return the state that follows from the ledger and why it failed"
        lines = self.credit_note.lines_to_pay
        if not self.amount or (
                lines and all(l.reconciliation for l in lines)):
            return 'paid' if self._get_money_lines() else 'settled', None
        failed = [p.payment for p in self.parts if p.has_failed]
        if failed:
            return 'failed', '\n'.join(
                gettext(
                    'return_refund.msg_refund_payment_failed',
                    payment=p.rec_name)
                for p in failed)
        elif self.state == 'failed' and not self.payment:
            return 'failed', self.failure
        elif self.get_kept_amount() and all(p.has_arrived for p in self.parts):
            return 'kept', None
        return 'posted', None


class Refund_Clearing(metaclass=PoolMeta):
    __name__ = 'return.refund'

    def _get_payment_lines(self, payment):
        lines = super()._get_payment_lines(payment)
        if payment.clearing_move:
            lines.extend(
                l for l in payment.clearing_move.lines
                if l.account == payment.line.account)
        return lines


class Refund_AngloSaxon(metaclass=PoolMeta):
    __name__ = 'return.refund'

    def _needs_credit_note(self):
        # Goods that cost the customer nothing did cost the company
        return super()._needs_credit_note() or any(
            l.invoice_line and not l.invoice_line.amount
            and l.return_line.expects_goods and l.product.type == 'goods'
            for l in self.lines)


class Refund_Quality(metaclass=PoolMeta):
    __name__ = 'return.refund'

    def _get_handlers(self):
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        handlers = super()._get_handlers()
        inspections = Inspection.search([
                ('origin', 'in', [str(l) for l in self.return_order.lines]),
                ])
        for inspection in inspections:
            handlers.append((inspection, {
                        inspection.processed_by,
                        inspection.passed_by,
                        inspection.failed_by} - {None}))
        return handlers
