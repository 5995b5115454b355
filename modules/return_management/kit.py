# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from sql import Null, Union
from sql.aggregate import Sum
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.modules.product import round_price
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.tools import grouped_slice
from trytond.transaction import Transaction

from .dock import LIMIT_FOUND
from .exceptions import DispositionError, ParcelError, ReturnableError

# Less than the rounding of a unit, more than what floats lose
FUZZ = 1e-6


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    @property
    def return_parts(self):
        """Map the products of a kit to their unit and quantity per kit

        Per unit of the line; empty when it is no kit.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        parts = {}
        if not self.quantity:
            return parts
        for component in self.components:
            unit, ratio = parts.get(component.product, (component.unit, 0))
            ratio += Uom.compute_qty(
                component.unit, component.quantity, unit,
                round=False) / self.quantity
            parts[component.product] = unit, ratio
        return {p: part for p, part in parts.items() if part[1]}

    def get_return_parts(self, quantity):
        """Map the products to their unit and what of them the kits need

        What is too little for a kit of its own comes with the last of those
        that share it.
        """
        return {
            product: (unit, unit.floor(
                    ratio * quantity + FUZZ * unit.rounding))
            for product, (unit, ratio) in self.return_parts.items()}

    def _count_goods(self, quantities):
        pool = Pool()
        Uom = pool.get('product.uom')
        parts = self.return_parts
        if not parts:
            return super()._count_goods(quantities)
        if not any(quantities.values()):
            return 0
        counts = [self.quantity]
        for product, (unit, ratio) in parts.items():
            quantity = unit.round(Uom.compute_qty(
                    product.default_uom, quantities[product.id], unit,
                    round=False))
            # The most for which get_return_parts needs no more
            counts.append((quantity + (1 - FUZZ) * unit.rounding) / ratio)
        return self.unit.floor(min(counts))

    @classmethod
    def _get_delivery_origins(cls, ids):
        pool = Pool()
        Component = pool.get('sale.line.component')
        line = cls.__table__()
        component = Component.__table__()
        return Union(
            super()._get_delivery_origins(ids),
            component
            .join(line, condition=component.line == line.id)
            .select(
                line.id.as_('line'),
                line.quantity.as_('quantity'),
                Concat(Component.__name__ + ',', component.id).as_('origin'),
                where=line.id.in_(ids)),
            all_=True)

    def _get_delivery_moves(self):
        if self.components:
            return [m for c in self.components for m in c.moves]
        return super()._get_delivery_moves()

    def get_return_cost(self, get_cost):
        """Return the cost of a kit, per default unit, or None

        get_cost returns that of a product.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        total = None
        for product, (unit, ratio) in self.return_parts.items():
            cost = get_cost(product)
            # What several kits share may come later
            if cost is not None:
                total = (total or 0) + Decimal(str(ratio)) * Uom.compute_price(
                    product.default_uom, cost, unit)
        if total is None:
            return None
        return round_price(Uom.compute_price(
                self.unit, total, self.product.default_uom))


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    @property
    def is_kit(self):
        return bool(self.sale_line and self.sale_line.components)

    @classmethod
    def _is_goods(cls, product):
        return super()._is_goods(product) or product.type == 'kit'

    @classmethod
    def check_returnable(cls, lines):
        # What a kit is made of is known from its sale only
        for line in lines:
            if line.product.type == 'kit' and not line.is_kit:
                raise ReturnableError(gettext(
                        'return_management.msg_line_kit',
                        line=line.rec_name,
                        components=', '.join(
                            c.product.rec_name
                            for c in line.product.components_used)))
        super().check_returnable(lines)

    def _count(self, quantities):
        if self.is_kit:
            return min(
                self.quantity, self.sale_line._count_goods(quantities))
        return super()._count(quantities)

    @property
    def has_come(self):
        if self.is_kit:
            return any(m.state == 'done' for m in self.moves)
        return super().has_come

    @classmethod
    def _get_decided(cls, lines):
        "Without what is decided of single components"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        cursor = Transaction().connection.cursor()
        decided = super()._get_decided(lines)
        disposition = Disposition.__table__()
        for sub_lines in grouped_slice([l for l in lines if l.is_kit]):
            cursor.execute(*disposition.select(
                    disposition.line, disposition.accepted,
                    Sum(disposition.quantity),
                    where=disposition.line.in_(list(map(int, sub_lines)))
                    & (disposition.component != Null)
                    & (disposition.state != 'cancelled'),
                    group_by=[disposition.line, disposition.accepted]))
            for line_id, accepted, quantity in cursor:
                decided[line_id, bool(accepted)] -= quantity
        return decided

    def _sum_moves(self, moves):
        "Map the products of the kit to the quantity of moves in their unit"
        pool = Pool()
        Uom = pool.get('product.uom')
        parts = self.sale_line.return_parts
        quantities = defaultdict(float)
        for move in moves:
            if move.product in parts:
                unit, _ = parts[move.product]
                quantities[move.product] = unit.round(
                    quantities[move.product] + Uom.compute_qty(
                        move.unit, move.quantity, unit, round=False))
        return quantities

    def _get_lacking(self, quantity):
        """Map the products to their unit and what lacks for as many kits

        Of what has not come in.
        """
        received = self._sum_moves(
            m for m in self.moves if m.state == 'done')
        parts = self.sale_line.get_return_parts(quantity)
        return {
            p: (unit, max(0, unit.round(needed - received[p])))
            for p, (unit, needed) in parts.items()}

    def _get_short_description(self):
        pool = Pool()
        Lang = pool.get('ir.lang')
        if not self.is_kit:
            return super()._get_short_description()
        lang = Lang.get()
        lacking = self._get_lacking(self.quantity - self.closed_quantity)
        return gettext(
            'return_management.msg_kit_lacking',
            kit=self.product.rec_name,
            components=', '.join(
                '%s %s' % (
                    lang.format_number_symbol(
                        quantity, unit, digits=unit.digits),
                    product.rec_name)
                for product, (unit, quantity) in lacking.items()
                if quantity))

    def _get_received_loose(self):
        """Map the products that make no whole kit to unit and quantity

        Of what came in; nothing while the rest of the kit may still come.
        """
        if not self.is_kit or self.missing_quantity > 0:
            return {}
        received = self._sum_moves(
            m for m in self.moves if m.state == 'done')
        whole = self.sale_line.get_return_parts(self.received_quantity)
        return {
            p: (unit, unit.round(received[p] - needed))
            for p, (unit, needed) in whole.items()}

    def _get_loose(self):
        "Map what is not decided yet of the same to unit and quantity"
        decided = defaultdict(float)
        for disposition in self.dispositions:
            if disposition.component and disposition.state != 'cancelled':
                decided[disposition.component] += disposition.quantity
        return {
            p: (unit, unit.round(quantity - decided[p]))
            for p, (unit, quantity) in self._get_received_loose().items()}

    def _is_settled(self):
        return super()._is_settled() and not any(
            q > 0 for _, q in self._get_loose().values())

    def _sync_receipts(self):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out.return')
        if not self.is_kit:
            return super()._sync_receipts()
        to_save, to_drop, new = [], [], []
        if not self.goods_asked:
            return to_save, to_drop, new
        drafts = [
            m for m in self.moves
            if m.state == 'draft' and isinstance(m.shipment, Shipment)]
        asked = self.unit.round(
            self.quantity - self.closed_quantity - self.cancelled_quantity)
        lacking = (
            self._get_lacking(asked) if self.missing_quantity > 0 else {})
        if not drafts:
            new.extend(
                self._get_component_move(product, unit, quantity)
                for product, (unit, quantity) in lacking.items() if quantity)
        # Less than what lacks is what the warehouse counted
        for move in drafts:
            unit, quantity = lacking.get(move.product, (move.unit, 0))
            present = self._sum_moves([move])[move.product]
            left = min(present, quantity)
            if left <= 0:
                to_drop.append(move)
            elif left < present:
                move.unit = unit
                move.quantity = left
                to_save.append(move)
            if move.product in lacking:
                lacking[move.product] = unit, unit.round(quantity - left)
        return to_save, to_drop, new

    def _get_component_move(self, product, unit, quantity):
        "Return the receipt of the component"
        pool = Pool()
        Uom = pool.get('product.uom')
        move = self._get_move(quantity)
        move.product = product
        move.unit = unit
        component, *_ = [
            c for c in self.sale_line.components if c.product == product]
        move.unit_price = round_price(Uom.compute_price(
                component.unit, self.unit_price * component.price_ratio,
                unit))
        return move

    def _count_moves(self, moves):
        if not self.is_kit:
            return super()._count_moves(moves)
        parts = self.sale_line.return_parts
        counts = [self.unit.rounding]
        for product, quantity in self._sum_moves(moves).items():
            unit, ratio = parts[product]
            # What several kits share does not count them
            if ratio >= unit.rounding:
                counts.append(self.unit.ceil(quantity / ratio - FUZZ))
        return min(self.quantity, max(counts))

    def _is_over_receipt(self, moves):
        if not self.is_kit:
            return super()._is_over_receipt(moves)
        lacking = {}
        if self.goods_asked:
            lacking = self._get_lacking(self.quantity - self.closed_quantity)
        if any(m.product not in lacking for m in moves):
            return True
        return any(
            lacking[product][0].round(quantity - lacking[product][1]) > 0
            for product, quantity in self._sum_moves(moves).items())

    def _get_counted_receipts(self, drafts, parts):
        if not self.is_kit:
            return super()._get_counted_receipts(drafts, parts)
        lacking = self._get_lacking(self.unit.round(
                self.received_quantity + sum(v['quantity'] for v in parts)))
        moves = []
        for product, (unit, quantity) in lacking.items():
            if not quantity:
                continue
            move = next(
                (m for m in drafts if m.product == product),
                self._get_component_move(product, unit, quantity))
            move.unit = unit
            move.quantity = quantity
            moves.append(move)
        return moves

    def get_original_cost(self, product=None):
        if self.is_kit and product in {None, self.product}:
            return self._get_kit_cost(super().get_original_cost)
        return super().get_original_cost(product)

    def get_received_cost(self, product):
        if self.is_kit and product == self.product:
            return self._get_kit_cost(super().get_received_cost)
        return super().get_received_cost(product)

    def _get_kit_cost(self, get_cost):
        "Return the cost of the kit from those of its products"

        def get_part_cost(product):
            pattern = {'company': self.order.company.id}
            if product.get_multivalue(
                    'cost_price_method', **pattern) == 'fixed':
                return product.get_multivalue('cost_price', **pattern)
            return get_cost(product)

        return self.sale_line.get_return_cost(get_part_cost)

    def _get_received_by_lot(self):
        if self.is_kit:
            return {m.lot: 0 for m in self.moves if m.state == 'done'}
        return super()._get_received_by_lot()


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    component = fields.Many2One(
        'product.product', "Component", ondelete='RESTRICT',
        domain=[
            ('id', 'in', Eval('components', [])),
            ],
        context={
            'company': Eval('company', -1),
            },
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': ~Eval('components', []),
            },
        depends={'company'},
        help="The component that came in without the rest of its kit; the "
        "quantity is then in its unit and no money goes back for it.\n"
        "Leave empty to decide about whole kits.")
    components = fields.Function(
        fields.Many2Many(
            'product.product', None, None, "Components",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'on_change_with_components')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._decided_fields = cls._decided_fields | {'component'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.component, Index.Range()), where=t.component != Null))

    @fields.depends('line', '_parent_line.sale_line')
    def on_change_with_components(self, name=None):
        if self.line and self.line.sale_line:
            return list(self.line.sale_line.return_parts)
        return []

    @fields.depends('component', 'line', methods=['on_change_line'])
    def on_change_component(self):
        self.on_change_line()
        if self.component and self.line:
            self.accepted = False
            _, self.quantity = self.line._get_loose().get(
                self.component, (None, 0))

    @fields.depends('component')
    def on_change_with_product(self, name=None):
        return self.component or super().on_change_with_product(name=name)

    @fields.depends('component', 'line', '_parent_line.sale_line')
    def on_change_with_unit(self, name=None):
        unit = super().on_change_with_unit(name=name)
        if self.component and self.line and self.line.sale_line:
            unit, _ = self.line.sale_line.return_parts.get(
                self.component, (unit, 0))
        return unit

    @classmethod
    def search_product(cls, name, clause):
        _, operator, _ = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        nested = clause[0][len(name):]
        return [bool_op,
            super().search_product(name, clause),
            ('component' + nested, *clause[1:]),
            ]

    def get_rec_name(self, name):
        rec_name = super().get_rec_name(name)
        if self.component:
            rec_name = '%s (%s)' % (rec_name, self.component.rec_name)
        return rec_name

    @property
    def line_quantity(self):
        return 0 if self.component else super().line_quantity

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if field_names & {'component', 'line', 'quantity', 'state'}:
            cls.check_component(dispositions)

    @classmethod
    def check_component(cls, dispositions):
        "Check that only what makes no whole kit is decided apart"
        pool = Pool()
        Line = pool.get('return.order.line')
        for line in Line.browse(list({
                        d.line.id for d in dispositions
                        if d.component and d.state != 'cancelled'})):
            loose = line._get_loose()
            for disposition in line.dispositions:
                product = disposition.component
                if not product or disposition.state == 'cancelled':
                    continue
                if line.missing_quantity > 0:
                    raise DispositionError(gettext(
                            'return_management.msg_disposition_kit_missing',
                            line=line.rec_name,
                            component=product.rec_name))
                if product not in loose or loose[product][1] < 0:
                    raise DispositionError(gettext(
                            'return_management'
                            '.msg_disposition_kit_component',
                            line=line.rec_name,
                            component=product.rec_name))

    @classmethod
    def check_action(cls, dispositions):
        super().check_action(dispositions)
        for disposition in dispositions:
            if (disposition.action == 'resale'
                    and not disposition.component
                    and disposition.line.is_kit):
                raise DispositionError(gettext(
                        'return_management.msg_disposition_kit_resale',
                        disposition=disposition.rec_name))

    def _get_new_decision(self, quantity):
        disposition = super()._get_new_decision(quantity)
        disposition.component = self.component
        return disposition

    def _get_parts(self):
        if self.component or not self.line.is_kit:
            return super()._get_parts()
        line = self.line
        kits, moves = 0, []
        for other in line.dispositions:
            if (other == self or other.component
                    or other.state in {'draft', 'cancelled'}):
                continue
            other_moves = [m for m in other.moves if m.state != 'cancelled']
            if (not other_moves
                    and other.state == 'decided' and other.id > self.id):
                # It takes what this one leaves
                continue
            kits += other.quantity
            moves.extend(other_moves)
        moved = line._sum_moves(moves)
        others = line.sale_line.get_return_parts(kits)
        all_ = line.sale_line.get_return_parts(kits + self.quantity)
        return {
            product: (unit, max(0, unit.round(
                        quantity - max(moved[product], others[product][1]))))
            for product, (unit, quantity) in all_.items()}

    def _get_moved_quantity(self):
        if self.component or not self.line.is_kit:
            return super()._get_moved_quantity()
        done = self.line._sum_moves(
            m for m in self.moves if m.state == 'done')
        ratio = min((
                done[product] / quantity
                for product, (_, quantity) in self._get_parts().items()
                if quantity), default=1)
        return self.unit.floor(
            self.quantity * min(1, ratio) + FUZZ * self.unit.rounding)

    def _get_moves(self, shipment):
        if not self.line.is_kit:
            return super()._get_moves(shipment)
        own = self.line._sum_moves(
            m for m in self.moves if m.state != 'cancelled')
        moves = []
        for product, (unit, quantity) in self._get_parts().items():
            quantity = unit.round(quantity - own[product])
            for lot, taken in self._take_lots(product, unit, quantity):
                move = self._get_move(shipment)
                move.product = product
                move.unit = unit
                move.quantity = taken
                if lot:
                    move.lot = lot
                moves.append(move)
        return moves

    def _take_lots(self, product, unit, quantity):
        """Yield the lots of the product that are moved and the quantity

        First come first; None stands for goods without lot.
        """
        line = self.line
        free = defaultdict(float)
        before = 0
        for move in self._get_moves_in():
            lot = getattr(move, 'lot', None)
            free[lot] += line._sum_moves([move])[product]
        for other in self._get_takers():
            moves = [m for m in other.moves if m.state != 'cancelled']
            for move in moves:
                lot = getattr(move, 'lot', None)
                free[lot] -= line._sum_moves([move])[product]
            if not moves and other.state == 'decided' and other.id < self.id:
                # It is moved by the same shipments
                before += other._get_parts().get(product, (unit, 0))[1]
        for lot, left in free.items():
            skipped = min(left, before)
            before -= skipped
            taken = min(unit.round(left - skipped), quantity)
            if taken > 0:
                yield lot, taken
                quantity = unit.round(quantity - taken)

    def _get_moves_in(self):
        "Return the moves that brought what lies where the goods are"
        return sorted(
            (m for m in self.line.moves if m.state == 'done'), key=int) + [
                m for d in self.line.dispositions
                for m in d._get_moves_back()]

    def _get_takers(self):
        "Return the dispositions that take from where the goods are"
        return self.line.dispositions


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _process_dispositions(cls, orders):
        cls._draft_components(orders)
        super()._process_dispositions(cls.browse(orders))

    @classmethod
    def _draft_components(cls, orders):
        "Let the components be decided that make no whole kit"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        dispositions = []
        for order in orders:
            for line in order.lines:
                for product, (_, quantity) in line._get_loose().items():
                    if quantity <= 0:
                        continue
                    dispositions.append(Disposition(
                            line=line, component=product, action='customer',
                            accepted=False, quantity=quantity,
                            state='decided' if order.state == 'rejected'
                            else 'draft'))
        Disposition.save(dispositions)


