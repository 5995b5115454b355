# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from sql import Literal, Null, Union
from sql.aggregate import Min, Sum
from sql.conditionals import Case, Coalesce
from sql.functions import Abs, CurrentTimestamp
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import (
    Index, MatchMixin, ModelSQL, ModelView, fields, sequence_ordered)
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction

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
    def copy(cls, locations, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_area_rules')
        return super().copy(locations, default=default)


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

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


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

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
        "Since", help="When the first of the goods were put there.")
    order = fields.Many2One(
        'return.order', "Order",
        help="Empty for what came or left without a return.")
    line = fields.Many2One('return.order.line', "Return Line")
    reason = fields.Many2One('return.reason', "Reason")
    category = fields.Selection(CATEGORIES, "Category", sort=False)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('since', 'ASC'), ('id', 'ASC')]

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @classmethod
    def table_query(cls):
        pool = Pool()
        Line = pool.get('return.order.line')
        Move = pool.get('stock.move')
        Product = pool.get('product.product')
        Reason = pool.get('return.reason')
        Template = pool.get('product.template')
        Uom = pool.get('product.uom')
        area = cls._get_areas()
        cause = Move.__table__()
        line = Line.__table__()
        move = Move.__table__()
        origin = cls._get_origins()
        product = Product.__table__()
        reason = Reason.__table__()
        template = Template.__table__()
        uom = Uom.__table__()
        enters = move.to_location == area.location
        quantity = Sum(Case(
                (enters, move.internal_quantity),
                else_=-move.internal_quantity))
        columns = {
            'company': move.company,
            'warehouse': area.warehouse,
            'area': area.area,
            'location': area.location,
            'product': move.product,
            'order': line.order,
            'line': line.id,
            'reason': line.reason,
            'category': reason.category,
            }
        return (move
            .join(area, condition=enters
                | (move.from_location == area.location))
            .join(product, condition=move.product == product.id)
            .join(template, condition=product.template == template.id)
            .join(uom, condition=template.default_uom == uom.id)
            # A shipment moves goods between zones because of another move
            .join(cause, 'LEFT', condition=(
                    move.origin.like(Move.__name__ + ',%')
                    & (cause.id == Move.origin.sql_id(move.origin, Move))))
            .join(origin, 'LEFT', condition=(
                    origin.origin == Coalesce(cause.origin, move.origin)))
            .join(line, 'LEFT', condition=origin.line == line.id)
            .join(reason, 'LEFT', condition=line.reason == reason.id)
            .select(
                # A move enters one location and leaves one
                Min(move.id * 2 + Case((enters, 1), else_=0)).as_('id'),
                Literal(0).as_('create_uid'),
                CurrentTimestamp().as_('create_date'),
                Literal(None).as_('write_uid'),
                Literal(None).as_('write_date'),
                *[c.as_(n) for n, c in columns.items()],
                quantity.as_('quantity'),
                cls.since.sql_cast(Coalesce(
                        Min(Case((enters, move.effective_date))),
                        Min(move.effective_date))).as_('since'),
                where=move.state == 'done',
                group_by=[*columns.values(), uom.rounding],
                having=Abs(quantity) > uom.rounding / 2))

    @classmethod
    def _get_areas(cls):
        "Return the query of the locations in the areas of warehouses"
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
            where=inside)

    @classmethod
    def _get_origins(cls):
        "Return the query of the origins of moves and their return line"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Line = pool.get('return.order.line')
        Resale = pool.get('return.resale')
        SaleLine = pool.get('sale.line')
        line = Line.__table__()
        disposition = Disposition.__table__()
        resale, resold = Resale.__table__(), Resale.__table__()
        sold = Disposition.__table__()
        withdrawn = Disposition.__table__()
        sale_line = SaleLine.__table__()

        def select(query, Model, origin, line):
            return query.select(
                Concat(Model.__name__ + ',', origin.id).as_('origin'),
                line.as_('line'))

        return Union(
            select(line, Line, line, line.id),
            select(disposition, Disposition, disposition, disposition.line),
            select(
                resale.join(withdrawn, condition=(
                        resale.disposition == withdrawn.id)),
                Resale, resale, withdrawn.line),
            select(
                sale_line
                .join(resold, condition=sale_line.resale == resold.id)
                .join(sold, condition=resold.disposition == sold.id),
                SaleLine, sale_line, sold.line),
            all_=True)
