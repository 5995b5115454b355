# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import Check, Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.transaction import Transaction, without_check_access

from .exceptions import AreaError, WriteOffError
from .model import GuardedMixin


class WriteOff(metaclass=PoolMeta):
    __name__ = 'return.write_off'

    lines = fields.One2Many(
        'return.write_off.line', 'write_off', "Goods without Return",
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="The goods found in the areas that are written off and belong "
        "to no return.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._requested_fields = cls._requested_fields | {'lines'}
        cls.company.states['readonly'] |= Bool(Eval('lines', []))
        cls._buttons['request']['readonly'] &= ~Eval('lines', [])
        cls._buttons['request']['depends'] += ['lines']

    @classmethod
    def copy(cls, write_offs, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('lines')
        return super().copy(write_offs, default=default)

    def get_goods(self):
        return super().get_goods() + [
            l for l in self.lines if not l.is_given_up]

    @classmethod
    @ModelView.button
    @Workflow.transition('requested')
    def request(cls, write_offs):
        pool = Pool()
        Line = pool.get('return.write_off.line')
        Line.check_found([l for w in write_offs for l in w.lines])
        super().request(write_offs)

    @classmethod
    def _take_out(cls, write_offs):
        pool = Pool()
        Line = pool.get('return.write_off.line')
        super()._take_out(write_offs)
        lines = [l for w in write_offs for l in w.lines]
        Line.check_found(lines)
        Line.create_shipments(lines)


class Line(GuardedMixin, ModelSQL, ModelView):
    "Return Write-off Line"
    __name__ = 'return.write_off.line'

    _states = {
        'readonly': Eval('write_off_state') != 'draft',
        }
    _guarded_fields = {'write_off_cost', 'write_off_amount', 'moves'}

    write_off = fields.Many2One(
        'return.write_off', "Write-off", required=True, ondelete='CASCADE',
        states=_states)
    location = fields.Many2One(
        'stock.location', "Location", required=True, ondelete='RESTRICT',
        domain=[
            ('type', '=', 'storage'),
            ],
        states=_states,
        help="The place in the areas for returns where the goods were found.")
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT',
        domain=[
            ('type', 'in', ['goods', 'assets']),
            ],
        states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, states=_states,
        help="What is written off, positive, in the default unit of the "
        "product; no more than lies there without a return.")
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    write_off_cost = Monetary(
        "Unit Cost", currency='currency', digits=price_digits, readonly=True,
        help="The cost of the product when the write-off was requested, per "
        "unit.")
    write_off_amount = Monetary(
        "Cost", currency='currency', digits='currency', readonly=True,
        help="The cost of the goods, rounded.")
    moves = fields.One2Many(
        'stock.move', 'origin', "Moves", readonly=True)
    write_off_state = fields.Function(
        fields.Selection('get_write_off_states', "Write-off State"),
        'on_change_with_write_off_state')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('write_off')
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_disposition_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.write_off, Index.Range())),
                Index(t, (t.location, Index.Range())),
                })

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @fields.depends('write_off', '_parent_write_off.company')
    def on_change_with_company(self, name=None):
        return self.write_off.company if self.write_off else None

    @classmethod
    def search_company(cls, name, clause):
        return [('write_off.' + clause[0], *clause[1:])]

    @fields.depends('write_off', '_parent_write_off.company')
    def on_change_with_currency(self, name=None):
        if self.write_off and self.write_off.company:
            return self.write_off.company.currency

    @classmethod
    def get_write_off_states(cls):
        pool = Pool()
        WriteOff = pool.get('return.write_off')
        return WriteOff.fields_get(['state'])['state']['selection']

    @fields.depends('write_off', '_parent_write_off.state')
    def on_change_with_write_off_state(self, name=None):
        return self.write_off.state if self.write_off else 'draft'

    def get_rec_name(self, name):
        return ' @ '.join([self.product.rec_name, self.write_off.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        operator = 'AND' if clause[1].startswith(('!', 'not')) else 'OR'
        return [operator,
            ('product.rec_name', *clause[1:]),
            ('write_off.rec_name', *clause[1:]),
            ]

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        for name in ['write_off_cost', 'write_off_amount', 'moves']:
            default.setdefault(name)
        return super().copy(lines, default=default)

    @classmethod
    def create(cls, vlist):
        lines = super().create(vlist)
        cls._check_draft(lines)
        return lines

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            cls._check_draft([l for ls in args[::2] for l in ls])
        super().write(*args)
        if Transaction().check_access:
            cls._check_draft([l for ls in args[::2] for l in ls])

    @classmethod
    def delete(cls, lines):
        cls._check_draft(lines)
        super().delete(lines)

    @classmethod
    def _check_draft(cls, lines):
        for write_off in {l.write_off for l in cls.browse(lines)}:
            if write_off.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_application_modify',
                        application=write_off.rec_name))

    def _check_application_goods(self):
        self._get_to_location()

    def _get_to_location(self):
        area, warehouse = self.location.find_return_area()
        if not area:
            raise WriteOffError(gettext(
                    'return_management.msg_write_off_area',
                    location=self.location.rec_name,
                    write_off=self.write_off.rec_name))
        return warehouse.get_waste_location()

    def set_write_off_cost(self):
        self.write_off_cost = self.product.get_multivalue(
            'cost_price', company=self.company.id) or Decimal(0)

    def set_write_off_amount(self):
        quantity = (
            self._get_moved_quantity() if self.is_written_off
            else self.quantity)
        self.write_off_amount = self.currency.round(
            Decimal(str(quantity)) * self.write_off_cost)

    @property
    def is_given_up(self):
        "Whether the warehouse has cancelled or deleted what was approved"
        return self.write_off.state not in {'draft', 'requested'} and all(
            m.state == 'cancelled' for m in self.moves)

    @property
    def is_written_off(self):
        return bool(self.moves) and all(
            m.state in {'done', 'cancelled'} for m in self.moves)

    def _get_moved_quantity(self):
        return self.unit.round(sum(
                m.internal_quantity for m in self.moves if m.state == 'done'))

    @classmethod
    @without_check_access
    def check_found(cls, lines):
        "Check that no more is written off than belongs to no return"
        pool = Pool()
        Goods = pool.get('return.area.goods')
        if not lines:
            return
        locations = {l.location.id for l in lines}
        products = {l.product.id for l in lines}
        found = defaultdict(float)
        for goods in Goods.search([
                    ('line', '=', None),
                    ('location', 'in', list(locations)),
                    ('product', 'in', list(products)),
                    ]):
            found[goods.company, goods.location, goods.product] += (
                goods.quantity)
        for line in cls.search([
                    ('location', 'in', list(locations)),
                    ('product', 'in', list(products)),
                    ('write_off.state', 'in', ['requested', 'approved']),
                    ]):
            key = line.company, line.location, line.product
            if (line not in lines
                    and not line.is_given_up and not line.is_written_off):
                found[key] -= line.quantity
        for line in lines:
            key = line.company, line.location, line.product
            found[key] -= line.quantity
            if line.unit.round(found[key]) < 0:
                raise WriteOffError(gettext(
                        'return_management.msg_write_off_found',
                        product=line.product.rec_name,
                        location=line.location.rec_name,
                        write_off=line.write_off.rec_name))

    @classmethod
    def create_shipments(cls, lines):
        "Let the warehouse bring the goods to the waste location"
        pool = Pool()
        Date = pool.get('ir.date')
        Shipment = pool.get('stock.shipment.internal')
        groups = defaultdict(list)
        for line in lines:
            groups[line.company, line.location].append(line)
        shipments = []
        for (company, location), grouped in groups.items():
            with Transaction().set_context(company=company.id):
                today = Date.today()
            to_location = grouped[0]._get_to_location()
            shipments.append(Shipment(
                    company=company,
                    from_location=location,
                    to_location=to_location,
                    planned_date=today,
                    planned_start_date=today,
                    state='draft',
                    moves=[l._get_move(to_location) for l in grouped]))
        Shipment.save(shipments)
        Shipment.wait(shipments)

    def _get_move(self, to_location):
        pool = Pool()
        Move = pool.get('stock.move')
        return Move(
            origin=self,
            product=self.product,
            unit=self.unit,
            quantity=self.quantity,
            company=self.company,
            from_location=self.location,
            to_location=to_location,
            state='draft')


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.write_off.line']

    @property
    def write_off_line(self):
        "The line of a write-off by which the goods leave, or None"
        pool = Pool()
        Line = pool.get('return.write_off.line')
        if isinstance(self.origin, Line):
            return self.origin

    @property
    def return_application(self):
        line = self.write_off_line
        if line and self.to_location.type == 'lost_found':
            return line.write_off
        return super().return_application

    def _leaves_return_area(self):
        # It is checked apart
        return not self.write_off_line and super()._leaves_return_area()

    @classmethod
    @ModelView.button
    @Workflow.transition('done')
    def do(cls, moves):
        cls.check_write_off(moves)
        super().do(moves)
        cls._process_write_offs(moves)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, moves):
        super().cancel(moves)
        cls._process_write_offs(moves)

    @classmethod
    def delete(cls, moves):
        cls._process_write_offs(moves)
        super().delete(moves)

    @classmethod
    @without_check_access
    def check_write_off(cls, moves):
        "Check that goods of no return leave only as was approved"
        quantities = defaultdict(float)
        for move in moves:
            line = move.write_off_line
            if not line or move.state == 'done':
                continue
            quantities[line] += move.internal_quantity
            if (line.write_off.state != 'approved'
                    or move.product != line.product
                    or not move.from_location.is_inside(line.location)
                    or move.to_location.type != 'lost_found'
                    or line.unit.round(
                        quantities[line] + line._get_moved_quantity()
                        - line.quantity) > 0):
                raise AreaError(gettext(
                        'return_management.msg_move_write_off',
                        move=move.rec_name,
                        write_off=line.write_off.rec_name))

    @classmethod
    def _process_write_offs(cls, moves):
        pool = Pool()
        WriteOff = pool.get('return.write_off')
        with without_check_access():
            write_offs = {
                m.write_off_line.write_off for m in cls.browse(moves)
                if m.write_off_line}
        if write_offs:
            WriteOff.__queue__.process(sorted(write_offs, key=int))
