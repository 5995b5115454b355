# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval

from .exceptions import AreaError, DispositionError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Lots",
            help="The lots and serial numbers of the goods: "
            "those that came back, else those that were delivered."),
        'get_lots', searcher='search_lots')

    def get_lots(self, name):
        return list(dict.fromkeys(
                lot.id for line in self.lines for lot in line.lots))

    @classmethod
    def search_lots(cls, name, clause):
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.search(Line.search_lots(name, clause), query=True)
        return [('lines', 'in', lines)]


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Lots",
            help="The lots and serial numbers of the goods: "
            "those that came back, else those that were delivered."),
        'get_lots', searcher='search_lots')

    @classmethod
    def get_lots(cls, lines, name):
        lots = {}
        for line in lines:
            for moves in [
                    line.moves,
                    line.sale_line._get_delivery_moves()
                    if line.sale_line else []]:
                lots[line.id] = list(dict.fromkeys(
                        m.lot.id for m in moves
                        if m.lot and m.state != 'cancelled'))
                if lots[line.id]:
                    break
        return lots

    @classmethod
    def search_lots(cls, name, clause):
        _, operator, value, *extra = clause
        nested = clause[0][len(name):]
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op, *(
                (field + nested, operator, value, *extra)
                for field in cls._get_lot_fields())]

    @classmethod
    def _get_lot_fields(cls):
        "Return the fields with the lots that came back or were delivered"
        return ['moves.lot', 'sale_line.moves.lot']

    received_lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Received Lots",
            help="The lots and serial numbers that came back."),
        'get_received_lots')

    def get_received_lots(self, name):
        return [l.id for l in self._get_received_by_lot() if l]

    def _get_received_by_lot(self):
        """Map the lots that came in to their quantity, first come first

        In the unit of the line; None stands for goods without lot.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        quantities = defaultdict(float)
        for move in sorted(self.moves, key=int):
            if move.state == 'done':
                quantities[move.lot] += Uom.compute_qty(
                    move.unit, move.quantity, self.unit, round=False)
        return quantities

    def _allot_lots(self):
        """Map the id of dispositions to the quantities of the lots they take

        What has moved or names its lot comes first, what has not takes the
        first free ones.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        free = self._get_received_by_lot()
        allotted = defaultdict(list)

        def take(disposition, lot, quantity):
            free[lot] -= quantity
            allotted[disposition.id].append((lot, self.unit.round(quantity)))

        waiting = []
        for disposition in sorted(self.dispositions, key=int):
            moves = [m for m in disposition.moves if m.state != 'cancelled']
            if disposition.state == 'cancelled':
                continue
            for move in disposition._get_moves_back():
                free[move.lot] += Uom.compute_qty(
                    move.unit, move.quantity, self.unit, round=False)
            if moves:
                for move in moves:
                    take(disposition, move.lot, Uom.compute_qty(
                            move.unit, move.quantity, self.unit, round=False))
            elif disposition.lot:
                take(disposition, disposition.lot, disposition.quantity)
            elif disposition.state == 'decided':
                waiting.append(disposition)
        for disposition in waiting:
            rest = disposition.quantity
            for lot, quantity in list(free.items()):
                quantity = min(self.unit.round(quantity), rest)
                if quantity > 0:
                    take(disposition, lot, quantity)
                    rest = self.unit.round(rest - quantity)
        return allotted


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    lot = fields.Many2One(
        'stock.lot', "Lot", ondelete='RESTRICT',
        domain=[
            ('id', 'in', Eval('received_lots', [])),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': ~Eval('received_lots', []),
            },
        help="The lot or serial number that is decided about.\n"
        "It is needed when only a part of several lots is decided about.")
    received_lots = fields.Function(
        fields.Many2Many('stock.lot', None, None, "Received Lots"),
        'on_change_with_received_lots')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._decided_fields = cls._decided_fields | {'lot'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.lot, Index.Range()), where=t.lot != Null))

    @fields.depends('line', '_parent_line.received_lots')
    def on_change_with_received_lots(self, name=None):
        return self.line.received_lots if self.line else []

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if field_names & {'line', 'quantity', 'lot', 'state'}:
            cls.check_lot(dispositions)

    @classmethod
    def check_lot(cls, dispositions):
        "Check that no more of a lot is decided about than came in"
        pool = Pool()
        Line = pool.get('return.order.line')
        for line in Line.browse(list({
                        d.line.id for d in dispositions
                        if d.lot and d.state != 'cancelled'})):
            free = line._get_received_by_lot()
            for disposition in line.dispositions:
                lot = disposition.lot
                if not lot or disposition.state == 'cancelled':
                    continue
                free[lot] -= disposition.quantity
                if line.unit.round(free[lot]) < 0:
                    raise DispositionError(gettext(
                            'return_management.msg_disposition_lot_quantity',
                            lot=lot.rec_name,
                            line=line.rec_name))

    def _check_decide(self):
        super()._check_decide()
        if self.lot:
            return
        line = self.line
        free = line._get_received_by_lot()
        for id_, lots in line._allot_lots().items():
            if id_ != self.id:
                for lot, quantity in lots:
                    free[lot] -= quantity
        free = {l: line.unit.round(q) for l, q in free.items()}
        free = {l: q for l, q in free.items() if q > 0}
        if len(free) > 1 and line.unit.round(
                sum(free.values()) - self.quantity) > 0:
            raise DispositionError(gettext(
                    'return_management.msg_disposition_lot_required',
                    disposition=self.rec_name,
                    lots=', '.join(l.rec_name for l in free if l)))

    def _get_moves(self, shipment):
        moves = []
        for lot, quantity in self.line._allot_lots()[self.id]:
            move = self._get_move(shipment)
            move.lot = lot
            move.quantity = quantity
            moves.append(move)
        return moves

    def _get_resales(self):
        # Each lot is evaluated and offered by itself
        pool = Pool()
        Uom = pool.get('product.uom')
        quantities = defaultdict(float)
        for move in self.moves:
            if move.state == 'done':
                quantities[move.lot] += Uom.compute_qty(
                    move.unit, move.quantity, self.unit, round=False)
        resales = []
        for lot, quantity in quantities.items():
            resale = self._get_resale(self.unit.round(quantity))
            resale.lot = lot
            resales.append(resale)
        return resales


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def check_return_disposition(cls, moves):
        super().check_return_disposition(moves)
        for move in moves:
            disposition = move.return_disposition
            if not disposition:
                continue
            lots = (
                [disposition.lot] if disposition.lot
                else list(disposition.line._get_received_by_lot()))
            if move.lot not in lots:
                raise AreaError(gettext(
                        'return_management.msg_move_disposition_lot',
                        move=move.rec_name,
                        disposition=disposition.rec_name))

    @classmethod
    def check_return_resale(cls, moves):
        super().check_return_resale(moves)
        for move in moves:
            area, warehouse = move.from_location.find_return_area()
            if not area or area != warehouse.resale_location:
                continue
            line = move.resale_line
            resale = line.resale if line else move.withdrawn_resale
            if resale and move.lot != resale.lot:
                raise AreaError(gettext(
                        'return_management.msg_move_resale_lot',
                        move=move.rec_name,
                        resale=resale.rec_name))


