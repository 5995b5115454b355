# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from itertools import groupby

from sql import Null
from sql.functions import CharLength

from trytond.i18n import gettext
from trytond.model import (
    Index, ModelSQL, ModelView, Unique, Workflow, fields)
from trytond.model.exceptions import AccessError, RequiredValidationError
from trytond.modules.company.model import employee_field
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, Id, If
from trytond.transaction import Transaction, check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import ParcelError
from .model import EvidenceMixin, GuardedMixin

# Where a return is while its goods may come
OPEN_STATES = ['draft', 'submitted', 'reviewed', 'approved']


class ParcelMixin:
    "What is known of a parcel that came"
    __slots__ = ()

    carrier_party = fields.Many2One(
        'party.party', "Carrier",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who carries the parcel.")
    tracking_number = fields.Char(
        "Tracking Number", help="The carrier's number of the parcel.")
    carrier_weight = fields.Float(
        "Carrier's Weight", digits=(16, 3),
        domain=['OR',
            ('carrier_weight', '=', None),
            ('carrier_weight', '>=', 0),
            ],
        help="What the carrier says that the parcel weighs, in kilograms.")
    weight = fields.Float(
        "Weight", digits=(16, 3),
        domain=['OR',
            ('weight', '=', None),
            ('weight', '>=', 0),
            ],
        help="What the warehouse measured, in kilograms.")
    condition = fields.Selection([
            (None, ""),
            ('good', "Good"),
            ('damaged', "Damaged"),
            ('opened', "Opened"),
            ('empty', "Empty"),
            ], "Condition", sort=False,
        help="How the parcel came.")
    sender = fields.Text(
        "Sender", help="What the label says of the sender.")
    note = fields.Text("Note")


class Parcel(
        GuardedMixin, EvidenceMixin, Workflow, ParcelMixin, ModelSQL,
        ModelView):
    "Return Parcel"
    __name__ = 'return.parcel'
    _rec_name = 'number'

    _states = {
        'readonly': ~Eval('state').in_(
            ['announced', 'unidentified', 'identified']),
        }

    number = fields.Char(
        "Number", readonly=True, help="Set from the sequence.")
    company = fields.Many2One(
        'company.company', "Company", required=True,
        states={
            'readonly': _states['readonly'] | Bool(Eval('orders', [0])),
            })
    warehouse = fields.Many2One(
        'stock.location', "Warehouse", required=True, states=_states,
        domain=[('type', '=', 'warehouse')],
        help="Where the parcel comes to.")
    orders = fields.Many2Many(
        'return.parcel-return.order', 'parcel', 'order', "Return Orders",
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        states=_states,
        help="The returns whose goods are in the parcel.")
    sent_by = fields.Function(
        fields.Char(
            "Sent by",
            help="The customers of the returns, else what the label says."),
        'get_sent_by', searcher='search_sent_by')
    areas = fields.Function(fields.Many2Many(
            'stock.location', None, None, "Areas"),
        'on_change_with_areas')
    location = fields.Many2One(
        'stock.location', "Location",
        domain=[
            ('type', '=', 'storage'),
            ('parent', 'child_of', Eval('areas', [])),
            ],
        states={
            'required': Eval('state').in_(
                ['received', 'unidentified', 'identified']),
            },
        help="The shelf where the parcel lies, in an area for returned "
        "goods.")
    arrived_at = fields.DateTime(
        "Arrived at", readonly=True, help="When the parcel came.")
    received_by = employee_field(
        "Received by", states=['received', 'unidentified', 'identified'])
    receipts = fields.One2Many(
        'stock.move', 'return_parcel', "Receipts", readonly=True,
        help="The goods that were received out of the parcel.")
    discrepancies = fields.One2Many(
        'return.discrepancy', 'parcel', "Discrepancies", readonly=True,
        help="In what the goods of the parcel differ from what was "
        "announced.")
    state = fields.Selection([
            ('announced', "Announced"),
            ('unidentified', "Unidentified"),
            ('identified', "Identified"),
            ('received', "Received"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Unidentified: it came and nobody knows whose it is.\n"
        "Identified: it came and its goods are not counted yet.\n"
        "Received: it was opened and counted.")

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        cls.tracking_number.search_unaccented = False
        super().__setup__()
        for name in [
                'carrier_party', 'tracking_number', 'carrier_weight',
                'weight', 'condition', 'sender']:
            getattr(cls, name).states = cls._states
        cls.received_by.readonly = True
        t = cls.__table__()
        cls._sql_constraints += [
            ('number_uniq', Unique(t, t.company, t.number),
                'return_management.msg_parcel_number_unique'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Similarity())),
                Index(t, (t.tracking_number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_([
                            'announced', 'unidentified', 'identified'])),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('announced', 'cancelled'),
            ('unidentified', 'cancelled'),
            ('identified', 'cancelled'),
            }
        cls._buttons.update({
                'identify': {
                    'invisible': ~Eval('state').in_(
                        ['unidentified', 'identified']),
                    'depends': ['state'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(
                        ['announced', 'unidentified', 'identified']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def order_number(cls, tables):
        table, _ = tables[None]
        return [CharLength(table.number), table.number]

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_warehouse(cls):
        pool = Pool()
        Location = pool.get('stock.location')
        return Location.get_default_warehouse()

    @classmethod
    def default_state(cls):
        return 'announced'

    @fields.depends('warehouse')
    def on_change_with_areas(self, name=None):
        return get_areas(self.warehouse)

    def get_sent_by(self, name):
        parties = dict.fromkeys(o.party.rec_name for o in self.orders)
        return ', '.join(parties) or ' '.join(
            (self.sender or '').splitlines())

    @classmethod
    def search_sent_by(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('orders.party.rec_name', operator, value),
            ('sender', operator, value),
            ]

    def get_rec_name(self, name):
        items = [self.number or '(%s)' % self.id]
        if self.tracking_number:
            items.append('[%s]' % self.tracking_number)
        return ' '.join(items)

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('number', operator, value),
            ('tracking_number', operator, value),
            ('orders.number', operator, value),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual',
                If(Eval('state') == 'cancelled', 'muted',
                    If(Eval('state') == 'unidentified', 'warning', ''))),
            ]

    _guarded_fields = {
        'number', 'arrived_at', 'received_by', 'receipts', 'discrepancies',
        'state'}
    # What was counted is evidence
    _received_fields = {
        'company', 'warehouse', 'orders', 'carrier_party', 'tracking_number',
        'carrier_weight', 'weight', 'condition', 'sender'}

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        vlist = [v.copy() for v in vlist]
        if Transaction().check_access:
            for values in vlist:
                if values.get('number'):
                    cls._check_guarded({'number'})
        parcels = super().create(vlist)
        for company, c_parcels in groupby(parcels, lambda p: p.company):
            sequence = config.get_multivalue(
                'return_parcel_sequence', company=company.id)
            for parcel in c_parcels:
                parcel.number = sequence.get()
        cls.save(parcels)
        return parcels

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            actions = iter(args)
            for parcels, values in zip(actions, actions):
                if cls._received_fields & set(values):
                    cls._check_counted(parcels)
        super().write(*args)

    @classmethod
    def _check_counted(cls, parcels):
        for parcel in parcels:
            if parcel.state in {'received', 'cancelled'}:
                raise AccessError(gettext(
                        'return_management.msg_parcel_modify',
                        parcel=parcel.rec_name))

    @classmethod
    def delete(cls, parcels):
        for parcel in parcels:
            if parcel.state not in {'announced', 'cancelled'} or (
                    parcel.arrived_at):
                raise AccessError(gettext(
                        'return_management.msg_parcel_delete',
                        parcel=parcel.rec_name))
        super().delete(parcels)

    @classmethod
    def copy(cls, parcels, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'arrived_at', 'received_by', 'receipts',
                'discrepancies', 'location']:
            default.setdefault(name)
        default.setdefault('state', 'announced')
        return super().copy(parcels, default=default)

    @classmethod
    def validate_fields(cls, parcels, field_names):
        super().validate_fields(parcels, field_names)
        if field_names & {'arrived_at', 'location', 'state', 'warehouse'}:
            for parcel in parcels:
                if parcel.arrived_at and not parcel.location:
                    raise RequiredValidationError(gettext(
                            'return_management.msg_parcel_location',
                            parcel=parcel.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, parcels):
        pool = Pool()
        Order = pool.get('return.order')
        for parcel in parcels:
            # What came must not be lost from sight
            if parcel.arrived_at and not parcel.note:
                raise RequiredValidationError(gettext(
                        'return_management.msg_parcel_cancel_note',
                        parcel=parcel.rec_name))
        Order._queue_process(
            list(dict.fromkeys(o for p in parcels for o in p.orders)))

    @classmethod
    @ModelView.button_action('return_management.wizard_parcel_identify')
    def identify(cls, parcels):
        pass

    @property
    def attachments_kept(self):
        return self.state in {'received', 'cancelled'}

    def arrive(self):
        "Set when it came and who took it"
        pool = Pool()
        Order = pool.get('return.order')
        if not getattr(self, 'arrived_at', None):
            self.arrived_at = dt.datetime.now().replace(microsecond=0)
            self.received_by = Order._get_employee(self.company)

    def _get_unannounced_order(self, party):
        "Return the draft return of goods that nobody announced"
        pool = Pool()
        Order = pool.get('return.order')
        order = Order(
            company=self.company,
            party=party,
            warehouse=self.warehouse,
            currency=self.company.currency,
            channel='other',
            requested_at=self.arrived_at,
            description='\n'.join(filter(None, [
                        gettext('return_management.msg_parcel_unannounced'),
                        self.sender, self.note])))
        order.on_change_party()
        return order


def get_areas(warehouse):
    "Return the ids of the areas of the warehouse"
    if not warehouse:
        return []
    areas = (getattr(warehouse, n) for n in warehouse._return_areas())
    return [a.id for a in areas if a]


class ParcelOrder(ModelSQL):
    "Return Parcel - Return Order"
    __name__ = 'return.parcel-return.order'

    parcel = fields.Many2One(
        'return.parcel', "Parcel", required=True, ondelete='CASCADE')
    order = fields.Many2One(
        'return.order', "Order", required=True, ondelete='CASCADE')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('parcel')
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.parcel, Index.Range())),
                Index(t, (t.order, Index.Range())),
                })

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Parcel = pool.get('return.parcel')
        cls._check(Parcel.browse(list({int(v['parcel']) for v in vlist})))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        for relations in args[::2]:
            cls._check([r.parcel for r in relations])
        super().write(*args)

    @classmethod
    def delete(cls, relations):
        cls._check([r.parcel for r in relations])
        super().delete(relations)

    @classmethod
    def _check(cls, parcels):
        pool = Pool()
        Parcel = pool.get('return.parcel')
        if Transaction().check_access:
            Parcel._check_counted(parcels)


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    return_parcel_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Parcel Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=',
                    Id('return_management', 'sequence_type_return_parcel')),
                ]))

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'return_parcel_sequence':
            return pool.get('return.configuration.sequence')
        return super().multivalue_model(field)

    @classmethod
    def default_return_parcel_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_parcel_sequence')
            .default_return_parcel_sequence())


