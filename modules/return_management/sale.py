# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from decimal import Decimal

from sql import Null, Union
from sql.aggregate import Max, Sum
from sql.conditionals import Case
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import Index, ModelView, Workflow, fields
from trytond.modules.product import round_price
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import ReturnableError
from .model import GuardedMixin


def _date(value):
    # SQLite does not convert the date of an expression
    if isinstance(value, str):
        value = dt.date.fromisoformat(value)
    return value


class Sale(metaclass=PoolMeta):
    __name__ = 'sale.sale'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        # The number is what a customer gives
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Equality())),
                Index(t, (t.number, Index.Similarity())),
                })

    @classmethod
    @ModelView.button
    @Workflow.transition('quotation')
    def quote(cls, sales):
        super().quote(sales)
        cls.check_returned(sales)

    @classmethod
    @ModelView.button
    @Workflow.transition('confirmed')
    def confirm(cls, sales):
        super().confirm(sales)
        cls.set_return_policy(sales)
        cls.check_returned(sales)

    @classmethod
    def set_return_policy(cls, sales):
        "Keep the policy in force at the sale on its lines"
        pool = Pool()
        Line = pool.get('sale.line')
        Policy = pool.get('return.policy')
        policies = Policy.in_force(
            {(s.company.id, s.sale_date) for s in sales})
        lines = defaultdict(list)
        for sale in sales:
            policy = policies[sale.company.id, sale.sale_date]
            if policy:
                lines[policy].extend(
                    l for l in sale.lines if l.type == 'line')
        to_write = []
        for policy, policy_lines in lines.items():
            to_write.extend((policy_lines, {'return_policy': policy.id}))
        if to_write:
            Line.write(*to_write)

    @classmethod
    def get_return_policies(cls, sales):
        """Map each sale to the list of policies under which its goods are sold

        Those kept on its lines, else the one in force at its date; today for
        a sale without date.
        """
        pool = Pool()
        Date = pool.get('ir.date')
        Policy = pool.get('return.policy')
        todays = {}
        for company in {s.company for s in sales}:
            with Transaction().set_context(company=company.id):
                todays[company] = Date.today()
        policies, keys = {}, {}
        for sale in sales:
            kept = [
                l.return_policy for l in sale.lines
                if l.type == 'line' and l.product and (l.quantity or 0) > 0]
            policies[sale] = list(dict.fromkeys(filter(None, kept)))
            if not all(kept):
                keys[sale] = (
                    sale.company.id, sale.sale_date or todays[sale.company])
        # Who prints a sale may not read the policies
        with without_check_access():
            in_force = Policy.in_force(set(keys.values()))
        for sale, key in keys.items():
            policy = in_force[key]
            if policy and policy not in policies[sale]:
                policies[sale].append(policy)
        return policies

    @classmethod
    def check_returned(cls, sales):
        "Check that return sales take back no more than was delivered"
        pool = Pool()
        Line = pool.get('sale.line')
        origins = defaultdict(set)
        for sale in sales:
            if isinstance(sale.origin, cls):
                origins[sale.origin].update(
                    l.product for l in sale.lines
                    if l.type == 'line' and l.product and l.quantity < 0)
        lines = [
            l for origin, products in origins.items() for l in origin.lines
            if l.type == 'line' and l.product in products and l.quantity > 0]
        if not lines:
            return
        Line.lock(sorted(lines, key=int))
        returnable = Line.get_unreturned(lines)
        for line in lines:
            if returnable[line.id] < 0:
                raise ReturnableError(gettext(
                        'return_management.msg_sale_over_return',
                        line=line.rec_name,
                        sale=line.sale.rec_name))


