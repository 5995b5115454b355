# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import (
    DeactivableMixin, Index, ModelSQL, ModelView, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    CompanyMultiValueMixin, CompanyValueMixin)
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, Id, If
from trytond.transaction import Transaction

from .application import ApplicationMixin
from .configuration import default_limit, limit_field
from .exceptions import ApplicationError, AreaError

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


class WriteOff(ApplicationMixin, ModelSQL, ModelView):
    "Return Write-off"
    __name__ = 'return.write_off'
    _sequence_name = 'write_off_sequence'
    _limit_name = 'write_off_limit'

    dispositions = fields.One2Many(
        'return.disposition', 'write_off', "Goods",
        domain=[
            ('action', 'in', ['write_off']),
            ('company', '=', Eval('company', -1)),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="The parts of received lines that are written off.")

    @classmethod
    @ModelView.button
    @Workflow.transition('approved')
    def approve(cls, write_offs):
        super().approve(write_offs)
        cls._take_out(write_offs)


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

    _application_fields = {'write_off'}

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
        if self.action in self._applied_actions():
            # What was refused stays so
            self.accepted = accepted
        if self.action != 'write_off':
            self.write_off = None

    @classmethod
    def _applied_actions(cls):
        "Return the actions by which goods leave the books, when approved"
        return {'write_off'}

    @classmethod
    def _get_default_accepted(cls, line, action):
        if (action in cls._applied_actions()
                and line.order.state == 'rejected'):
            return False
        return super()._get_default_accepted(line, action)

    @classmethod
    def _rejected_actions(cls):
        return super()._rejected_actions() | cls._applied_actions()

    @fields.depends('line', '_parent_line.order')
    def on_change_with_company_currency(self, name=None):
        if self.line and self.line.order:
            return self.line.order.company.currency

    @property
    def application(self):
        "The application that decides whether the goods leave, or None"
        return self.write_off

    @property
    def is_applied_for(self):
        "Whether the application that decides about it is on its way"
        return (
            bool(self.application) and self.application.state != 'draft'
            and self._needs_application())

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
                cls._check_application(dispositions)
        super().write(*args)

    @classmethod
    def delete(cls, dispositions):
        cls._check_application(dispositions)
        super().delete(dispositions)

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if cls._application_fields & field_names:
            cls._check_application(dispositions)

    @classmethod
    def _check_application(cls, dispositions):
        "Check that what was applied for stays as it was"
        for disposition in dispositions:
            application = disposition.application
            if application and application.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_application_modify',
                        application=application.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, dispositions):
        applications = defaultdict(set)
        for disposition in dispositions:
            application = disposition.application
            if not application:
                continue
            if application.state in application._held_states:
                raise AccessError(gettext(
                        'return_management.msg_application_modify',
                        application=application.rec_name))
            applications[application.__class__].add(application.id)
        super().cancel(dispositions)
        for Application, ids in applications.items():
            Application.process(Application.browse(sorted(ids)))

    def _needs_application(self):
        application = self.application
        return super()._needs_application() or (
            self.action in self._applied_actions()
            and (not application
                or application.state != application._leaving_state))

    @property
    def is_free(self):
        application = self.application
        return super().is_free and not (
            application and application.state in application._held_states)

    @classmethod
    @ModelView.button
    @Workflow.transition('decided')
    def decide(cls, dispositions):
        for disposition in dispositions:
            if (disposition.action in cls._applied_actions()
                    and disposition._needs_application()):
                raise ApplicationError(gettext(
                        'return_management.msg_disposition_application',
                        disposition=disposition.rec_name))
        super().decide(dispositions)

    def _check_application_goods(self):
        "Check what else would speak against the decision once approved"
        self._check_decide()
        self._get_to_location()

    def _get_to_location(self):
        location = super()._get_to_location()
        if self.action in self._applied_actions():
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
    def return_application(self):
        "The application that takes the goods out of the books, or None"
        if self.is_return_write_off:
            return self.origin.application

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
        if write_off := self.return_application:
            account = write_off.cause.get_multivalue(
                'account', company=self.company.id)
            if account:
                for line in lines:
                    line.account = account
        return lines
