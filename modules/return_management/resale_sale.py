# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from sql import Literal, Null
from sql.aggregate import Avg, Max, Sum
from sql.conditionals import Case, Coalesce
from sql.functions import CurrentTimestamp
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import round_price
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import AreaError, ResaleError
from .policy_print import AppendReportMixin
from .resale import GRADES


class Sale(metaclass=PoolMeta):
    __name__ = 'sale.sale'

    resale = fields.Boolean(
        "Resale",
        states={
            'readonly': (Eval('state') != 'draft') | Eval('lines', [0]),
            },
        help="Check to sell returned goods from the resale location, "
        "and nothing else.")

    @classmethod
    @ModelView.button
    @Workflow.transition('quotation')
    def quote(cls, sales):
        cls.check_resale(sales)
        cls.set_resale_description(sales)
        super().quote(sales)

    @classmethod
    @ModelView.button
    @Workflow.transition('confirmed')
    def confirm(cls, sales):
        pool = Pool()
        Resale = pool.get('return.resale')
        resales = cls.check_resale(sales)
        super().confirm(sales)
        cls.set_resale_days(sales)
        with without_check_access():
            Resale.update_sold(resales)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, sales):
        super().cancel(sales)
        cls._reset_resale(sales)

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    def draft(cls, sales):
        super().draft(sales)
        cls._reset_resale(sales)

    @classmethod
    def _process_invoice_shipment_states(cls, sales):
        super()._process_invoice_shipment_states(sales)
        cls._reset_resale(sales)

    @classmethod
    @without_check_access
    def _reset_resale(cls, sales):
        "Let the offers follow the sales once their state is written"
        pool = Pool()
        Resale = pool.get('return.resale')
        resales = cls._get_resales(sales)
        if resales:
            transaction = Transaction()
            with transaction.set_context(
                    queue_batch=transaction.context.get('queue_batch', True)):
                Resale.__queue__.update_sold(resales)

    @classmethod
    def _get_resales(cls, sales):
        return sorted(
            {l.resale for s in sales for l in s.lines if l.resale}, key=int)

    @classmethod
    @without_check_access
    def check_resale(cls, sales):
        "Check that the goods are offered and left, and return them locked"
        pool = Pool()
        Resale = pool.get('return.resale')
        Uom = pool.get('product.uom')
        sales = cls.browse(list(map(int, sales)))
        resales = cls._get_resales(sales)
        if resales:
            Resale.lock(resales)
        quantities = defaultdict(float)
        for sale in sales:
            for line in sale.lines:
                line.check_resale()
                if line.resale:
                    quantities[line.resale.id] += Uom.compute_qty(
                        line.unit, line.quantity, line.resale.unit)
        resales = Resale.browse(list(map(int, resales)))
        for resale in resales:
            if (resale.state != 'offered'
                    or resale.unit.round(
                        quantities[resale.id] - resale.left_quantity) > 0):
                raise ResaleError(gettext(
                        'return_management.msg_resale_left',
                        resale=resale.rec_name))
        return resales

    @classmethod
    @without_check_access
    def set_resale_description(cls, sales):
        "Tell the buyer that the goods were returned, and their condition"
        pool = Pool()
        Line = pool.get('sale.line')
        Resale = pool.get('return.resale')
        languages = defaultdict(list)
        for sale in cls.browse(list(map(int, sales))):
            lang = sale.party.lang
            languages[lang.code if lang else None].extend(
                l for l in sale.lines if l.resale)
        lines = []
        for language, l_lines in languages.items():
            with Transaction().set_context(language=language):
                resales = Resale.browse([l.resale.id for l in l_lines])
                for line, resale in zip(l_lines, resales):
                    text = resale.get_sale_description()
                    if text not in (line.description or ''):
                        line.description = '\n'.join(
                            filter(None, [line.description, text]))
                        lines.append(line)
        Line.save(lines)

    @classmethod
    def set_resale_days(cls, sales):
        "Keep how many days the goods were offered"
        pool = Pool()
        Line = pool.get('sale.line')
        lines = []
        for sale in sales:
            for line in sale.lines:
                if line.resale:
                    line.resale_days = max(0, (
                            sale.sale_date
                            - line.resale.offered_at.date()).days)
                    lines.append(line)
        Line.save(lines)

    def _get_shipment_sale(self, Shipment, key):
        shipment = super()._get_shipment_sale(Shipment, key)
        if self.resale and Shipment.__name__ == 'stock.shipment.out':
            shipment.warehouse_storage = (
                shipment.warehouse.get_return_area('resale_location'))
        return shipment


