# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from functools import wraps

from trytond.i18n import gettext
from trytond.model import ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access

from .exceptions import AreaError, ReceiptError


def _area(string, help_):
    return fields.Many2One(
        'stock.location', string,
        domain=[
            ('type', '=', 'storage'),
            ('parent', 'child_of', [Eval('id', -1)]),
            ('parent', 'not child_of', [Eval('storage_location', -1)]),
            ('id', '!=', Eval('storage_location', -1)),
            ],
        states={
            'invisible': Eval('type') != 'warehouse',
            },
        help=help_)


class Location(metaclass=PoolMeta):
    __name__ = 'stock.location'

    return_location = _area(
        "Returns",
        "Where returned sound goods wait for a decision; "
        "outside the storage zone.")
    quarantine_location = _area(
        "Quarantine",
        "Where goods returned for their quality are kept apart; "
        "outside the storage zone.")
    resale_location = _area(
        "Resale",
        "Where returned goods wait to be sold as such; "
        "outside the storage zone.")

    def get_return_area(self, name):
        """Return the area of the warehouse

        name is the field that holds it.  There is no other place for the
        goods: a missing area is an error.
        """
        area = getattr(self, name)
        if not area:
            raise AreaError(gettext(
                    'return_management.msg_area_missing',
                    **self.__names__(name, self)))
        return area

    @classmethod
    def _return_areas(cls):
        "Return the names of the fields with the areas for returned goods"
        return ['return_location', 'quarantine_location', 'resale_location']

    @classmethod
    def get_return_areas(cls, warehouses):
        """Map the id of the areas for returned goods to their warehouse's

        An area inside another one is left out.
        """
        areas = {}
        for warehouse in warehouses:
            if warehouse.type != 'warehouse':
                continue
            w_areas = {getattr(warehouse, n) for n in cls._return_areas()}
            for area in filter(None, w_areas):
                if not any(
                        area != other and area.is_inside(other)
                        for other in filter(None, w_areas)):
                    areas[area.id] = warehouse.id
        return areas

    @property
    def return_area(self):
        "The area for returned goods that the location is in, or None"
        return self.find_return_area()[0]

    def find_return_area(self):
        """Return the area for returned goods that the location is in

        And the warehouse that both are in.  Each of them is None where there
        is none.
        """
        path = []
        warehouse = self
        while warehouse and warehouse.type != 'warehouse':
            path.append(warehouse)
            warehouse = warehouse.parent
        areas = set()
        if warehouse:
            areas.update(getattr(warehouse, n) for n in self._return_areas())
        return next((l for l in path if l in areas), None), warehouse

    def is_inside(self, location):
        "Test if it is the location or below it"
        inside = self
        while inside and inside != location:
            inside = inside.parent
        return bool(inside)


