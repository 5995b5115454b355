# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from itertools import groupby

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company import CompanyReport
from trytond.modules.company.model import employee_field
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.report import Report
from trytond.tools import timezone
from trytond.transaction import Transaction, without_check_access

from .calendar import get_local_date, get_zone
from .exceptions import PickupError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    _states_pickup = {
        'invisible': Eval('collection') != 'pickup',
        'readonly': ~Eval('state').in_(['submitted', 'reviewed', 'approved']),
        }

    pickup_from = fields.DateTime(
        "Pick-up from", states=_states_pickup,
        help="The beginning of the time agreed with the customer.\n"
        "Every change is kept as a contact.")
    pickup_to = fields.DateTime(
        "Pick-up to", states=_states_pickup,
        help="The end of the time agreed with the customer.")
    pickup_date = fields.Function(
        fields.Date(
            "Pick-up Date", states=_states_pickup,
            help="The day on which the pick-up begins, "
            "in the time zone of the company."),
        'get_pickup_date', searcher='search_pickup_date')
    pickup_address = fields.Many2One(
        'party.address', "Pick-up Address", states=_states_pickup,
        domain=['OR',
            ('party', '=', Eval('party', -1)),
            ('party', '=', Eval('applicant', -1)),
            ],
        help="Where the goods are picked up.\n"
        "Leave empty to use the contact address.")
    pickup_note = fields.Text(
        "Pick-up Note", states=_states_pickup,
        help="Whom to ask for, where to ring, what to bring.")
    pickup_agreed_by = employee_field("Pick-up Agreed by")
    pickup_agreed_at = fields.DateTime(
        "Pick-up Agreed at", readonly=True,
        help="When the time was agreed last.")
    expected_arrival = fields.Date(
        "Expected Arrival",
        help="The day on which the goods are expected to come in.\n"
        "Every change after it was submitted is kept as a delay.")

    @classmethod
    def __setup__(cls):
        cls.pickup_agreed_by.readonly = True
        super().__setup__()
        for name in ['pickup_agreed_by', 'pickup_agreed_at']:
            getattr(cls, name).states['invisible'] = (
                Eval('collection') != 'pickup')
        t = cls.__table__()
        open_ = t.state.in_(['submitted', 'reviewed', 'approved'])
        cls._sql_indexes.update({
                Index(t, (t.pickup_from, Index.Range()), where=open_),
                Index(t, (t.pickup_to, Index.Range()), where=open_),
                Index(t, (t.expected_arrival, Index.Range()), where=open_),
                })
        cls._guarded_fields = cls._guarded_fields | {
            'pickup_agreed_by', 'pickup_agreed_at'}

    def get_pickup_date(self, name):
        if self.pickup_from:
            return get_local_date(self.company, self.pickup_from)

    @classmethod
    def search_pickup_date(cls, name, clause):
        pool = Pool()
        Company = pool.get('company.company')
        _, operator, value = clause
        company = Transaction().context.get('company')
        zone = (
            get_zone(Company(company)) if company is not None
            else timezone.UTC)

        def start(days=0):
            "Return the moment, in UTC, at which the day begins"
            return dt.datetime.combine(
                value + dt.timedelta(days), dt.time(),
                tzinfo=zone).astimezone(timezone.UTC).replace(tzinfo=None)
        if value is None:
            return [('pickup_from', operator, None)]
        return {
            '=': [
                ('pickup_from', '>=', start()),
                ('pickup_from', '<', start(1)),
                ],
            '!=': ['OR',
                ('pickup_from', '<', start()),
                ('pickup_from', '>=', start(1)),
                ('pickup_from', '=', None),
                ],
            '<': [('pickup_from', '<', start())],
            '<=': [('pickup_from', '<', start(1))],
            '>': [('pickup_from', '>=', start(1))],
            '>=': [('pickup_from', '>=', start())],
            }[operator]

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'pickup_from', 'pickup_to', 'pickup_agreed_by',
                'pickup_agreed_at', 'expected_arrival']:
            default.setdefault(name)
        return super().copy(orders, default=default)

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access and any(
                v.get('pickup_from') or v.get('pickup_to') for v in vlist):
            raise AccessError(gettext('return_management.msg_pickup_create'))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        check_access = Transaction().check_access
        agreed = set()
        for orders, values in zip(args[::2], args[1::2]):
            if {'pickup_from', 'pickup_to'} & set(values):
                agreed.update(orders)
        super().write(*args)
        if agreed and check_access:
            cls._agree_pickup(cls.browse(sorted(agreed)))

    @classmethod
    def _agree_pickup(cls, orders):
        "Check the time of the pick-up and keep who agreed it"
        pool = Pool()
        Contact = pool.get('return.order.contact')
        now = dt.datetime.now().replace(microsecond=0)
        contacts = []
        for order in orders:
            order.check_pickup(now)
            contacts.append(
                order._get_contact('note', order._get_pickup(), order.channel))
        with without_check_access():
            Contact.save(contacts)
            cls.write(orders, {
                    'pickup_agreed_by': contacts[0].employee.id,
                    'pickup_agreed_at': now,
                    })

    def check_pickup(self, now):
        "Check that the goods can be picked up at the time agreed"
        if (self.collection != 'pickup'
                or self.state not in {'submitted', 'reviewed', 'approved'}
                or self.picked_up):
            raise PickupError(gettext(
                    'return_management.msg_pickup_state',
                    order=self.rec_name))
        if not self.pickup_from and not self.pickup_to:
            return
        if (not self.pickup_from or not self.pickup_to
                or self.pickup_from > self.pickup_to
                or get_local_date(self.company, self.pickup_from)
                < get_local_date(self.company, now)):
            raise PickupError(gettext(
                    'return_management.msg_pickup_window',
                    order=self.rec_name))

    def _get_pickup(self):
        "Return the words that tell when the goods are picked up"
        if not self.pickup_from:
            return gettext('return_management.msg_pickup_cancelled')
        start, end = self._get_pickup_times()
        return gettext(
            'return_management.msg_pickup_agreed', start=start, end=end)

    def _get_pickup_times(self):
        "Return the beginning and the end in the company's time zone"
        pool = Pool()
        Lang = pool.get('ir.lang')
        return [
            Report.format_datetime(
                value, format=Lang.get().date + ' %H:%M',
                timezone=self.company.timezone)
            for value in [self.pickup_from, self.pickup_to]]

    def _get_pickup_address(self):
        "Return the address at which the goods are picked up"
        return (
            self.pickup_address
            or self.contact_address
            or (self.applicant or self.party).address_get())

    @classmethod
    def check_pickup_list(cls, orders):
        "Check that the goods are still to be picked up"
        for order in orders:
            if (order.collection != 'pickup'
                    or order.state not in {'reviewed', 'approved'}
                    or order.picked_up
                    or not order.awaited_lines):
                raise PickupError(gettext(
                        'return_management.msg_pickup_list',
                        order=order.rec_name))

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if self.picked_up and ('pickup', 'logistics') in stages:
            stages.remove(('pickup', 'logistics'))
            stages.add(('goods', None))
        return stages


