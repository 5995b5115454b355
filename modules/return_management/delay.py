# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .calendar import get_local_date
from .exceptions import DelayError
from .model import ImmutableMixin


class Delay(ImmutableMixin, ModelSQL, ModelView):
    "Return Delay"
    __name__ = 'return.order.delay'

    _message_create = 'return_management.msg_delay_create'
    _message_modify = 'return_management.msg_delay_modify'

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='RESTRICT')
    reason = fields.Text(
        "Reason", required=True, readonly=True,
        help="Why the goods come on another day.")
    previous = fields.Date(
        "Expected Before", readonly=True,
        help="The day on which the goods were expected until then.")
    expected_arrival = fields.Date(
        "Expected Arrival", readonly=True,
        help="The day on which the goods are expected instead; empty when "
        "none is known any more.")
    noted_at = fields.DateTime("Noted at", required=True, readonly=True)
    noted_by = fields.Many2One(
        'company.employee', "Noted by", required=True, readonly=True,
        ondelete='RESTRICT')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('order')
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.order, Index.Range())))
        cls._order = [('noted_at', 'DESC'), ('id', 'DESC')]

    def get_rec_name(self, name):
        return self.order.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('order.rec_name', *clause[1:])]


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    delays = fields.One2Many(
        'return.order.delay', 'order', "Delays", readonly=True,
        help="Why and how often the day on which the goods are expected was "
        "changed.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'delays'}
        cls._buttons.update({
                'note_delay': {
                    'invisible': (
                        ~Eval('state').in_(['reviewed', 'approved'])
                        | ~Eval('receipt_state').in_(['waiting', 'partial'])),
                    'depends': ['state', 'receipt_state'],
                    },
                })

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('delays')
        return super().copy(orders, default=default)

    @classmethod
    def write(cls, *args):
        changed = {}
        if Transaction().check_access:
            for orders, values in zip(args[::2], args[1::2]):
                if 'expected_arrival' in values:
                    changed.update(
                        (o, o.expected_arrival) for o in orders
                        if o.state != 'draft' and o.expected_arrival)
        super().write(*args)
        if changed:
            cls._keep_arrival(changed)

    @classmethod
    @without_check_access
    def _keep_arrival(cls, changed):
        "Keep on what day the goods of the orders were expected before"
        pool = Pool()
        Delay = pool.get('return.order.delay')
        now = dt.datetime.now().replace(microsecond=0)
        reason = gettext('return_management.msg_delay_changed')
        Delay.save([
                order._get_delay(
                    reason, changed[order], order.expected_arrival, now)
                for order in cls.browse(sorted(changed))
                if order.expected_arrival != changed[order]])

    def _get_delay(self, reason, previous, expected_arrival, now):
        pool = Pool()
        Delay = pool.get('return.order.delay')
        return Delay(
            order=self,
            reason=reason,
            previous=previous,
            expected_arrival=expected_arrival,
            noted_at=now,
            noted_by=self._get_employee(self.company))

    @classmethod
    @ModelView.button_action('return_management.wizard_order_delay')
    def note_delay(cls, orders):
        pass

    @classmethod
    def delay(cls, orders, reason, expected_arrival):
        "Note why the goods of orders come on another day"
        pool = Pool()
        Delay = pool.get('return.order.delay')
        now = dt.datetime.now().replace(microsecond=0)
        delays = []
        for order in orders:
            if (order.state not in {'reviewed', 'approved'}
                    or order.receipt_state not in {'waiting', 'partial'}):
                raise DelayError(gettext(
                        'return_management.msg_delay_state',
                        order=order.rec_name))
            if expected_arrival < get_local_date(order.company, now):
                raise DelayError(gettext(
                        'return_management.msg_delay_date',
                        order=order.rec_name))
            delays.append(order._get_delay(
                    reason, order.expected_arrival, expected_arrival, now))
        Delay.save(delays)
        cls.write(list(orders), {'expected_arrival': expected_arrival})


class NoteDelay(Wizard):
    "Note Return Delay"
    __name__ = 'return.order.note_delay'

    start = StateView(
        'return.order.note_delay.start',
        'return_management.order_note_delay_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Note", 'note', 'tryton-ok', default=True),
            ])
    note = StateTransition()

    def transition_note(self):
        self.model.lock(self.records)
        self.model.delay(
            self.model.browse(self.records),
            self.start.reason, self.start.expected_arrival)
        return 'end'


class NoteDelayStart(ModelView):
    "Note Return Delay"
    __name__ = 'return.order.note_delay.start'

    reason = fields.Text(
        "Reason", required=True, help="Why the goods come later.")
    expected_arrival = fields.Date(
        "Expected Arrival", required=True,
        help="The day on which the goods are expected now, "
        "today or later.")