def process_return(func):
    "Process the return orders of the moves after func"
    @wraps(func)
    def wrapper(cls, moves):
        pool = Pool()
        Order = pool.get('return.order')
        with without_check_access():
            orders = list(dict.fromkeys(filter(None, (
                            m.return_order for m in cls.browse(moves)))))
        func(cls, moves)
        Order._queue_process(orders)
    return wrapper


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + [
            'return.order.line', 'return.disposition']

    @property
    def return_line(self):
        "The return order line that the goods belong to"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Line = pool.get('return.order.line')
        if isinstance(self.origin, Line):
            return self.origin
        elif isinstance(self.origin, Disposition):
            return self.origin.line
        elif isinstance(self.origin, self.__class__):
            return self.origin.return_line

    @property
    def return_disposition(self):
        "The disposition by which the goods are moved"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        if isinstance(self.origin, Disposition):
            return self.origin
        elif isinstance(self.origin, self.__class__):
            return self.origin.return_disposition

    @property
    def return_order(self):
        line = self.return_line
        return line.order if line else None

    @property
    def delivered_line(self):
        "The sale line that the move delivers, or None"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        if isinstance(self.origin, SaleLine):
            return self.origin

    @classmethod
    def sql_delivered_lines(cls, move):
        """Map the models that moves deliver for a sale to an SQL expression

        It gives the id of the sale line of a move with such an origin.
        """
        return {'sale.line': cls.origin.sql_id(move.origin, cls)}

    @property
    def is_return_receipt(self):
        "Whether the move brings goods of a return in"
        pool = Pool()
        Line = pool.get('return.order.line')
        return (
            self.from_location.type == 'customer'
            and isinstance(self.origin, Line))

    @property
    def is_return_to_customer(self):
        "Whether the move brings goods of a return back to the customer"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return (
            self.to_location.type == 'customer'
            and isinstance(self.origin, Disposition))

    @property
    def origin_name(self):
        name = super().origin_name
        if order := self.return_order:
            name = order.rec_name
        return name

    @classmethod
    @ModelView.button
    @Workflow.transition('done')
    @process_return
    def do(cls, moves):
        cls.check_return_receipt([
                m for m in moves if m.is_return_receipt])
        cls.check_return_disposition(moves)
        super().do(moves)

    @classmethod
    def check_return_receipt(cls, moves):
        """Check the receipts of returns, whichever way they are done

        A known person receives what was asked for, no more than was
        announced, on a return shipment that puts it into the area.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        Shipment = pool.get('stock.shipment.out.return')
        if not moves:
            return
        Order.lock(sorted({m.origin.order for m in moves}, key=int))
        for company in {m.company for m in moves}:
            Order._get_employee(company)
        receipts = defaultdict(list)
        received = Transaction().context.get('_return_shipment_receive')
        for move in moves:
            if not isinstance(move.shipment, Shipment) or not received:
                raise ReceiptError(gettext(
                        'return_management.msg_move_shipment_required',
                        move=move.rec_name,
                        order=move.origin.order.rec_name))
            move.origin.check_area(move.shipment.warehouse_storage)
            receipts[move.origin.id].append(move)
        for line in Line.browse(list(receipts)):
            if line._is_over_receipt(receipts[line.id]):
                raise ReceiptError(gettext(
                        'return_management.msg_line_over_receipt',
                        line=line.rec_name,
                        order=line.order.rec_name))

    @classmethod
    def check_return_disposition(cls, moves):
        """Check that goods leave the areas of returns only as decided

        Whoever posts the moves and whichever way.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        moved, picked = defaultdict(list), defaultdict(list)
        for move in moves:
            disposition = move.return_disposition
            if move._leaves_return_area() and (
                    not disposition
                    or disposition.state not in {'waiting', 'done'}
                    or move.product not in disposition._get_parts()
                    or not disposition.leads_to(move.to_location)):
                raise AreaError(gettext(
                        'return_management.msg_move_area',
                        move=move.rec_name,
                        area=move.from_location.return_area.rec_name,
                        location=move.to_location.rec_name))
            if disposition and move.state != 'done':
                if move.origin == disposition:
                    moved[disposition.id].append(move)
                elif move._leaves_return_area():
                    picked[disposition.id].append(move)
        cls._check_picked(picked)
        for disposition in Disposition.browse(list(moved)):
            disposition._check_moves(moved[disposition.id] + [
                    m for m in disposition.moves if m.state == 'done'])

    @classmethod
    def _check_picked(cls, picked):
        "Check that no more is taken from the areas than is decided"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        dispositions = Disposition.browse(list(picked))
        outgoing = {
            m.id: d for d in dispositions for m in d.moves}
        for move in cls.search([
                    ('origin.id', 'in', list(outgoing), 'stock.move'),
                    ('state', '=', 'done'),
                    ]):
            if move._leaves_return_area():
                picked[outgoing[move.origin.id].id].append(move)
        for disposition in dispositions:
            disposition._check_moves(picked[disposition.id])

    def _leaves_return_area(self):
        "Test if goods of returns would leave otherwise than by an inventory"
        area, warehouse = self.from_location.find_return_area()
        if (not area or self.to_location.is_inside(area)
                or self.to_location.type == 'lost_found'):
            return False
        # What is in resale may be sold
        return area != warehouse.resale_location or not (
            self.to_location.type == 'customer'
            or self.to_location.is_inside(warehouse.output_location))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @process_return
    def cancel(cls, moves):
        for move in moves:
            # The account entries of a done move stay
            if move.state == 'done' and move.return_order:
                raise AccessError(gettext(
                        'return_management.msg_move_cancel_done',
                        move=move.rec_name,
                        order=move.return_order.rec_name))
        super().cancel(moves)

    @classmethod
    @process_return
    def delete(cls, moves):
        super().delete(moves)


class Move_Continental(metaclass=PoolMeta):
    __name__ = 'stock.move'

    def _get_account_stock_move_lines(self, type_):
        lines = super()._get_account_stock_move_lines(type_)
        if self.is_return_to_customer:
            # The receipt was booked there and no invoice follows
            for line in lines:
                if line.account == self.product.account_stock_out_used:
                    line.account = self.product.account_stock_in_used
        return lines


class ShipmentOutReturn(metaclass=PoolMeta):
    __name__ = 'stock.shipment.out.return'

    return_orders = fields.Function(
        fields.Many2Many('return.order', None, None, "Return Orders"),
        'get_return_orders', searcher='search_return_orders')

    def get_return_orders(self, name):
        return list(dict.fromkeys(
                m.return_order.id for m in self.moves if m.return_order))

    @classmethod
    def search_return_orders(cls, name, clause):
        nested = clause[0][len(name):]
        if not nested:
            nested = '.rec_name' if isinstance(clause[2], str) else '.id'
        return [('moves.origin.order' + nested, *clause[1:3],
                'return.order.line', *clause[3:])]

    @classmethod
    @ModelView.button
    @Workflow.transition('received')
    def receive(cls, shipments):
        with Transaction().set_context(_return_shipment_receive=True):
            super().receive(shipments)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, shipments):
        if not Transaction().context.get('_return_order_cancel'):
            cls._count_cancelled(shipments, 1)
        super().cancel(shipments)

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    def draft(cls, shipments):
        for shipment in shipments:
            if shipment.state == 'received' and shipment.return_orders:
                raise AccessError(gettext(
                        'return_management.msg_shipment_draft_received',
                        shipment=shipment.rec_name))
        cls._count_cancelled(
            [s for s in shipments if s.state == 'cancelled'], -1)
        super().draft(shipments)

    @classmethod
    def _count_cancelled(cls, shipments, sign):
        "Count what is not asked for any more on the return order lines"
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        receipts = defaultdict(list)
        for shipment in shipments:
            for move in shipment.incoming_moves:
                if move.is_return_receipt and move.state != 'done':
                    receipts[move.origin].append(move)
        for line, moves in receipts.items():
            line.cancelled_quantity = max(0, line.unit.round(
                    line.cancelled_quantity + sign * line._count_moves(moves)))
        Line.save(list(receipts))
        Order._queue_process(list(dict.fromkeys(l.order for l in receipts)))
