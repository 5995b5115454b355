# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from dateutil.relativedelta import relativedelta
from sql.aggregate import Sum
from sql.operators import Concat, Or

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import employee_field, set_employee
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access

from .exceptions import ReplenishmentError
from .model import GuardedMixin


def figure(string, help_):
    return fields.Float(
        string, digits='unit', readonly=True,
        help="\n".join([help_, "In the default unit of the product."]))


class Replenishment(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Replenishment Decision"
    __name__ = 'return.replenishment'

    _states = {
        'readonly': Eval('state') != 'draft',
        }
    _states_plan = {
        'readonly': _states['readonly'],
        'invisible': Eval('decision') != 'replenish',
        'required': Eval('decision') == 'replenish',
        }

    company = fields.Many2One(
        'company.company', "Company", required=True, states=_states)
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT',
        domain=[('type', '=', 'goods')],
        states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    warehouse = fields.Many2One(
        'stock.location', "Warehouse", required=True, ondelete='RESTRICT',
        domain=[('type', '=', 'warehouse')],
        states=_states)
    from_date = fields.Date(
        "From", required=True,
        domain=[('from_date', '<=', Eval('to_date'))],
        states=_states,
        help="The first day of the figures.")
    to_date = fields.Date(
        "To", required=True,
        domain=[('to_date', '>=', Eval('from_date'))],
        states=_states,
        help="The last day of the figures.")
    demand_quantity = figure(
        "Demand", "What customers ordered: the lines of confirmed sales with "
        "a sale date in the period, those of the warehouse, whether they are "
        "delivered yet or not; without what sales take back.")
    sold_quantity = figure(
        "Sold", "What sales delivered out of the warehouse in the period.")
    returned_quality = figure(
        "Returned: Quality", "What came back for its quality.")
    returned_demand = figure(
        "Returned: Demand", "What came back for a change of demand.")
    returned_sales = figure(
        "Returned: Sales", "What came back for how it was sold.")
    returned_logistics = figure(
        "Returned: Logistics", "What came back for its transport.")
    returned_other = figure(
        "Returned: Other", "What came back for other reasons.")
    storage_quantity = figure("In Stock", "What lies in the storage zone.")
    return_quantity = figure("In Returns", "What lies in the returns area.")
    quarantine_quantity = figure(
        "In Quarantine", "What lies in the quarantine.")
    resale_quantity = figure("In Resale", "What lies in the resale location.")
    unsold_quantity = figure(
        "In Resale, Unsold",
        "What resales hold and no confirmed sale takes: it is proposed for "
        "resale already.")
    undecided_quantity = figure(
        "To Propose",
        "The returned goods about which nothing is decided or proposed.")
    decision = fields.Selection([
            ('no_longer', "No Longer Replenished"),
            ('replenish', "Replenished"),
            ], "Decision", required=True, sort=False, states=_states,
        help="Whether the product is bought again.")
    proposal = fields.Selection([
            (None, ""),
            ('write_off', "Write Off"),
            ('resale', "Resale"),
            ], "Returned Goods", sort=False,
        states={
            'readonly': _states['readonly'],
            'invisible': Eval('decision') != 'no_longer',
            'required': Eval('decision') == 'no_longer',
            },
        help="What is proposed for the returned goods of the product about "
        "which nothing is decided or proposed.\n"
        "Stock that can be sold and goods in resale are not touched.")
    min_quantity = fields.Float(
        "Minimal Quantity", digits='unit', states=_states_plan,
        domain=['OR',
            ('min_quantity', '=', None),
            [
                ('min_quantity', '>=', 0),
                ('min_quantity', '<=', Eval('target_quantity', 0)),
                ],
            ],
        help="The stock below which the product is bought, in its default "
        "unit.")
    target_quantity = fields.Float(
        "Target Quantity", digits='unit', states=_states_plan,
        help="The stock up to which the product is bought, in its default "
        "unit.\n"
        "The demand of the period by default.")
    note = fields.Text("Note", states=_states)
    write_off = fields.Many2One(
        'return.write_off', "Write-off", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': ~Eval('write_off'),
            },
        help="The write-off that is proposed.")
    decided_by = employee_field(
        "Decided by", states=['draft', 'decided'])
    decided_on = fields.Date("Decided on", readonly=True)
    state = fields.Selection([
            ('draft', "Draft"),
            ('decided', "Decided"),
            ], "State", required=True, readonly=True, sort=False)
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.decided_by.readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.product, Index.Range())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state == 'draft'),
                })
        cls._order = [('to_date', 'DESC'), ('id', 'DESC')]
        cls._transitions |= {('draft', 'decided')}
        cls._buttons.update({
                'compute': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'decide': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_warehouse(cls):
        pool = Pool()
        return pool.get('stock.location').get_default_warehouse()

    @classmethod
    def default_from_date(cls):
        return cls.default_to_date() - relativedelta(months=3)

    @classmethod
    def default_to_date(cls):
        pool = Pool()
        return pool.get('ir.date').today()

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @fields.depends('decision', 'target_quantity', 'demand_quantity')
    def on_change_decision(self):
        if self.decision == 'replenish' and self.target_quantity is None:
            self.target_quantity = self.demand_quantity

    def get_rec_name(self, name):
        return self.product.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('product.rec_name', *clause[1:])]

    _figures = [
        'demand_quantity', 'sold_quantity', 'returned_quality',
        'returned_demand', 'returned_sales', 'returned_logistics',
        'returned_other', 'storage_quantity', 'return_quantity',
        'quarantine_quantity', 'resale_quantity', 'unsold_quantity',
        'undecided_quantity']
    _guarded_fields = {
        *_figures, 'write_off', 'decided_by', 'decided_on', 'state'}

    @classmethod
    def copy(cls, records, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                *cls._figures, 'write_off', 'decided_by', 'decided_on']:
            default.setdefault(name)
        default.setdefault('state', 'draft')
        return super().copy(records, default=default)

    @classmethod
    def create(cls, vlist):
        records = super().create(vlist)
        cls.set_figures(records)
        return records

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for records, _ in zip(actions, actions):
            cls._check_draft(records)
        super().write(*args)

    @classmethod
    def delete(cls, records):
        cls._check_draft(records)
        super().delete(records)

    @classmethod
    def _check_draft(cls, records):
        for record in records:
            if record.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_replenishment_modify',
                        product=record.rec_name))

    @classmethod
    def set_figures(cls, records):
        "Set what speaks for and against buying the product"
        to_write = []
        # Who decides does not read the periods of the stock
        with without_check_access():
            figures = cls._get_figures(records)
            for record in records:
                to_write.extend(([record], {
                            n: record.unit.round(figures[record.id][n])
                            for n in cls._figures}))
            if to_write:
                cls.write(*to_write)

    @classmethod
    def _get_figures(cls, records):
        "Map the id of records to their figures by name"
        figures = defaultdict(lambda: defaultdict(float))
        cls._add_demand(records, figures)
        cls._add_moves(records, figures)
        cls._add_stock(records, figures)
        cls._add_returned(records, figures)
        return figures

    @classmethod
    def _add_demand(cls, records, figures):
        pool = Pool()
        Sale = pool.get('sale.sale')
        Uom = pool.get('product.uom')
        cursor = Transaction().connection.cursor()
        table = cls.__table__()
        sale = Sale.__table__()
        line = cls._get_ordered()
        cursor.execute(*table
            .join(line, condition=line.product == table.product)
            .join(sale, condition=(sale.id == line.sale)
                & (sale.company == table.company)
                & (sale.warehouse == table.warehouse)
                & (sale.sale_date >= table.from_date)
                & (sale.sale_date <= table.to_date))
            .select(
                table.id, line.unit, Sum(line.quantity),
                where=table.id.in_(list(map(int, records)))
                & sale.state.in_(['confirmed', 'processing', 'done'])
                & (line.quantity > 0),
                group_by=[table.id, line.unit]))
        rows = list(cursor)
        products = {r.id: r.product for r in records}
        units = {u.id: u for u in Uom.browse(list({u for _, u, _ in rows}))}
        for id_, unit, quantity in rows:
            figures[id_]['demand_quantity'] += Uom.compute_qty(
                units[unit], quantity, products[id_].default_uom, round=False)

    @classmethod
    def _get_ordered(cls):
        "Return the query of the products that sales order"
        pool = Pool()
        Line = pool.get('sale.line')
        line = Line.__table__()
        return line.select(line.sale, line.product, line.unit, line.quantity)

    @classmethod
    def _add_moves(cls, records, figures):
        pool = Pool()
        Line = pool.get('return.order.line')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Reason = pool.get('return.reason')
        cursor = Transaction().connection.cursor()
        table = cls.__table__()
        line, reason = Line.__table__(), Reason.__table__()
        move = Move.__table__()
        customer, place, warehouse = (Location.__table__() for _ in range(3))

        def query(inside, outside, where):
            return (table
                .join(move, condition=(move.product == table.product)
                    & (move.company == table.company)
                    & (move.effective_date >= table.from_date)
                    & (move.effective_date <= table.to_date)
                    & (move.state == 'done'))
                .join(customer, condition=(customer.id == outside)
                    & (customer.type == 'customer'))
                .join(warehouse, condition=warehouse.id == table.warehouse)
                .join(place, condition=(place.id == inside)
                    & (place.left >= warehouse.left)
                    & (place.right <= warehouse.right)),
                table.id.in_(list(map(int, records))) & where)

        tables, where = query(
            move.from_location, move.to_location,
            Or([
                    move.origin.like(name + ',%')
                    for name in Move.sql_delivered_lines(move)]))
        cursor.execute(*tables.select(
                table.id, Sum(move.internal_quantity),
                where=where, group_by=table.id))
        for id_, quantity in cursor:
            figures[id_]['sold_quantity'] = quantity
        tables, where = query(
            move.to_location, move.from_location,
            move.origin.like(Line.__name__ + ',%'))
        cursor.execute(*tables
            .join(line, condition=move.origin == Concat(
                    Line.__name__ + ',', line.id))
            .join(reason, condition=reason.id == line.reason)
            .select(
                table.id, reason.category, Sum(move.internal_quantity),
                where=where, group_by=[table.id, reason.category]))
        for id_, category, quantity in cursor:
            figures[id_]['returned_' + category] = quantity

    @classmethod
    def _add_stock(cls, records, figures):
        pool = Pool()
        Date = pool.get('ir.date')
        Product = pool.get('product.product')
        groups = defaultdict(list)
        for record in records:
            groups[record.company].append(record)
        places = [
            'storage_location', 'return_location', 'quarantine_location',
            'resale_location']
        for company, c_records in groups.items():
            locations = {
                getattr(r.warehouse, n).id for r in c_records for n in places
                if getattr(r.warehouse, n)}
            with Transaction().set_context(company=company.id):
                today = Date.today()
            with Transaction().set_context(
                    company=company.id, stock_date_end=today,
                    locations=list(locations)):
                quantities = Product.products_by_location(
                    list(locations), with_childs=True,
                    grouping_filter=(
                        list({r.product.id for r in c_records}),))
            for record in c_records:
                for name in places:
                    location = getattr(record.warehouse, name)
                    if location:
                        figures[record.id][
                            name.replace('_location', '_quantity')] = (
                                quantities.get(
                                    (location.id, record.product.id), 0))

    @classmethod
    def _add_returned(cls, records, figures):
        pool = Pool()
        Resale = pool.get('return.resale')
        Uom = pool.get('product.uom')
        lines = cls._get_undecided_lines(records)
        resales = defaultdict(list)
        for resale in Resale.search([
                    ('product', 'in', list({r.product.id for r in records})),
                    ('state', 'in', [
                            'draft', 'evaluated', 'planned', 'ready',
                            'offered']),
                    ]):
            resales[resale.company, resale.warehouse, resale.product].append(
                resale)
        for record in records:
            unit = record.product.default_uom
            figures[record.id]['undecided_quantity'] = sum(
                Uom.compute_qty(
                    l.unit, l.decidable_quantity, unit, round=False)
                for l in lines[record._key])
            figures[record.id]['unsold_quantity'] = sum(
                Uom.compute_qty(r.unit, r.left_quantity, unit, round=False)
                for r in resales[record._key])

    @property
    def _key(self):
        "What is decided about"
        return self.company, self.warehouse, self.product

    @classmethod
    @ModelView.button
    def compute(cls, records):
        cls._check_draft(records)
        cls.set_figures(records)

    @classmethod
    @ModelView.button
    @Workflow.transition('decided')
    @set_employee('decided_by')
    def decide(cls, records):
        pool = Pool()
        Date = pool.get('ir.date')
        Order = pool.get('return.order')
        for company in {r.company for r in records}:
            Order._get_employee(company)
            with Transaction().set_context(company=company.id):
                today = Date.today()
            cls.write(
                [r for r in records if r.company == company],
                {'decided_on': today})
        cls.set_figures(records)
        cls._propose([r for r in records if r.decision == 'no_longer'])
        cls._plan(records)

    @classmethod
    def _propose(cls, records):
        "Draft what is to happen with the undecided returned goods"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        ModelData = pool.get('ir.model.data')
        WriteOff = pool.get('return.write_off')
        undecided = cls._get_undecided_lines(records)
        # Each is proposed once
        lines = {
            r: [
                l for l in undecided.pop(r._key, [])
                if r.proposal not in l.reason.all_forbidden_actions]
            for r in records}
        cause = ModelData.get_id(
            'return_management', 'write_off_cause_unsaleable')
        write_offs = {
            r: WriteOff(company=r.company, cause=cause) for r in records
            if r.proposal == 'write_off' and lines[r]}
        WriteOff.save(write_offs.values())
        Disposition.save([
                Disposition(
                    line=l, action=r.proposal, accepted=True,
                    quantity=l.decidable_quantity,
                    write_off=write_offs.get(r))
                for r in records for l in lines[r]])
        for record, write_off in write_offs.items():
            record.write_off = write_off
        cls.save(list(write_offs))

    @classmethod
    def _get_undecided_lines(cls, records):
        "Map what is decided about to the lines with goods to propose"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = defaultdict(list)
        for line in Line.search([
                    ('product', 'in', list({r.product.id for r in records})),
                    ('order.state', 'in', ['reviewed', 'approved', 'done']),
                    ('order.goods_settled', '=', False),
                    ]):
            if line.decidable_quantity > 0:
                order = line.order
                lines[order.company, order.warehouse, line.product].append(
                    line)
        return lines

    @classmethod
    def _plan(cls, records):
        "Let the supply follow the decisions"


