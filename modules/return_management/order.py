# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from itertools import groupby

from sql import Null
from sql.functions import CharLength

from trytond.i18n import gettext
from trytond.ir.attachment import AttachmentCopyMixin
from trytond.ir.note import NoteCopyMixin
from trytond.model import (
    Index, ModelSQL, ModelView, Unique, Workflow, fields)
from trytond.model.exceptions import AccessError, RequiredValidationError
from trytond.modules.company.model import (
    employee_field, reset_employee, set_employee)
from trytond.pool import Pool
from trytond.pyson import Eval, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction

from .calendar import get_local_date
from .exceptions import (
    CancelError, EmployeeError, PartyError, RequestedError)
from .model import GuardedMixin

CHANNELS = [
    ('phone', "Phone"),
    ('email', "E-mail"),
    ('chat', "Chat"),
    ('web', "Web"),
    ('counter', "Counter"),
    ('other', "Other"),
    ]


class Order(
        GuardedMixin, Workflow, ModelSQL, ModelView, AttachmentCopyMixin,
        NoteCopyMixin):
    "Return Order"
    __name__ = 'return.order'
    _rec_name = 'number'

    _states = {
        'readonly': Eval('state') != 'draft',
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the return is submitted.")
    reference = fields.Char(
        "Reference", states=_states,
        help="The customer's own reference of the application.")
    company = fields.Many2One(
        'company.company', "Company", required=True,
        states={
            'readonly': (
                _states['readonly'] | Eval('party') | Eval('lines', [0])),
            })
    party = fields.Many2One(
        'party.party', "Customer", required=True,
        states={
            'readonly': (
                _states['readonly'] | (Eval('lines', [0]) & Eval('party'))),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="The customer of the sales whose goods come back.")
    applicant = fields.Many2One(
        'party.party', "Applicant", states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who asks for the return.\n"
        "Leave empty when it is the customer.")
    contact_address = fields.Many2One(
        'party.address', "Contact Address", states=_states,
        domain=['OR',
            ('party', '=', Eval('party', -1)),
            ('party', '=', Eval('applicant', -1)),
            ],
        help="Where the applicant can be contacted.")
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False, states=_states,
        help="How the customer applied.")
    requested_at = fields.DateTime(
        "Requested at", required=True, states=_states,
        help="When the customer applied: the periods of the policy are "
        "counted up to this day, not to the day of data entry.")
    submitted_at = fields.DateTime(
        "Submitted at", readonly=True,
        help="When the return was submitted last.")
    warehouse = fields.Many2One(
        'stock.location', "Warehouse",
        domain=[('type', '=', 'warehouse')],
        states={
            'readonly': _states['readonly'],
            'required': ~Eval('state').in_(['draft', 'cancelled']),
            },
        help="Where the goods come back to.\n"
        "Leave empty to use the warehouse of the sale.")
    currency = fields.Many2One(
        'currency.currency', "Currency", required=True,
        states={
            'readonly': _states['readonly'] | Eval('lines', [0]),
            },
        help="The currency of the sales, else the one in which "
        "unmatched goods are valued.")
    collection = fields.Selection([
            ('ship', "Shipped by Customer"),
            ('pickup', "Picked up by Us"),
            ], "Collection", required=True, states=_states,
        help="How the goods come back.")
    carrier_party = fields.Many2One(
        'party.party', "Carrier",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who carries the goods back.")
    tracking_number = fields.Char(
        "Tracking Number",
        help="The carrier's number of the parcel.")
    description = fields.Text(
        "Description", states=_states,
        help="The application in the customer's words.")
    lines = fields.One2Many(
        'return.order.line', 'order', "Lines",
        states={
            'readonly': (
                ~Eval('state').in_(['draft', 'submitted', 'reviewed'])
                | ~Eval('party') | ~Eval('company')),
            },
        help="What the customer returns and what is decided about it.")

    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="How many times the return was submitted: "
        "only the opinions of the current round count.")

    shipments = fields.Function(fields.Many2Many(
            'stock.shipment.out.return', None, None, "Return Shipments",
            help="The shipments by which the goods come back."),
        'get_shipments', searcher='search_shipments')
    dispositions = fields.Function(fields.Many2Many(
            'return.disposition', None, None, "Dispositions",
            help="Where the received goods go."),
        'get_dispositions')
    goods_settled = fields.Boolean(
        "Goods Settled", readonly=True,
        help="Checked when all goods have come and none waits "
        "for a decision or a shipment.")
    receipt_state = fields.Selection([
            ('none', "None"),
            ('waiting', "Waiting"),
            ('partial', "Partially Received"),
            ('received', "Received"),
            ('exception', "Exception"),
            ], "Receipt State", required=True, readonly=True, sort=False,
        help="How much of the goods has come.\n"
        "Exception: the warehouse cancelled what was asked for; "
        "ask again or close it.")

    submitted_by = employee_field(
        "Submitted by",
        states=['submitted', 'reviewed', 'approved', 'done', 'rejected'])
    cancelled_by = employee_field("Cancelled by", states=['cancelled'])

    state = fields.Selection([
            ('draft', "Draft"),
            ('submitted', "Submitted"),
            ('reviewed', "Reviewed"),
            ('approved', "Approved"),
            ('done', "Done"),
            ('rejected', "Rejected"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="The current state of the return.")
    state_string = state.translated('state')

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        cls.reference.search_unaccented = False
        cls.tracking_number.search_unaccented = False
        super().__setup__()
        cls.submitted_by.readonly = True
        cls.cancelled_by.readonly = True
        t = cls.__table__()
        cls._sql_constraints += [
            ('number_uniq', Unique(t, t.company, t.number),
                'return_management.msg_order_number_unique'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.party, Index.Range())),
                Index(
                    t, (t.applicant, Index.Range()),
                    where=t.applicant != Null),
                Index(t, (t.number, Index.Similarity())),
                Index(t, (t.reference, Index.Similarity())),
                Index(t, (t.tracking_number, Index.Similarity())),
                Index(t, (t.requested_at, Index.Range())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_([
                            'draft', 'submitted', 'reviewed', 'approved'])),
                Index(
                    t, (t.goods_settled, Index.Equality()),
                    where=t.state == 'rejected'),
                })
        cls._order = [('requested_at', 'DESC'), ('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'submitted'),
            ('draft', 'cancelled'),
            ('submitted', 'cancelled'),
            ('reviewed', 'cancelled'),
            ('approved', 'cancelled'),
            ('submitted', 'draft'),
            ('rejected', 'draft'),
            ('cancelled', 'draft'),
            ('approved', 'done'),
            ('done', 'approved'),
            }
        cls._buttons.update({
                'submit': {
                    'invisible': Eval('state') != 'draft',
                    'readonly': ~Eval('lines', []),
                    'depends': ['state', 'lines'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(
                        ['draft', 'submitted', 'reviewed', 'approved']),
                    'depends': ['state'],
                    },
                'draft': {
                    'invisible': ~Eval('state').in_(
                        ['submitted', 'rejected', 'cancelled']),
                    'icon': If(Eval('state') == 'submitted',
                        'tryton-back', 'tryton-undo'),
                    'depends': ['state'],
                    },
                'close_short': {
                    'invisible': ~Eval('receipt_state').in_(
                        ['waiting', 'partial', 'exception']),
                    'depends': ['receipt_state'],
                    },
                'ask_again': {
                    'invisible': Eval('receipt_state') != 'exception',
                    'depends': ['receipt_state'],
                    },
                'process': {
                    'invisible': ~Eval('state').in_(
                        ['approved', 'done', 'rejected']),
                    'icon': 'tryton-refresh',
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
    def default_currency(cls):
        pool = Pool()
        Company = pool.get('company.company')
        company_id = cls.default_company()
        if company_id is not None and company_id >= 0:
            return Company(company_id).currency.id

    @classmethod
    def default_channel(cls):
        return 'phone'

    @classmethod
    def default_collection(cls):
        return 'ship'

    @classmethod
    def default_requested_at(cls):
        return dt.datetime.now().replace(microsecond=0)

    @classmethod
    def default_round(cls):
        return 0

    @classmethod
    def default_goods_settled(cls):
        return False

    @classmethod
    def default_receipt_state(cls):
        return 'none'

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('company', 'currency')
    def on_change_company(self):
        if self.company and not self.currency:
            self.currency = self.company.currency

    @fields.depends('party', 'contact_address')
    def on_change_party(self):
        self.contact_address = (
            self.party.address_get() if self.party else None)

    @fields.depends(methods=['_set_from_sale'])
    def on_change_lines(self):
        self._set_from_sale()

    @fields.depends('lines', 'warehouse', 'currency')
    def _set_from_sale(self):
        for line in self.lines or []:
            sale_line = getattr(line, 'sale_line', None)
            if sale_line:
                self.currency = sale_line.sale.currency
                if not self.warehouse:
                    self.warehouse = sale_line.sale.warehouse
                break

    @property
    def requested_on(self):
        "The day of the application in the company's time zone"
        return get_local_date(self.company, self.requested_at)

    def get_shipments(self, name):
        return list(dict.fromkeys(
                m.shipment.id for l in self.lines for m in l.moves
                if m.shipment))

    @classmethod
    def search_shipments(cls, name, clause):
        nested = clause[0][len(name):]
        if not nested:
            nested = '.rec_name' if isinstance(clause[2], str) else '.id'
        return [('lines.moves.shipment' + nested, *clause[1:3],
                'stock.shipment.out.return', *clause[3:])]

    def get_dispositions(self, name):
        return [d.id for l in self.lines for d in l.dispositions]

    def get_rec_name(self, name):
        items = [self.number or '(%s)' % self.id]
        if self.reference:
            items.append('[%s]' % self.reference)
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
            ('reference', operator, value),
            ('party.rec_name', operator, value),
            ('lines.sale_line.sale.number', operator, value),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'cancelled', 'muted', '')),
            ('/tree/field[@name="receipt_state"]', 'visual',
                If(Eval('receipt_state') == 'exception', 'danger', '')),
            ]

    @classmethod
    def get_resources_to_copy(cls, name):
        return {'stock.shipment.out.return'}

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'submitted_at', 'submitted_by', 'cancelled_by',
                'tracking_number']:
            default.setdefault(name)
        default.setdefault('requested_at', cls.default_requested_at())
        default.setdefault('round', 0)
        default.setdefault('goods_settled', False)
        default.setdefault('receipt_state', 'none')
        return super().copy(orders, default=default)

    _guarded_fields = {
        'number', 'round', 'submitted_at', 'submitted_by', 'cancelled_by',
        'goods_settled', 'receipt_state', 'state'}
    # What a signature covers must not change behind it
    _signed_fields = {
        'company', 'party', 'applicant', 'channel', 'requested_at',
        'currency', 'collection', 'description', 'warehouse'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for orders, values in zip(actions, actions):
            if cls._signed_fields & set(values):
                for order in orders:
                    if order.state != 'draft':
                        raise AccessError(gettext(
                                'return_management.msg_order_modify',
                                order=order.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, orders):
        for order in orders:
            if order.state not in {'draft', 'cancelled'} or order.number:
                raise AccessError(gettext(
                        'return_management.msg_order_delete',
                        order=order.rec_name))
        super().delete(orders)

    @classmethod
    def _get_employee(cls, company):
        "Return the employee of the user who acts for the company"
        pool = Pool()
        User = pool.get('res.user')
        employee = User(Transaction().user).employee
        if not employee or employee.company != company:
            raise EmployeeError(gettext(
                    'return_management.msg_employee_required',
                    company=company.rec_name))
        return employee

    @classmethod
    def set_number(cls, orders):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        for company, c_orders in groupby(orders, key=lambda o: o.company):
            sequence = config.get_multivalue(
                'return_order_sequence', company=company.id)
            for order in c_orders:
                if not order.number:
                    order.number = sequence.get()
        cls.save(orders)

    @classmethod
    @ModelView.button
    @Workflow.transition('submitted')
    @set_employee('submitted_by')
    def submit(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        SaleLine = pool.get('sale.line')
        lines = [l for o in orders for l in o.lines]
        SaleLine.lock(SaleLine.browse(
                sorted({l.sale_line.id for l in lines if l.sale_line})))
        now = dt.datetime.now().replace(microsecond=0)
        for order in orders:
            order.check_submit()
            order._set_from_sale()
            if not order.warehouse:
                order.warehouse = order._get_warehouse()
            order.round += 1
            order.submitted_at = now
        cls._check_evidence(orders)
        Line.check_returnable(lines)
        cls.check_similar(orders)
        cls.set_number(orders)
        Line.set_policy(lines)
        # Automatic approval starts from the submitted state
        cls.write(orders, {'state': 'submitted'})
        cls._approve_automatically(orders)

    def _get_warehouse(self):
        pool = Pool()
        Location = pool.get('stock.location')
        warehouse = Location.get_default_warehouse()
        if not warehouse:
            raise RequiredValidationError(gettext(
                    'return_management.msg_order_warehouse_required',
                    order=self.rec_name))
        return warehouse

    def check_submit(self):
        if not self.lines:
            raise RequiredValidationError(gettext(
                    'return_management.msg_order_lines_required',
                    order=self.rec_name))
        self.check_party()
        self.check_requested()

    def check_requested(self):
        "Check that the customer applied after the sale and not in the future"
        first = max(
            (l.sale_line.sale.sale_date for l in self.lines if l.sale_line),
            default=None)
        if (self.requested_at > dt.datetime.now()
                or (first and self.requested_on < first)):
            raise RequestedError(gettext(
                    'return_management.msg_order_requested',
                    order=self.rec_name))

    def check_party(self):
        "Check that all sale lines belong to one customer, payer and currency"
        def key(sale):
            return (
                sale.company, sale.currency, sale.party,
                sale.invoice_party or sale.party)

        sales = list(dict.fromkeys(
                l.sale_line.sale for l in self.lines if l.sale_line))
        if not sales:
            return
        keys = {key(s) for s in sales}
        if (len(keys) > 1
                or sales[0].company != self.company
                or sales[0].party != self.party):
            raise PartyError(gettext(
                    'return_management.msg_order_party_different',
                    order=self.rec_name,
                    party=self.party.rec_name,
                    sales='\n'.join(
                        '%s: %s, %s, %s' % (
                            s.rec_name, s.party.rec_name,
                            (s.invoice_party or s.party).rec_name,
                            s.currency.code)
                        for s in sales)))

    @classmethod
    def _get_attachments(cls, orders):
        "Map the orders that have attachments to their names"
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        names = defaultdict(list)
        for sub_orders in grouped_slice(orders):
            for attachment in Attachment.search([
                        ('resource', 'in', list(map(str, sub_orders))),
                        ]):
                names[attachment.resource].append(attachment.name)
        return names

    @classmethod
    def _check_evidence(cls, orders):
        needed = [
            o for o in orders if any(l.reason.evidence for l in o.lines)]
        attachments = cls._get_attachments(needed)
        for order in needed:
            if order not in attachments:
                raise RequiredValidationError(gettext(
                        'return_management.msg_order_evidence_required',
                        order=order.rec_name,
                        reason=next(
                            l.reason.rec_name for l in order.lines
                            if l.reason.evidence)))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @set_employee('cancelled_by')
    def cancel(cls, orders):
        cls.lock(orders)
        for order in orders:
            order._check_undone()
        cls._cancel_shipments(orders)
        cls.write(orders, cls._reset_values())

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('submitted_by', 'cancelled_by')
    def draft(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        cls.lock(orders)
        for order in orders:
            order._check_undone()
        Line.reset([l for o in orders for l in o.lines])
        cls.write(orders, cls._reset_values())

    @classmethod
    def _reset_values(cls):
        "Return the values of orders with which nothing goes on"
        return {
            'receipt_state': 'none',
            'goods_settled': False,
            }

    def _check_undone(self):
        "Check that nothing has happened yet that cannot be taken back"
        if any(l.has_come for l in self.lines):
            raise CancelError(gettext(
                    'return_management.msg_order_received',
                    order=self.rec_name))

    @classmethod
    def _cancel_shipments(cls, orders):
        "Cancel the return shipments that nobody has received yet"
        pool = Pool()
        Shipment = pool.get('stock.shipment.out.return')
        shipments = [
            s for o in orders for s in o.shipments if s.state == 'draft']
        with Transaction().set_context(_return_order_cancel=True):
            Shipment.cancel(shipments)

    @classmethod
    @ModelView.button_action('return_management.wizard_order_close_short')
    def close_short(cls, orders):
        pass

    @classmethod
    @ModelView.button
    def ask_again(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        Line.write([l for o in orders for l in o.lines], {
                'cancelled_quantity': 0,
                })
        cls._queue_process(orders)

    @classmethod
    def _queue_process(cls, orders):
        if orders:
            transaction = Transaction()
            with transaction.set_context(
                    queue_batch=transaction.context.get('queue_batch', True)):
                cls.__queue__.process(orders)

    @classmethod
    @ModelView.button
    def process(cls, orders):
        orders = [
            o for o in orders
            if o.state in {'reviewed', 'approved', 'done', 'rejected'}]
        cls.lock(orders)
        cls._process(orders)

    @classmethod
    def _process(cls, orders):
        cls._create_return_shipments(
            [o for o in orders if o.state != 'rejected'])
        cls._process_dispositions(
            [o for o in orders if o.state != 'reviewed'])
        orders = cls.browse(orders)
        cls._process_goods_states(orders)
        cls._process_state(orders)

    @classmethod
    def _create_return_shipments(cls, orders):
        """Ask for what is still to come

        Keep one open draft shipment per order, shipment party and area.
        """
        pool = Pool()
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.out.return')

        to_save, to_drop, shipments, created = [], [], [], []
        for order in orders:
            new_moves = defaultdict(list)
            for line in order.lines:
                changed, dropped, moves = line._sync_receipts()
                to_save.extend(changed)
                to_drop.extend(dropped)
                if moves:
                    key = (line._get_shipment_party(), line._get_area())
                    new_moves[key].extend(moves)
            for (party, area), moves in new_moves.items():
                shipment = order._get_draft_shipment(party, area)
                if not shipment:
                    shipment = order._get_shipment(party, area)
                    created.append((order, shipment))
                shipment.moves = [*getattr(shipment, 'moves', []), *moves]
                shipments.append(shipment)
        Move.save(to_save)
        cls._drop_receipts(to_drop)
        Shipment.save(shipments)
        for order, shipment in created:
            order.copy_resources_to(shipment)

    @classmethod
    def _drop_receipts(cls, moves):
        pool = Pool()
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.out.return')
        emptied = [
            s for s in dict.fromkeys(m.shipment for m in moves)
            if all(m in moves for m in s.moves)]
        with Transaction().set_context(_return_order_cancel=True):
            Shipment.cancel(emptied)
        Move.delete([m for m in moves if m.shipment not in emptied])

    def _get_draft_shipment(self, party, area):
        for shipment in self.shipments:
            if (shipment.state == 'draft'
                    and shipment.customer == party
                    and shipment.warehouse_storage == area):
                return shipment

    def _get_shipment(self, party, area):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out.return')
        shipment = Shipment(
            company=self.company,
            customer=party,
            warehouse=self.warehouse,
            reference=self.number)
        if self.contact_address and self.contact_address.party == party:
            shipment.contact_address = self.contact_address
        else:
            shipment.contact_address = party.address_get()
        shipment.on_change_warehouse()
        shipment.warehouse_storage = area
        return shipment

    @classmethod
    def _process_dispositions(cls, orders):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Disposition.process([
                d for o in orders for l in o.lines for d in l.dispositions])

    def _goods_settled(self):
        "Test if nothing is to come, to be decided or to be moved"
        return (
            all(l._is_settled() for l in self.lines)
            and all(
                s.state in {'done', 'cancelled'} for s in self.shipments)
            and all(
                d.state in {'done', 'cancelled'}
                for l in self.lines for d in l.dispositions))

    def _is_done(self):
        "Test if an approved return has come to its end"
        return self._goods_settled()

    def _get_receipt_state(self):
        lines = [l for l in self.lines if l.goods_asked]
        if any(l.cancelled_quantity and l.missing_quantity for l in lines):
            return 'exception'
        received = any(l.has_come for l in self.lines)
        if any(l.missing_quantity for l in lines):
            return 'partial' if received else 'waiting'
        return 'received' if received else 'none'

    @classmethod
    def _process_goods_states(cls, orders):
        states, settled = defaultdict(list), defaultdict(list)
        for order in orders:
            state = order._get_receipt_state()
            if order.receipt_state != state:
                states[state].append(order)
            goods_settled = order._goods_settled()
            if order.goods_settled != goods_settled:
                settled[goods_settled].append(order)
        for state, s_orders in states.items():
            cls.write(s_orders, {'receipt_state': state})
            cls.log(s_orders, 'transition', f'receipt_state:{state}')
        for goods_settled, s_orders in settled.items():
            cls.write(s_orders, {'goods_settled': goods_settled})

    @classmethod
    def _process_state(cls, orders):
        to_do, to_reopen = [], []
        for order in orders:
            if order.state == 'approved' and order._is_done():
                to_do.append(order)
            elif order.state == 'done' and not order._is_done():
                to_reopen.append(order)
        cls._do(to_do)
        cls._reopen(to_reopen)

    @classmethod
    @Workflow.transition('done')
    def _do(cls, orders):
        pass

    @classmethod
    @Workflow.transition('approved')
    def _reopen(cls, orders):
        pass
