# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal
from itertools import groupby

from trytond.i18n import gettext
from trytond.model import (
    DeactivableMixin, Index, ModelSQL, ModelView, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    CompanyMultiValueMixin, CompanyValueMixin, employee_field,
    reset_employee, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, Id, If
from trytond.transaction import Transaction

from .calendar import get_local_date
from .configuration import default_limit, limit_field
from .exceptions import AreaError, WriteOffError
from .model import GuardedMixin

account = fields.Many2One(
    'account.account', "Account",
    domain=[
        ('closed', '!=', True),
        ('type.expense', '=', True),
        ('company', '=', Eval('company', -1)),
        ],
    depends={'company'},
    help="The account on which the loss is booked.\n"
    "Leave empty to use the one of the product.")
limit = fields.Numeric(
    "Write-off Limit", digits=(16, 2),
    domain=['OR',
        ('write_off_limit', '=', None),
        ('write_off_limit', '>=', 0),
        ],
    help="The amount, in the company's currency, up to which sales approves "
    "a write-off.\n"
    "Finance approves what is above; leave empty to always ask finance.")

unclaimed_days = limit_field(
    'unclaimed_days', "Unclaimed Goods",
    "The number of working days that customers who were told have to claim "
    "refused goods before these can be written off.")


def sequence(company):
    return fields.Many2One(
        'ir.sequence', "Write-off Sequence", required=True,
        domain=[
            ('company', 'in', [company, None]),
            ('sequence_type', '=',
                Id('return_management', 'sequence_type_write_off')),
            ])


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    write_off_sequence = fields.MultiValue(
        sequence(Eval('context', {}).get('company', -1)))
    write_off_limit = fields.MultiValue(limit)
    unclaimed_days = fields.MultiValue(unclaimed_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in {'write_off_sequence', 'write_off_limit'}:
            return pool.get('return.configuration.write_off')
        elif field == 'unclaimed_days':
            return pool.get('return.configuration.limit')
        return super().multivalue_model(field)

    @classmethod
    def default_write_off_sequence(cls, **pattern):
        return (
            cls.multivalue_model('write_off_sequence')
            .default_write_off_sequence())

    default_unclaimed_days = default_limit('unclaimed_days')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    unclaimed_days = unclaimed_days

    @classmethod
    def default_unclaimed_days(cls):
        return 30


class ConfigurationWriteOff(CompanyValueMixin, ModelSQL):
    "Return Configuration Write-off"
    __name__ = 'return.configuration.write_off'

    write_off_sequence = sequence(Eval('company', -1))
    write_off_limit = limit

    @classmethod
    def default_write_off_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_write_off')
        except KeyError:
            return None


class Cause(DeactivableMixin, CompanyMultiValueMixin, ModelSQL, ModelView):
    "Return Write-off Cause"
    __name__ = 'return.write_off.cause'

    name = fields.Char("Name", required=True, translate=True)
    account = fields.MultiValue(fields.Many2One(
            'account.account', "Account",
            domain=[
                ('closed', '!=', True),
                ('type.expense', '=', True),
                ('company', '=', Eval('context', {}).get('company', -1)),
                ],
            help=account.help))
    accounts = fields.One2Many(
        'return.write_off.cause.account', 'cause', "Accounts")


class CauseAccount(CompanyValueMixin, ModelSQL):
    "Return Write-off Cause Account"
    __name__ = 'return.write_off.cause.account'

    cause = fields.Many2One(
        'return.write_off.cause', "Cause", required=True,
        ondelete='CASCADE',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    account = account


class WriteOff(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Write-off"
    __name__ = 'return.write_off'
    _rec_name = 'number'

    _states = {
        'readonly': Eval('state') != 'draft',
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the write-off is requested.")
    company = fields.Many2One(
        'company.company', "Company", required=True,
        states={
            'readonly': _states['readonly'] | Eval('dispositions', [0]),
            })
    cause = fields.Many2One(
        'return.write_off.cause', "Cause", required=True,
        ondelete='RESTRICT', states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Why the goods are written off; it gives the account.")
    note = fields.Text("Note", states=_states)
    dispositions = fields.One2Many(
        'return.disposition', 'write_off', "Goods",
        domain=[
            ('action', 'in', ['write_off']),
            ('company', '=', Eval('company', -1)),
            ],
        states=_states,
        help="The parts of received lines that are written off.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    amount = Monetary(
        "Amount", currency='currency', digits='currency', readonly=True,
        help="The cost of the goods, rounded, in the company's currency.\n"
        "Set when the write-off is requested; at its end what was really "
        "written off.")
    requested_by = employee_field(
        "Requested by", states=[
            'requested', 'approved', 'done', 'rejected', 'cancelled'])
    approved_by = employee_field(
        "Approved by", states=['approved', 'done'])
    rejected_by = employee_field("Rejected by", states=['rejected'])
    refusal = fields.Text(
        "Refusal",
        states={
            'readonly': Eval('state') != 'requested',
            'invisible': ~Eval('state').in_(['requested', 'rejected']),
            },
        help="Why the write-off is refused.")
    state = fields.Selection([
            ('draft', "Draft"),
            ('requested', "Requested"),
            ('approved', "Approved"),
            ('done', "Done"),
            ('rejected', "Rejected"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Approved: the warehouse has to post the shipment.\n"
        "Cancelled: nothing was written off.")

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        for name in ['requested_by', 'approved_by', 'rejected_by']:
            getattr(cls, name).readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['draft', 'requested', 'approved'])),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'requested'),
            ('requested', 'draft'),
            ('requested', 'approved'),
            ('requested', 'rejected'),
            ('approved', 'done'),
            ('draft', 'cancelled'),
            ('requested', 'cancelled'),
            }
        cls._buttons.update({
                'request': {
                    'invisible': Eval('state') != 'draft',
                    'readonly': ~Eval('dispositions', []),
                    'depends': ['state', 'dispositions'],
                    },
                'draft': {
                    'invisible': Eval('state') != 'requested',
                    'depends': ['state'],
                    },
                'approve': {
                    'invisible': Eval('state') != 'requested',
                    'depends': ['state'],
                    },
                'reject': {
                    'invisible': Eval('state') != 'requested',
                    'readonly': ~Bool(Eval('refusal')),
                    'depends': ['state', 'refusal'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(['draft', 'requested']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    def get_rec_name(self, name):
        return self.number or '(%s)' % self.id

    _guarded_fields = {
        'number', 'amount', 'requested_by', 'approved_by', 'rejected_by',
        'state'}
    _requested_fields = {'company', 'cause', 'note', 'dispositions'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for write_offs, values in zip(actions, actions):
            for write_off in write_offs:
                if (cls._requested_fields & set(values)
                        and write_off.state != 'draft') or (
                        'refusal' in values
                        and write_off.state != 'requested'):
                    raise AccessError(gettext(
                            'return_management.msg_write_off_modify',
                            write_off=write_off.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, write_offs):
        for write_off in write_offs:
            if write_off.state != 'draft' or write_off.number:
                raise AccessError(gettext(
                        'return_management.msg_write_off_modify',
                        write_off=write_off.rec_name))
        super().delete(write_offs)

    @classmethod
    def copy(cls, write_offs, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'amount', 'dispositions', 'refusal',
                'requested_by', 'approved_by', 'rejected_by']:
            default.setdefault(name)
        return super().copy(write_offs, default=default)

    @classmethod
    @ModelView.button
    @Workflow.transition('requested')
    @set_employee('requested_by')
    def request(cls, write_offs):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        config = Configuration(1)
        to_save = []
        for company, c_write_offs in groupby(
                write_offs, key=lambda w: w.company):
            Order._get_employee(company)
            sequence = config.get_multivalue(
                'write_off_sequence', company=company.id)
            for write_off in c_write_offs:
                goods = write_off._get_goods()
                if not goods:
                    raise WriteOffError(gettext(
                            'return_management.msg_write_off_empty',
                            write_off=write_off.rec_name))
                for part in goods:
                    part._get_to_location()
                    part.set_write_off_cost()
                if not write_off.number:
                    write_off.number = sequence.get()
                write_off._set_amount(goods)
                to_save.extend(goods)
        cls._check_unclaimed(write_offs)
        cls._save_goods(to_save)
        cls.save(write_offs)

    def _get_goods(self):
        "Return the records of the goods, without those that were given up"
        return [d for d in self.dispositions if d.state != 'cancelled']

    def _set_amount(self, goods):
        for part in goods:
            part.set_write_off_amount()
        self.amount = sum(p.write_off_amount for p in goods)

    @classmethod
    def _save_goods(cls, goods):
        models = defaultdict(list)
        for part in goods:
            models[part.__class__].append(part)
        for Model, records in models.items():
            Model.save(records)

    @classmethod
    def _check_unclaimed(cls, write_offs):
        "Check that customers had the time to claim what was refused"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        Lang = pool.get('ir.lang')
        config = Configuration(1)
        orders = defaultdict(dict)
        for write_off in write_offs:
            for disposition in write_off.dispositions:
                if (not disposition.accepted
                        and disposition.state != 'cancelled'):
                    orders[write_off.company].setdefault(
                        disposition.order, disposition)
        for company, dispositions in orders.items():
            calendar = Calendar.get(company)
            days = config.get_multivalue('unclaimed_days', company=company.id)
            today = Calendar.get_today(company)
            for order, disposition in dispositions.items():
                if order.to_tell or not order.told_at:
                    raise WriteOffError(gettext(
                            'return_management.msg_write_off_untold',
                            disposition=disposition.rec_name,
                            order=order.rec_name))
                if days is None:
                    continue
                date = calendar.add_days(
                    get_local_date(company, order.told_at), days)
                if today <= date:
                    raise WriteOffError(gettext(
                            'return_management.msg_write_off_unclaimed',
                            disposition=disposition.rec_name,
                            order=order.rec_name,
                            date=Lang.get().strftime(date)))

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('requested_by')
    def draft(cls, write_offs):
        pass

    @classmethod
    @ModelView.button
    @Workflow.transition('approved')
    @set_employee('approved_by')
    def approve(cls, write_offs):
        for write_off in write_offs:
            write_off._check_approve()
        cls.write(write_offs, {'state': 'approved'})
        cls._take_out(write_offs)

    @classmethod
    def _take_out(cls, write_offs):
        "Let the goods leave the areas"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Disposition.decide(
            [d for w in write_offs for d in w.dispositions])

    def _check_approve(self):
        "Check that the user may approve: another person, by amount"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        employee = Order._get_employee(self.company)
        if employee.party == self.requested_by.party:
            raise WriteOffError(gettext(
                    'return_management.msg_write_off_separation',
                    write_off=self.rec_name))
        limit = Configuration(1).get_multivalue(
            'write_off_limit', company=self.company.id)
        if 'finance' not in Order._get_user_roles() and (
                limit is None or self.amount > limit):
            raise WriteOffError(gettext(
                    'return_management.msg_write_off_finance',
                    write_off=self.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('rejected')
    @set_employee('rejected_by')
    def reject(cls, write_offs):
        pool = Pool()
        Order = pool.get('return.order')
        for write_off in write_offs:
            Order._get_employee(write_off.company)
            if not write_off.refusal:
                raise WriteOffError(gettext(
                        'return_management.msg_write_off_refusal',
                        write_off=write_off.rec_name))
        cls.write(write_offs, {'state': 'rejected'})
        cls._release(write_offs)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, write_offs):
        cls.write(write_offs, {'state': 'cancelled'})
        cls._release(write_offs)

    @classmethod
    def _release(cls, write_offs):
        "Let the goods be decided anew; what is refused stays so"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        dispositions = [
            d for w in write_offs for d in w._get_goods()
            if isinstance(d, Disposition)]
        Disposition.cancel(dispositions)
        Disposition.copy(
            [d for d in dispositions if not d.accepted], default={
                'action': 'customer',
                'state': 'draft',
                })

    @classmethod
    def process(cls, write_offs):
        "Follow the goods to the end"
        done, cancelled, to_save = [], [], []
        for write_off in write_offs:
            goods = write_off._get_goods()
            if write_off.state != 'approved' or not all(
                    p.is_written_off for p in goods):
                continue
            # A part may have stayed
            write_off._set_amount(goods)
            to_save.extend(goods)
            (done if goods else cancelled).append(write_off)
        cls._save_goods(to_save)
        cls.save(done + cancelled)
        cls._do(done)
        cls.write(cancelled, {'state': 'cancelled'})

    @classmethod
    @Workflow.transition('done')
    def _do(cls, write_offs):
        pass


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    write_off = fields.Many2One(
        'return.write_off', "Write-off", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            If(Eval('action') != 'write_off', ('id', '=', None), ()),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': Eval('action') != 'write_off',
            },
        help="The application that must be approved.")
    company_currency = fields.Function(
        fields.Many2One('currency.currency', "Company Currency"),
        'on_change_with_company_currency')
    write_off_cost = Monetary(
        "Unit Cost", currency='company_currency', digits=price_digits,
        readonly=True,
        states={
            'invisible': Eval('action') != 'write_off',
            },
        help="The cost that the goods came in with, per unit.")
    write_off_amount = Monetary(
        "Cost", currency='company_currency', digits='company_currency',
        readonly=True,
        states={
            'invisible': Eval('action') != 'write_off',
            },
        help="The cost of the goods, rounded.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.action.selection += [('write_off', "Write Off")]
        cls._guarded_fields = cls._guarded_fields | {
            'write_off_cost', 'write_off_amount'}
        cls._decided_fields = cls._decided_fields | {'write_off'}
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.write_off, Index.Range())))

    @fields.depends('action', 'accepted')
    def on_change_action(self):
        accepted = self.accepted
        super().on_change_action()
        if self.action == 'write_off':
            # What was refused stays so
            self.accepted = accepted
        else:
            self.write_off = None

    @classmethod
    def _get_default_accepted(cls, line, action):
        if action == 'write_off' and line.order.state == 'rejected':
            return False
        return super()._get_default_accepted(line, action)

    @classmethod
    def _rejected_actions(cls):
        return super()._rejected_actions() | {'write_off'}

    @fields.depends('line', '_parent_line.order')
    def on_change_with_company_currency(self, name=None):
        if self.line and self.line.order:
            return self.line.order.company.currency

    @property
    def is_written_off(self):
        return self.state == 'done'

    def set_write_off_cost(self):
        pool = Pool()
        Uom = pool.get('product.uom')
        cost = self.line.get_received_cost(self.product)
        if cost is None:
            cost = self.product.get_multivalue(
                'cost_price', company=self.company.id) or Decimal(0)
        self.write_off_cost = Uom.compute_price(
            self.product.default_uom, cost, self.unit)

    def set_write_off_amount(self):
        self.write_off_amount = self.company.currency.round(
            Decimal(str(self.quantity)) * self.write_off_cost)

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        for name in ['write_off', 'write_off_cost', 'write_off_amount']:
            default.setdefault(name)
        return super().copy(dispositions, default=default)

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for dispositions, values in zip(actions, actions):
            if Transaction().check_access and (
                    cls._decided_fields & set(values)):
                for disposition in dispositions:
                    write_off = disposition.write_off
                    if write_off and write_off.state != 'draft':
                        raise AccessError(gettext(
                                'return_management.msg_write_off_modify',
                                write_off=write_off.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, dispositions):
        for disposition in dispositions:
            write_off = disposition.write_off
            if write_off and write_off.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_write_off_modify',
                        write_off=write_off.rec_name))
        super().delete(dispositions)

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if 'write_off' in field_names:
            for disposition in dispositions:
                write_off = disposition.write_off
                if write_off and write_off.state != 'draft':
                    raise AccessError(gettext(
                            'return_management.msg_write_off_modify',
                            write_off=write_off.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, dispositions):
        pool = Pool()
        WriteOff = pool.get('return.write_off')
        write_offs = {d.write_off for d in dispositions if d.write_off}
        for disposition in dispositions:
            write_off = disposition.write_off
            # What waits for approval is what was requested
            if write_off and write_off.state == 'requested':
                raise AccessError(gettext(
                        'return_management.msg_write_off_modify',
                        write_off=write_off.rec_name))
        super().cancel(dispositions)
        WriteOff.process(WriteOff.browse(sorted(write_offs, key=int)))

    def _needs_application(self):
        return super()._needs_application() or (
            self.action == 'write_off'
            and (not self.write_off or self.write_off.state != 'approved'))

    def _check_decide(self):
        super()._check_decide()
        if self.action == 'write_off' and self._needs_application():
            raise WriteOffError(gettext(
                    'return_management.msg_disposition_write_off',
                    disposition=self.rec_name))

    def _get_to_location(self):
        location = super()._get_to_location()
        if self.action == 'write_off':
            location = self.line.order.warehouse.get_waste_location()
        return location


class Location(metaclass=PoolMeta):
    __name__ = 'stock.location'

    def get_waste_location(self):
        "Return the location of the warehouse for what is written off"
        if not self.waste_locations:
            raise AreaError(gettext(
                    'return_management.msg_waste_location_missing',
                    warehouse=self.rec_name))
        location, *_ = self.waste_locations
        return location


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _process_dispositions(cls, orders):
        pool = Pool()
        WriteOff = pool.get('return.write_off')
        super()._process_dispositions(orders)
        WriteOff.process(WriteOff.browse(list({
                        d.write_off.id for o in orders for l in o.lines
                        for d in l.dispositions if d.write_off})))


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @property
    def is_return_write_off(self):
        "Whether the move takes goods of a return out of the books"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return (
            self.to_location.type == 'lost_found'
            and isinstance(self.origin, Disposition))

    @property
    def is_return_departure(self):
        return super().is_return_departure or self.is_return_write_off

    @property
    def return_write_off(self):
        "The write-off that takes the goods out of the books, or None"
        if self.is_return_write_off:
            return self.origin.write_off

    def _leaves_return_area(self):
        pool = Pool()
        InventoryLine = pool.get('stock.inventory.line')
        return super()._leaves_return_area() or bool(
            self.to_location.type == 'lost_found'
            and self.from_location.return_area
            and not isinstance(self.origin, InventoryLine))


class Move_Continental(metaclass=PoolMeta):
    __name__ = 'stock.move'

    def _get_account_stock_move_lines(self, type_):
        lines = super()._get_account_stock_move_lines(type_)
        if write_off := self.return_write_off:
            account = write_off.cause.get_multivalue(
                'account', company=self.company.id)
            if account:
                for line in lines:
                    line.account = account
        return lines