class ConfigurationSequence(metaclass=PoolMeta):
    __name__ = 'return.configuration.sequence'

    return_parcel_sequence = fields.Many2One(
        'ir.sequence', "Parcel Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_management', 'sequence_type_return_parcel')),
            ])

    @classmethod
    def default_return_parcel_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_return_parcel')
        except KeyError:
            return None


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    parcels = fields.Many2Many(
        'return.parcel-return.order', 'order', 'parcel', "Parcels",
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        help="The parcels by which the goods come.")
    goods_here = fields.Function(
        fields.Boolean(
            "Goods Here",
            help="Checked when a parcel came whose goods are not counted."),
        'get_goods_here', searcher='search_goods_here')

    def get_goods_here(self, name):
        return any(p.state == 'identified' for p in self.parcels)

    @classmethod
    def search_goods_here(cls, name, clause):
        _, operator, value = clause
        if (operator == '=') == bool(value):
            return [('parcels.state', '=', 'identified')]
        return ['NOT', ('parcels.state', '=', 'identified')]

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('parcels')
        return super().copy(orders, default=default)


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _is_awaited(self):
        return super()._is_awaited() or any(
            p.state in {'announced', 'identified'}
            for p in self.order.parcels)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    return_parcel = fields.Many2One(
        'return.parcel', "Return Parcel", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': ~Eval('return_parcel'),
            },
        help="The parcel that the goods came in.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.return_parcel, Index.Range()),
                where=t.return_parcel != Null))

    @classmethod
    def copy(cls, moves, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_parcel')
        return super().copy(moves, default=default)


class Discrepancy(metaclass=PoolMeta):
    __name__ = 'return.discrepancy'

    parcel = fields.Many2One(
        'return.parcel', "Parcel", ondelete='RESTRICT',
        domain=[
            ('orders', '=', Eval('order', -1)),
            ],
        states={
            'readonly': Eval('state') != 'open',
            },
        help="The parcel in which it was found.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.parcel, Index.Range()), where=t.parcel != Null))


class Identify(Wizard):
    "Identify Parcel"
    __name__ = 'return.parcel.identify'

    start = StateView(
        'return.parcel.identify.start',
        'return_management.parcel_identify_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Identify", 'identify', 'tryton-ok', default=True),
            ])
    identify = StateTransition()

    def default_start(self, fields):
        return {'company': self.record.company.id}

    def transition_identify(self):
        pool = Pool()
        Order = pool.get('return.order')
        Parcel = pool.get('return.parcel')
        parcel = self.record
        Parcel.lock([parcel])
        if parcel.state not in {'unidentified', 'identified'}:
            raise ParcelError(gettext(
                    'return_management.msg_parcel_modify',
                    parcel=parcel.rec_name))
        before = list(parcel.orders)
        if self.start.orders:
            with check_access():
                orders = Order.search([
                        ('id', 'in', [o.id for o in self.start.orders]),
                        ('company', '=', parcel.company.id),
                        ('state', '!=', 'cancelled'),
                        ])
        elif self.start.party:
            orders = [parcel._get_unannounced_order(self.start.party)]
            Order.save(orders)
        else:
            raise ParcelError(gettext(
                    'return_management.msg_parcel_identify',
                    parcel=parcel.rec_name))
        parcel.orders = orders
        parcel.state = 'identified'
        parcel.save()
        Order._queue_process(list(dict.fromkeys([*before, *orders])))
        return 'end'


class IdentifyStart(ModelView):
    "Identify Parcel"
    __name__ = 'return.parcel.identify.start'

    company = fields.Many2One('company.company', "Company", readonly=True)
    orders = fields.Many2Many(
        'return.order', None, None, "Return Orders",
        domain=[
            ('company', '=', Eval('company', -1)),
            ('state', '!=', 'cancelled'),
            ],
        help="The returns whose goods are in the parcel.")
    party = fields.Many2One(
        'party.party', "Customer",
        states={
            'readonly': Bool(Eval('orders', [0])),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who sent the goods that nobody announced: "
        "a draft return is made.")
