# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from functools import wraps

from trytond.i18n import gettext
from trytond.model import ModelView, Workflow, dualmethod
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import PaymentError


def process_refund(func):
    "Process the refunds of the payments after func"
    @wraps(func)
    def wrapper(cls, payments, *args, **kwargs):
        pool = Pool()
        Refund = pool.get('return.refund')
        with without_check_access():
            refunds = Refund.browse(sorted({
                        p.origin.id for p in cls.browse(payments)
                        if isinstance(p.origin, Refund)}))
        result = func(cls, payments, *args, **kwargs)
        Refund._queue_process(refunds)
        return result
    return wrapper


class Payment(metaclass=PoolMeta):
    __name__ = 'account.payment'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.refund']

    @classmethod
    def copy(cls, payments, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('origin')
        return super().copy(payments, default=default)

    @classmethod
    def validate_fields(cls, payments, field_names):
        super().validate_fields(payments, field_names)
        if field_names & {'origin', 'state', 'line'}:
            cls.check_refund(payments)

    @classmethod
    def check_refund(cls, payments):
        "Check that no refund is paid twice"
        pool = Pool()
        Refund = pool.get('return.refund')
        granted = {}
        for sub_payments in grouped_slice(payments):
            moves = {p.line.move.id for p in sub_payments if p.line}
            granted.update((r.credit_note.move, r) for r in Refund.search([
                        ('credit_note.move', 'in', list(moves)),
                        ('state', 'in', ['posted', 'kept']),
                        ]))
        for payment in payments:
            refund = payment.line and granted.get(payment.line.move)
            if (refund and payment.state == 'draft'
                    and not isinstance(payment.origin, Refund)):
                if refund.state == 'kept':
                    raise PaymentError(gettext(
                            'return_refund.msg_payment_kept',
                            payment=payment.rec_name,
                            line=payment.line.rec_name))
                raise PaymentError(gettext(
                        'return_refund.msg_payment_otherwise',
                        payment=payment.rec_name,
                        refund=refund.rec_name))
            refund = payment.origin
            if isinstance(refund, Refund) and payment.state != 'failed':
                others = [
                    p for p in refund.payments
                    if p != payment and p.state != 'failed']
                planned = sum(
                    p.amount for p in refund.parts
                    if p.method.payment_journal)
                if others and planned < sum(
                        p.amount for p in [payment, *others]):
                    raise PaymentError(gettext(
                            'return_refund.msg_payment_twice',
                            payment=payment.rec_name,
                            other=others[0].rec_name,
                            refund=refund.rec_name))
                if (all(p.payment != payment for p in refund.parts)
                        and refund._is_underway(exclude=payment)):
                    raise PaymentError(gettext(
                            'return_refund.msg_payment_otherwise',
                            payment=payment.rec_name,
                            refund=refund.rec_name))

    @classmethod
    def check_failed(cls, payments):
        "Check that what failed and was paid otherwise is not paid again"
        pool = Pool()
        Refund = pool.get('return.refund')
        refunds = {
            p.origin for p in payments
            if p.state == 'failed' and isinstance(p.origin, Refund)}
        if refunds:
            # Another clerk may retry the refund meanwhile
            Refund.lock(sorted(refunds, key=int))
        for payment in payments:
            refund = payment.origin
            if (payment.state == 'failed'
                    and isinstance(refund, Refund)
                    and refund._is_underway(exclude=payment)):
                raise PaymentError(gettext(
                        'return_refund.msg_payment_otherwise',
                        payment=payment.rec_name,
                        refund=refund.rec_name))

    # What finance has approved
    _refund_fields = {
        'company', 'journal', 'kind', 'party', 'amount', 'line', 'origin',
        'state'}

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            actions = iter(args)
            for payments, values in zip(actions, actions):
                if cls._refund_fields & set(values):
                    cls.check_detached(payments)
        super().write(*args)

    @classmethod
    @without_check_access
    def check_detached(cls, payments):
        "Check that no payment departs from its refund"
        pool = Pool()
        Refund = pool.get('return.refund')
        for sub_payments in grouped_slice(cls.browse(payments)):
            sub_payments = list(sub_payments)
            used = {
                r.payment: r for r in Refund.search([
                        ('payment', 'in', [p.id for p in sub_payments]),
                        ])}
            for payment in sub_payments:
                refund = used.get(payment)
                if isinstance(payment.origin, Refund):
                    refund = payment.origin
                if refund:
                    raise AccessError(gettext(
                            'return_refund.msg_payment_detached',
                            payment=payment.rec_name,
                            refund=refund.rec_name))

    @classmethod
    def delete(cls, payments):
        pool = Pool()
        Refund = pool.get('return.refund')
        with without_check_access():
            refunds = sorted({
                    p.origin for p in cls.browse(payments)
                    if isinstance(p.origin, Refund)
                    and any(t.payment == p for t in p.origin.parts)},
                key=int)
        super().delete(payments)
        with without_check_access():
            Refund.payment_deleted(refunds)

    @classmethod
    @ModelView.button
    @Workflow.transition('processing')
    @process_refund
    def proceed(cls, payments):
        cls.check_failed(payments)
        super().proceed(payments)

    @classmethod
    @ModelView.button
    @Workflow.transition('succeeded')
    @process_refund
    def succeed(cls, payments):
        cls.check_failed(payments)
        super().succeed(payments)

    @classmethod
    @ModelView.button
    @Workflow.transition('failed')
    @process_refund
    def fail(cls, payments):
        super().fail(payments)


class Move(metaclass=PoolMeta):
    __name__ = 'account.move'

    @dualmethod
    @ModelView.button
    def post(cls, moves):
        pool = Pool()
        Payment = pool.get('account.payment')
        Refund = pool.get('return.refund')
        super().post(moves)
        # What clears a part of a credit note is not yet reconciled with it
        with without_check_access():
            refunds = {
                m.origin.origin.id for m in cls.browse(moves)
                if isinstance(m.origin, Payment)
                and isinstance(m.origin.origin, Refund)}
            Refund._queue_process(Refund.browse(sorted(refunds)))
