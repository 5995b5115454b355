# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal
from functools import wraps

from trytond.i18n import gettext
from trytond.model import ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import CreditedError, CreditedWarning, RefundedError


def process_return(func):
    "Process the return orders that wait for the invoices after func"
    @wraps(func)
    def wrapper(cls, invoices):
        pool = Pool()
        Order = pool.get('return.order')
        func(cls, invoices)
        with without_check_access():
            orders = cls._get_waiting_returns(invoices)
        Order._queue_process(orders)
    return wrapper


class Invoice(metaclass=PoolMeta):
    __name__ = 'account.invoice'

    return_origin_invoices = fields.Many2Many(
        'account.invoice-return_origin-account.invoice',
        'credit_note', 'invoice', "Returned Invoices", readonly=True,
        states={
            'invisible': ~Eval('return_origin_invoices'),
            },
        help="The invoices whose goods are credited.")
    return_credit_notes = fields.Many2Many(
        'account.invoice-return_origin-account.invoice',
        'invoice', 'credit_note', "Return Credit Notes", readonly=True,
        states={
            'invisible': ~Eval('return_credit_notes'),
            },
        help="The credit notes made for returned goods of the invoice.")
    return_refunds = fields.One2Many(
        'return.refund', 'credit_note', "Refunds", readonly=True)
    return_orders = fields.Function(
        fields.Many2Many('return.order', None, None, "Return Orders"),
        'get_return_orders', searcher='search_return_orders')

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('//page[@id="returns"]', 'states', {
                    'invisible': ~Eval('return_orders', []),
                    }),
            ]

    def get_return_orders(self, name):
        orders = [r.return_order.id for r in self.return_refunds]
        for credit_note in self.return_credit_notes:
            orders.extend(
                r.return_order.id for r in credit_note.return_refunds)
        return list(dict.fromkeys(orders))

    @classmethod
    def search_return_orders(cls, name, clause):
        nested = clause[0][len(name):]
        return ['OR',
            ('return_refunds.return_order' + nested, *clause[1:]),
            ('return_credit_notes.return_refunds.return_order' + nested,
                *clause[1:]),
            ]

    @classmethod
    def copy(cls, invoices, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'return_origin_invoices', 'return_credit_notes',
                'return_refunds']:
            default.setdefault(name)
        return super().copy(invoices, default=default)

    @classmethod
    @Workflow.transition('posted')
    def post_batch(cls, invoices):
        cls.check_credited(invoices)
        cls.check_unattributed(invoices)
        super().post_batch(invoices)

    @classmethod
    @ModelView.button
    @Workflow.transition('posted')
    def post(cls, invoices):
        cls.check_credited(invoices)
        cls.check_unattributed(invoices)
        super().post(invoices)

    @classmethod
    @process_return
    def _post(cls, invoices):
        cls.check_credited(invoices)
        super()._post(invoices)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, invoices):
        cls.check_refunded(invoices)
        super().cancel(invoices)

    @classmethod
    def check_refunded(cls, invoices):
        "Check that nothing was granted on the invoices"
        pool = Pool()
        Refund = pool.get('return.refund')
        for sub_invoices in grouped_slice(invoices):
            ids = [i.id for i in sub_invoices]
            for refund in Refund.search([
                        ('state', 'not in', ['draft', 'cancelled']),
                        ['OR',
                            ('credit_note', 'in', ids),
                            ('invoice', 'in', ids),
                            ],
                        ], limit=1):
                if refund.credit_note and refund.credit_note.id in ids:
                    raise RefundedError(gettext(
                            'return_refund.msg_credit_note_cancel',
                            invoice=refund.credit_note.rec_name,
                            refund=refund.rec_name))
                raise RefundedError(gettext(
                        'return_refund.msg_invoice_cancel_refunded',
                        invoice=refund.invoice.rec_name,
                        refund=refund.rec_name))

    @classmethod
    def check_credited(cls, invoices):
        """Check that no more is credited of an invoice line than its amount

        Whichever way the credit is made.
        """
        pool = Pool()
        Lang = pool.get('ir.lang')
        Line = pool.get('account.invoice.line')
        lines = [
            l for i in invoices
            if i.type == 'out' and (not i.move or i.move.state != 'posted')
            for l in i.lines if l.type == 'line']
        originals = {
            o for os in Line._get_credited_lines(lines).values() for o in os}
        if not originals:
            return
        originals = Line.browse(sorted(originals, key=int))
        Line.lock_credited(originals)
        lang = Lang.get()
        for original, credits in Line.get_credits(
                originals, including=lines).items():
            credited = sum(credits.values())
            if credited > max(original.amount, 0):
                raise CreditedError(gettext(
                        'return_refund.msg_invoice_line_over_credited',
                        line=original.rec_name,
                        amount=lang.currency(
                            original.amount, original.invoice.currency),
                        credited=lang.currency(
                            credited, original.invoice.currency),
                        documents='\n'.join(dict.fromkeys(
                                d.rec_name for d in credits))))

    @classmethod
    def check_unattributed(cls, invoices):
        "Warn about credits that may be for goods that are refunded already"
        pool = Pool()
        Line = pool.get('account.invoice.line')
        Refund = pool.get('return.refund')
        Warning = pool.get('res.user.warning')
        for invoice in invoices:
            if (invoice.type != 'out'
                    or invoice.return_refunds
                    or (invoice.move and invoice.move.state == 'posted')):
                continue
            lines = Line.filter_unattributed(invoice.lines)
            if not lines:
                continue
            refunds = Refund.search([
                    ('company', '=', invoice.company.id),
                    ('party', '=', invoice.party.id),
                    ('currency', '=', invoice.currency.id),
                    ('invoice', '!=', None),
                    ('invoice', '!=', invoice.id),
                    ('state', 'not in', ['draft', 'cancelled']),
                    ])
            for refunded in sorted({r.invoice for r in refunds}, key=int):
                if refunded.get_credited_amount(
                        including=lines) > refunded.untaxed_amount:
                    key = Warning.format('credit_unattributed', [invoice])
                    if Warning.check(key):
                        raise CreditedWarning(key, gettext(
                                'return_refund.msg_credit_unattributed',
                                invoice=invoice.rec_name,
                                refunded=refunded.rec_name))
                    break

    def get_credited_amount(self, including=()):
        """Return what is credited of the invoice and what may be

        By the unattributed lines of the customer since then and the lines
        including.
        """
        pool = Pool()
        Line = pool.get('account.invoice.line')
        lines = {*self.get_unattributed_lines(), *including}
        credits = Line.get_credits([
                l for l in self.lines if l.type == 'line' and l.amount > 0])
        return sum(
            (sum(c.values()) for c in credits.values()), Decimal(0)
            ) - sum((l.amount for l in lines), Decimal(0))

    def get_unattributed_lines(self):
        "Return the posted lines that may credit the invoice unnamed"
        pool = Pool()
        Line = pool.get('account.invoice.line')
        return Line.filter_unattributed(Line.search([
                    ('invoice.company', '=', self.company.id),
                    ('invoice.party', '=', self.party.id),
                    ('invoice.currency', '=', self.currency.id),
                    ('invoice.type', '=', 'out'),
                    ('invoice.state', 'in', ['posted', 'paid']),
                    ('invoice.invoice_date', '>=', self.invoice_date),
                    ('invoice', '!=', self.id),
                    ('type', '=', 'line'),
                    ('return_refund_line', '=', None),
                    ['OR',
                        ('quantity', '<', 0),
                        ('unit_price', '<', 0),
                        ],
                    ]))

    @classmethod
    def _get_waiting_returns(cls, invoices):
        "Return the return orders whose refund may wait for the invoices"
        pool = Pool()
        ReturnLine = pool.get('return.order.line')
        SaleLine = pool.get('sale.line')
        sale_lines = {
            l.origin.id for i in invoices if i.type == 'out'
            for l in i.lines if isinstance(l.origin, SaleLine)}
        orders = {}
        for sub_lines in grouped_slice(sorted(sale_lines)):
            for line in ReturnLine.search([
                        ('sale_line', 'in', list(sub_lines)),
                        ('order.state', 'in', ['approved', 'done']),
                        ]):
                orders[line.order.id] = line.order
        return list(orders.values())

    def get_line_taxes(self):
        """Map each line to a dictionary of taxes and their amounts

        They are rounded such that they add up to the taxes of the invoice.
        """
        pool = Pool()
        Tax = pool.get('account.tax')
        amounts = {}
        for line in self.lines:
            if line.type != 'line':
                continue
            amounts[line] = defaultdict(Decimal)
            for tax in Tax.compute(
                    line.taxes, line.unit_price, line.quantity,
                    line.tax_date):
                amounts[line][tax['tax']] += tax['amount']
        totals = defaultdict(Decimal)
        for tax in self.taxes:
            if not tax.manual:
                totals[tax.tax] += tax.amount
        unit = self.currency.rounding
        taxes = {l: {} for l in amounts}
        for tax, total in totals.items():
            exact = {l: a[tax] for l, a in amounts.items() if tax in a}
            for line, amount in exact.items():
                taxes[line][tax] = self.currency.round(amount)
            rest = total - sum(taxes[l][tax] for l in exact)
            # The lines that were rounded the farthest give way first
            sign = 1 if rest > 0 else -1
            for line in sorted(exact, key=lambda l: (
                        sign * (taxes[l][tax] - exact[l]), l.id)):
                if not rest:
                    break
                step = min(unit, abs(rest)).copy_sign(rest)
                taxes[line][tax] += step
                rest -= step
            if rest and exact:
                line = max(exact, key=lambda l: (abs(exact[l]), -l.id))
                taxes[line][tax] += rest
        return taxes

    def get_settling_lines(self):
        """Return the account move lines by which the invoice was settled

        With the amount for this invoice in its currency: money and what was
        set against it.  What was written off or credited of the invoice
        settled nothing.
        """
        settling = []
        own = set(self.lines_to_pay)
        reconciliations = dict.fromkeys(
            l.reconciliation for l in self.lines_to_pay if l.reconciliation)
        for reconciliation in reconciliations:
            due = total = Decimal(0)
            lines = []
            for line in reconciliation.lines:
                amount = line.get_return_amount(self.currency)
                if amount < 0:
                    lines.append((line, -amount))
                elif not line.is_return_money:
                    total += amount
                    if line in own:
                        due += amount
            if total:
                settling.extend(
                    (l, self.currency.round(a * due / total))
                    for l, a in lines)
        for line in self.payment_lines:
            amount = line.get_return_amount(self.currency)
            if not line.reconciliation and amount < 0:
                settling.append((line, -amount))
        return [
            (l, a) for l, a in settling
            if l.is_return_money or self._is_offset(l)]

    def _is_offset(self, line):
        "Test if the account move line gave something for the invoice"
        move = line.move
        if move.journal.type == 'write-off':
            return False
        if isinstance(move.origin, self.__class__):
            credited = move.origin._get_credited_invoices()
            return self not in credited
        return True

    def _get_credited_invoices(self):
        pool = Pool()
        Line = pool.get('account.invoice.line')
        invoices = set(self.return_origin_invoices)
        for lines in Line._get_credited_lines(self.lines).values():
            invoices.update(l.invoice for l in lines)
        return invoices

    def get_money_lines(self):
        """Return the account move lines by which money came in

        With the amount for this invoice in its currency.
        """
        return [
            (l, a) for l, a in self.get_settling_lines() if l.is_return_money]

    def get_offset_amount(self):
        "Return what of other invoices was set against the invoice"
        return sum((
                a for l, a in self.get_settling_lines()
                if not l.is_return_money), Decimal(0))

    def get_received_amount(self):
        "Return the money that really came in for the invoice"
        return min(
            sum((a for _, a in self.get_money_lines()), Decimal(0)),
            self.total_amount)

    def get_returned_money_lines(self):
        "Return the lines by which money of the credit note went out"
        lines = set(self.payment_lines)
        for line in self.lines_to_pay:
            if line.reconciliation:
                lines.update(line.reconciliation.lines)
        return [
            l for l in sorted(lines, key=int)
            if l.is_return_money and l.get_return_amount(self.currency) > 0]

    def get_credited_money(self):
        "Return the money that went back by credit notes without refund"
        pool = Pool()
        Line = pool.get('account.invoice.line')
        amounts = defaultdict(Decimal)
        for credits in Line.get_credits([
                    l for l in self.lines
                    if l.type == 'line' and l.amount > 0]).values():
            for document, amount in credits.items():
                if (isinstance(document, self.__class__)
                        and document != self
                        and not document.return_refunds):
                    amounts[document] += amount
        money = Decimal(0)
        for credit_note, amount in amounts.items():
            # A credit note may be for several invoices
            total = abs(credit_note.untaxed_amount)
            share = min(amount / total, Decimal(1)) if total else Decimal(1)
            money += share * sum((
                    l.get_return_amount(self.currency)
                    for l in credit_note.get_returned_money_lines()),
                Decimal(0))
        return self.currency.round(money)


