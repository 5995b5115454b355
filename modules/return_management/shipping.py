# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.tools import escape_wildcard
from trytond.transaction import without_check_access

from .dock import LIMIT_FOUND


class CarrierMixin:
    "What comes back with a carrier"
    __slots__ = ()

    carrier = fields.Many2One(
        'carrier', "Carrier Service",
        domain=[
            If(Bool(Eval('carrier_party')),
                ('party', '=', Eval('carrier_party', -1)),
                ()),
            ],
        help="The service by which the goods come back; it gives the "
        "carrier.\n"
        "Leave empty when none of them brings the goods.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        states = cls.carrier_party.states
        cls.carrier.states = states
        cls.carrier_party.states = {
            **states,
            'readonly': states.get('readonly', False) | Bool(Eval('carrier')),
            'required': Bool(Eval('carrier')),
            }

    @fields.depends('carrier')
    def on_change_carrier(self):
        self.carrier_party = self.carrier.party if self.carrier else None


class Order(CarrierMixin, metaclass=PoolMeta):
    __name__ = 'return.order'


class Parcel(CarrierMixin, metaclass=PoolMeta):
    __name__ = 'return.parcel'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._received_fields = cls._received_fields | {'carrier'}

    def arrive(self):
        super().arrive()
        # The dock only tells who brought it
        carriers = [
            getattr(self, 'carrier', None), *(o.carrier for o in self.orders)]
        self.carrier = next(
            (c for c in carriers if c and c.party == self.carrier_party),
            None)


class Order_ShipmentCost(metaclass=PoolMeta):
    __name__ = 'return.order'

    @fields.depends('id', 'carrier_party', methods=['on_change_carrier'])
    def _set_from_sale(self):
        super()._set_from_sale()
        # Whoever removes it knows why
        new = self.id is None or self.id < 0
        if new and not getattr(self, 'carrier_party', None):
            carriers = (s.carrier for s in self._get_deliveries())
            self.carrier = next(
                (c for c in carriers if c and c.active), None)
            self.on_change_carrier()

    def _get_deliveries(self):
        "Return the shipments by which the goods went out, the last first"
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        return sorted({
                m.shipment for l in self.lines or []
                if getattr(l, 'sale_line', None)
                for m in l.sale_line._get_delivery_moves()
                if m.state == 'done' and isinstance(m.shipment, Shipment)},
            key=int, reverse=True)


class TrackingMixin:
    "What the carrier tells of the tracking number"
    __slots__ = ()

    tracking_url = fields.Function(fields.Char(
            "Tracking Link",
            states={
                'invisible': ~Eval('tracking_url'),
                },
            help="Where the carrier shows the way of the parcel."),
        'get_tracking_url')

    @classmethod
    @without_check_access
    def get_tracking_url(cls, records, name):
        pool = Pool()
        Package = pool.get('stock.package')
        packages = {
            (p.company, p.shipping_reference): p for p in Package.search([
                    ('company', 'in', [r.company.id for r in records]),
                    ('shipping_reference', 'in', list({
                                r.tracking_number for r in records
                                if r.tracking_number})),
                    ])}
        urls = {}
        for record in records:
            package = (
                packages.get((record.company, record.tracking_number))
                or record._get_package_back())
            urls[record.id] = (
                package.get_shipping_tracking_url('shipping_tracking_url')
                if package else None)
        return urls

    def _get_package_back(self):
        """Return what the carrier would track on the way out

        The services know the way of packages only.
        """
        pool = Pool()
        Package = pool.get('stock.package')
        if not self.carrier or not self.tracking_number:
            return
        for shipment in self._get_deliveries():
            if shipment.carrier == self.carrier:
                return Package(**{
                        **dict.fromkeys(Package._fields),
                        'company': self.company,
                        'shipment': shipment,
                        'shipping_reference': self.tracking_number,
                        })


class Order_Shipping(TrackingMixin, metaclass=PoolMeta):
    __name__ = 'return.order'


class Parcel_Shipping(TrackingMixin, metaclass=PoolMeta):
    __name__ = 'return.parcel'

    def _get_deliveries(self):
        return [s for o in self.orders for s in o._get_deliveries()]


class Package(metaclass=PoolMeta):
    __name__ = 'stock.package'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.number, Index.Similarity())))


class Package_Shipping(metaclass=PoolMeta):
    __name__ = 'stock.package'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.shipping_reference, Index.Equality())),
                Index(t, (t.shipping_reference, Index.Similarity())),
                })


class ShipmentOut_Shipping(metaclass=PoolMeta):
    __name__ = 'stock.shipment.out'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.shipping_reference, Index.Similarity())))


class Dock_Package(metaclass=PoolMeta):
    __name__ = 'return.dock'

    def transition_find(self):
        state = super().transition_find()
        party = getattr(self.arrive, 'party', None)
        if state == 'choose' and party:
            self.choose.message = gettext(
                'return_management.msg_dock_label',
                code=self.arrive.tracking_number, party=party.rec_name)
        return state

    def _find_loosely(self, code, open_):
        pool = Pool()
        Order = pool.get('return.order')
        moves = self._find_outgoing_moves(escape_wildcard(code))
        if not moves:
            return super()._find_loosely(code, open_)
        orders = Order.search([
                open_,
                ('lines.sale_line', 'in', [
                        m.delivered_line.id for m in moves
                        if m.delivered_line]),
                ], limit=LIMIT_FOUND + 1)
        if not orders:
            self._set_refused(code, moves)
        return orders

    @without_check_access
    def _set_refused(self, code, moves):
        "Keep whose goods come back with the label of the way out"
        sales = {m.sale for m in moves if m.sale}
        parties = {s.party for s in sales}
        if len(parties) == 1:
            self.arrive.party, = parties
            self.arrive.tracking_number = code
            self.arrive.note = gettext(
                'return_management.msg_dock_label_note',
                shipments=', '.join(sorted(
                        {m.shipment.rec_name for m in moves if m.shipment})),
                sales=', '.join(sorted(s.rec_name for s in sales)))

    @without_check_access
    def _find_outgoing_moves(self, exact):
        "Return what went out under the label of a package"
        pool = Pool()
        Move = pool.get('stock.move')
        Package = pool.get('stock.package')
        packages = Package.search([
                ('company', '=', self.company_id),
                self._get_package_domain(exact),
                ], limit=LIMIT_FOUND)
        return Move.search([
                ('package', 'child_of', [p.id for p in packages], 'parent'),
                ('to_location.type', '=', 'customer'),
                ('state', '=', 'done'),
                ])

    @classmethod
    def _get_package_domain(cls, exact):
        return ('number', 'ilike', exact)


class Dock_Shipping(metaclass=PoolMeta):
    __name__ = 'return.dock'

    @classmethod
    def _get_package_domain(cls, exact):
        return ['OR',
            super()._get_package_domain(exact),
            ('shipping_reference', 'ilike', exact),
            ]

    @without_check_access
    def _find_outgoing_moves(self, exact):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        moves = super()._find_outgoing_moves(exact)
        if not moves:
            shipments = Shipment.search([
                    ('company', '=', self.company_id),
                    ('shipping_reference', 'ilike', exact),
                    ], limit=LIMIT_FOUND)
            moves = [
                m for s in shipments for m in s.outgoing_moves
                if m.state == 'done']
        return moves
