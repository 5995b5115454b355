# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import DeliveredError


class ShipmentOut(metaclass=PoolMeta):
    __name__ = 'stock.shipment.out'

    delivered_date = fields.Date(
        "Delivered on",
        states={
            'invisible': Eval('state') != 'done',
            },
        help="The day on which the customer received the goods, as the "
        "carrier or the customer proves it.\n"
        "Leave empty to count the transit days from the effective date.")

    @classmethod
    def copy(cls, shipments, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('delivered_date')
        return super().copy(shipments, default=default)

    @classmethod
    def validate_fields(cls, shipments, field_names):
        super().validate_fields(shipments, field_names)
        cls.check_delivered_date(shipments, field_names)

    @classmethod
    def check_delivered_date(cls, shipments, field_names=None):
        "Check that goods were delivered after their dispatch, until today"
        pool = Pool()
        Date = pool.get('ir.date')
        Lang = pool.get('ir.lang')
        if field_names and not (
                field_names & {'delivered_date', 'effective_date', 'state'}):
            return
        shipments = [s for s in shipments if s.delivered_date]
        today = {}
        for company in {s.company for s in shipments}:
            with Transaction().set_context(company=company.id):
                today[company] = Date.today()
        lang = Lang.get()
        for shipment in shipments:
            if shipment.state != 'done':
                raise DeliveredError(gettext(
                        'return_management.msg_shipment_delivered_state',
                        shipment=shipment.rec_name))
            date = shipment.delivered_date
            if (date > today[shipment.company]
                    or date < (shipment.effective_date or date)):
                raise DeliveredError(gettext(
                        'return_management.msg_shipment_delivered_date',
                        shipment=shipment.rec_name,
                        date=lang.strftime(date),
                        dispatch=lang.strftime(
                            shipment.effective_date or date)))

    def get_delivery_date(self, dispatch, transit_days):
        """Return the day on which the customer received the goods

        dispatch is the day on which they left, transit_days how long they
        travel by default.
        """
        return self.delivered_date or (
            dispatch + dt.timedelta(days=self._get_transit_days(transit_days)))

    def _get_transit_days(self, default):
        return default


class ShipmentOut_Carrier(metaclass=PoolMeta):
    __name__ = 'stock.shipment.out'

    def _get_transit_days(self, default):
        days = super()._get_transit_days(default)
        if self.carrier and self.carrier.transit_days is not None:
            days = self.carrier.transit_days
        return days


class Carrier(metaclass=PoolMeta):
    __name__ = 'carrier'

    transit_days = fields.Integer(
        "Transit Days",
        domain=['OR',
            ('transit_days', '=', None),
            [('transit_days', '>=', 0), ('transit_days', '<=', 365)],
            ],
        help="The number of calendar days that goods travel to the customer; "
        "the period to return them counts from then.\n"
        "Leave empty to use those of the return configuration.")


class DeliverStart(ModelView):
    "Record Delivery"
    __name__ = 'return.shipment.deliver.start'

    shipment = fields.Many2One(
        'stock.shipment.out', "Shipment", readonly=True)
    effective_date = fields.Date(
        "Effective Date", readonly=True,
        help="The day on which the goods left.")
    delivered_date = fields.Date(
        "Delivered on",
        help="The day on which the customer received the goods, as the "
        "carrier or the customer proves it.\n"
        "Leave empty when there is no proof.")


class Deliver(Wizard):
    "Record Delivery"
    __name__ = 'return.shipment.deliver'

    start = StateView(
        'return.shipment.deliver.start',
        'return_management.shipment_deliver_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'deliver', 'tryton-ok', default=True),
            ])
    deliver = StateTransition()

    def default_start(self, fields):
        return {
            'shipment': self.record.id,
            'effective_date': self.record.effective_date,
            'delivered_date': self.record.delivered_date,
            }

    def transition_deliver(self):
        # Who talks to carriers and customers does not change shipments
        with without_check_access():
            shipment = self.model(self.record.id)
            shipment.delivered_date = self.start.delivered_date
            shipment.save()
        return 'end'