class InvoiceReturnOrigin(ModelSQL):
    "Credit Note - Returned Invoice"
    __name__ = 'account.invoice-return_origin-account.invoice'

    credit_note = fields.Many2One(
        'account.invoice', "Credit Note", required=True, ondelete='CASCADE')
    invoice = fields.Many2One(
        'account.invoice', "Invoice", required=True, ondelete='RESTRICT')


class InvoiceLine(metaclass=PoolMeta):
    __name__ = 'account.invoice.line'

    return_refund_line = fields.Many2One(
        'return.refund.line', "Refund Line", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('return_refund_line'),
            },
        help="What the line credits of a return.")
    return_goodwill = fields.Function(
        fields.Boolean("Return Goodwill"), 'on_change_with_return_goodwill')

    @fields.depends(
        'return_refund_line', '_parent_return_refund_line.invoice_line')
    def on_change_with_return_goodwill(self, name=None):
        return bool(
            self.return_refund_line
            and not self.return_refund_line.invoice_line)

    @classmethod
    def _account_domain(cls, type_):
        domain = super()._account_domain(type_)
        if type_ == 'out':
            # Goodwill reverses no revenue
            domain = [*domain, If(Eval('return_goodwill', False),
                    ('type.expense', '=', True),
                    ('id', '<', 0))]
        return domain

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.order.line']

    @property
    def origin_name(self):
        pool = Pool()
        ReturnLine = pool.get('return.order.line')
        name = super().origin_name
        if isinstance(self.origin, ReturnLine) and self.origin.id >= 0:
            name = self.origin.order.rec_name
        return name

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_refund_line')
        return super().copy(lines, default=default)

    @classmethod
    def create(cls, vlist):
        if any(v.get('return_refund_line') for v in vlist):
            cls._check_refund_line()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        if any('return_refund_line' in values for values in args[1::2]):
            cls._check_refund_line()
        super().write(*args)

    @classmethod
    def _check_refund_line(cls):
        if Transaction().check_access:
            raise AccessError(gettext(
                    'return_management.msg_field_guarded',
                    **cls.__names__('return_refund_line')))

    @classmethod
    def filter_unattributed(cls, lines):
        "Return the lines that credit something without saying what"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        lines = [
            l for l in lines
            if l.type == 'line' and not l.return_refund_line and l.amount < 0
            # A discount is part of what was sold
            and not (
                isinstance(l.origin, SaleLine) and l.origin.quantity > 0
                and l.quantity > 0)]
        credited = cls._get_credited_lines(lines)
        return [l for l in lines if not credited[l]]

    @classmethod
    def lock_credited(cls, lines):
        "Lock what is returned with the lines, always in the same order"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        SaleLine = pool.get('sale.line')
        SaleLine.lock(SaleLine.browse(sorted({
                        l.origin.id for l in lines
                        if isinstance(l.origin, SaleLine)})))
        Invoice.lock(Invoice.browse(sorted({l.invoice.id for l in lines})))

    @classmethod
    def get_credits(cls, lines, including=()):
        """Map each line to a dictionary of documents and credited amounts

        Untaxed and positive, of posted invoices, of the lines including that
        are about to be posted and of refunds that are granted.
        """
        pool = Pool()
        RefundLine = pool.get('return.refund.line')
        including = list(including)
        family = cls._get_credited_family(lines)
        found = cls._search_credits(family)
        credit_lines = sorted({*found, *including}, key=int)
        credited_lines = cls._get_credited_lines(credit_lines)
        credits = {l: defaultdict(Decimal) for l in lines}
        totals = defaultdict(Decimal)

        def credit(line, document, amount):
            totals[line] += amount
            if line in credits:
                credits[line][document] += amount

        several = []
        for credit_line in credit_lines:
            originals = credited_lines[credit_line]
            if len(originals) == 1:
                credit(
                    originals[0], credit_line.invoice, -credit_line.amount)
            elif originals:
                several.append((credit_line, originals))
        posted = {l.return_refund_line for l in credit_lines}
        for sub_lines in grouped_slice(family):
            for refund_line in RefundLine.search([
                        ('invoice_line', 'in', [l.id for l in sub_lines]),
                        ('refund.state', '=', 'approved'),
                        ('kind', '!=', 'fee'),
                        ]):
                if refund_line not in posted:
                    credit(
                        refund_line.invoice_line, refund_line.refund,
                        refund_line.amount)
        # What may belong to several lines goes where there is room
        for credit_line, originals in several:
            amount = -credit_line.amount
            for original in originals[:-1]:
                part = min(amount, original.amount - totals[original])
                if part > 0:
                    credit(original, credit_line.invoice, part)
                    amount -= part
            if amount:
                credit(originals[-1], credit_line.invoice, amount)
        return credits

    @classmethod
    def _get_credited_family(cls, lines):
        "Return the lines with all others that share credits with them"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        sales = {
            l.origin.sale for l in lines if isinstance(l.origin, SaleLine)}
        family = {
            i for l in lines for i in l.invoice.lines if i.type == 'line'}
        for sale in sales:
            for sale_line in sale.lines:
                family.update(sale_line._get_posted_invoice_lines())
        return sorted(family, key=int)

    @classmethod
    def _search_credits(cls, lines):
        "Return the posted lines that credit the lines"
        found, new = set(), set(lines)
        while new:
            credits = set()
            for domain in cls._get_credits_domains(sorted(new, key=int)):
                credits.update(cls.search([
                            domain,
                            ('type', '=', 'line'),
                            ('invoice.type', '=', 'out'),
                            ('invoice.state', 'in', ['posted', 'paid']),
                            ], order=[]))
            new = credits - found - set(lines)
            found |= credits
        return found

    @classmethod
    def _get_credits_domains(cls, lines):
        "Return the domains to search what credits the lines"
        pool = Pool()
        ReturnLine = pool.get('return.order.line')
        Sale = pool.get('sale.sale')
        SaleLine = pool.get('sale.line')
        domains = []
        for sub_lines in grouped_slice(lines):
            sub_lines = list(sub_lines)
            domains.append([
                    ('return_refund_line.invoice_line', 'in',
                        [l.id for l in sub_lines]),
                    ('return_refund_line.kind', '!=', 'fee'),
                    ])
            domains.append(('origin', 'in', list(map(str, sub_lines))))
        sale_lines = {
            l.origin for l in lines if isinstance(l.origin, SaleLine)}
        sales = sorted({l.sale for l in sale_lines}, key=int)
        for sub_lines in grouped_slice(sorted(sale_lines, key=int)):
            sub_lines = list(sub_lines)
            domains.append([
                    ('origin', 'in', list(map(str, sub_lines))),
                    ('quantity', '<', 0),
                    ])
            return_lines = ReturnLine.search([
                    ('sale_line', 'in', [l.id for l in sub_lines]),
                    ], order=[])
            for sub_returns in grouped_slice(return_lines):
                domains.append([
                        ('origin', 'in', list(map(str, sub_returns))),
                        ('return_refund_line', '=', None),
                        ('quantity', '<', 0),
                        ])
        for sub_sales in grouped_slice(sales):
            returns = Sale.search([
                    ('origin', 'in', cls._get_return_sale_origins(
                            list(sub_sales))),
                    ], order=[])
            origins = [
                str(l) for s in returns for l in s.lines
                if l.type == 'line']
            for sub_origins in grouped_slice(origins):
                domains.append(('origin', 'in', list(sub_origins)))
        return domains

    @classmethod
    def _get_return_sale_origins(cls, sales):
        "Return what the return sales of the sales have as origin"
        return list(map(str, sales))

    @classmethod
    def _get_credited_lines(cls, lines):
        """Map each line to the list of lines that it may credit, oldest first

        The list is empty for a line that credits none.
        """
        cache = {}

        def credited(line):
            if line not in cache:
                cache[line] = []
                originals = line._get_credited_candidates()
                # The reversal of a credit belongs to what was credited
                cache[line] = list(dict.fromkeys(
                        o for c in originals for o in (credited(c) or [c])))
            return cache[line]

        return {l: credited(l) for l in lines}

    def _get_credited_candidates(self):
        pool = Pool()
        ReturnLine = pool.get('return.order.line')
        SaleLine = pool.get('sale.line')
        if self.return_refund_line:
            line = self.return_refund_line
            if line.kind == 'fee' or not line.invoice_line:
                return []
            return [line.invoice_line]
        elif isinstance(self.origin, self.__class__):
            if self.origin.id >= 0 and self.origin != self:
                return [self.origin]
        elif self.quantity < 0 and isinstance(self.origin, SaleLine):
            if self.origin.quantity < 0:
                return self.origin._get_returned_invoice_lines()
            return self.origin._get_posted_invoice_lines()
        elif self.quantity < 0 and isinstance(self.origin, ReturnLine):
            # A credit note that someone made by hand
            if self.origin.sale_line:
                return self.origin.sale_line._get_posted_invoice_lines()
        return []