class Line(metaclass=PoolMeta):
    __name__ = 'sale.line'

    resale = fields.Many2One(
        'return.resale', "Resale", ondelete='RESTRICT',
        domain=[
            If(Eval('sale_state') == 'draft',
                [
                    ('state', '=', 'offered'),
                    ('warehouse', '=', Eval('warehouse', -1)),
                    ('company', '=', Eval('company', -1)),
                    ],
                []),
            If(Bool(Eval('product')),
                ('product', '=', Eval('product', -1)),
                ()),
            ],
        states={
            'invisible': ~Eval('resale_location'),
            'readonly': Eval('sale_state') != 'draft',
            },
        help="The offered goods that are sold.")
    resale_location = fields.Function(
        fields.Many2One('stock.location', "Resale Location"),
        'on_change_with_resale_location')
    resale_days = fields.Integer(
        "Days to Sell", readonly=True,
        help="The number of days from the offer to the sale.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.resale, Index.Range()), where=t.resale != Null))
        location = Eval('resale_location')
        cls.product.search_context = {
            **cls.product.search_context,
            'locations': If(
                Bool(location), [Eval('resale_location', -1)],
                cls.product.search_context['locations']),
            }
        cls.product.depends.add('resale_location')
        cls._guarded_fields = {*cls._guarded_fields, 'resale_days'}

    @fields.depends('sale', '_parent_sale.resale', '_parent_sale.warehouse')
    def on_change_with_resale_location(self, name=None):
        if self.sale and self.sale.resale and self.sale.warehouse:
            return self.sale.warehouse.resale_location

    @fields.depends(
        'resale', 'product', 'unit', 'sale', '_parent_sale.party',
        '_parent_resale.product', '_parent_resale.unit',
        methods=['on_change_product', '_get_resale_description'])
    def on_change_resale(self):
        if self.resale:
            self.product = self.resale.product
            self.unit = self.resale.unit
            self.on_change_product()
            self.description = self._get_resale_description()

    @fields.depends(
        'resale', 'sale', '_parent_sale.party', '_parent_resale.id')
    def _get_resale_description(self):
        pool = Pool()
        Resale = pool.get('return.resale')
        party = self.sale.party if self.sale else None
        lang = party.lang if party else None
        with Transaction().set_context(language=lang.code if lang else None):
            return Resale(self.resale.id).get_sale_description()

    @fields.depends(
        'resale', 'unit', 'sale', '_parent_resale.unit_price',
        '_parent_resale.unit', '_parent_resale.currency',
        '_parent_sale.currency', '_parent_sale.sale_date')
    def compute_unit_price(self):
        pool = Pool()
        Currency = pool.get('currency.currency')
        Date = pool.get('ir.date')
        Uom = pool.get('product.uom')
        if not self.resale or self.resale.unit_price is None:
            return super().compute_unit_price()
        price = self.resale.unit_price
        if self.unit:
            price = Uom.compute_price(self.resale.unit, price, self.unit)
        if self.sale and self.sale.currency:
            date = self.sale.sale_date or Date.today()
            with Transaction().set_context(date=date):
                price = Currency.compute(
                    self.resale.currency, price, self.sale.currency,
                    round=False)
        return round_price(price)

    def check_resale(self):
        "Check that a sale is wholly resale or not at all"
        sale = self.sale
        if not self.resale:
            if (sale.resale and self.product
                    and self.product.type in self.get_move_product_types()
                    and self.quantity >= 0):
                raise ResaleError(gettext(
                        'return_management.msg_resale_line',
                        line=self.rec_name, sale=sale.rec_name))
        elif (not sale.resale
                or self.quantity < 0
                or self.product != self.resale.product
                or sale.warehouse != self.resale.warehouse
                or sale.company != self.resale.company):
            raise ResaleError(gettext(
                    'return_management.msg_resale_sale',
                    line=self.rec_name, sale=sale.rec_name,
                    resale=self.resale.rec_name))
        elif (self.resale.channel == 'other'
                and sale.party != self.resale.channel_party):
            raise ResaleError(gettext(
                    'return_management.msg_resale_channel',
                    resale=self.resale.rec_name,
                    party=self.resale.channel_party.rec_name))

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('resale')
        default.setdefault('resale_days')
        return super().copy(lines, default=default)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.resale']

    @property
    def resale_line(self):
        "The sale line with resale that the move delivers"
        pool = Pool()
        Line = pool.get('sale.line')
        origin = self.origin
        if isinstance(origin, self.__class__):
            origin = origin.origin
        if isinstance(origin, Line) and origin.resale:
            return origin

    @property
    def withdrawn_resale(self):
        "The resale whose goods the move brings back"
        pool = Pool()
        Resale = pool.get('return.resale')
        resale = self.origin
        if (isinstance(resale, Resale)
                and resale.state in {'withdrawn', 'refused'}
                and self.product == resale.product
                and self.from_location.is_inside(resale.location)
                and self.to_location.is_inside(
                    resale.disposition.line._get_area())):
            return resale

    @classmethod
    def check_return_disposition(cls, moves):
        with without_check_access():
            moves = cls.browse(list(map(int, moves)))
            cls.check_return_resale(moves)
            cls.check_withdrawn_resale(moves)
            super().check_return_disposition([
                    m for m in moves if not m.withdrawn_resale])

    @classmethod
    def check_withdrawn_resale(cls, moves):
        "Check that no more comes back than was withdrawn or refused"
        back = defaultdict(list)
        for move in moves:
            if move.withdrawn_resale and move.state != 'done':
                back[move.withdrawn_resale].append(move)
        for resale, r_moves in back.items():
            done = [m for m in resale.moves if m.state == 'done']
            if resale._get_rest_to_bring_back(done + r_moves) < 0:
                raise AreaError(gettext(
                        'return_management.msg_move_resale_back',
                        resale=resale.rec_name))

    @classmethod
    def check_return_resale(cls, moves):
        """Check that what leaves the resale locations was sold there

        And that a sale of returned goods takes no others.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        quantities = defaultdict(float)
        lines = {}
        for move in moves:
            line = move.resale_line
            area, warehouse = move.from_location.find_return_area()
            leaves = bool(
                area and area == warehouse.resale_location
                and not move.to_location.is_inside(area))
            if leaves and not line and (
                    move.to_location.type == 'customer'
                    or move.to_location.is_inside(warehouse.output_location)):
                raise AreaError(gettext(
                        'return_management.msg_move_resale',
                        move=move.rec_name, area=area.rec_name))
            if line and not leaves and warehouse and (
                    move.from_location.is_inside(
                        warehouse.storage_location)):
                raise AreaError(gettext(
                        'return_management.msg_move_resale_good',
                        move=move.rec_name, line=line.rec_name))
            if line and leaves:
                lines[line.id] = line
                quantities[line.id] += Uom.compute_qty(
                    move.unit, move.quantity, line.unit)
        if not lines:
            return
        taken = cls._get_resale_taken(list(lines.values()))
        for line in lines.values():
            moved = quantities[line.id] + Uom.compute_qty(
                line.product.default_uom, taken[line.id], line.unit)
            if line.unit.round(moved - line.quantity) > 0:
                raise AreaError(gettext(
                        'return_management.msg_move_resale_quantity',
                        line=line.rec_name,
                        resale=line.resale.rec_name))

    @classmethod
    def _get_resale_taken(cls, lines):
        "Map the id of lines to what was picked, in the default unit"
        pool = Pool()
        Line = pool.get('sale.line')
        cursor = Transaction().connection.cursor()
        line = Line.__table__()
        move = cls.__table__()
        outgoing = cls.__table__()
        taken = defaultdict(float)
        for sub_lines in grouped_slice(lines):
            cursor.execute(*line
                .join(outgoing, condition=(
                        outgoing.origin
                        == Concat(Line.__name__ + ',', line.id)))
                .join(move, condition=(
                        move.origin
                        == Concat(cls.__name__ + ',', outgoing.id)))
                .select(line.id, Sum(move.internal_quantity),
                    where=line.id.in_(list(map(int, sub_lines)))
                    & (move.state == 'done'),
                    group_by=line.id))
            taken.update(cursor)
        return taken

    @classmethod
    @ModelView.button
    @Workflow.transition('done')
    def do(cls, moves):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        Uom = pool.get('product.uom')
        with without_check_access():
            back = [
                (m, m.withdrawn_resale) for m in cls.browse(moves)
                if m.withdrawn_resale]
        super().do(moves)
        if back:
            with without_check_access():
                quantities = defaultdict(float)
                for move, resale in back:
                    quantities[resale.disposition] += Uom.compute_qty(
                        move.unit, move.quantity, resale.disposition.unit)
                Disposition.decide_anew(quantities)
                Order._queue_process(
                    list(dict.fromkeys(d.order for d in quantities)))


class DeliveryNote(AppendReportMixin, metaclass=PoolMeta):
    __name__ = 'stock.shipment.out.delivery_note'

    @classmethod
    def _get_appended(cls, records):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        appended = []
        with without_check_access():
            for shipment in Shipment.browse(list(map(int, records))):
                paragraphs = []
                for line in dict.fromkeys(
                        m.resale_line for m in shipment.outgoing_moves
                        if m.resale_line):
                    paragraphs.append((3, line.product.rec_name))
                    paragraphs.extend(
                        (None, t) for t in (
                            line.description or '').splitlines())
                appended.append(paragraphs)
        return appended


class Margin(ModelSQL, ModelView):
    "Resale Margin"
    __name__ = 'return.resale.margin'

    company = fields.Many2One('company.company', "Company")
    grade = fields.Selection(GRADES, "Grade", sort=False)
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
        help="What was delivered, in the default unit of the product.")
    revenue = Monetary(
        "Revenue", currency='currency', digits='currency',
        help="Of what was delivered, without taxes, in the currency of the "
        "company at the rate of the day of the sale.")
    cost = Monetary(
        "Cost", currency='currency', digits='currency',
        help="What the delivered goods cost, in the currency of the company.")
    margin = fields.Function(Monetary(
            "Margin", currency='currency', digits='currency'),
        'on_change_with_margin')
    days = fields.Float(
        "Days to Sell", digits=(16, 1),
        help="The mean number of days from the offer to the sale.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    @fields.depends('revenue', 'cost')
    def on_change_with_margin(self, name=None):
        return (self.revenue or 0) - (self.cost or 0)

    @classmethod
    def table_query(cls):
        pool = Pool()
        Company = pool.get('company.company')
        Currency = pool.get('currency.currency')
        Line = pool.get('sale.line')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Resale = pool.get('return.resale')
        Sale = pool.get('sale.sale')
        resale = Resale.__table__()
        line = Line.__table__()
        sale = Sale.__table__()
        move = Move.__table__()
        location = Location.__table__()
        company = Company.__table__()
        rates = Currency.currency_rate_sql()
        rate_sale = rates.select(*[
                rates.currency, rates.start_date, rates.end_date,
                rates.rate])
        rates = Currency.currency_rate_sql()
        rate_company = rates.select(*[
                rates.currency, rates.start_date, rates.end_date,
                rates.rate])

        def rate(table, currency):
            return (
                (table.currency == currency)
                & (table.start_date <= sale.sale_date)
                & ((table.end_date == Null)
                    | (table.end_date > sale.sale_date)))

        amount = (
            move.unit_price * move.quantity
            * rate_company.rate / Coalesce(rate_sale.rate, Literal(1)))
        amount = Case(
            (sale.currency == company.currency,
                move.unit_price * move.quantity),
            else_=amount)
        return (move
            .join(location, condition=move.to_location == location.id)
            .join(line, condition=(
                    move.origin == Concat(Line.__name__ + ',', line.id)))
            .join(sale, condition=line.sale == sale.id)
            .join(resale, condition=line.resale == resale.id)
            .join(company, condition=resale.company == company.id)
            .join(rate_sale, 'LEFT', condition=rate(
                    rate_sale, sale.currency))
            .join(rate_company, 'LEFT', condition=rate(
                    rate_company, company.currency))
            .select(
                Max(move.id).as_('id'),
                Literal(0).as_('create_uid'),
                CurrentTimestamp().as_('create_date'),
                Literal(None).as_('write_uid'),
                Literal(None).as_('write_date'),
                resale.company.as_('company'),
                resale.grade.as_('grade'),
                resale.product.as_('product'),
                Sum(move.internal_quantity).as_('quantity'),
                cls.revenue.sql_cast(Sum(amount)).as_('revenue'),
                cls.cost.sql_cast(Sum(
                        move.cost_price * move.internal_quantity)
                    ).as_('cost'),
                cls.days.sql_cast(Avg(line.resale_days)).as_('days'),
                where=(move.state == 'done')
                & (location.type == 'customer'),
                group_by=[resale.company, resale.grade, resale.product]))