class Resale(metaclass=PoolMeta):
    __name__ = 'return.resale'

    lot = fields.Many2One(
        'stock.lot', "Lot", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': ~Eval('lot'),
            },
        help="The lot or serial number that is offered; the buyer gets no "
        "other one.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'lot'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.lot, Index.Range()), where=t.lot != Null))

    def get_rec_name(self, name):
        name = super().get_rec_name(name)
        if self.lot:
            name += ' %s' % self.lot.rec_name
        return name

    @classmethod
    def search_rec_name(cls, name, clause):
        domain = super().search_rec_name(name, clause)
        return domain + [('lot.rec_name', *clause[1:])]

    def get_sale_description(self):
        description = super().get_sale_description()
        if self.lot:
            description += '\n' + gettext(
                'return_management.msg_resale_lot', lot=self.lot.rec_name)
        return description

    def _get_move_back(self, quantity):
        move = super()._get_move_back(quantity)
        move.lot = self.lot
        return move


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def get_move(self, shipment_type):
        move = super().get_move(shipment_type)
        if move and self.resale:
            move.lot = self.resale.lot
        return move


class ShowChain(metaclass=PoolMeta):
    __name__ = 'return.chain.show'

    def _get_records(self):
        pool = Pool()
        Move = pool.get('stock.move')
        User = pool.get('res.user')
        if self.model.__name__ != 'stock.lot':
            return super()._get_records()
        moves = Move.search([
                ('lot', 'in', [r.id for r in self.records]),
                ('state', '=', 'done'),
                ('company', 'in', User.get_companies()),
                ['OR',
                    ('from_location.type', '=', 'customer'),
                    ('to_location.type', '=', 'customer'),
                    ],
                ])
        records = [m.delivered_line or m.return_line for m in moves]
        return list(dict.fromkeys(filter(None, records)))