class Replenishment_Request(metaclass=PoolMeta):
    __name__ = 'return.replenishment'

    purchase_quantity = fields.Float(
        "Quantity to Purchase", digits='unit',
        domain=['OR',
            ('purchase_quantity', '=', None),
            ('purchase_quantity', '>=', 0),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': Eval('decision') != 'replenish',
            },
        help="What the purchase request asks for, in the default unit of the "
        "product.\n"
        "Leave empty to request nothing now.")
    purchase_requests = fields.One2Many(
        'purchase.request', 'origin', "Purchase Requests", readonly=True,
        states={
            'invisible': ~Eval('purchase_requests'),
            })

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'purchase_requests'}

    @classmethod
    def copy(cls, records, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('purchase_requests')
        return super().copy(records, default=default)

    @classmethod
    def _plan(cls, records):
        super()._plan(records)
        cls._request_purchases([
                r for r in records
                if r.decision == 'replenish' and r.purchase_quantity])

    @classmethod
    def _request_purchases(cls, records):
        pool = Pool()
        Request = pool.get('purchase.request')
        Request.save([r._get_purchase_request() for r in records])

    def _get_purchase_request(self):
        pool = Pool()
        Request = pool.get('purchase.request')
        Uom = pool.get('product.uom')
        if not self.product.purchasable:
            raise ReplenishmentError(gettext(
                    'return_management.msg_replenishment_purchasable',
                    product=self.product.rec_name))
        with Transaction().set_context(company=self.company.id):
            product = self.product.__class__(self.product)
            supplier, date = Request.find_best_supplier(
                product, None, company=self.company.id)
        unit = product.purchase_uom or product.default_uom
        return Request(
            company=self.company,
            warehouse=self.warehouse,
            product=product,
            party=supplier,
            quantity=unit.ceil(Uom.compute_qty(
                    product.default_uom, self.purchase_quantity, unit,
                    round=False)),
            unit=unit,
            computed_quantity=self.purchase_quantity,
            computed_unit=product.default_uom,
            purchase_date=date,
            stock_level=self.storage_quantity,
            origin=self)


class PurchaseRequest(metaclass=PoolMeta):
    __name__ = 'purchase.request'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() | {'return.replenishment'}


class Replenishment_Supply(metaclass=PoolMeta):
    __name__ = 'return.replenishment'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.purchase_quantity.states['invisible'] = True

    @classmethod
    def _request_purchases(cls, records):
        "The supply requests what the order points ask for"

    @classmethod
    def _plan(cls, records):
        pool = Pool()
        OrderPoint = pool.get('stock.order_point')
        super()._plan(records)
        points = {
            (p.company, p.warehouse_location, p.product): p
            for p in OrderPoint.search([
                    ('type', '=', 'purchase'),
                    ('product', 'in', [r.product.id for r in records]),
                    ])}
        to_save = []
        for record in records:
            point = points.get(record._key)
            if record.decision == 'replenish':
                if not point:
                    # Only what can be bought has an order point
                    if not record.product.purchasable:
                        continue
                    point = OrderPoint(
                        type='purchase', company=record.company,
                        warehouse_location=record.warehouse,
                        product=record.product)
                point.min_quantity = record.min_quantity
                point.target_quantity = record.target_quantity
            elif point:
                point.min_quantity = point.target_quantity = 0
            else:
                continue
            to_save.append(point)
        OrderPoint.save(to_save)