class Line(GuardedMixin, metaclass=PoolMeta):
    __name__ = 'sale.line'

    return_policy = fields.Many2One(
        'return.policy', "Return Policy", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': Eval('type') != 'line',
            },
        help="The policy in force when the sale was confirmed.")
    return_lines = fields.One2Many(
        'return.order.line', 'sale_line', "Return Lines", readonly=True)
    returnable_quantity = fields.Function(fields.Float(
            "Returnable", digits='unit',
            states={
                'invisible': Eval('type') != 'line',
                },
            help="What was delivered and is neither returned nor announced "
            "on a return order, in the unit of the line."),
        'get_returnable_quantity')

    _guarded_fields = {'return_policy'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.product, Index.Range())),
                Index(t, (t.return_policy, Index.Range())),
                })

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_policy')
        default.setdefault('return_lines')
        return super().copy(lines, default=default)

    @classmethod
    def get_returnable_quantity(cls, lines, name):
        return {
            line_id: max(quantity, 0)
            for line_id, quantity in cls.get_unreturned(lines).items()}

    @classmethod
    def get_unreturned(cls, lines):
        """Map the id of lines to delivered − reserved − returned quantity

        In the unit of the line; negative when more came back than went out.
        """
        delivered = cls._get_delivered(lines)
        returned = cls._get_returned(lines)
        reserved = cls._get_reserved(lines)
        given_back = cls._get_given_back(lines)
        quantities = {}
        for line in lines:
            if line.type != 'line' or not line.unit:
                quantities[line.id] = 0
                continue
            quantity = 0
            if line.product and line.product.type != 'service':
                left = defaultdict(float, delivered[line.id])
                for product, back in returned[line.id].items():
                    left[product] -= back
                quantity = line._count_goods(left)
            elif line.sale_state in {'processing', 'done'}:
                quantity = line.quantity
            quantities[line.id] = line.unit.round(
                quantity - reserved[line.id] - given_back[line.id])
        return quantities

    def _count_goods(self, quantities):
        """Return how many of the line the quantities of products make

        quantities maps the ids of products to quantities in their default
        unit.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        return Uom.compute_qty(
            self.product.default_uom, quantities[self.product.id], self.unit,
            round=False)

    @classmethod
    def _get_delivered(cls, lines):
        """Map the id of lines to what the customer has

        By product, in its default unit.
        """
        pool = Pool()
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        cursor = Transaction().connection.cursor()
        move = Move.__table__()
        from_location = Location.__table__()
        to_location = Location.__table__()
        quantity = Case(
            (to_location.type == 'customer', move.internal_quantity),
            else_=-move.internal_quantity)
        delivered = defaultdict(lambda: defaultdict(float))
        for sub_lines in grouped_slice(lines):
            line = cls._get_delivery_origins(list(map(int, sub_lines)))
            cursor.execute(*line
                .join(move, condition=move.origin == line.origin)
                .join(from_location,
                    condition=move.from_location == from_location.id)
                .join(to_location,
                    condition=move.to_location == to_location.id)
                .select(line.line, move.product, Sum(quantity),
                    where=(line.quantity > 0)
                    & (move.state == 'done')
                    & (from_location.type != to_location.type)
                    & ((from_location.type == 'customer')
                        | (to_location.type == 'customer')),
                    group_by=[line.line, move.product]))
            for line_id, product_id, moved in cursor:
                delivered[line_id][product_id] = moved
        return delivered

    @classmethod
    def _get_delivery_origins(cls, ids):
        "Return the query of the lines, their quantity and origin of moves"
        line = cls.__table__()
        return line.select(
            line.id.as_('line'),
            line.quantity.as_('quantity'),
            Concat(cls.__name__ + ',', line.id).as_('origin'),
            where=line.id.in_(ids))

    @classmethod
    def _get_reserved(cls, lines):
        """Map the id of lines to the quantity announced on return orders

        Of open orders, and of done ones the goods that never come; in the
        unit of the line.
        """
        pool = Pool()
        Order = pool.get('return.order')
        ReturnLine = pool.get('return.order.line')
        cursor = Transaction().connection.cursor()
        order = Order.__table__()
        return_line = ReturnLine.__table__()
        reserved = defaultdict(float)
        for sub_lines in grouped_slice(lines):
            cursor.execute(*return_line
                .join(order, condition=return_line.order == order.id)
                .select(
                    return_line.sale_line,
                    Sum(return_line.quantity - return_line.closed_quantity),
                    where=return_line.sale_line.in_(list(map(int, sub_lines)))
                    & (order.state.in_(['submitted', 'reviewed', 'approved'])
                        | ((order.state == 'done')
                            & ~return_line.goods_expected))
                    # Goods that are kept can still be returned
                    & (return_line.wish != 'price_reduction'),
                    group_by=return_line.sale_line))
            reserved.update(cursor)
        return reserved

    @classmethod
    def _get_returned(cls, lines):
        """Map the id of lines to what return orders keep of the goods

        What came in on done and rejected orders less what went back on any,
        by product in its default unit.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Order = pool.get('return.order')
        ReturnLine = pool.get('return.order.line')
        cursor = Transaction().connection.cursor()
        order = Order.__table__()
        return_line = ReturnLine.__table__()
        disposition = Disposition.__table__()
        move = Move.__table__()
        location = Location.__table__()
        returned = defaultdict(lambda: defaultdict(float))
        for sub_lines in grouped_slice(lines):
            ids = list(map(int, sub_lines))
            received = (return_line
                .join(order, condition=return_line.order == order.id)
                .join(move, condition=move.origin == Concat(
                        ReturnLine.__name__ + ',', return_line.id))
                .join(location, condition=move.from_location == location.id)
                .select(
                    return_line.sale_line.as_('line'),
                    move.product.as_('product'),
                    move.internal_quantity.as_('quantity'),
                    where=return_line.sale_line.in_(ids)
                    & order.state.in_(['done', 'rejected'])
                    & (move.state == 'done')
                    & (location.type == 'customer')))
            sent_back = (return_line
                .join(disposition,
                    condition=disposition.line == return_line.id)
                .join(move, condition=move.origin == Concat(
                        Disposition.__name__ + ',', disposition.id))
                .join(location, condition=move.to_location == location.id)
                .select(
                    return_line.sale_line.as_('line'),
                    move.product.as_('product'),
                    (-move.internal_quantity).as_('quantity'),
                    where=return_line.sale_line.in_(ids)
                    & (move.state == 'done')
                    & (location.type == 'customer')))
            kept = Union(received, sent_back, all_=True)
            cursor.execute(*kept.select(
                    kept.line, kept.product, Sum(kept.quantity),
                    group_by=[kept.line, kept.product]))
            for line_id, product_id, quantity in cursor:
                returned[line_id][product_id] = quantity
        return returned

    @classmethod
    def _get_given_back(cls, lines):
        """Map the id of lines to what return sales take back of them

        The quantities of the quoted and later return sales are attributed to
        the lines with the same product, oldest first; in the unit of the
        line.
        """
        pool = Pool()
        Product = pool.get('product.product')
        Sale = pool.get('sale.sale')
        Uom = pool.get('product.uom')
        cursor = Transaction().connection.cursor()
        sale = Sale.__table__()
        line = cls.__table__()
        origins = list(dict.fromkeys(l.sale for l in lines))
        rows = []
        for sub_sales in grouped_slice(origins):
            cursor.execute(*line
                .join(sale, condition=line.sale == sale.id)
                .select(
                    sale.origin, line.product, line.unit,
                    Sum(-line.quantity),
                    where=sale.origin.in_(list(map(str, sub_sales)))
                    & (line.product != Null)
                    & (line.quantity < 0)
                    & sale.state.in_([
                            'quotation', 'confirmed', 'processing', 'done']),
                    group_by=[sale.origin, line.product, line.unit]))
            rows.extend(cursor)
        products = {
            p.id: p for p in Product.browse(list({r[1] for r in rows}))}
        units = {u.id: u for u in Uom.browse(list({r[2] for r in rows}))}
        negatives = defaultdict(float)
        for origin, product, unit, quantity in rows:
            negatives[origin, product] += Uom.compute_qty(
                units[unit], quantity, products[product].default_uom,
                round=False)

        given_back = defaultdict(float)

        def give_back(line, quantity):
            given_back[line.id] += Uom.compute_qty(
                line.product.default_uom, quantity, line.unit, round=False)

        for origin in origins:
            last = {}
            for origin_line in sorted(origin.lines, key=int):
                if (origin_line.type != 'line' or not origin_line.product
                        or origin_line.quantity <= 0):
                    continue
                key = (str(origin), origin_line.product.id)
                if key not in negatives:
                    continue
                quantity = min(negatives[key], Uom.compute_qty(
                        origin_line.unit, origin_line.quantity,
                        origin_line.product.default_uom, round=False))
                give_back(origin_line, quantity)
                negatives[key] -= quantity
                last[key] = origin_line
            # More than was sold must show as such
            for key, origin_line in last.items():
                give_back(origin_line, negatives[key])
        return given_back

    @classmethod
    def get_return_dates(cls, lines):
        """Map each line to the dates from which a return period may count

        A dictionary of delivery, invoice and order; the last one of several,
        None when it has not happened.  A service counts as delivered when it
        is invoiced or else ordered.
        """
        deliveries = cls._get_delivery_dates(lines)
        invoices = cls._get_invoice_dates(lines)
        dates = {}
        for line in lines:
            order = line.sale.sale_date
            invoice = invoices.get(line.id)
            delivery = deliveries.get(line.id)
            if not delivery and line.product and (
                    line.product.type == 'service'):
                delivery = invoice or order
            dates[line] = {
                'order': order,
                'invoice': invoice,
                'delivery': delivery,
                }
        return dates

    @classmethod
    @without_check_access
    def _get_delivery_dates(cls, lines):
        "Map the id of lines to the last day on which goods were delivered"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.out')
        cursor = Transaction().connection.cursor()
        location = Location.__table__()
        move = Move.__table__()
        deliveries = defaultdict(set)
        for sub_lines in grouped_slice(lines):
            line = cls._get_delivery_origins(list(map(int, sub_lines)))
            cursor.execute(*line
                .join(move, condition=move.origin == line.origin)
                .join(location, condition=move.to_location == location.id)
                .select(line.line, move.effective_date, move.shipment,
                    where=(move.state == 'done')
                    & (location.type == 'customer')))
            for id_, date, shipment in cursor:
                model, _, shipment_id = (shipment or '').partition(',')
                deliveries[id_].add((
                        _date(date),
                        int(shipment_id) if model == Shipment.__name__
                        else None))
        dispatches = defaultdict(set)
        for rows in deliveries.values():
            for date, shipment in rows:
                dispatches[shipment].add(date)
        configuration = Configuration(1)
        transit_days = {}
        delivered = {(d, None): d for d in dispatches.pop(None, [])}
        for shipment in Shipment.browse(sorted(dispatches)):
            company = shipment.company
            if company not in transit_days:
                transit_days[company] = configuration.get_multivalue(
                    'transit_days', company=company.id) or 0
            for date in dispatches[shipment.id]:
                delivered[date, shipment.id] = shipment.get_delivery_date(
                    date, transit_days[company])
        return {
            id_: max(delivered[row] for row in rows)
            for id_, rows in deliveries.items()}

    @classmethod
    def _get_invoice_dates(cls, lines):
        pool = Pool()
        Invoice = pool.get('account.invoice')
        InvoiceLine = pool.get('account.invoice.line')
        cursor = Transaction().connection.cursor()
        line = cls.__table__()
        invoice = Invoice.__table__()
        invoice_line = InvoiceLine.__table__()
        dates = {}
        for sub_lines in grouped_slice(lines):
            cursor.execute(*line
                .join(invoice_line, condition=(
                        invoice_line.origin
                        == Concat(cls.__name__ + ',', line.id)))
                .join(invoice, condition=invoice_line.invoice == invoice.id)
                .select(line.id, Max(invoice.invoice_date).as_('date'),
                    where=line.id.in_(list(map(int, sub_lines)))
                    & invoice.state.in_(['posted', 'paid']),
                    group_by=line.id))
            dates.update((id_, _date(date)) for id_, date in cursor)
        return dates

    @classmethod
    def get_delivered_costs(cls, lines):
        """Map lines and products to the average cost of what was delivered

        Per default unit of the product, in the company's currency.
        """
        quantities, costs = defaultdict(Decimal), defaultdict(Decimal)
        for line in cls.browse(lines):
            for move in line._get_delivery_moves():
                if (move.state != 'done'
                        or move.to_location.type != 'customer'
                        or move.cost_price is None):
                    continue
                cost_price = move.booked_cost_price
                if cost_price is None:
                    cost_price = move.cost_price
                quantity = Decimal(str(move.internal_quantity))
                quantities[line, move.product] += quantity
                costs[line, move.product] += cost_price * quantity
        return {
            key: round_price(costs[key] / quantity)
            for key, quantity in quantities.items() if quantity}

    def _get_delivery_moves(self):
        return self.moves


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    sales = fields.Function(
        fields.Many2Many('sale.sale', None, None, "Sales"),
        'get_sales', searcher='search_sales')
    products = fields.Function(
        fields.Many2Many(
            'product.product', None, None, "Products",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'get_products', searcher='search_products')

    def get_sales(self, name):
        return list(dict.fromkeys(
                l.sale_line.sale.id for l in self.lines if l.sale_line))

    @classmethod
    def search_sales(cls, name, clause):
        nested = clause[0][len(name):]
        return [('lines.sale_line.sale' + nested, *clause[1:])]

    def get_products(self, name):
        return list(dict.fromkeys(l.product.id for l in self.lines))

    @classmethod
    def search_products(cls, name, clause):
        nested = clause[0][len(name):]
        return [('lines.product' + nested, *clause[1:])]