class InvoiceLine_Complaint(metaclass=PoolMeta):
    __name__ = 'account.invoice.line'

    @classmethod
    def _get_credits_domains(cls, lines):
        pool = Pool()
        Complaint = pool.get('sale.complaint')
        domains = super()._get_credits_domains(lines)
        origins = list(map(str, {*lines, *(l.invoice for l in lines)}))
        for sub_origins in grouped_slice(origins):
            complaints = Complaint.search([
                    ('origin', 'in', list(sub_origins)),
                    ], order=[])
            for sub_complaints in grouped_slice(complaints):
                domains.append(
                    ('origin', 'in', list(map(str, sub_complaints))))
        return domains

    @classmethod
    def _get_return_sale_origins(cls, sales):
        pool = Pool()
        Complaint = pool.get('sale.complaint')
        origins = super()._get_return_sale_origins(sales)
        complaints = Complaint.search([
                ('origin', 'in', [
                        *map(str, sales),
                        *(str(l) for s in sales for l in s.lines)]),
                ], order=[])
        return [*origins, *map(str, complaints)]

    def _get_credited_candidates(self):
        pool = Pool()
        Complaint = pool.get('sale.complaint')
        if (not self.return_refund_line
                and isinstance(self.origin, Complaint)):
            lines = []
            for action in self.origin.actions:
                if action.result == self.invoice:
                    lines.extend(self._get_complaint_lines(action))
            return [
                l for l in lines
                if l.product == self.product and l.unit == self.unit
                and l.account == self.account]
        return super()._get_credited_candidates()

    def _get_complaint_lines(self, action):
        "Return the lines of the complained invoice that the action credits"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        origin = action.complaint.origin
        if isinstance(origin, self.__class__):
            return [origin]
        elif isinstance(origin, Invoice):
            if action.invoice_lines:
                return [l.line for l in action.invoice_lines]
            return [l for l in origin.lines if l.type == 'line']
        return []


