# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.modules.company import CompanyReport
from trytond.pool import Pool, PoolMeta

from .exceptions import SlipError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @property
    def awaited_lines(self):
        "The lines of which goods are asked for and have not come"
        return [l for l in self.lines if l.goods_asked and l.missing_quantity]

    def _get_return_address(self):
        "Return the address to which the customer sends the goods"
        return self.warehouse.address or self.company.party.address_get()

    def get_return_recipient(self):
        "Return the lines of the recipient and the address of the goods"
        address = self._get_return_address()
        return [
            self.company.party.full_name,
            self.warehouse.name,
            *address.full_address.splitlines()]

    def get_slip_reasons(self):
        "Return the names of the reasons that the parcel bears"
        return list(dict.fromkeys(
                l.reason.rec_name for l in self.awaited_lines))

    @classmethod
    def check_slip(cls, orders):
        "Check that the customer is to send something, and where to"
        for order in orders:
            if (order.state not in {'reviewed', 'approved'}
                    or not order.awaited_lines):
                raise SlipError(gettext(
                        'return_management.msg_slip_goods',
                        order=order.rec_name))
            address = order._get_return_address()
            if not address or not address.full_address:
                raise SlipError(gettext(
                        'return_management.msg_slip_address',
                        order=order.rec_name,
                        warehouse=order.warehouse.rec_name,
                        company=order.company.rec_name))


class Slip(CompanyReport):
    __name__ = 'return.order.slip'

    @classmethod
    def get_context(cls, records, header, data):
        pool = Pool()
        Order = pool.get('return.order')
        Order.check_slip(records)
        context = super().get_context(records, header, data)
        context['format_quantity'] = cls.format_quantity
        context['get_sender'] = cls.get_sender
        return context

    @classmethod
    def format_quantity(cls, line, quantity):
        return cls.format_number_symbol(
            quantity, None, line.unit, digits=line.unit.digits)

    @classmethod
    def get_sender(cls, order):
        "Return the lines that say who sends the goods"
        party = order.applicant or order.party
        address = order.contact_address
        if not address or address.party != party:
            address = party.address_get()
        return [
            party.full_name,
            *(address.full_address.splitlines() if address else [])]
