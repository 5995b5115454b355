# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from decimal import Decimal

from trytond.model import Index, ModelView, Workflow, fields
from trytond.modules.product import price_digits, round_price
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.tools import firstline
from trytond.transaction import Transaction

from .model import GuardedMixin


class Move(GuardedMixin, metaclass=PoolMeta):
    __name__ = 'stock.move'

    _guarded_fields = {'booked_cost_price'}

    booked_cost_price = fields.Numeric(
        "Booked Cost Price", digits=price_digits, readonly=True,
        states={
            'invisible': Eval('booked_cost_price', None) == None,  # noqa: E711
            },
        help="What goods were booked at when they left to a customer or "
        "came back, for one default unit, in the currency of the company.\n"
        "Set when the move is done and kept when costs are recomputed; "
        "empty for products with a fixed cost.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._allow_modify_closed_period.add('booked_cost_price')
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.product, Index.Range()),
                where=t.origin.like('return.disposition,%')))

    @property
    def is_return_departure(self):
        "Whether returned goods leave the books as if they had not come"
        return self.is_return_to_customer

    @property
    def return_cost_price(self):
        "The cost of their own that goods of a return are booked at"
        if self.booked_cost_price is not None and (
                self.from_location.type == 'customer'
                or self.is_return_departure):
            return self.booked_cost_price

    def get_cost_price(self, product_cost_price=None):
        cost_price = self.return_cost_price
        if cost_price is None:
            cost_price = super().get_cost_price(
                product_cost_price=product_cost_price)
        return cost_price

    @classmethod
    @ModelView.button
    @Workflow.transition('done')
    def do(cls, moves):
        cls.set_receipt_cost([m for m in moves if m.is_return_receipt])
        super().do(moves)

    @classmethod
    def set_receipt_cost(cls, moves):
        "Let goods come in at what they left with, unless their cost is fixed"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        moves = [m for m in cls.browse(moves) if not m._has_fixed_cost()]
        costs = SaleLine.get_delivered_costs(list({
                    m.origin.sale_line for m in moves if m.origin.sale_line}))
        for move in moves:
            move.booked_cost_price = costs.get(
                (move.origin.sale_line, move.product))
            if move.booked_cost_price is None:
                move.booked_cost_price = move._get_product_cost()
        cls.save(moves)

    def _do(self):
        returned = (
            self.from_location.type == 'customer'
            and self.booked_cost_price is not None)
        if self.is_return_departure and not self._has_fixed_cost():
            self.booked_cost_price = self._get_departure_cost()
            returned = self.booked_cost_price is not None
        cost_price, to_save = super()._do()
        if returned:
            self.cost_price = self.booked_cost_price
            cost_price = self._compute_product_cost_price(
                'in' if self.from_location.type == 'customer' else 'out')
        elif (self.from_location.type == 'storage'
                and self.to_location.type == 'customer'
                and not self._has_fixed_cost()):
            self.booked_cost_price = self.cost_price
            if self.booked_cost_price is None:
                self.booked_cost_price = self._get_product_cost()
        return cost_price, to_save

    def _has_fixed_cost(self):
        "Whether the goods come and go as any others of the product"
        return self.product.get_multivalue(
            'cost_price_method', **self._cost_price_pattern) == 'fixed'

    def _get_product_cost(self):
        return self.product.get_multivalue(
            'cost_price', **self._cost_price_pattern)

    def _get_departure_cost(self):
        """Return the cost the goods came in with

        Or None when what stays could not bear the difference.
        """
        cost = self.origin.line.get_received_cost(self.product)
        if cost is None:
            return
        quantity = Decimal(str(self.product.quantity))
        leaving = Decimal(str(self.internal_quantity))
        value = quantity * self._get_product_cost()
        if quantity > leaving and value >= leaving * cost:
            return cost

    @classmethod
    def copy(cls, moves, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('booked_cost_price')
        return super().copy(moves, default=default)


class Move_FIFO(metaclass=PoolMeta):
    __name__ = 'stock.move'

    def _get_departure_cost(self):
        method = self.product.get_multivalue(
            'cost_price_method', **self._cost_price_pattern)
        if method != 'fifo':
            return super()._get_departure_cost()
        quantity = cost = Decimal(0)
        for move, move_quantity in self._get_departure_moves():
            move_quantity = Decimal(str(move_quantity))
            quantity += move_quantity
            cost += move.get_cost_price() * move_quantity
        if quantity:
            return round_price(cost / quantity)

    def _get_departure_moves(self):
        """Return the receipts that the goods came with and their quantities

        In the default unit; none when they were counted as sold since.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        unit = self.product.default_uom
        rest = self.internal_quantity
        moves = []
        for move in self.search([
                    ('origin', '=', str(self.origin.line)),
                    ('product', '=', self.product.id),
                    ('state', '=', 'done'),
                    ('booked_cost_price', '!=', None),
                    ], order=[('id', 'ASC')]):
            quantity = min(rest, Uom.compute_qty(
                    move.unit, move.fifo_quantity_available, unit,
                    round=False))
            if quantity > 0:
                moves.append((move, quantity))
                rest -= quantity
        return moves if unit.round(rest) <= 0 else []

    def _update_fifo_out_product_cost_price(self):
        pool = Pool()
        Uom = pool.get('product.uom')
        if self.return_cost_price is None:
            return super()._update_fifo_out_product_cost_price()
        to_save = []
        for move, quantity in self._get_departure_moves():
            quantity = Uom.compute_qty(
                self.product.default_uom, quantity, move.unit, round=False)
            move.fifo_quantity = min(
                move.quantity, (move.fifo_quantity or 0) + quantity)
            to_save.append(move)
        return (
            self.return_cost_price, self._compute_product_cost_price('out'),
            to_save)


class Move_AngloSaxon(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_anglo_saxon_move(cls, moves, quantity, type_):
        for move, move_quantity, cost_price in super()._get_anglo_saxon_move(
                moves, quantity, type_):
            if move.return_cost_price is not None:
                cost_price = move.return_cost_price
            yield move, move_quantity, cost_price


class InvoiceLine_AngloSaxon(metaclass=PoolMeta):
    __name__ = 'account.invoice.line'

    def _get_anglo_saxon_move_lines(self, amount, type_):
        lines = super()._get_anglo_saxon_move_lines(amount, type_)
        for line in lines:
            # What buyers of returned goods are told has more than one
            line.description = firstline(line.description or '')
        return lines


class Product(metaclass=PoolMeta):
    __name__ = 'product.product'

    @classmethod
    def recompute_cost_price(cls, products, start=None):
        with Transaction().set_context(_return_cost_start=start):
            super().recompute_cost_price(products, start=start)

    def _get_return_departures(self):
        "Return the moves that left since the cost that is started from"
        pool = Pool()
        Move = pool.get('stock.move')
        start = Transaction().context.get('_return_cost_start')
        domain = [
            ('product', '=', self.id),
            self._domain_moves_cost(),
            ]
        departures = [
            domain,
            self._domain_out_moves_cost(),
            ('origin', 'like', 'return.disposition,%'),
            ('booked_cost_price', '!=', None),
            ]
        if start:
            last = Move.search([
                    domain,
                    self._domain_in_moves_cost(),
                    ('effective_date', '<', start),
                    ],
                order=[('effective_date', 'DESC'), ('id', 'DESC')], limit=1)
            for move in last:
                start = move.effective_date
            departures.append(('effective_date', '>=', start))
        return Move.search(departures, order=[])


class CostRevision(metaclass=PoolMeta):
    __name__ = 'product.cost_price.revision'

    @classmethod
    def get_for_product(cls, product):
        revisions = super().get_for_product(product)
        departures = [
            Departure(m.id, m.effective_date)
            for m in product._get_return_departures()]
        return sorted(revisions + departures, key=lambda r: r.date)


class Departure:
    """What goods that left at a cost of their own leave to the others

    It takes part in the recomputation like a revision of the next day, as
    that counts them at the cost of all.
    """

    def __init__(self, id_, date):
        self.id = id_
        self.date = date + dt.timedelta(days=1)

    def get_cost_price(self, cost_price):
        pool = Pool()
        Move = pool.get('stock.move')
        move = Move(self.id)
        quantity = Decimal(str(
                move.product._get_storage_quantity(move.effective_date)))
        if quantity > 0:
            difference = move.cost_price - move.booked_cost_price
            cost_price += (
                difference * Decimal(str(move.internal_quantity)) / quantity)
        return cost_price
