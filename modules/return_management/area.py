# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from functools import wraps

from sql import Literal, Null, Union, With
from sql.aggregate import Min, Sum
from sql.conditionals import Case, Coalesce
from sql.functions import Abs, CurrentTimestamp
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import (
    Index, MatchMixin, ModelSQL, ModelView, Workflow, fields,
    sequence_ordered)
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.tools import grouped_slice, reduce_ids
from trytond.transaction import (
    Transaction, inactive_records, without_check_access)

from .exceptions import AreaError
from .reason import CATEGORIES


class Rule(sequence_ordered(), MatchMixin, ModelSQL, ModelView):
    "Return Area Rule"
    __name__ = 'return.area.rule'

    company = fields.Many2One(
        'company.company', "Company", ondelete='CASCADE',
        help="Leave empty for all companies.")
    warehouse = fields.Many2One(
        'stock.location', "Warehouse", required=True, ondelete='CASCADE',
        domain=[
            ('type', '=', 'warehouse'),
            ])
    category = fields.Many2One(
        'product.category', "Category", ondelete='CASCADE',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Applies also to the categories below; "
        "leave empty for all products.")
    areas = fields.Function(fields.Many2Many(
            'stock.location', None, None, "Areas"),
        'on_change_with_areas')
    location = fields.Many2One(
        'stock.location', "Location", required=True, ondelete='CASCADE',
        domain=[
            ('type', '=', 'storage'),
            ('parent', 'child_of', Eval('areas', [])),
            ('id', 'not in', Eval('areas', [])),
            ],
        help="Where returned goods are kept that belong into the area "
        "that the location is in.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.warehouse, Index.Range())))

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @fields.depends(
        'warehouse', '_parent_warehouse.return_location',
        '_parent_warehouse.quarantine_location')
    def on_change_with_areas(self, name=None):
        if not self.warehouse:
            return []
        areas = [
            self.warehouse.return_location,
            self.warehouse.quarantine_location]
        return [a.id for a in areas if a]

    def get_rec_name(self, name):
        return ' '.join(filter(None, [
                    self.category.rec_name if self.category else None,
                    self.location.rec_name]))

    @classmethod
    def search_rec_name(cls, name, clause):
        return ['OR',
            ('category.rec_name', *clause[1:]),
            ('location.rec_name', *clause[1:]),
            ]

    def match(self, pattern, match_none=False):
        pattern = pattern.copy()
        area = pattern.pop('area')
        categories = pattern.pop('categories')
        if self.category and self.category.id not in categories:
            return False
        return (
            self.location.return_area == area
            and super().match(pattern, match_none=match_none))


class Location(metaclass=PoolMeta):
    __name__ = 'stock.location'

    return_area_rules = fields.One2Many(
        'return.area.rule', 'warehouse', "Return Area Rules",
        states={
            'invisible': Eval('type') != 'warehouse',
            },
        help="In which locations of the areas returned goods are kept.")

    @classmethod
    def get_area_locations(cls):
        "Return the ids of the areas of all warehouses and of those below"
        with inactive_records(), without_check_access():
            areas = {
                getattr(w, n) for w in cls.search([
                        ('type', '=', 'warehouse'),
                        ]) for n in cls._return_areas()}
            return list(map(int, cls.search([
                            ('parent', 'child_of', [
                                    a.id for a in areas if a]),
                            ], order=[])))

    @classmethod
    def copy(cls, locations, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_area_rules')
        return super().copy(locations, default=default)


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    in_area = fields.Boolean(
        "In the Areas", readonly=True,
        help="Checked as long as goods of the line lie in an area of a "
        "warehouse.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(
                t, (t.id, Index.Range()), where=t.in_area == Literal(True)))
        cls._guarded_fields = {*cls._guarded_fields, 'in_area'}

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('in_area')
        return super().copy(lines, default=default)

    @classmethod
    def set_in_area(cls, lines):
        "Set whether goods of the lines lie in the areas"
        pool = Pool()
        Goods = pool.get('return.area.goods')
        Location = pool.get('stock.location')
        Product = pool.get('product.product')
        cursor = Transaction().connection.cursor()
        locations = Location.get_area_locations()
        rows = []
        for sub_lines in grouped_slice(lines):
            kept = Goods._get_kept(locations, list(map(int, sub_lines)))
            cursor.execute(*kept.select(
                    kept.line, kept.product, Sum(kept.quantity),
                    group_by=[kept.line, kept.product, kept.location]))
            rows.extend(cursor)
        units = {
            p.id: p.default_uom
            for p in Product.browse(list({p for _, p, _ in rows}))}
        inside = {l for l, p, q in rows if units[p].round(q)}
        # Also what stays, so that of two transactions at once one is repeated
        cls.write(
            [l for l in lines if l.id in inside], {'in_area': True},
            [l for l in lines if l.id not in inside], {'in_area': False})

    def _get_area(self):
        area = super()._get_area()
        if not self._get_received_location():
            pattern = self._get_area_pattern(area)
            for rule in self.order.warehouse.return_area_rules:
                if rule.match(pattern):
                    return rule.location
        return area

    def _get_area_pattern(self, area):
        return {
            'company': self.order.company.id,
            'area': area,
            'categories': self.product.get_category_ids(),
            }


def set_in_area(func):
    "Set after func which return lines have goods in the areas"
    @wraps(func)
    def wrapper(cls, moves):
        pool = Pool()
        Line = pool.get('return.order.line')
        func(cls, moves)
        with without_check_access():
            lines = {m.area_line for m in cls.browse(moves)} - {None}
            if lines:
                Line.set_in_area(sorted(lines, key=int))
    return wrapper


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @property
    def area_line(self):
        "The return line whose goods the move may bring into or out of areas"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Line = pool.get('return.order.line')
        Resale = pool.get('return.resale')
        SaleLine = pool.get('sale.line')
        origin = self.origin
        if isinstance(origin, self.__class__):
            origin = origin.origin
        if isinstance(origin, SaleLine):
            origin = origin.resale
        if isinstance(origin, Resale):
            origin = origin.disposition
        if isinstance(origin, Disposition):
            origin = origin.line
        return origin if isinstance(origin, Line) else None

    @classmethod
    @ModelView.button
    @Workflow.transition('done')
    @set_in_area
    def do(cls, moves):
        super().do(moves)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @set_in_area
    def cancel(cls, moves):
        super().cancel(moves)

    @classmethod
    def check_return_disposition(cls, moves):
        super().check_return_disposition(moves)
        cls.check_return_output(moves)

    @classmethod
    def check_return_output(cls, moves):
        "Check that what goes back to the customer does not come to stock"
        quantities, to_check = defaultdict(float), {}
        for move in moves:
            output = move._get_left_output()
            if output and move.state != 'done':
                key = output.id, move.product.id
                quantities[key] += move.internal_quantity
                to_check[key] = move
        if not quantities:
            return
        for output, product, returned, other in cls._get_output_quantities(
                quantities):
            move = to_check.get((output, product))
            if (move and returned > 0 and move.product.default_uom.round(
                        quantities[output, product] - other) > 0):
                raise AreaError(gettext(
                        'return_management.msg_move_output',
                        move=move.rec_name,
                        location=move.from_location.rec_name,
                        to_location=move.to_location.rec_name))

    def _get_left_output(self):
        "Return the output zone that the goods leave for stock, or None"
        warehouse = self.from_location.warehouse
        if warehouse and self.to_location.type == 'storage':
            output = warehouse.output_location
            if (self.from_location.is_inside(output)
                    and not self.to_location.is_inside(output)):
                return output

    @classmethod
    def _get_output_quantities(cls, keys):
        """Return the quantities in the output zones

        keys are the ids of a zone and of a product.  A row has both and what
        lies there of returned goods, back to a customer or sold as such, and
        of others.
        """
        pool = Pool()
        Location = pool.get('stock.location')
        SaleLine = pool.get('sale.line')
        cause = cls.__table__()
        location = Location.__table__()
        move = cls.__table__()
        output = Location.__table__()
        sale_line = SaleLine.__table__()
        enters = move.to_location == location.id
        quantity = Case(
            (enters, move.internal_quantity), else_=-move.internal_quantity)
        origin = Coalesce(cause.origin, move.origin, '')
        returned = (
            origin.like('return.disposition,%') | (sale_line.resale != Null))
        cursor = Transaction().connection.cursor()
        cursor.execute(*output
            .join(location, condition=(
                    (location.left >= output.left)
                    & (location.right <= output.right)))
            .join(move, condition=enters
                | (move.from_location == location.id))
            .join(cause, 'LEFT', condition=(
                    move.origin.like(cls.__name__ + ',%')
                    & (cause.id == cls.origin.sql_id(move.origin, cls))))
            .join(sale_line, 'LEFT', condition=(
                    origin.like('sale.line,%')
                    & (sale_line.id == cls.origin.sql_id(origin, cls))))
            .select(
                output.id, move.product,
                Sum(Case((returned, quantity), else_=0)),
                Sum(Case((returned, 0), else_=quantity)),
                where=output.id.in_(list({o for o, _ in keys}))
                & move.product.in_(list({p for _, p in keys}))
                & (move.state == 'done'),
                group_by=[output.id, move.product]))
        return cursor.fetchall()


class Product(metaclass=PoolMeta):
    __name__ = 'product.product'

    def get_category_ids(self):
        "Return the ids of the categories of the product and those above"
        ids = set()
        for category in self.categories_all:
            while category:
                ids.add(category.id)
                category = category.parent
        return ids


class Goods(ModelSQL, ModelView):
    "Goods in the Areas"
    __name__ = 'return.area.goods'

    company = fields.Many2One('company.company', "Company")
    warehouse = fields.Many2One('stock.location', "Warehouse")
    area = fields.Selection([
            ('return_location', "Returns"),
            ('quarantine_location', "Quarantine"),
            ('resale_location', "Resale"),
            ], "Area", sort=False,
        help="The area of the warehouse that the location is in.")
    area_string = area.translated('area')
    location = fields.Many2One(
        'stock.location', "Location", help="Where the goods lie.")
    product = fields.Many2One(
        'product.product', "Product",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    quantity = fields.Float(
        "Quantity", digits='unit',
        help="What lies there of the return, in the default unit of the "
        "product.\n"
        "Without return: what an inventory or another move added to or, "
        "below zero, took from the goods of all returns.")
    since = fields.Date(
        "Since",
        help="When the first of the goods of the return were put there.")
    order = fields.Many2One(
        'return.order', "Order",
        help="Empty for what came or left without a return.")
    line = fields.Many2One('return.order.line', "Return Line")
    reason = fields.Many2One('return.reason', "Reason")
    category = fields.Selection(CATEGORIES, "Category", sort=False)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('since', 'ASC NULLS LAST'), ('id', 'ASC')]

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @classmethod
    def table_query(cls):
        pool = Pool()
        Location = pool.get('stock.location')
        Product = pool.get('product.product')
        Reason = pool.get('return.reason')
        Template = pool.get('product.template')
        Uom = pool.get('product.uom')
        locations = Location.get_area_locations()
        area = cls._get_areas(locations)
        product = Product.__table__()
        reason = Reason.__table__()
        template = Template.__table__()
        uom = Uom.__table__()
        kept = With(query=cls._get_kept(locations))
        part = Union(
            kept.select(
                (kept.id * 4).as_('id'), kept.company, kept.location,
                kept.product, kept.quantity, kept.order, kept.line,
                kept.reason, kept.date),
            # What the stock has beside them is of no return
            kept.select(
                (kept.id * 4 + 1).as_('id'), kept.company, kept.location,
                kept.product, -kept.quantity, *[Literal(None)] * 4),
            *cls._get_stock(locations), all_=True)
        columns = {
            'company': part.company,
            'warehouse': area.warehouse,
            'area': area.area,
            'location': part.location,
            'product': part.product,
            'order': part.order,
            'line': part.line,
            'reason': part.reason,
            'category': reason.category,
            }
        quantity = Sum(part.quantity)
        return (part
            .join(area, condition=part.location == area.location)
            .join(product, condition=part.product == product.id)
            .join(template, condition=product.template == template.id)
            .join(uom, condition=template.default_uom == uom.id)
            .join(reason, 'LEFT', condition=part.reason == reason.id)
            .select(
                Min(part.id).as_('id'),
                Literal(0).as_('create_uid'),
                CurrentTimestamp().as_('create_date'),
                Literal(None).as_('write_uid'),
                Literal(None).as_('write_date'),
                *[c.as_(n) for n, c in columns.items()],
                quantity.as_('quantity'),
                cls.since.sql_cast(Min(part.date)).as_('since'),
                group_by=[*columns.values(), uom.rounding],
                having=Abs(quantity) > uom.rounding / 2,
                with_=[kept]))

    @classmethod
    def _get_kept(cls, locations, lines=None):
        """Return the query of what moves of returns changed in the locations

        Of the lines with the ids, or of those with goods in the areas.
        """
        pool = Pool()
        Move = pool.get('stock.move')
        origin = With(query=cls._get_origins(lines))
        queries = []
        for enters in [True, False]:
            move = Move.__table__()
            cause, caused = Move.__table__(), Move.__table__()
            for query, table in [
                    (origin.join(
                            move, condition=move.origin == origin.origin),
                        move),
                    # A shipment moves goods between zones because of another
                    # move
                    (origin
                        .join(cause, condition=cause.origin == origin.origin)
                        .join(caused, condition=(
                                caused.origin
                                == Concat(Move.__name__ + ',', cause.id))),
                        caused)]:
                columns, where = cls._get_changes(table, enters, locations)
                queries.append(query.select(
                        *[c.as_(n) for n, c in columns.items()],
                        origin.order, origin.line, origin.reason,
                        where=where))
        return Union(*queries, all_=True, with_=[origin])

    @classmethod
    def _get_stock(cls, locations):
        """Return the queries of all that lies in the locations

        Like other quantities of the stock it starts with the period closed
        last.
        """
        pool = Pool()
        Cache = pool.get('stock.period.cache')
        Company = pool.get('company.company')
        Move = pool.get('stock.move')
        Period = pool.get('stock.period')
        cache = Cache.__table__()
        period = Period.__table__()
        with without_check_access():
            last = {
                p.company.id: p for p in Period.search([
                        ('state', '=', 'closed'),
                        ], order=[('date', 'ASC'), ('id', 'ASC')])}
            companies = defaultdict(list)
            for company in Company.search([]):
                date = last[company.id].date if company.id in last else None
                companies[date].append(company.id)
        queries = [cache
            .join(period, condition=cache.period == period.id)
            .select(
                (cache.id * 4 + 2).as_('id'), period.company, cache.location,
                cache.product, cache.internal_quantity, *[Literal(None)] * 4,
                where=reduce_ids(cache.location, locations)
                & reduce_ids(cache.period, [p.id for p in last.values()]))]
        for date, ids in companies.items():
            for enters in [True, False]:
                move = Move.__table__()
                columns, where = cls._get_changes(move, enters, locations)
                where &= move.company.in_(ids)
                if date:
                    # As in the indexes of the moves
                    where &= Coalesce(
                        move.effective_date, move.planned_date,
                        dt.date.max) > date
                queries.append(move.select(
                        (columns['id'] * 4 + 3).as_('id'), move.company,
                        columns['location'], move.product,
                        columns['quantity'], *[Literal(None)] * 4,
                        where=where))
        return queries

    @classmethod
    def _get_changes(cls, move, enters, locations):
        "Return the columns and the condition of what moves bring or take"
        location = move.to_location if enters else move.from_location
        quantity = move.internal_quantity
        return {
            'id': move.id * 2 + int(enters),
            'company': move.company,
            'location': location,
            'product': move.product,
            'quantity': quantity if enters else -quantity,
            'date': move.effective_date if enters else Literal(None),
            }, (move.state == 'done') & reduce_ids(location, locations)

    @classmethod
    def _get_areas(cls, locations):
        "Return the query of the areas that the locations are in"
        pool = Pool()
        Location = pool.get('stock.location')
        location = Location.__table__()
        warehouse = Location.__table__()
        query = location.join(warehouse, condition=(
                (warehouse.type == 'warehouse')
                & (location.left > warehouse.left)
                & (location.right < warehouse.right)))
        areas = {}
        for name in Location._return_areas():
            area = areas[name] = Location.__table__()
            query = query.join(area, 'LEFT', condition=(
                    (area.id == getattr(warehouse, name))
                    & (location.left >= area.left)
                    & (location.right <= area.right)))
        cases, inside = [], Literal(False)
        for name, area in areas.items():
            # The innermost of areas inside each other
            innermost = area.id != Null
            for other in areas.values():
                if other != area:
                    innermost &= (
                        (other.id == Null) | (other.left <= area.left))
            cases.append((innermost, name))
            inside |= area.id != Null
        return query.select(
            location.id.as_('location'),
            warehouse.id.as_('warehouse'),
            cls.area.sql_cast(Case(*cases)).as_('area'),
            where=inside & reduce_ids(location.id, locations))

    @classmethod
    def _get_origins(cls, lines=None):
        """Return the query of the origins of moves and their return line

        Of the lines with the ids, or of those with goods in the areas.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Line = pool.get('return.order.line')
        Resale = pool.get('return.resale')
        SaleLine = pool.get('sale.line')

        def select(Model, *joins):
            line = Line.__table__()
            query, previous = line, line
            for Target, name in joins:
                table = Target.__table__()
                query = query.join(
                    table, condition=getattr(table, name) == previous.id)
                previous = table
            if lines is None:
                where = line.in_area == Literal(True)
            else:
                where = reduce_ids(line.id, lines)
            return query.select(
                Concat(Model.__name__ + ',', previous.id).as_('origin'),
                line.order, line.id.as_('line'), line.reason, where=where)

        disposition = (Disposition, 'line')
        resale = (Resale, 'disposition')
        sale_line = (SaleLine, 'resale')
        return Union(
            select(Line),
            select(Disposition, disposition),
            select(Resale, disposition, resale),
            select(SaleLine, disposition, resale, sale_line),
            all_=True)
