# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from dateutil.relativedelta import relativedelta
from sql.aggregate import Sum
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import employee_field, set_employee
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access

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
    sold_quantity = figure(
        "Sold", "What sales delivered in the period: the demand.")
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
        help="What is proposed for the undecided returned goods of the "
        "product.\n"
        "Stock that can be sold is not touched.")
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
        "What was sold in the period by default.")
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

    @fields.depends('decision', 'target_quantity', 'sold_quantity')
    def on_change_decision(self):
        if self.decision == 'replenish' and self.target_quantity is None:
            self.target_quantity = self.sold_quantity

    def get_rec_name(self, name):
        return self.product.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('product.rec_name', *clause[1:])]

    _figures = [
        'sold_quantity', 'returned_quality', 'returned_demand',
        'returned_sales', 'returned_logistics', 'returned_other',
        'storage_quantity', 'return_quantity', 'quarantine_quantity',
        'resale_quantity']
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
        cls._add_moves(records, figures)
        cls._add_stock(records, figures)
        return figures

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
            move.origin.like('sale.line,%'))
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
        lines = cls._get_undecided_lines(records)
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
        "Map records to the lines with returned goods to decide"
        pool = Pool()
        Line = pool.get('return.order.line')
        found = defaultdict(list)
        for line in Line.search([
                    ('product', 'in', list({r.product.id for r in records})),
                    ('order.state', 'in', ['reviewed', 'approved', 'done']),
                    ('order.goods_settled', '=', False),
                    ]):
            if line.decidable_quantity > 0:
                order = line.order
                found[order.company, order.warehouse, line.product].append(
                    line)
        return {
            r: [
                l for l in found[r.company, r.warehouse, r.product]
                if r.proposal not in l.reason.all_forbidden_actions]
            for r in records}

    @classmethod
    def _plan(cls, records):
        "Let the supply follow the decisions"


class Replenishment_Supply(metaclass=PoolMeta):
    __name__ = 'return.replenishment'

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
            key = (record.company, record.warehouse, record.product)
            point = points.get(key)
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