class PickupList(CompanyReport):
    __name__ = 'return.order.pickup_list'

    @classmethod
    def get_context(cls, records, header, data):
        pool = Pool()
        Order = pool.get('return.order')
        Slip = pool.get('return.order.slip', type='report')
        Order.check_pickup_list(records)
        context = super().get_context(records, header, data)
        context['format_day'] = cls.format_date
        context['format_quantity'] = Slip.format_quantity
        context['get_address'] = cls.get_address
        context['get_pickups'] = cls.get_pickups
        context['get_times'] = cls.get_times
        return context

    @classmethod
    def get_pickups(cls, orders):
        """Return the days and carriers with their orders

        What has no time yet comes last.
        """
        def key(order):
            return (
                order.pickup_date or dt.date.max,
                order.carrier_party.rec_name if order.carrier_party else '',
                order.carrier_party.id if order.carrier_party else -1)

        def by_time(order):
            return (*key(order), order.pickup_from or dt.datetime.max)
        for _, stops in groupby(sorted(orders, key=by_time), key=key):
            stops = list(stops)
            yield stops[0].pickup_date, stops[0].carrier_party, stops

    @classmethod
    def get_address(cls, order):
        "Return the lines of the address at which the goods are"
        address = order._get_pickup_address()
        return address.full_address.splitlines() if address else []

    @classmethod
    def get_times(cls, order):
        return order._get_pickup_times() if order.pickup_from else []