class InvoiceLine_AngloSaxon(metaclass=PoolMeta):
    __name__ = 'account.invoice.line'

    def _get_anglo_saxon_move_lines(self, amount, type_):
        pool = Pool()
        Uom = pool.get('product.uom')
        if self.return_refund_line:
            return_line = self.return_refund_line.return_line
            if not return_line.expects_goods:
                # Nothing comes back to stock
                return []
            if not any(m.state == 'done' for m in self.stock_moves):
                cost_price = return_line.get_original_cost()
                if cost_price is not None:
                    quantity = Uom.compute_qty(
                        self.unit, abs(self.quantity),
                        self.product.default_uom, round=False)
                    amount = self.invoice.company.currency.round(
                        cost_price * Decimal(str(quantity)))
        return super()._get_anglo_saxon_move_lines(amount, type_)


class MoveLine(metaclass=PoolMeta):
    __name__ = 'account.move.line'

    @property
    def is_return_money(self):
        "Whether the line stands for money that came in or went out"
        pool = Pool()
        Payment = pool.get('account.payment')
        return (
            isinstance(self.move.origin, Payment)
            or self.move.journal.type in {'cash', 'statement'})

    def get_return_amount(self, currency):
        "Return the balance of the line in the currency"
        pool = Pool()
        Currency = pool.get('currency.currency')
        if self.second_currency == currency:
            return self.amount_second_currency
        amount = self.debit - self.credit
        company_currency = self.move.company.currency
        if company_currency != currency:
            if self.move.journal.type == 'write-off':
                # What only the rate made is nothing in the currency
                return Decimal(0)
            with Transaction().set_context(date=self.move.date):
                amount = Currency.compute(company_currency, amount, currency)
        return amount


