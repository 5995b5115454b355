# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from decimal import Decimal

from sql import Null

from trytond.i18n import gettext
from trytond.model import Check, Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import AccessError
from trytond.modules.currency.fields import Monetary
from trytond.modules.return_management.model import GuardedMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.transaction import Transaction, without_check_access

from .exceptions import RepairError


class Part(GuardedMixin, ModelSQL, ModelView):
    "Return Repair Part"
    __name__ = 'return.repair.part'

    _states = {
        'readonly': Bool(Eval('moves', [])),
        }

    repair = fields.Many2One(
        'return.repair', "Repair", required=True, ondelete='CASCADE',
        states={
            'readonly': Bool(Eval('repair')),
            })
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT',
        domain=[
            ('type', 'in', ['goods', 'assets']),
            ],
        states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="What is taken out of the storage zone for the repair.")
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, ondelete='RESTRICT',
        domain=[
            If(Bool(Eval('product_uom_category')),
                ('category', '=', Eval('product_uom_category', -1)),
                ()),
            ],
        states=_states)
    product_uom_category = fields.Function(
        fields.Many2One('product.uom.category', "Product UoM Category"),
        'on_change_with_product_uom_category')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, states=_states,
        domain=[
            ('quantity', '>', 0),
            ])
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    cost = Monetary(
        "Cost", currency='currency', digits='currency', readonly=True,
        help="What the parts left the stock with, in the currency of the "
        "company, rounded move by move; empty until they are consumed.")
    moves = fields.One2Many(
        'stock.move', 'origin', "Moves", readonly=True)

    _guarded_fields = {'cost', 'moves'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_disposition_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.repair, Index.Range())),
                Index(t, (t.product, Index.Range())),
                })

    @fields.depends('repair', '_parent_repair.company')
    def on_change_with_company(self, name=None):
        return self.repair.company if self.repair else None

    @classmethod
    def search_company(cls, name, clause):
        return [('repair.' + clause[0], *clause[1:])]

    @fields.depends('product', 'unit')
    def on_change_product(self):
        if self.product and (
                not self.unit
                or self.unit.category != self.product.default_uom.category):
            self.unit = self.product.default_uom

    @fields.depends('product')
    def on_change_with_product_uom_category(self, name=None):
        return self.product.default_uom_category if self.product else None

    @fields.depends('repair', '_parent_repair.company')
    def on_change_with_currency(self, name=None):
        if self.repair and self.repair.company:
            return self.repair.company.currency

    @property
    def goods_name(self):
        return self.product.rec_name

    def get_rec_name(self, name):
        return ' @ '.join([self.goods_name, self.repair.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('product.rec_name', *clause[1:])]

    @classmethod
    def create(cls, vlist):
        parts = super().create(vlist)
        cls._check_open(parts)
        return parts

    @classmethod
    def write(cls, *args):
        parts = sum(args[::2], [])
        if Transaction().check_access:
            cls._check_open(parts)
        super().write(*args)
        if Transaction().check_access:
            cls._check_open(parts)

    @classmethod
    def delete(cls, parts):
        cls._check_open(parts)
        super().delete(parts)

    @classmethod
    def _check_open(cls, parts):
        "Check that the parts may be changed"
        for part in parts:
            if part.cost is not None or part.repair.state not in {
                    'draft', 'planned', 'started'}:
                raise AccessError(gettext(
                        'return_quality.msg_repair_modify',
                        repair=part.repair.rec_name))

    @classmethod
    def copy(cls, parts, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('cost')
        default.setdefault('moves')
        return super().copy(parts, default=default)

    @classmethod
    @without_check_access
    def consume(cls, parts):
        "Take the parts out of the storage zone at their cost"
        pool = Pool()
        Move = pool.get('stock.move')
        parts = [p for p in cls.browse(parts) if p.cost is None]
        cls._check_consume(parts)
        others = {m for p in parts for m in p.moves}
        moves = [p._get_move() for p in parts]
        Move.save(moves)
        if not Move.assign_try(moves):
            raise RepairError(gettext(
                    'return_quality.msg_repair_parts',
                    repair=parts[0].repair.rec_name,
                    parts=', '.join(
                        m.origin.goods_name for m in Move.browse(moves)
                        if m.state == 'draft')))
        # What lies in several locations is taken by several moves
        parts = cls.browse(parts)
        with Transaction().set_context(_return_repair_consume=True):
            Move.do([m for p in parts for m in p.moves if m not in others])
        parts = cls.browse(parts)
        for part in parts:
            # As the books have it, move by move
            part.cost = sum((
                    part.company.currency.round(
                        Decimal(str(m.internal_quantity))
                        * (m.cost_price or Decimal(0)))
                    for m in part.moves if m.state == 'done'), Decimal(0))
        cls.save(parts)

    @classmethod
    def _check_consume(cls, parts):
        "Check that the parts may be taken before any of them is"

    def _get_from_location(self):
        return self.repair.order.warehouse.storage_location

    def _get_move(self):
        pool = Pool()
        Move = pool.get('stock.move')
        return Move(
            origin=self,
            product=self.product,
            unit=self.unit,
            quantity=self.quantity,
            from_location=self._get_from_location(),
            to_location=self.repair._get_parts_location(),
            company=self.company,
            state='draft')


class Part_Lot(metaclass=PoolMeta):
    __name__ = 'return.repair.part'

    lot = fields.Many2One(
        'stock.lot', "Lot", ondelete='RESTRICT',
        domain=[
            ('product', '=', Eval('product', -1)),
            ],
        states={
            'readonly': Bool(Eval('moves', [])),
            },
        help="The lot or serial number that is taken; the products that "
        "require one are not taken without.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.lot, Index.Range()), where=t.lot != Null))

    @fields.depends('product', 'lot')
    def on_change_product(self):
        super().on_change_product()
        if self.lot and self.lot.product != self.product:
            self.lot = None

    @property
    def goods_name(self):
        name = super().goods_name
        return ' '.join([name, self.lot.rec_name]) if self.lot else name

    @classmethod
    def _check_consume(cls, parts):
        super()._check_consume(parts)
        missing = [p for p in parts if p._needs_lot()]
        if missing:
            raise RepairError(gettext(
                    'return_quality.msg_repair_parts_lot',
                    repair=missing[0].repair.rec_name,
                    parts=', '.join(p.goods_name for p in missing)))
        for part in parts:
            if part.lot:
                part.lot.check_called_back()

    def _needs_lot(self):
        return not self.lot and self.product.lot_is_required(
            self._get_from_location(), self.repair._get_parts_location())

    def _get_move(self):
        move = super()._get_move()
        move.lot = self.lot
        return move


class Repair_Production(metaclass=PoolMeta):
    __name__ = 'return.repair'

    def _get_parts_location(self):
        return (
            self.order.warehouse.production_location
            or super()._get_parts_location())


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.repair.part']

    @property
    def return_line(self):
        pool = Pool()
        Part = pool.get('return.repair.part')
        if isinstance(self.origin, Part):
            return self.origin.repair.line
        return super().return_line

    @classmethod
    @ModelView.button
    def do(cls, moves):
        pool = Pool()
        Part = pool.get('return.repair.part')
        if not Transaction().context.get('_return_repair_consume'):
            for move in moves:
                if isinstance(move.origin, Part) and move.state != 'done':
                    raise RepairError(gettext(
                            'return_quality.msg_move_repair_part',
                            move=move.rec_name,
                            repair=move.origin.repair.rec_name))
        super().do(moves)


class Move_Continental(metaclass=PoolMeta):
    __name__ = 'stock.move'

    def _get_account_stock_move_lines(self, type_):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Part = pool.get('return.repair.part')
        lines = super()._get_account_stock_move_lines(type_)
        if isinstance(self.origin, Part):
            account = Configuration(1).get_multivalue(
                'repair_account', company=self.company.id)
            if account:
                for line in lines:
                    line.account = account
        return lines