class SaleLineComponent(metaclass=PoolMeta):
    __name__ = 'sale.line.component'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.product, Index.Range())))


class Replenishment(metaclass=PoolMeta):
    __name__ = 'return.replenishment'

    @classmethod
    def _get_ordered(cls):
        pool = Pool()
        Component = pool.get('sale.line.component')
        Line = pool.get('sale.line')
        component, line = Component.__table__(), Line.__table__()
        # Of a kit only the components are delivered
        return Union(
            super()._get_ordered(),
            component
            .join(line, condition=component.line == line.id)
            .select(
                line.sale, component.product, component.unit,
                component.quantity),
            all_=True)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def sql_delivered_lines(cls, move):
        pool = Pool()
        Component = pool.get('sale.line.component')
        component = Component.__table__()
        return {
            **super().sql_delivered_lines(move),
            Component.__name__: component.select(
                component.line,
                where=component.id == cls.origin.sql_id(move.origin, cls)),
            }

    @property
    def delivered_line(self):
        pool = Pool()
        Component = pool.get('sale.line.component')
        if isinstance(self.origin, Component):
            return self.origin.line
        return super().delivered_line


class Line_Lot(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def get_received_lots(self, name):
        # A disposition of kits names no lot
        return [] if self.is_kit else super().get_received_lots(name)

    @classmethod
    def _get_lot_fields(cls):
        return [
            *super()._get_lot_fields(), 'sale_line.components.moves.lot']


class Move_Lot(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_return_lots(cls, sale_lines):
        quantities, known = super()._get_return_lots(sale_lines)
        components = [c for l in sale_lines for c in l.components]
        if components:
            for move in cls.search([
                        ('origin', 'in', [str(c) for c in components]),
                        ('state', '=', 'done'),
                        ('to_location.type', '=', 'customer'),
                        ('lot', '!=', None),
                        ]):
                known.add(move.origin.line)
                quantities[move.origin.line, move.lot] += (
                    move.internal_quantity)
        return quantities, known


class Entry_Lot(metaclass=PoolMeta):
    __name__ = 'return.order.entry'

    @classmethod
    def _get_lot_domain(cls, lots):
        return ['OR',
            super()._get_lot_domain(lots),
            ('components.moves.lot', 'in', [l.id for l in lots]),
            ]


class Dock_Lot(metaclass=PoolMeta):
    __name__ = 'return.dock'

    def _find_sale_lines(self, exact):
        pool = Pool()
        Component = pool.get('sale.line.component')
        components = Component.search([
                ('line.sale.company', '=', self.company_id),
                ('moves', 'where', [
                        ('lot.number', 'ilike', exact),
                        ('to_location.type', '=', 'customer'),
                        ]),
                ], limit=LIMIT_FOUND)
        return super()._find_sale_lines(exact) + [
            c.line.id for c in components]

    def _get_counted_lots(self, rows, known):
        for row in rows:
            if (row.line.is_kit and row.quantity
                    and row.line.sale_line in known):
                # Each component has lots of its own
                raise ParcelError(gettext(
                        'return_management.msg_dock_kit_lots',
                        line=row.line.rec_name))
        return super()._get_counted_lots(rows, known)
