# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from contextlib import contextmanager

from trytond.i18n import gettext
from trytond.model import ModelView, Workflow, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.transaction import Transaction

from .exceptions import RefundedError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    refunds = fields.One2Many(
        'return.refund', 'return_order', "Refunds", readonly=True)
    credit_notes = fields.Function(
        fields.Many2Many('account.invoice', None, None, "Credit Notes"),
        'get_credit_notes', searcher='search_credit_notes')
    refund_state = fields.Selection([
            ('none', "None"),
            ('waiting', "Waiting"),
            ('partial', "Partially Refunded"),
            ('refunded', "Refunded"),
            ('exception', "Exception"),
            ], "Refund State", required=True, readonly=True, sort=False,
        help="Exception: a payment failed or finance declined a refund.")

    @classmethod
    def default_refund_state(cls):
        return 'none'

    def get_credit_notes(self, name):
        return [r.credit_note.id for r in self.refunds if r.credit_note]

    @classmethod
    def search_credit_notes(cls, name, clause):
        nested = clause[0][len(name):]
        return [('refunds.credit_note' + nested, *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="refund_state"]', 'visual',
                If(Eval('refund_state') == 'exception', 'danger',
                    If(Eval('refund_state') == 'refunded', 'success', ''))),
            ]

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'refunds', 'refund_state'}

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('refunds')
        default.setdefault('refund_state', 'none')
        return super().copy(orders, default=default)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, orders):
        pool = Pool()
        Refund = pool.get('return.refund')
        super().cancel(orders)
        Refund.delete([
                r for o in orders for r in o.refunds if r.state == 'draft'])
        cls._process_refund_state(cls.browse(orders))

    def _check_undone(self):
        super()._check_undone()
        for refund in self.refunds:
            if refund.is_granted:
                raise RefundedError(gettext(
                        'return_refund.msg_order_refunded',
                        order=self.rec_name,
                        refund=refund.rec_name))

    @classmethod
    def _process(cls, orders):
        pool = Pool()
        Refund = pool.get('return.refund')
        super()._process(orders)
        orders = cls.browse(orders)
        Refund.prepare([
                o for o in orders if o.state in {'approved', 'done'}])
        orders = cls.browse(orders)
        cls._process_refund_state(orders)
        cls._process_state(orders)

    def _is_done(self):
        return super()._is_done() and self._get_refund_state() in {
            'none', 'refunded'}

    def _get_refund_state(self):
        refunds = [r for r in self.refunds if r.state != 'cancelled']
        waiting = declined = False
        for line in self.lines:
            missing = line.unit.round(
                line._get_refundable_quantity() - line.refunding_quantity)
            if missing > 0:
                if line.declined_quantity >= missing:
                    declined = True
                else:
                    waiting = True
        finished = [r for r in refunds if r.is_finished]
        if declined or any(r.state == 'failed' for r in refunds):
            return 'exception'
        elif not waiting and len(finished) == len(refunds):
            return 'refunded' if refunds else 'none'
        return 'partial' if finished else 'waiting'

    @classmethod
    def _process_refund_state(cls, orders):
        states = defaultdict(list)
        for order in orders:
            state = order._get_refund_state()
            if order.refund_state != state:
                states[state].append(order)
        for state, s_orders in states.items():
            cls.write(s_orders, {'refund_state': state})
            cls.log(s_orders, 'transition', f'refund_state:{state}')


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    refund_lines = fields.One2Many(
        'return.refund.line', 'return_line', "Refund Lines", readonly=True)
    refundable_quantity = fields.Function(fields.Float(
            "Refundable", digits='unit',
            help="The quantity whose money may go back now, "
            "by the timing of the policy."),
        'get_refund_quantities')
    refunding_quantity = fields.Function(fields.Float(
            "Refunding", digits='unit',
            help="The quantity on refunds that are not cancelled."),
        'get_refund_quantities')
    granted_quantity = fields.Function(fields.Float(
            "Granted", digits='unit',
            help="The quantity on approved refunds, paid or not yet."),
        'get_refund_quantities')
    declined_quantity = fields.Function(fields.Float(
            "Declined", digits='unit',
            help="The quantity on refunds that finance cancelled."),
        'get_refund_quantities')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'refund_lines'}

    @classmethod
    def get_refund_quantities(cls, lines, names):
        quantities = {n: {} for n in names}
        for line in lines:
            values = {
                'refunding_quantity': 0,
                'granted_quantity': 0,
                'declined_quantity': 0,
                }
            if 'refundable_quantity' in quantities:
                values['refundable_quantity'] = (
                    line._get_refundable_quantity())
            for refund_line in line.refund_lines:
                if refund_line.kind == 'fee':
                    continue
                quantity = refund_line.get_return_quantity()
                refund = refund_line.refund
                if refund.is_undone:
                    continue
                if refund.state == 'cancelled':
                    values['declined_quantity'] += quantity
                else:
                    values['refunding_quantity'] += quantity
                    if refund.is_granted:
                        values['granted_quantity'] += quantity
            for name in names:
                quantities[name][line.id] = line.unit.round(values[name])
        return quantities

    def _get_pending_quantity(self):
        "Return what is accepted by dispositions that nobody decided yet"
        if (not self.expects_goods
                or self._get_refund_timing() != 'inspection'):
            return 0
        decided = sum(
            d.line_quantity for d in self.dispositions
            if d.accepted and d._is_favour_decided())
        return max(0, self._get_accepted_quantity() - decided)

    def _get_step_amount(self):
        amounts = [
            l.amount for r in self.refund_lines for l in r.credit_lines
            if l.invoice and l.invoice.state in {'posted', 'paid'}]
        return sum(amounts) if amounts else super()._get_step_amount()

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('refund_lines')
        return super().copy(lines, default=default)

    @classmethod
    def validate_fields(cls, lines, field_names):
        super().validate_fields(lines, field_names)
        if field_names & {'approved_quantity', 'closed_quantity'}:
            cls.check_granted(lines)

    @classmethod
    def check_granted(cls, lines):
        "Check that a decision does not undo what was granted"
        for line in lines:
            granted = line.granted_quantity
            if granted and line.unit.round(
                    line._get_refundable_quantity(disputed=False)
                    - granted) < 0:
                raise RefundedError(gettext(
                        'return_refund.msg_line_granted',
                        line=line.rec_name))


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if (field_names & {'line', 'quantity', 'accepted', 'state'}
                and not Transaction().context.get('_return_replace')):
            cls._check_granted([d.line for d in dispositions])

    @classmethod
    def _split(cls, quantities):
        with cls._check_replaced(quantities):
            super()._split(quantities)

    @classmethod
    def decide_anew(cls, quantities):
        with cls._check_replaced(quantities):
            super().decide_anew(quantities)

    @classmethod
    @contextmanager
    def _check_replaced(cls, dispositions):
        "Check what was granted only once others replace the dispositions"
        with Transaction().set_context(_return_replace=True):
            yield
        cls._check_granted([d.line for d in dispositions])

    @classmethod
    def delete(cls, dispositions):
        lines = [d.line for d in dispositions]
        super().delete(dispositions)
        cls._check_granted(lines)

    @classmethod
    def _check_granted(cls, lines):
        pool = Pool()
        Line = pool.get('return.order.line')
        Line.check_granted(Line.browse(sorted({l.id for l in lines})))
