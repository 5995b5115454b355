# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool
from trytond.transaction import Transaction

from .line import PreparedMixin


class Part(PreparedMixin, ModelSQL, ModelView):
    "Return Refund Part"
    __name__ = 'return.refund.part'

    refund = fields.Many2One(
        'return.refund', "Refund", required=True, readonly=True,
        ondelete='CASCADE')
    method = fields.Many2One(
        'return.refund.method', "Method", required=True, readonly=True,
        ondelete='RESTRICT',
        help="How the amount goes back to the customer.")
    amount = Monetary(
        "Amount", currency='currency', digits='currency', required=True,
        readonly=True,
        help="What goes back by the method, positive; "
        "set when the credit note is posted.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    payment = fields.Many2One(
        'account.payment', "Payment", readonly=True, ondelete='SET NULL',
        help="The payment that the amount goes back with.")
    move = fields.Many2One(
        'account.move', "Move", readonly=True, ondelete='SET NULL',
        help="The move that paid the amount at once.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('refund')
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.payment, Index.Range())),
                Index(t, (t.method, Index.Range())),
                })

    @fields.depends('refund', '_parent_refund.currency')
    def on_change_with_currency(self, name=None):
        return self.refund.currency if self.refund else None

    @property
    def has_failed(self):
        return bool(self.payment and self.payment.state == 'failed')

    @property
    def is_done(self):
        "Whether nothing is left to start"
        if self.method.kind == 'balance':
            line = self.refund._get_credit_line()
            return not line or line.payment_blocked
        return bool(self.move or self.payment and not self.has_failed)

    @property
    def has_arrived(self):
        "Whether the customer has the amount"
        if self.payment:
            return self.payment.state == 'succeeded'
        return self.is_done

    @classmethod
    def pay(cls, parts):
        "Give the parts back by their method"
        pool = Pool()
        MoveLine = pool.get('account.move.line')
        Payment = pool.get('account.payment')
        Refund = pool.get('return.refund')
        payments, kept = {}, []
        for part in parts:
            if part.method.kind == 'balance':
                kept.append(part.refund._get_credit_line())
            elif part.method.payment_journal:
                payments[part] = part._get_payment()
            else:
                part._pay_at_once()
        # To block a line deletes its draft payments
        MoveLine.payment_block(kept)
        Payment.save(list(payments.values()))
        refunds = {}
        for part, payment in payments.items():
            part.payment = payment
            refunds[part.refund.id] = payment
        cls.save(parts)
        to_write = []
        for refund, payment in refunds.items():
            to_write.extend(([Refund(refund)], {'payment': payment.id}))
        if to_write:
            Refund.write(*to_write)

    def _get_payment(self):
        pool = Pool()
        Date = pool.get('ir.date')
        Payment = pool.get('account.payment')
        refund = self.refund
        with Transaction().set_context(company=refund.company.id):
            today = Date.today()
        return Payment(
            company=refund.company,
            journal=self.method.payment_journal,
            kind='payable',
            party=refund.party,
            date=max(refund.due_date, today),
            amount=self.amount,
            line=refund._get_credit_line(),
            description=refund.return_order.number,
            origin=refund)

    def _pay_at_once(self):
        pool = Pool()
        Date = pool.get('ir.date')
        refund = self.refund
        with Transaction().set_context(company=refund.company.id):
            today = Date.today()
        lines = refund.credit_note.pay_invoice(
            -self.amount, self.method.payment_method, today,
            description=refund.rec_name)
        self.move = lines[0].move

    @classmethod
    def release(cls, parts):
        "Let the credits that the customers keep be paid"
        pool = Pool()
        MoveLine = pool.get('account.move.line')
        lines = [
            p.refund._get_credit_line() for p in parts
            if p.method.kind == 'balance']
        MoveLine.payment_unblock(list(filter(None, lines)))
