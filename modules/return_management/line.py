# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from sql.aggregate import Sum
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import Check, Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import AccessError
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits, round_price
from trytond.pool import Pool
from trytond.pyson import Bool, Eval, Id, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import (
    AreaError, PartyError, ReceiptError, ReturnableError)
from .model import GuardedMixin


class Line(GuardedMixin, ModelSQL, ModelView):
    "Return Order Line"
    __name__ = 'return.order.line'

    _states = {
        'readonly': Eval('order_state') != 'draft',
        }
    _states_matched = {
        'readonly': (
            (Eval('order_state') != 'draft') | Bool(Eval('sale_line'))),
        }

    order = fields.Many2One(
        'return.order', "Order", required=True, ondelete='CASCADE',
        states={
            'readonly': _states['readonly'] & Bool(Eval('order')),
            })
    sale_line = fields.Many2One(
        'sale.line', "Sale Line", ondelete='RESTRICT',
        domain=[
            ('type', '=', 'line'),
            ('quantity', '>', 0),
            ('sale.company', '=', Eval('company', -1)),
            If(Eval('order_state') == 'draft', [
                    ('sale.party', '=', Eval('party', -1)),
                    ('sale.state', 'in', ['confirmed', 'processing', 'done']),
                    ], []),
            ],
        states=_states,
        help="The delivered sale line whose goods come back.\n"
        "Leave empty when no sale can be found: the line is unmatched and "
        "can only be credited as goodwill.")
    matched = fields.Function(
        fields.Boolean("Matched"), 'on_change_with_matched')
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT',
        domain=[
            If(Eval('sale_line'),
                ('id', '=', Eval('_parent_sale_line', {}).get('product', -1)),
                ()),
            ],
        states=_states_matched,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    product_uom_category = fields.Function(
        fields.Many2One('product.uom.category', "Product UoM Category"),
        'on_change_with_product_uom_category')
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, ondelete='RESTRICT',
        domain=[
            If(Eval('sale_line'),
                ('id', '=', Eval('_parent_sale_line', {}).get('unit', -1)),
                If(Bool(Eval('product_uom_category')),
                    ('category', '=', Eval('product_uom_category', -1)),
                    ())),
            ],
        states=_states_matched,
        help="The unit of all quantities of the line: that of the sale line.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        domain=[
            ('quantity', '>', 0),
            ],
        states=_states,
        help="The quantity that the customer announced.")
    goods_expected = fields.Boolean(
        "Goods Expected", states=_states,
        help="Uncheck when nothing will come back: lost in transport, "
        "kept by the customer.")
    reason = fields.Many2One(
        'return.reason', "Reason", required=True, ondelete='RESTRICT',
        states=_states,
        help="Why the customer returns the goods.")
    note = fields.Text("Note")
    unit_price = Monetary(
        "Unit Price", currency='currency', digits=price_digits,
        states={
            'readonly': (
                Bool(Eval('sale_line'))
                | ~Eval('order_state').in_(
                    ['draft', 'submitted', 'reviewed'])
                | ((Eval('order_state') != 'draft')
                    & ~Id('return_management', 'group_return_finance').in_(
                        Eval('context', {}).get('groups', [])))),
            },
        help="The price per unit, without tax: that of the sale line.\n"
        "For an unmatched line the goodwill that finance grants per unit.")
    amount = fields.Function(Monetary(
            "Amount", currency='currency', digits='currency',
            help="The announced goods at their sale price, without tax, "
            "before any rounding of the invoice."),
        'on_change_with_amount')
    approved_quantity = fields.Float(
        "Approved", digits='unit',
        domain=['OR',
            ('approved_quantity', '=', None),
            [
                ('approved_quantity', '>=', 0),
                ('approved_quantity', '<=', Eval('quantity', 0)),
                ],
            ],
        states={
            'readonly': ~Eval('order_state').in_(['submitted', 'reviewed']),
            'invisible': Eval('order_state') == 'draft',
            },
        help="The quantity agreed to by the final review.\n"
        "Leave empty to agree to all; the rest is refused.")
    received_quantity = fields.Function(fields.Float(
            "Received", digits='unit',
            help="What has come in from the customer."),
        'get_quantities')
    closed_quantity = fields.Float(
        "Closed", digits='unit', required=True, readonly=True,
        help="The announced quantity that will not come any more: "
        "closed short or refused before it was received.")
    cancelled_quantity = fields.Float(
        "Cancelled", digits='unit', required=True, readonly=True,
        help="The quantity of return shipments that the warehouse "
        "cancelled, until it is asked for again or closed.")
    missing_quantity = fields.Function(fields.Float(
            "Missing", digits='unit',
            help="Announced, neither received nor closed."),
        'get_quantities')
    accepted_quantity = fields.Function(fields.Float(
            "Accepted", digits='unit',
            help="The received quantity that is decided "
            "in favour of the customer."),
        'get_quantities')
    rejected_quantity = fields.Function(fields.Float(
            "Rejected", digits='unit',
            help="The received quantity that is decided "
            "against the customer."),
        'get_quantities')
    undecided_quantity = fields.Function(fields.Float(
            "Undecided", digits='unit',
            help="Received, neither accepted nor rejected."),
        'get_quantities')
    sent_back_quantity = fields.Function(fields.Float(
            "Sent Back", digits='unit',
            help="What has gone back to the customer."),
        'get_quantities')
    open_quantity = fields.Function(fields.Float(
            "Open", digits='unit',
            help="Announced, neither closed nor rejected."),
        'get_quantities')
    moves = fields.One2Many(
        'stock.move', 'origin', "Receipts", readonly=True,
        filter=[('from_location.type', '=', 'customer')])
    dispositions = fields.One2Many(
        'return.disposition', 'line', "Dispositions",
        states={
            'readonly': ~Eval('order_state').in_(
                ['reviewed', 'approved', 'done']),
            })
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company')
    party = fields.Function(
        fields.Many2One(
            'party.party', "Customer",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'on_change_with_party', searcher='search_order_field')
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    order_state = fields.Function(
        fields.Selection('get_order_states', "Order State"),
        'on_change_with_order_state', searcher='search_order_state')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('order')
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_line_quantity_positive'),
            ('closed_quantity_range',
                Check(t,
                    (t.closed_quantity >= 0)
                    & (t.closed_quantity <= t.quantity)),
                'return_management.msg_line_closed_quantity'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.sale_line, Index.Range())),
                Index(t, (t.product, Index.Range())),
                })

    @classmethod
    def default_goods_expected(cls):
        return True

    @classmethod
    def default_closed_quantity(cls):
        return 0

    @classmethod
    def default_cancelled_quantity(cls):
        return 0

    @fields.depends(
        'sale_line', '_parent_sale_line.product', '_parent_sale_line.unit',
        '_parent_sale_line.unit_price', methods=['on_change_product'])
    def on_change_sale_line(self):
        if self.sale_line:
            for name, value in self._get_sale_values(self.sale_line).items():
                setattr(self, name, value)
            self.on_change_product()

    @classmethod
    def _get_sale_values(cls, sale_line):
        return {
            'product': sale_line.product,
            'unit': sale_line.unit,
            'unit_price': sale_line.unit_price,
            }

    @fields.depends('product', 'unit')
    def on_change_product(self):
        if self.product:
            self.goods_expected = self._is_goods(self.product)
            if (not self.unit
                    or self.unit.category
                    != self.product.default_uom.category):
                self.unit = self.product.sale_uom or self.product.default_uom

    @classmethod
    def _is_goods(cls, product):
        pool = Pool()
        Move = pool.get('stock.move')
        return product.type in Move.get_product_types()

    @fields.depends('sale_line', '_parent_sale_line.id')
    def on_change_with_matched(self, name=None):
        return bool(self.sale_line)

    @fields.depends('product')
    def on_change_with_product_uom_category(self, name=None):
        return self.product.default_uom_category if self.product else None

    @fields.depends('quantity', 'unit_price', 'currency')
    def on_change_with_amount(self, name=None):
        amount = (
            Decimal(str(self.quantity or 0)) * (self.unit_price or Decimal(0)))
        if self.currency:
            amount = self.currency.round(amount)
        return amount

    @fields.depends('order', '_parent_order.company')
    def on_change_with_company(self, name=None):
        return self.order.company if self.order else None

    @fields.depends('order', '_parent_order.party')
    def on_change_with_party(self, name=None):
        return self.order.party if self.order else None

    @fields.depends('order', '_parent_order.currency')
    def on_change_with_currency(self, name=None):
        return self.order.currency if self.order else None

    @classmethod
    def get_order_states(cls):
        pool = Pool()
        Order = pool.get('return.order')
        return Order.fields_get(['state'])['state']['selection']

    @fields.depends('order', '_parent_order.state')
    def on_change_with_order_state(self, name=None):
        if self.order:
            return self.order.state

    @classmethod
    def search_order_state(cls, name, clause):
        return [('order.state', *clause[1:])]

    @classmethod
    def search_order_field(cls, name, clause):
        return [('order.' + clause[0], *clause[1:])]

    @classmethod
    def get_quantities(cls, lines, names):
        received = cls._get_received(lines)
        sent_back = cls._get_sent_back(lines)
        decided = cls._get_decided(lines)
        quantities = {n: {} for n in names}
        for line in lines:
            values = {
                'received_quantity': line._count(received[line.id]),
                'sent_back_quantity': line._count(sent_back[line.id]),
                }
            values['accepted_quantity'] = decided[line.id, True]
            values['rejected_quantity'] = decided[line.id, False]
            values['missing_quantity'] = (
                line.quantity - line.closed_quantity
                - values['received_quantity']) if line.expects_goods else 0
            values['undecided_quantity'] = (
                values['received_quantity']
                - values['accepted_quantity'] - values['rejected_quantity'])
            values['open_quantity'] = (
                line.quantity - line.closed_quantity
                - values['rejected_quantity'])
            for name in names:
                quantities[name][line.id] = line.unit.round(values[name])
        return quantities

    def _count(self, quantities):
        """Return how many of the line the quantities of products make

        quantities maps the ids of products to quantities in their default
        unit.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        return Uom.compute_qty(
            self.product.default_uom, quantities[self.product.id], self.unit)

    @classmethod
    def _get_received(cls, lines):
        "Map the id of lines to what came in, by product in its default unit"
        pool = Pool()
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        cursor = Transaction().connection.cursor()
        line = cls.__table__()
        location = Location.__table__()
        move = Move.__table__()
        received = defaultdict(lambda: defaultdict(float))
        for sub_lines in grouped_slice(lines):
            cursor.execute(*line
                .join(move, condition=(
                        move.origin == Concat(cls.__name__ + ',', line.id)))
                .join(location, condition=move.from_location == location.id)
                .select(line.id, move.product, Sum(move.internal_quantity),
                    where=line.id.in_(list(map(int, sub_lines)))
                    & (move.state == 'done')
                    & (location.type == 'customer'),
                    group_by=[line.id, move.product]))
            for line_id, product_id, quantity in cursor:
                received[line_id][product_id] = quantity
        return received

    @classmethod
    def _get_sent_back(cls, lines):
        "Map the id of lines to what went back, as what came in"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        cursor = Transaction().connection.cursor()
        disposition = Disposition.__table__()
        location = Location.__table__()
        move = Move.__table__()
        sent_back = defaultdict(lambda: defaultdict(float))
        for sub_lines in grouped_slice(lines):
            cursor.execute(*disposition
                .join(move, condition=move.origin == Concat(
                        Disposition.__name__ + ',', disposition.id))
                .join(location, condition=move.to_location == location.id)
                .select(
                    disposition.line, move.product,
                    Sum(move.internal_quantity),
                    where=disposition.line.in_(list(map(int, sub_lines)))
                    & (move.state == 'done')
                    & (location.type == 'customer'),
                    group_by=[disposition.line, move.product]))
            for line_id, product_id, quantity in cursor:
                sent_back[line_id][product_id] = quantity
        return sent_back

    @classmethod
    def _get_decided(cls, lines):
        "Map (id, accepted) of lines to the quantity in their unit"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        cursor = Transaction().connection.cursor()
        disposition = Disposition.__table__()
        decided = defaultdict(float)
        for sub_lines in grouped_slice(lines):
            cursor.execute(*disposition.select(
                    disposition.line, disposition.accepted,
                    Sum(disposition.quantity),
                    where=disposition.line.in_(list(map(int, sub_lines)))
                    & (disposition.state != 'cancelled'),
                    group_by=[disposition.line, disposition.accepted]))
            for line_id, accepted, quantity in cursor:
                decided[line_id, bool(accepted)] = quantity
        return decided

    @property
    def expects_goods(self):
        "Whether goods are to come back for the line"
        return self.goods_expected and self._is_goods(self.product)

    @property
    def goods_asked(self):
        "Whether the customer is asked to send the goods, or has sent them"
        if not self.expects_goods:
            return False
        state = self.order.state
        return (
            state in {'approved', 'done'}
            or (state == 'reviewed' and self.reason.inspect)
            or self.has_come)

    @property
    def has_come(self):
        "Whether any goods of the line have come in"
        return bool(self.received_quantity)

    def get_rec_name(self, name):
        return ' @ '.join([self.product.rec_name, self.order.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('product.rec_name', *clause[1:]),
            ('order.rec_name', *clause[1:]),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="sale_line"]', 'visual',
                If(~Eval('matched', True), 'warning', '')),
            ]

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Order = pool.get('return.order')
        Product = pool.get('product.product')
        SaleLine = pool.get('sale.line')
        vlist = [v.copy() for v in vlist]
        sale_lines = {
            l.id: l for l in SaleLine.browse(list({
                        int(v['sale_line'])
                        for v in vlist if v.get('sale_line')}))}
        for values in vlist:
            if values.get('sale_line'):
                defaults = cls._get_sale_values(
                    sale_lines[int(values['sale_line'])])
                for name, value in defaults.items():
                    values[name] = getattr(value, 'id', value)
        goods = {
            p.id for p in Product.browse(list({
                        int(v['product'])
                        for v in vlist if v.get('product')}))
            if cls._is_goods(p)}
        for values in vlist:
            if values.get('product') and int(values['product']) not in goods:
                values['goods_expected'] = False
            if (Transaction().check_access
                    and values.get('approved_quantity') is not None):
                cls._check_guarded({'approved_quantity'})
        cls._check_draft(Order.browse(list({
                        int(v['order']) for v in vlist if v.get('order')})))
        return super().create(vlist)

    _guarded_fields = {
        'closed_quantity', 'cancelled_quantity', 'moves'}
    _signed_fields = {
        'order', 'sale_line', 'product', 'unit', 'quantity', 'reason',
        'goods_expected'}

    @classmethod
    def write(cls, *args):
        pool = Pool()
        Order = pool.get('return.order')
        actions = iter(args)
        for lines, values in zip(actions, actions):
            if cls._signed_fields & set(values):
                cls._check_draft([l.order for l in lines])
            if values.get('order'):
                cls._check_draft(Order.browse([values['order']]))
            if Transaction().check_access:
                if 'unit_price' in values:
                    cls._check_price(lines)
                if 'approved_quantity' in values:
                    cls._check_signable(lines)
        super().write(*args)

    @classmethod
    def delete(cls, lines):
        cls._check_draft([l.order for l in lines])
        super().delete(lines)

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        for name in ['approved_quantity', 'moves', 'dispositions']:
            default.setdefault(name)
        default.setdefault('closed_quantity', 0)
        default.setdefault('cancelled_quantity', 0)
        return super().copy(lines, default=default)

    @classmethod
    def _check_draft(cls, orders):
        for order in orders:
            if order.number and order.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_order_modify',
                        order=order.rec_name))

    @classmethod
    def _check_price(cls, lines):
        "Check that only finance prices goods after they were applied for"
        pool = Pool()
        Order = pool.get('return.order')
        for line in lines:
            if line.order.state == 'draft':
                continue
            if 'finance' not in Order._get_user_roles() or line.sale_line:
                raise AccessError(gettext(
                        'return_management.msg_line_price_finance',
                        line=line.rec_name))
        cls._check_unsigned(lines, 'final')

    @classmethod
    def _check_signable(cls, lines):
        "Check that what is agreed to may still change"
        for line in lines:
            if line.order.state not in {'submitted', 'reviewed'}:
                cls._check_guarded({'approved_quantity'})
        cls._check_unsigned(lines, 'final')

    @classmethod
    def _check_unsigned(cls, lines, stage):
        for order in dict.fromkeys(l.order for l in lines):
            if any(o.round == order.round and o.stage == stage
                    and o.decision == 'agree' for o in order.opinions):
                raise AccessError(gettext(
                        'return_management.msg_order_signed',
                        order=order.rec_name))

    @classmethod
    def check_returnable(cls, lines):
        "Check that no more is announced than can still be returned"
        pool = Pool()
        Lang = pool.get('ir.lang')
        SaleLine = pool.get('sale.line')
        announced = defaultdict(float)
        for line in lines:
            if line.sale_line:
                announced[line.sale_line] += line.quantity
        sale_lines = SaleLine.browse(list(announced))
        lang = Lang.get()
        for sale_line in sale_lines:
            quantity = announced[sale_line]
            returnable = sale_line.returnable_quantity
            if sale_line.unit.round(quantity - returnable) > 0:
                raise ReturnableError(gettext(
                        'return_management.msg_line_over_return',
                        line=sale_line.rec_name,
                        quantity=lang.format_number_symbol(
                            quantity, sale_line.unit,
                            digits=sale_line.unit.digits),
                        returnable=lang.format_number_symbol(
                            returnable, sale_line.unit,
                            digits=sale_line.unit.digits)))

    @classmethod
    def apply_approved(cls, lines):
        """Refuse what the final review does not agree to

        Return the quantities refused, by line.
        """
        refused = {}
        for line in lines:
            open_ = line.open_quantity
            if line.approved_quantity is None:
                line.approved_quantity = open_
            elif line.approved_quantity > open_:
                line.approved_quantity = open_
            elif line.approved_quantity < open_:
                refused[line] = line.unit.round(
                    open_ - line.approved_quantity)
        cls.save(lines)
        cls.refuse(refused)
        return refused

    @classmethod
    def check_refused(cls, quantities):
        for line, quantity in quantities.items():
            if not 0 <= quantity <= line.open_quantity:
                raise ReceiptError(gettext(
                        'return_management.msg_line_refused_quantity',
                        line=line.rec_name))

    @classmethod
    def refuse(cls, quantities):
        """Decide quantities of lines against the customer

        What has not come is closed, what has come goes back.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        User = pool.get('res.user')
        employee = User(Transaction().user).employee
        dispositions, to_save, to_cancel = [], [], []
        for line, quantity in quantities.items():
            if line.expects_goods:
                closed = min(quantity, max(line.missing_quantity, 0))
            else:
                closed = quantity
            line.closed_quantity = line.unit.round(
                line.closed_quantity + closed)
            rest = line.unit.round(quantity - closed)
            if rest > 0:
                reduced, cancelled = line._release(
                    rest - line.undecided_quantity)
                to_save.extend(reduced)
                to_cancel.extend(cancelled)
                dispositions.append(Disposition(
                        line=line, action='customer', accepted=False,
                        quantity=rest, state='decided',
                        decided_by=employee))
        Disposition.cancel(to_cancel)
        Disposition.save(to_save)
        cls.save(list(quantities))
        Disposition.save(dispositions)

    def _release(self, quantity):
        """Return the dispositions to reduce and those to cancel

        So that the quantity, which was accepted, is free; the last ones give
        way first.
        """
        reduced, cancelled = [], []
        for disposition in sorted(self.dispositions, key=int, reverse=True):
            if quantity <= 0:
                break
            if not disposition.accepted or not disposition.is_free:
                continue
            freed = min(quantity, disposition.line_quantity)
            if freed == disposition.quantity:
                cancelled.append(disposition)
            else:
                disposition.quantity = self.unit.round(
                    disposition.quantity - freed)
                reduced.append(disposition)
            quantity = self.unit.round(quantity - freed)
        return reduced, cancelled

    @classmethod
    def close_short(cls, quantities):
        "Give up waiting for quantities of lines"
        pool = Pool()
        Order = pool.get('return.order')
        Order.lock(sorted({l.order for l in quantities}, key=int))
        for line, quantity in quantities.items():
            if (not line.goods_asked
                    or not 0 <= quantity <= line.missing_quantity):
                raise ReceiptError(gettext(
                        'return_management.msg_line_close_quantity',
                        line=line.rec_name))
            line.closed_quantity = line.unit.round(
                line.closed_quantity + quantity)
            line.cancelled_quantity = max(
                0, line.unit.round(line.cancelled_quantity - quantity))
        cls.save(list(quantities))
        Order._queue_process(list(dict.fromkeys(l.order for l in quantities)))

    @classmethod
    def reset(cls, lines):
        "Forget the decisions of the round"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Disposition.cancel([d for l in lines for d in l.dispositions])
        cls.write(lines, {
                'approved_quantity': None,
                'closed_quantity': 0,
                'cancelled_quantity': 0,
                })

    def _needs_inspection(self):
        "Test if the received goods must be inspected before a decision"
        return self.reason.inspect or bool(
            self.policy_line and self.policy_line.inspection)

    def _get_accepted_quantity(self):
        return self.accepted_quantity

    def _get_refundable_quantity(self, disputed=True):
        """Return the quantity whose money may go back, in the line's unit

        It follows the timing of the policy and never exceeds what the final
        review approved; what was rejected or goes back to the customer is
        not paid for, neither is what is in dispute unless disputed is unset.
        """
        if self.order.state not in {'approved', 'done'}:
            return 0
        given_back = sum(
            d.line_quantity for d in self.dispositions
            if d.accepted and d.action == 'customer'
            and d.state != 'cancelled')
        quantity = min(
            self.approved_quantity or 0,
            self.open_quantity - given_back
            - (self._get_disputed_quantity() if disputed else 0))
        timing = self._get_refund_timing()
        if self.expects_goods and timing == 'receipt':
            quantity = min(
                quantity, self.received_quantity - self.rejected_quantity
                - given_back)
        elif self.expects_goods and timing == 'inspection':
            quantity = min(
                quantity, self._get_accepted_quantity() - given_back)
        return max(0, self.unit.round(quantity))

    def _get_disputed_quantity(self):
        "Return the quantity that did not come as announced"
        return 0

    def _is_settled(self):
        "Test if nothing is to come nor to be decided"
        return not self.missing_quantity and not self.undecided_quantity

    def _get_shipment_party(self):
        if self.sale_line:
            sale = self.sale_line.sale
            return sale.shipment_party or sale.party
        return self.order.party

    def _get_area(self):
        """Return the location where the goods of the line are kept

        It is outside the storage zone; quality returns are apart.
        """
        return self._get_received_location() or self._get_return_area()

    def _get_received_location(self):
        "Return the location where goods of the line were put, or None"
        for move in self.moves:
            if move.state == 'done' and move.shipment:
                return move.shipment.warehouse_storage

    def _get_return_area(self):
        if self.reason.category == 'quality' or self._needs_inspection():
            return self.order.warehouse.get_return_area('quarantine_location')
        return self.order.warehouse.get_return_area('return_location')

    @classmethod
    def check_goods(cls, lines):
        "Check that the goods of lines can be asked for"
        for line in lines:
            if not line.expects_goods or not line.missing_quantity:
                continue
            line._get_area()
            party = line._get_shipment_party()
            if not party.customer_location:
                raise PartyError(gettext(
                        'return_management.msg_customer_location_required',
                        party=party.rec_name))

    def check_area(self, location):
        "Check that the goods are put into the area of the line"
        area = self._get_received_location() or self._get_return_area()
        if not location.is_inside(area):
            raise AreaError(gettext(
                    'return_management.msg_line_area',
                    line=self.rec_name,
                    area=area.rec_name,
                    location=location.rec_name))

    def _sync_receipts(self):
        "Return the draft moves to save, those to drop and the new ones"
        pool = Pool()
        Shipment = pool.get('stock.shipment.out.return')
        Uom = pool.get('product.uom')
        to_save, to_drop, new = [], [], []
        if not self.goods_asked:
            return to_save, to_drop, new
        drafts = [
            m for m in self.moves
            if m.state == 'draft' and isinstance(m.shipment, Shipment)]
        difference = self.unit.round(
            max(0, self.missing_quantity - self.cancelled_quantity)
            - self._count_moves(drafts))
        if difference > 0 and not drafts:
            new.append(self._get_move(difference))
        elif difference < 0:
            # Less than missing is what the warehouse counted
            for move in drafts:
                quantity = Uom.compute_qty(
                    move.unit, move.quantity, self.unit) + difference
                difference = min(0, quantity)
                if quantity > 0:
                    move.unit = self.unit
                    move.quantity = self.unit.round(quantity)
                    to_save.append(move)
                    break
                to_drop.append(move)
        return to_save, to_drop, new

    def _count_moves(self, moves):
        "Return how many of the line the receipts bring"
        pool = Pool()
        Uom = pool.get('product.uom')
        return sum(
            Uom.compute_qty(m.unit, m.quantity, self.unit) for m in moves)

    def _is_over_receipt(self, moves):
        "Test if the receipts would bring more than is to come"
        missing = self.missing_quantity if self.goods_asked else 0
        return self.unit.round(self._count_moves(moves) - missing) > 0

    def _get_counted_receipts(self, drafts, parts):
        """Return the receipts of what was counted

        drafts are those to use first; parts are the values of what was
        counted apart, with the quantity in the unit of the line.
        """
        moves = []
        for i, values in enumerate(parts):
            move = drafts[i] if i < len(drafts) else self._get_move(0)
            move.unit = self.unit
            for name, value in values.items():
                setattr(move, name, value)
            moves.append(move)
        return moves

    def _get_move(self, quantity):
        "Return the receipt from the customer"
        pool = Pool()
        Move = pool.get('stock.move')
        party = self._get_shipment_party()
        return Move(
            origin=self,
            product=self.product,
            unit=self.unit,
            quantity=quantity,
            from_location=party.customer_location,
            to_location=self.order.warehouse.input_location,
            company=self.order.company,
            unit_price=round_price(self.unit_price),
            currency=self.order.currency,
            state='draft')

    def get_original_cost(self, product=None):
        """Return the cost the product left with, per default unit

        That of the line when none is given; in the company's currency, None
        when it was never delivered or its cost is fixed.
        """
        pool = Pool()
        SaleLine = pool.get('sale.line')
        product = product or self.product
        method = product.get_multivalue(
            'cost_price_method', company=self.order.company.id)
        if self.sale_line and method != 'fixed':
            costs = SaleLine.get_delivered_costs([self.sale_line])
            return costs.get((self.sale_line, product))

    def get_received_cost(self, product):
        "Return the cost the product came in with, per default unit, or None"
        quantity = cost = Decimal(0)
        for move in self.moves:
            if (move.state == 'done'
                    and move.product == product
                    and move.booked_cost_price is not None):
                move_quantity = Decimal(str(move.internal_quantity))
                quantity += move_quantity
                cost += move.booked_cost_price * move_quantity
        if quantity:
            return round_price(cost / quantity)