class Reconciliation(metaclass=PoolMeta):
    __name__ = 'account.move.reconciliation'

    @classmethod
    def create(cls, vlist):
        reconciliations = super().create(vlist)
        cls._process_refunds(cls._get_refunds(reconciliations))
        return reconciliations

    @classmethod
    def delete(cls, reconciliations):
        refunds = cls._get_refunds(reconciliations)
        super().delete(reconciliations)
        cls._process_refunds(refunds)

    @classmethod
    @without_check_access
    def _get_refunds(cls, reconciliations):
        "Return the refunds whose state may follow from the reconciliations"
        pool = Pool()
        Refund = pool.get('return.refund')
        moves = {l.move.id for r in reconciliations for l in r.lines}
        refunds = set()
        for sub_moves in grouped_slice(sorted(moves)):
            sub_moves = list(sub_moves)
            refunds.update(Refund.search([
                        ('state', 'in',
                            ['posted', 'kept', 'paid', 'settled', 'failed']),
                        ['OR',
                            ('credit_note.move', 'in', sub_moves),
                            ('invoice.move', 'in', sub_moves),
                            ],
                        ], order=[]))
        return Refund.browse(sorted(refunds, key=int))

    @classmethod
    def _process_refunds(cls, refunds):
        pool = Pool()
        Refund = pool.get('return.refund')
        with without_check_access():
            Refund._queue_process(refunds)
