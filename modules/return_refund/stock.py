# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model.exceptions import AccessError
from trytond.pool import PoolMeta
from trytond.transaction import Transaction, without_check_access


class ShipmentOutReturn(metaclass=PoolMeta):
    __name__ = 'stock.shipment.out.return'

    @classmethod
    def create(cls, vlist):
        shipments = super().create(vlist)
        if Transaction().check_access:
            for shipment, values in zip(shipments, vlist):
                cls._check_employees([shipment], values, created=True)
        return shipments

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            actions = iter(args)
            for shipments, values in zip(actions, actions):
                cls._check_employees(shipments, values)
        super().write(*args)
        if Transaction().check_access:
            # The same values may bring the moves of a return
            actions = iter(args)
            for shipments, values in zip(actions, actions):
                cls._check_employees(shipments, values)

    @classmethod
    @without_check_access
    def _check_employees(cls, shipments, values, created=False):
        "Check that only buttons say who received the goods of returns"
        for name in ['received_by', 'done_by']:
            if name not in values or (created and not values[name]):
                continue
            if any(s.return_orders for s in cls.browse(shipments)):
                raise AccessError(gettext(
                        'return_management.msg_field_guarded',
                        **cls.__names__(name)))