class CloseShort(Wizard):
    "Close Return Short"
    __name__ = 'return.order.close_short'

    start = StateView(
        'return.order.close_short.start',
        'return_management.order_close_short_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Close", 'close', 'tryton-ok', default=True),
            ])
    close = StateTransition()

    def default_start(self, fields):
        return {
            'lines': [{
                    'line': l.id,
                    'unit': l.unit.id,
                    'missing_quantity': l.missing_quantity,
                    'quantity': l.missing_quantity,
                    } for l in self.record.lines
                if l.goods_asked and l.missing_quantity],
            }

    def transition_close(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        Line.close_short({
                l.line: l.quantity for l in self.start.lines
                if l.quantity and l.line in self.record.lines})
        return 'end'


class CloseShortStart(ModelView):
    "Close Return Short"
    __name__ = 'return.order.close_short.start'

    lines = fields.One2Many(
        'return.order.close_short.start.line', None, "Lines",
        help="Lower the quantity of what may still come.")


class CloseShortStartLine(ModelView):
    "Close Return Short"
    __name__ = 'return.order.close_short.start.line'

    line = fields.Many2One('return.order.line', "Line", readonly=True)
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    missing_quantity = fields.Float(
        "Missing", digits='unit', readonly=True,
        help="Announced, neither received nor closed.")
    quantity = fields.Float(
        "Close", digits='unit', required=True,
        domain=[
            ('quantity', '>=', 0),
            ('quantity', '<=', Eval('missing_quantity', 0)),
            ],
        help="The quantity that will not come any more.")
