# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelView, Workflow, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import UndoError


class Signature(metaclass=PoolMeta):
    __name__ = 'return.refund.signature'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.kind.selection.append(('undo', "Undone"))


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._buttons['draft'] = {
            'invisible': (
                (Eval('state') != 'cancelled') | Bool(Eval('credit_note'))),
            'depends': ['state', 'credit_note'],
            }
        cls._buttons.update({
                'undo': {
                    'invisible': Eval('state').in_(['draft', 'cancelled']),
                    'depends': ['state'],
                    },
                })

    @property
    def is_undone(self):
        "Whether the credit note was posted and cancelled"
        return self.state == 'cancelled' and bool(self.credit_note)

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    def draft(cls, refunds):
        for refund in refunds:
            if refund.is_undone:
                raise UndoError(gettext(
                        'return_refund.msg_refund_undone',
                        refund=refund.rec_name,
                        order=refund.return_order.rec_name))
        super().draft(refunds)

    @classmethod
    @ModelView.button_action('return_refund.wizard_refund_undo')
    def undo(cls, refunds):
        pass

    @classmethod
    def _undo(cls, refunds, reason):
        """Take back the grant of the refunds

        Those whose credit note is posted are cancelled and what they were for
        is prepared anew; the others are draft again.
        """
        pool = Pool()
        Order = pool.get('return.order')
        Signature = pool.get('return.refund.signature')
        cls._lock(refunds)
        refunds = cls.browse(refunds)
        for refund in refunds:
            refund.check_undo()
        Signature.save([r._get_signature('undo', reason) for r in refunds])
        cls._void_signatures(dict.fromkeys(
                refunds, gettext('return_refund.msg_signature_undone')))
        credited = [r for r in refunds if r.credit_note]
        cls._release(credited)
        for refund in refunds:
            if refund in credited:
                refund.state = 'cancelled'
                refund.cancelled_by = Order._get_employee(refund.company)
            else:
                refund.state = 'draft'
                refund.approved_by = None
                refund.due_date = None
            refund.failure = None
            refund.difference = refund.difference_cause = None
        cls.save(refunds)
        for state in ['cancelled', 'draft']:
            cls.log(
                [r for r in refunds if r.state == state],
                'transition', f'state:{state}')
        cls._reverse(credited)
        cls._queue_orders(refunds)

    def check_undo(self):
        "Check that no money and no document stands against it"
        if not self.is_granted:
            raise UndoError(gettext(
                    'return_refund.msg_refund_undo_ungranted',
                    refund=self.rec_name))
        if not self.credit_note:
            return
        if self.state == 'paid' or self._get_money_lines():
            raise UndoError(gettext(
                    'return_refund.msg_refund_undo_paid',
                    refund=self.rec_name))
        for line in self.credit_note.lines_to_pay:
            for payment in line.payments:
                if payment.state != 'failed':
                    raise UndoError(gettext(
                            'return_refund.msg_refund_undo_payment',
                            refund=self.rec_name,
                            payment=payment.rec_name))
        invoices = {
            i for l in self.credit_note.lines_to_pay
            for i in l.invoice_payments} - {self.invoice}
        if invoices:
            raise UndoError(gettext(
                    'return_refund.msg_refund_undo_invoice',
                    refund=self.rec_name,
                    invoices=', '.join(sorted(
                            i.rec_name for i in invoices))))
        foreign = self._get_foreign_lines()
        if foreign:
            raise UndoError(gettext(
                    'return_refund.msg_refund_undo_reconciled',
                    refund=self.rec_name,
                    moves=', '.join(sorted({
                                l.move.rec_name for l in foreign}))))
        if not self.company.cancel_invoice_out:
            raise UndoError(gettext(
                    'return_refund.msg_refund_undo_company',
                    refund=self.rec_name,
                    **self.company.__names__(
                        'cancel_invoice_out', self.company)))

    def _get_foreign_lines(self):
        "Return the lines reconciled with neither invoice nor credit note"
        own = {self.credit_note.move}
        if self.invoice:
            own.add(self.invoice.move)
            own.update(l.move for l in self.invoice.payment_lines)
        lines = {
            l for line in self.credit_note.lines_to_pay
            if line.reconciliation for l in line.reconciliation.lines}
        lines.update(self.credit_note.payment_lines)
        return [l for l in lines if l.move not in own]

    @classmethod
    def _release(cls, refunds):
        "Take the credit notes away from the invoices they settled"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        Reconciliation = pool.get('account.move.reconciliation')
        reconciliations, invoices = set(), {}
        for refund in refunds:
            reconciled = {
                l.reconciliation for l in refund.credit_note.lines_to_pay
                if l.reconciliation}
            if reconciled:
                reconciliations |= reconciled
                invoices[refund.credit_note] = invoices[refund.invoice] = None
        Reconciliation.delete(list(reconciliations))
        # The rest of the transaction needs them posted
        Invoice.process(Invoice.browse(list(filter(None, invoices))))

    @classmethod
    def _reverse(cls, refunds):
        "Cancel the credit notes by moves that reverse theirs"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        Part = pool.get('return.refund.part')
        Part.delete([p for r in refunds for p in r.parts])
        notes = Invoice.browse([r.credit_note.id for r in refunds])
        Invoice.remove_payment_lines(
            [l for n in notes for l in n.lines_to_pay])
        with Transaction().set_context(_skip_warnings=True):
            Invoice.cancel(notes)


class Refund_AngloSaxon(metaclass=PoolMeta):
    __name__ = 'return.refund'

    @classmethod
    def _reverse(cls, refunds):
        "The cost of what came back is free for another credit note"
        pool = Pool()
        Move = pool.get('stock.move')
        Uom = pool.get('product.uom')
        super()._reverse(refunds)
        moves = {}
        for refund in refunds:
            for line in refund.credit_note.lines:
                if not line.product:
                    continue
                quantity = Uom.compute_qty(
                    line.unit, abs(line.quantity), line.product.default_uom,
                    round=False)
                for move in line.stock_moves:
                    move = moves.setdefault(move.id, move)
                    taken = min(quantity, Uom.compute_qty(
                            move.unit, move.in_anglo_saxon_quantity,
                            line.product.default_uom, round=False))
                    if taken > 0:
                        quantity -= taken
                        move.in_anglo_saxon_quantity = max(
                            0, move.in_anglo_saxon_quantity
                            - Uom.compute_qty(
                                line.product.default_uom, taken, move.unit,
                                round=False))
        Move.save(list(moves.values()))


class UndoStart(ModelView):
    "Undo Refund"
    __name__ = 'return.refund.undo.start'

    reason = fields.Text(
        "Reason", required=True,
        help="Why the refund is taken back.")


class Undo(Wizard):
    "Undo Refund"
    __name__ = 'return.refund.undo'

    start = StateView(
        'return.refund.undo.start',
        'return_refund.refund_undo_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Undo", 'undo', 'tryton-ok', default=True),
            ])
    undo = StateTransition()

    def transition_undo(self):
        self.model._undo(self.records, self.start.reason)
        return 'end'
