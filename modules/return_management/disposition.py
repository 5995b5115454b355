# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, ModelSQL, ModelView, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    employee_field, reset_employee, set_employee)
from trytond.pool import Pool
from trytond.pyson import Eval, If
from trytond.transaction import Transaction

from .exceptions import AreaError, DispositionError
from .model import GuardedMixin


class Disposition(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Disposition"
    __name__ = 'return.disposition'

    _states = {
        'readonly': Eval('state') != 'draft',
        }

    line = fields.Many2One(
        'return.order.line', "Return Line", required=True,
        ondelete='RESTRICT', states=_states,
        help="The received goods that are decided about.")
    action = fields.Selection([
            ('restock', "Back to Stock"),
            ('resale', "Resale"),
            ('customer', "Back to Customer"),
            ], "Action", required=True, sort=False, states=_states,
        help="Where the goods go.")
    action_string = action.translated('action')
    accepted = fields.Boolean(
        "Accepted", states=_states,
        help="Checked if the return is decided in favour of the customer, "
        "wherever the goods go.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, states=_states,
        help="The part of the received quantity, in the unit of the line.")
    grade = fields.Selection([
            (None, ""),
            ('a', "A: as new"),
            ('b', "B: used"),
            ('c', "C: defective"),
            ], "Grade", sort=False, states=_states,
        help="The condition of the goods.")
    note = fields.Text("Note")
    moves = fields.One2Many(
        'stock.move', 'origin', "Moves", readonly=True)
    shipments = fields.Function(
        fields.Char("Shipments"), 'get_shipments')
    decided_by = employee_field(
        "Decided by", states=['decided', 'waiting', 'done', 'cancelled'])
    state = fields.Selection([
            ('draft', "Draft"),
            ('decided', "Decided"),
            ('waiting', "Waiting"),
            ('done', "Done"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Decided: a shipment follows when the return is approved.\n"
        "Waiting: the warehouse has to post the shipment.")
    order = fields.Function(
        fields.Many2One('return.order', "Order"),
        'on_change_with_order', searcher='search_order')
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    product = fields.Function(
        fields.Many2One(
            'product.product', "Product",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'on_change_with_product', searcher='search_product')
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.decided_by.readonly = True
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_disposition_quantity_positive'),
            ]
        cls._sql_indexes.add(
            Index(
                t, (t.state, Index.Equality()),
                where=t.state.in_(['draft', 'decided', 'waiting'])))
        cls._transitions |= {
            ('draft', 'decided'),
            ('decided', 'draft'),
            ('decided', 'waiting'),
            ('waiting', 'done'),
            ('waiting', 'draft'),
            ('draft', 'cancelled'),
            ('decided', 'cancelled'),
            }
        cls._buttons.update({
                'decide': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'draft': {
                    'invisible': Eval('state') != 'decided',
                    'depends': ['state'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(['draft', 'decided']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_accepted(cls):
        return True

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('line', '_parent_line.undecided_quantity')
    def on_change_line(self):
        if self.line:
            self.quantity = self.line.undecided_quantity

    @fields.depends('action')
    def on_change_action(self):
        self.accepted = self.action != 'customer'

    @fields.depends('line', '_parent_line.order')
    def on_change_with_order(self, name=None):
        return self.line.order if self.line else None

    @fields.depends('line', '_parent_line.order')
    def on_change_with_company(self, name=None):
        return self.line.order.company if (
            self.line and self.line.order) else None

    @fields.depends('line', '_parent_line.product')
    def on_change_with_product(self, name=None):
        return self.line.product if self.line else None

    @fields.depends('line', '_parent_line.unit')
    def on_change_with_unit(self, name=None):
        return self.line.unit if self.line else None

    @classmethod
    def search_order(cls, name, clause):
        return [('line.' + clause[0], *clause[1:])]

    search_product = search_order

    @classmethod
    def search_company(cls, name, clause):
        return [('line.order.' + clause[0], *clause[1:])]

    def get_shipments(self, name):
        return ', '.join(dict.fromkeys(
                m.shipment.rec_name for m in self.moves if m.shipment))

    def get_rec_name(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        return '%s %s' % (
            lang.format_number_symbol(
                self.quantity, self.unit, digits=self.unit.digits),
            self.line.rec_name)

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('line.rec_name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'cancelled', 'muted', '')),
            ]

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('moves')
        default.setdefault('decided_by')
        return super().copy(dispositions, default=default)

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        vlist = [v.copy() for v in vlist]
        lines = {
            l.id: l for l in Line.browse(list({
                        int(v['line']) for v in vlist if v.get('line')}))}
        for values in vlist:
            if values.get('line'):
                line = lines[int(values['line'])]
                if not values.get('action'):
                    values['action'] = line._get_default_action()
                values.setdefault('accepted', cls._get_default_accepted(
                        line, values['action']))
        # What is undecided is decided only once
        Order.lock(sorted({l.order for l in lines.values()}, key=int))
        return super().create(vlist)

    @classmethod
    def _get_default_accepted(cls, line, action):
        "Return in whose favour the action decides by default"
        return action != 'customer'

    _guarded_fields = {'decided_by', 'moves', 'state'}
    _decided_fields = {'line', 'action', 'accepted', 'quantity', 'grade'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for dispositions, values in zip(actions, actions):
            if (Transaction().check_access
                    and cls._decided_fields & set(values)):
                for disposition in dispositions:
                    if disposition.state != 'draft':
                        raise AccessError(gettext(
                                'return_management.msg_disposition_modify',
                                disposition=disposition.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, dispositions):
        for disposition in dispositions:
            if disposition.state not in {'draft', 'cancelled'} or (
                    disposition.moves):
                raise AccessError(gettext(
                        'return_management.msg_disposition_modify',
                        disposition=disposition.rec_name))
        super().delete(dispositions)

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if field_names & {'line', 'quantity', 'accepted', 'state'}:
            cls.check_quantity(dispositions)
        if field_names & {'line', 'action', 'accepted'}:
            cls.check_action(dispositions)

    @classmethod
    def check_quantity(cls, dispositions):
        "Check that no more is decided than was received"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.browse(list({
                    d.line.id for d in dispositions
                    if d.state != 'cancelled'}))
        for line in lines:
            if line.undecided_quantity < 0:
                raise DispositionError(gettext(
                        'return_management.msg_disposition_quantity',
                        line=line.rec_name))

    @classmethod
    def check_action(cls, dispositions):
        "Check that the goods may go there"
        for disposition in dispositions:
            if (disposition.order.state == 'rejected'
                    and (disposition.accepted
                        or disposition.action
                        not in cls._rejected_actions())):
                raise DispositionError(gettext(
                        'return_management.msg_disposition_rejected',
                        disposition=disposition.rec_name,
                        order=disposition.order.rec_name))
            reason = disposition.line.reason
            if disposition.action in reason.all_forbidden_actions:
                raise DispositionError(gettext(
                        'return_management.msg_disposition_forbidden',
                        disposition=disposition.rec_name,
                        reason=reason.rec_name))

    @classmethod
    def _rejected_actions(cls):
        "Return the actions with which the goods of a rejected return leave"
        return {'customer'}

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('decided_by')
    def draft(cls, dispositions):
        pass

    @classmethod
    @ModelView.button
    @Workflow.transition('decided')
    @set_employee('decided_by')
    def decide(cls, dispositions):
        pool = Pool()
        Order = pool.get('return.order')
        Order.lock(sorted({d.order for d in dispositions}, key=int))
        for disposition in dispositions:
            Order._get_employee(disposition.company)
            disposition._check_decide()
        Order._queue_process(
            list(dict.fromkeys(d.order for d in dispositions)))

    def _check_decide(self):
        "Check that nothing speaks against the decision"
        line = self.line
        if (line.approved_quantity is not None
                and line.accepted_quantity > line.approved_quantity):
            raise DispositionError(gettext(
                    'return_management.msg_disposition_approved',
                    line=line.rec_name))

    @property
    def is_free(self):
        "Whether it can still give way to another decision"
        return self.state in {'draft', 'decided'}

    def _is_favour_decided(self):
        "Test if it is settled in whose favour the goods are decided"
        return self.state in {'decided', 'waiting', 'done'}

    def _needs_application(self):
        "Test if an application decides about it, which is still to be made"
        return False

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, dispositions):
        pool = Pool()
        Order = pool.get('return.order')
        Order._queue_process(
            list(dict.fromkeys(d.order for d in dispositions)))

    @classmethod
    def process(cls, dispositions):
        "Make the shipments of what is decided and follow them to the end"
        decided = [d for d in dispositions if d.state == 'decided']
        cls._create_shipments(decided)
        cls._wait(decided)
        to_do, to_undo, to_split = [], [], {}
        for disposition in dispositions:
            if disposition.state != 'waiting' or any(
                    m.state not in {'done', 'cancelled'}
                    for m in disposition.moves):
                continue
            moved = disposition._get_moved_quantity()
            if moved >= disposition.quantity:
                to_do.append(disposition)
            elif moved > 0:
                to_split[disposition] = moved
            else:
                to_undo.append(disposition)
        cls._split(to_split)
        cls._do([*to_do, *to_split])
        cls._undo(to_undo)

    @classmethod
    @Workflow.transition('waiting')
    def _wait(cls, dispositions):
        pass

    @classmethod
    @Workflow.transition('done')
    def _do(cls, dispositions):
        pass

    @classmethod
    @Workflow.transition('draft')
    @reset_employee('decided_by')
    def _undo(cls, dispositions):
        pass

    def _get_moved_quantity(self):
        "Return what has reached its destination"
        pool = Pool()
        Uom = pool.get('product.uom')
        return self.unit.round(sum(
                Uom.compute_qty(m.unit, m.quantity, self.unit)
                for m in self.moves if m.state == 'done'))

    @property
    def line_quantity(self):
        "How many of the line are decided about"
        return self.quantity

    def _get_parts(self):
        "Map the products that are moved to their unit and quantity"
        return {self.product: (self.unit, self.quantity)}

    def _check_moves(self, moves):
        "Check that the moves take no more than is decided"
        pool = Pool()
        Uom = pool.get('product.uom')
        parts = self._get_parts()
        quantities = defaultdict(float)
        for move in moves:
            unit, _ = parts.get(move.product, (move.unit, 0))
            quantities[move.product] += Uom.compute_qty(
                move.unit, move.quantity, unit)
        for product, moved in quantities.items():
            unit, quantity = parts.get(product, (product.default_uom, 0))
            if unit.round(moved - quantity) > 0:
                raise AreaError(gettext(
                        'return_management.msg_move_disposition_quantity',
                        disposition=self.rec_name))

    @classmethod
    def _split(cls, quantities):
        "Keep what was moved and let the rest be decided anew"
        rests, to_write = {}, []
        for disposition, moved in quantities.items():
            rests[disposition.id] = disposition.unit.round(
                disposition.quantity - moved)
            to_write.extend(([disposition], {'quantity': moved}))
        if to_write:
            cls.write(*to_write)
        cls.copy(list(quantities), default={
                **cls._get_split_default(),
                'quantity': lambda data: rests[data['id']]})

    @classmethod
    def _get_split_default(cls):
        "Return what the rest keeps, that no other copy does"
        return {}

    @classmethod
    def _create_shipments(cls, dispositions):
        "Create one shipment per origin and destination and let it wait"
        pool = Pool()
        groups = defaultdict(list)
        for disposition in dispositions:
            groups[disposition._get_shipment_key()].append(disposition)
        shipments = defaultdict(list)
        for grouped in groups.values():
            shipment = grouped[0]._get_shipment()
            shipment.moves = [
                m for d in grouped for m in d._get_moves(shipment)]
            shipments[shipment.__name__].append(shipment)
        for name, m_shipments in shipments.items():
            Shipment = pool.get(name)
            Shipment.save(m_shipments)
            Shipment.wait(m_shipments)

    def _get_shipment_key(self):
        "Return what dispositions of one shipment have in common"
        if self.action == 'customer':
            return (
                self.company, self.line.order, self._get_from_location(),
                self.line._get_shipment_party())
        return (
            self.company, self._get_from_location(), self._get_to_location())

    def _get_from_location(self):
        "Return the location where the goods lie"
        return self.line._get_area()

    def _get_to_location(self):
        warehouse = self.line.order.warehouse
        if self.action == 'restock':
            return warehouse.storage_location
        elif self.action == 'resale':
            return warehouse.get_return_area('resale_location')

    def leads_to(self, location):
        "Test if the goods may be moved to the location"
        warehouse = self.line.order.warehouse
        target = self._get_to_location() or warehouse.output_location
        return location.is_inside(target)

    def _get_shipment(self):
        if self.action == 'customer':
            return self._get_shipment_out()
        return self._get_shipment_internal()

    def _get_shipment_internal(self):
        pool = Pool()
        Date = pool.get('ir.date')
        Shipment = pool.get('stock.shipment.internal')
        with Transaction().set_context(company=self.company.id):
            today = Date.today()
        return Shipment(
            company=self.company,
            from_location=self._get_from_location(),
            to_location=self._get_to_location(),
            planned_date=today,
            planned_start_date=today,
            state='draft')

    def _get_shipment_out(self):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        order = self.line.order
        sale = self.line.sale_line.sale if self.line.sale_line else None
        party = self.line._get_shipment_party()
        shipment = Shipment(
            company=self.company,
            customer=party,
            warehouse=order.warehouse,
            reference=order.number)
        if sale and sale.shipment_address:
            shipment.delivery_address = sale.shipment_address
        elif order.contact_address and order.contact_address.party == party:
            shipment.delivery_address = order.contact_address
        else:
            shipment.delivery_address = party.address_get(type='delivery')
        shipment.on_change_warehouse()
        shipment.warehouse_storage = self._get_from_location()
        return shipment

    def _get_moves(self, shipment):
        return [self._get_move(shipment)]

    def _get_move(self, shipment):
        pool = Pool()
        Move = pool.get('stock.move')
        move = Move(
            origin=self,
            product=self.product,
            unit=self.unit,
            quantity=self.quantity,
            company=self.company,
            state='draft')
        if self.action == 'customer':
            move.from_location = shipment.warehouse.output_location
            move.to_location = shipment.customer.customer_location
            move.unit_price = Decimal(0)
            move.currency = self.line.order.currency
        else:
            move.from_location = shipment.from_location
            move.to_location = shipment.to_location
        return move
