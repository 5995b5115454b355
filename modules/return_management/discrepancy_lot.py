# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import without_check_access

from .exceptions import DiscrepancyError, ReceiptError


class Discrepancy(metaclass=PoolMeta):
    __name__ = 'return.discrepancy'

    lot = fields.Many2One(
        'stock.lot', "Lot", ondelete='RESTRICT',
        domain=[
            ('product', '=', Eval('product', -1)),
            ],
        states={
            'readonly': Eval('state') != 'open',
            'required': Eval('kind') == 'wrong_lot',
            'invisible': Eval('kind').in_(['short', 'empty']),
            },
        help="The lot or serial number that came.")
    booked_lot = fields.Many2One(
        'stock.lot', "Booked Lot", ondelete='RESTRICT',
        domain=[
            ('product', '=', Eval('product', -1)),
            ('id', '!=', Eval('lot', -1)),
            ],
        states={
            'readonly': Eval('state') != 'open',
            'invisible': Eval('kind') != 'wrong_lot',
            },
        help="The lot or serial number that the books say was delivered.\n"
        "It is needed for our own shipping error when several were.")
    sold_to = fields.Function(fields.Char(
            "Sold to",
            states={
                'invisible': Eval('kind') != 'wrong_lot',
                },
            help="To whom the lot that came was delivered last; "
            "empty when it never was."),
        'get_sold_to')

    @classmethod
    def get_sold_to(cls, discrepancies, name):
        pool = Pool()
        Move = pool.get('stock.move')
        lots = {d.lot for d in discrepancies if d.lot}
        companies = {d.company for d in discrepancies}
        dates, parties = {}, defaultdict(dict)
        with without_check_access():
            for move in Move.search([
                        ('lot', 'in', [l.id for l in lots]),
                        ('company', 'in', [c.id for c in companies]),
                        ('state', '=', 'done'),
                        ('to_location.type', '=', 'customer'),
                        ],
                    order=[('effective_date', 'DESC'), ('id', 'DESC')]):
                key = (move.company, move.lot)
                if dates.setdefault(
                        key, move.effective_date) == move.effective_date:
                    if party := cls._get_receiver(move):
                        parties[key][party] = party.rec_name
        return {
            d.id: ', '.join(parties[d.company, d.lot].values())
            for d in discrepancies}

    @classmethod
    def _get_receiver(cls, move):
        "Return the party to whom the move delivered"
        if line := move.delivered_line:
            return line.sale.party
        elif move.return_order:
            return move.return_order.party
        return getattr(move.shipment, 'customer', None)

    @classmethod
    def _correct_delivery(cls, discrepancies):
        """Swap the lots in the books

        The booked one was never sent, the one that came was.
        """
        pool = Pool()
        Move = pool.get('stock.move')
        super()._correct_delivery(discrepancies)
        discrepancies = [d for d in discrepancies if d.kind == 'wrong_lot']
        booked = cls._get_booked_lots(discrepancies)
        outgoing = [d._get_delivery() for d in discrepancies]
        Move.save(outgoing)
        if not Move.assign_try(outgoing):
            lacking = next(
                m for m in Move.browse(outgoing) if m.state != 'assigned')
            raise DiscrepancyError(gettext(
                    'return_management.msg_discrepancy_lot_lacking',
                    lot=lacking.lot.rec_name,
                    location=lacking.from_location.rec_name,
                    discrepancy=lacking.origin.rec_name))
        # Assigning splits them by place
        outgoing = Move.search([
                ('origin', 'in', [str(d) for d in discrepancies])])
        incoming = []
        for move in outgoing:
            discrepancy = move.origin
            move.cost_price = discrepancy.line.get_original_cost()
            incoming.append(Move(
                    origin=discrepancy,
                    product=move.product,
                    lot=booked[discrepancy.id],
                    unit=move.unit,
                    quantity=move.quantity,
                    from_location=move.to_location,
                    to_location=move.from_location,
                    company=move.company,
                    unit_price=move.unit_price,
                    currency=move.currency,
                    cost_price=move.cost_price,
                    state='draft'))
        Move.save(outgoing + incoming)
        Move.do(outgoing + incoming)

    @classmethod
    def _get_booked_lots(cls, discrepancies):
        "Map the id of discrepancies to the lot that the books have sold"
        pool = Pool()
        Move = pool.get('stock.move')
        quantities, _ = Move._get_return_lots({
                d.line.sale_line for d in discrepancies if d.line.sale_line})
        booked = {}
        for discrepancy in discrepancies:
            sale_line = discrepancy.line.sale_line
            needed = discrepancy._internal_quantity
            lots = [
                lot for (line, lot), quantity in quantities.items()
                if line == sale_line and lot != discrepancy.lot
                and quantity >= needed
                and discrepancy.booked_lot in {None, lot}]
            if len(lots) != 1:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_lot_booked',
                        discrepancy=discrepancy.rec_name))
            lot, = lots
            booked[discrepancy.id] = lot
            quantities[sale_line, lot] -= needed
        return booked

    def _get_delivery(self):
        "Return the move that brings the lot that came to the customer"
        pool = Pool()
        Move = pool.get('stock.move')
        move = self.line._get_move(self.quantity)
        return Move(
            origin=self,
            product=self.product,
            lot=self.lot,
            unit=self.unit,
            quantity=self.quantity,
            from_location=self.order.warehouse.storage_location,
            to_location=move.from_location,
            company=move.company,
            unit_price=move.unit_price,
            currency=move.currency,
            state='draft')

    @property
    def _internal_quantity(self):
        pool = Pool()
        Uom = pool.get('product.uom')
        return Uom.compute_qty(
            self.unit, self.quantity, self.product.default_uom)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.discrepancy']

    @property
    def return_line(self):
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        if isinstance(self.origin, Discrepancy):
            return self.origin.line
        return super().return_line

    @classmethod
    def check_return_receipt(cls, moves):
        super().check_return_receipt(moves)
        cls._check_return_lots([m for m in moves if m.lot])

    @classmethod
    def _check_return_lots(cls, moves):
        "Check that the lots were delivered and have not come back yet"
        quantities, known = cls._get_return_lots(
            {m.origin.sale_line for m in moves if m.origin.sale_line})
        for move in moves:
            sale_line = move.origin.sale_line
            # What was delivered without lots cannot be told apart
            if sale_line not in known:
                continue
            quantities[sale_line, move.lot] -= move.internal_quantity
            if move.product.default_uom.round(
                    quantities[sale_line, move.lot]) < 0:
                raise ReceiptError(gettext(
                        'return_management.msg_move_lot',
                        lot=move.lot.rec_name,
                        sale=sale_line.sale.rec_name,
                        order=move.return_order.rec_name))

    @classmethod
    def _get_return_lots(cls, sale_lines):
        """Map sale lines and lots to what is left with the customer

        In the default unit; and return the sale lines whose lots are known.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        quantities = defaultdict(float)
        known = set()
        if not sale_lines:
            return quantities, known
        for move in cls.search([
                    ('origin', 'in', [str(l) for l in sale_lines]),
                    ('state', '=', 'done'),
                    ('to_location.type', '=', 'customer'),
                    ('lot', '!=', None),
                    ]):
            known.add(move.origin)
            quantities[move.origin, move.lot] += move.internal_quantity
        lines = Line.search([
                ('sale_line', 'in', [l.id for l in sale_lines])])
        for line in lines:
            for discrepancy in line.discrepancies:
                if (discrepancy.kind == 'wrong_lot' and discrepancy.lot
                        and discrepancy.resolution == 'accept'):
                    quantities[line.sale_line, discrepancy.lot] += (
                        discrepancy._internal_quantity)
        discrepancies = [d for l in lines for d in l.discrepancies]
        for move in cls.search([
                    ('origin', 'in', [str(r) for r in lines + discrepancies]),
                    ('state', '=', 'done'),
                    ('lot', '!=', None),
                    ['OR',
                        ('from_location.type', '=', 'customer'),
                        ('to_location.type', '=', 'customer'),
                        ],
                    ]):
            sign = -1 if move.from_location.type == 'customer' else 1
            quantities[move.return_line.sale_line, move.lot] += (
                sign * move.internal_quantity)
        return quantities, known
