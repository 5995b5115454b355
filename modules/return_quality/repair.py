# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, ModelSQL, ModelView, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    CompanyValueMixin, employee_field, reset_employee, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.modules.quality.quality import ControlledMixin
from trytond.modules.return_management.configuration import (
    default_limit, limit_field)
from trytond.modules.return_management.exceptions import AreaError
from trytond.modules.return_management.model import GuardedMixin
from trytond.modules.return_management.stage import _search_flag
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, Id, If
from trytond.transaction import Transaction

from .exceptions import RepairError

OPEN_STATES = ['draft', 'planned', 'started', 'repaired']
# What makes the goods wait for a new decision
ENDED_STATES = ['done', 'failed', 'cancelled']

repair_days = limit_field(
    'repair_days', "Repair",
    "The number of working days that production has to repair what came to "
    "the repair location.")
repair_rounds = fields.Integer(
    "Repair Rounds", required=True,
    domain=[
        ('repair_rounds', '>=', 1),
        ],
    help="How often the goods of a repair may be repaired until they pass "
    "the inspection.")
repair_limit = fields.Integer(
    "Repairs before Exchange",
    domain=['OR',
        ('repair_limit', '=', None),
        ('repair_limit', '>=', 1),
        ],
    help="After so many repairs of the same sold goods an exchange or a "
    "refund is proposed to who takes the next return in.\n"
    "Leave empty to never propose it.")


def account(company):
    return fields.Many2One(
        'account.account', "Repair Account",
        domain=[
            ('closed', '!=', True),
            ('type.expense', '=', True),
            ('company', '=', company),
            ],
        help="The account on which stock accounting books the parts that "
        "repairs consume.\n"
        "Leave empty to use the one of the product.")


def sequence(company):
    return fields.Many2One(
        'ir.sequence', "Repair Sequence", required=True,
        domain=[
            ('company', 'in', [company, None]),
            ('sequence_type', '=',
                Id('return_quality', 'sequence_type_repair')),
            ])


def _employee(string):
    field = employee_field(string)
    field.readonly = True
    return field


def _at(string):
    return fields.DateTime(string, readonly=True)


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    repair_sequence = fields.MultiValue(
        sequence(Eval('context', {}).get('company', -1)))
    repair_days = fields.MultiValue(repair_days)
    repair_account = fields.MultiValue(
        account(Eval('context', {}).get('company', -1)))
    repair_rounds = fields.MultiValue(repair_rounds)
    repair_limit = fields.MultiValue(repair_limit)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'repair_days':
            return pool.get('return.configuration.limit')
        elif field in {
                'repair_sequence', 'repair_account', 'repair_rounds',
                'repair_limit'}:
            return pool.get('return.configuration.repair')
        return super().multivalue_model(field)

    default_repair_sequence = default_limit('repair_sequence')
    default_repair_days = default_limit('repair_days')
    default_repair_rounds = default_limit('repair_rounds')
    default_repair_limit = default_limit('repair_limit')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    repair_days = repair_days

    @classmethod
    def default_repair_days(cls):
        return 10


class ConfigurationRepair(CompanyValueMixin, ModelSQL):
    "Return Configuration Repair"
    __name__ = 'return.configuration.repair'

    repair_sequence = sequence(Eval('company', -1))
    repair_account = account(Eval('company', -1))
    repair_rounds = repair_rounds
    repair_limit = repair_limit

    @classmethod
    def default_repair_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id('return_quality', 'sequence_repair')
        except KeyError:
            return None

    @classmethod
    def default_repair_rounds(cls):
        return 2

    @classmethod
    def default_repair_limit(cls):
        return 2


class Repair(
        GuardedMixin, ControlledMixin, Workflow, ModelSQL, ModelView):
    "Return Repair"
    __name__ = 'return.repair'
    _rec_name = 'number'

    _states_plan = {
        'readonly': Eval('state') != 'draft',
        }
    _states_work = {
        'readonly': ~Eval('state').in_(['draft', 'planned', 'started']),
        }
    _states_cost = {
        'readonly': Eval('state') == 'cancelled',
        }

    number = fields.Char("Number", readonly=True)
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    disposition = fields.Many2One(
        'return.disposition', "Disposition", required=True, readonly=True,
        ondelete='RESTRICT',
        help="The decision that brought the goods here; it is replaced when "
        "the repair ends.")
    order = fields.Function(
        fields.Many2One('return.order', "Return Order"),
        'get_from_disposition', searcher='search_from_disposition')
    line = fields.Function(
        fields.Many2One('return.order.line', "Return Line"),
        'get_from_disposition', searcher='search_from_disposition')
    product = fields.Many2One(
        'product.product', "Product", required=True, readonly=True,
        ondelete='RESTRICT',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, readonly=True,
        ondelete='RESTRICT')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, readonly=True,
        help="What is repaired, in the unit of the return line.")
    location = fields.Many2One(
        'stock.location', "Location", required=True, readonly=True,
        ondelete='RESTRICT', help="Where the goods lie until they go on.")
    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="How often the goods are repaired; one more each time that "
        "they do not pass the inspection.")
    plan_text = fields.Text(
        "Plan", states=_states_plan,
        help="What is to be done, set by production.")
    due_date = fields.Date(
        "Due Date", states=_states_plan,
        help="The last day in time to repair the goods; set from the limit "
        "in working days when they come, changed by production.")
    overdue = fields.Function(fields.Boolean(
            "Overdue",
            help="Checked when the goods should have been repaired before "
            "today."),
        'get_overdue', searcher='search_overdue')
    place = fields.Selection([
            ('internal', "In-house"),
            ('external', "Service Shop"),
            ], "Place", required=True, sort=False, states=_states_plan,
        help="Who repairs the goods; those at a service shop stay in the "
        "repair location of the books.")
    repairer = fields.Many2One(
        'party.party', "Service Shop", ondelete='RESTRICT',
        states={
            'readonly': Eval('state') != 'draft',
            'required': Eval('place') == 'external',
            'invisible': Eval('place') != 'external',
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="The supplier or service shop that repairs the goods.")
    parts = fields.One2Many(
        'return.repair.part', 'repair', "Parts", states=_states_work)
    finding = fields.Text(
        "Finding", states=_states_work,
        help="What was found and done; required when production gives up.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    hours = fields.Float(
        "Hours", digits=(16, 2),
        domain=['OR', ('hours', '=', None), ('hours', '>=', 0)],
        states=_states_cost, help="The hours of work.")
    hour_cost = Monetary(
        "Cost per Hour", currency='currency', digits=price_digits,
        domain=['OR', ('hour_cost', '=', None), ('hour_cost', '>=', 0)],
        states=_states_cost,
        help="What an hour costs the company, in its currency.")
    service_cost = Monetary(
        "Cost of Service", currency='currency', digits='currency',
        domain=['OR', ('service_cost', '=', None), ('service_cost', '>=', 0)],
        states=_states_cost,
        help="What else is paid, to a service shop for example, "
        "in the currency of the company without taxes.")
    parts_cost = fields.Function(Monetary(
            "Cost of Parts", currency='currency', digits='currency',
            help="What the consumed parts left the stock with, rounded part "
            "by part."),
        'get_costs')
    labour_cost = fields.Function(Monetary(
            "Cost of Labour", currency='currency', digits='currency',
            help="The hours at their cost, rounded."),
        'get_costs')
    cost = fields.Function(Monetary(
            "Cost", currency='currency', digits='currency',
            help="Parts, labour and service together; it does not change "
            "the value of the goods."),
        'get_costs')
    dispositions = fields.One2Many(
        'return.disposition', 'repair', "Dispositions", readonly=True,
        help="Where the goods go from here.")
    planned_by = _employee("Planned by")
    planned_at = _at("Planned at")
    started_by = _employee("Started by")
    started_at = _at("Started at")
    repaired_by = _employee("Repaired by")
    repaired_at = _at("Repaired at")
    given_up_by = _employee("Given up by")
    cancelled_by = _employee("Cancelled by")
    state = fields.Selection([
            ('draft', "To Plan"),
            ('planned', "Planned"),
            ('started', "In Progress"),
            ('repaired', "To Inspect"),
            ('done', "Done"),
            ('failed', "Failed"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Done: the goods passed the inspection.\n"
        "Failed: production gave up, or the last inspection failed.\n"
        "In both cases they wait for a new decision, as when the repair is "
        "cancelled.")
    state_string = state.translated('state')

    _guarded_fields = {
        'state', 'number', 'company', 'disposition', 'product', 'unit',
        'quantity', 'location', 'round', 'planned_by', 'planned_at',
        'started_by', 'started_at', 'repaired_by', 'repaired_at',
        'given_up_by', 'cancelled_by', 'dispositions',
        'quality_inspections'}
    _planned_fields = {'plan_text', 'due_date', 'place', 'repairer'}
    _worked_fields = {'parts', 'finding'}
    _cost_fields = {'hours', 'hour_cost', 'service_cost'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_disposition_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(
                    t, (t.state, Index.Equality()),
                    (t.due_date, Index.Range()),
                    where=t.state.in_(OPEN_STATES)),
                Index(t, (t.disposition, Index.Range())),
                Index(t, (t.product, Index.Range())),
                Index(t, (t.number, Index.Similarity())),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'planned'),
            ('planned', 'draft'),
            ('planned', 'started'),
            ('started', 'repaired'),
            ('failed', 'draft'),
            ('cancelled', 'draft'),
            }
        cls._buttons.update({
                'plan': {
                    'invisible': Eval('state') != 'draft',
                    'readonly': ~Bool(Eval('plan_text')),
                    'depends': ['state', 'plan_text'],
                    },
                'draft': {
                    'invisible': (
                        ~Eval('state').in_(['planned', 'cancelled'])
                        & ~((Eval('state') == 'failed')
                            & Bool(Eval('given_up_by')))),
                    'depends': ['state', 'given_up_by'],
                    },
                'start': {
                    'invisible': Eval('state') != 'planned',
                    'depends': ['state'],
                    },
                'finish': {
                    'invisible': Eval('state') != 'started',
                    'depends': ['state'],
                    },
                'give_up': {
                    'invisible': ~Eval('state').in_(
                        ['draft', 'planned', 'started']),
                    'readonly': ~Bool(Eval('finding')),
                    'depends': ['state', 'finding'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(['draft', 'planned']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_round(cls):
        return 1

    @classmethod
    def default_place(cls):
        return 'internal'

    @classmethod
    def default_state(cls):
        return 'draft'

    @classmethod
    def get_from_disposition(cls, repairs, names):
        values = {n: {} for n in names}
        for repair in repairs:
            for name in names:
                values[name][repair.id] = getattr(
                    repair.disposition, name).id
        return values

    @classmethod
    def search_from_disposition(cls, name, clause):
        return [('disposition.' + clause[0], *clause[1:])]

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    @classmethod
    def get_costs(cls, repairs, names):
        costs = {n: {} for n in names}
        for repair in repairs:
            values = {
                'parts_cost': sum(
                    (p.cost or Decimal(0) for p in repair.parts),
                    Decimal(0)),
                'labour_cost': repair.currency.round(
                    Decimal(str(repair.hours or 0))
                    * (repair.hour_cost or Decimal(0))),
                }
            values['cost'] = (
                values['parts_cost'] + values['labour_cost']
                + (repair.service_cost or Decimal(0)))
            for name in names:
                costs[name][repair.id] = values[name]
        return costs

    @classmethod
    def get_overdue(cls, repairs, name):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        today = {
            c: Calendar.get_today(c) for c in {r.company for r in repairs}}
        return {
            r.id: bool(
                r.state in {'draft', 'planned', 'started'} and r.due_date
                and r.due_date < today[r.company])
            for r in repairs}

    @classmethod
    def search_overdue(cls, name, clause):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Company = pool.get('company.company')
        companies = defaultdict(list)
        for company in Company.search([]):
            companies[Calendar.get_today(company)].append(company.id)
        domain = ['OR'] + [[
                ('state', 'in', ['draft', 'planned', 'started']),
                ('due_date', '<', today),
                ('company', 'in', ids),
                ] for today, ids in companies.items()]
        inverse = ['OR',
            ('state', 'not in', ['draft', 'planned', 'started']),
            ('due_date', '=', None),
            ] + [[
                ('due_date', '>=', today),
                ('company', 'in', ids),
                ] for today, ids in companies.items()]
        return _search_flag(clause, domain, inverse)

    def get_rec_name(self, name):
        return '[%s] %s' % (self.number, self.product.rec_name)

    @classmethod
    def search_rec_name(cls, name, clause):
        operator = 'AND' if clause[1].startswith(('!', 'not')) else 'OR'
        return [operator,
            ('number', *clause[1:]),
            ('product.rec_name', *clause[1:]),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'cancelled', 'muted', '')),
            ('/tree/field[@name="due_date"]', 'visual',
                If(Eval('overdue', False), 'danger', '')),
            ]

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for repairs, values in zip(args[::2], args[1::2]):
                for names, states in [
                        (cls._planned_fields, {'draft'}),
                        (cls._worked_fields, {
                                'draft', 'planned', 'started'}),
                        (cls._cost_fields, {
                                *OPEN_STATES, 'done', 'failed'})]:
                    if names & set(values):
                        cls._check_state(repairs, states)
        super().write(*args)

    @classmethod
    def _check_state(cls, repairs, states):
        for repair in repairs:
            if repair.state not in states:
                raise AccessError(gettext(
                        'return_quality.msg_repair_modify',
                        repair=repair.rec_name))

    @classmethod
    def delete(cls, repairs):
        cls._check_state(repairs, set())
        super().delete(repairs)

    @classmethod
    def copy(cls, repairs, default=None):
        raise AccessError(gettext('return_quality.msg_repair_copy'))

    def quality_control_pattern(self, operation):
        pattern = super().quality_control_pattern(operation)
        pattern['company'] = self.company.id
        pattern['products'] = {self.product.id}
        return pattern

    @classmethod
    def set_number(cls, repairs):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        sequences = {
            c: config.get_multivalue('repair_sequence', company=c.id)
            for c in {r.company for r in repairs}}
        for repair in repairs:
            repair.number = sequences[repair.company].get()
        cls.save(repairs)

    @classmethod
    def set_due_date(cls, repairs):
        "Set by when production must have repaired the goods"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        dates = {}
        for company in {r.company for r in repairs}:
            days = config.get_multivalue('repair_days', company=company.id)
            dates[company] = None
            if days is not None:
                dates[company] = Calendar.get(company).add_days(
                    Calendar.get_today(company), days)
        for repair in repairs:
            repair.due_date = dates[repair.company]

    @classmethod
    def _check_employee(cls, repairs):
        pool = Pool()
        Order = pool.get('return.order')
        for company in {r.company for r in repairs}:
            Order._get_employee(company)

    @classmethod
    @ModelView.button
    @Workflow.transition('planned')
    @set_employee('planned_by')
    def plan(cls, repairs):
        "Sign the plan"
        cls._check_employee(repairs)
        for repair in repairs:
            if not repair.plan_text:
                raise RepairError(gettext(
                        'return_quality.msg_repair_plan',
                        repair=repair.rec_name))
        cls.write(repairs, {'planned_by': None, 'planned_at': cls._now()})

    @classmethod
    def _now(cls):
        return dt.datetime.now().replace(microsecond=0)

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('planned_by', 'given_up_by', 'cancelled_by')
    def draft(cls, repairs):
        "Plan again what was planned, cancelled or given up"
        cls._check_employee(repairs)
        for repair in repairs:
            if repair.state == 'failed' and not repair.given_up_by:
                raise RepairError(gettext(
                        'return_quality.msg_repair_draft',
                        repair=repair.rec_name))
        cls._take_up([r for r in repairs if r.state != 'planned'])

    @classmethod
    @ModelView.button
    @Workflow.transition('started')
    @set_employee('started_by')
    def start(cls, repairs):
        cls._check_employee(repairs)
        cls.write(repairs, {'started_by': None, 'started_at': cls._now()})

    @classmethod
    @ModelView.button
    def finish(cls, repairs):
        "Consume the parts and have the goods inspected"
        pool = Pool()
        Part = pool.get('return.repair.part')
        cls.lock(repairs)
        repairs = [r for r in cls.browse(repairs) if r.state == 'started']
        cls._check_employee(repairs)
        Part.consume([p for r in repairs for p in r.parts])
        cls._finish(repairs)
        inspected = cls._create_inspections(repairs)
        cls._end([r for r in repairs if r not in inspected], 'done')
        cls._queue_orders(repairs)

    @classmethod
    @Workflow.transition('repaired')
    @set_employee('repaired_by')
    def _finish(cls, repairs):
        cls.write(repairs, {'repaired_by': None, 'repaired_at': cls._now()})

    @classmethod
    def _create_inspections(cls, repairs):
        "Create the inspections and return the repairs that need one"
        pool = Pool()
        Control = pool.get('quality.control')
        Inspection = pool.get('quality.inspection')
        inspections = []
        for repair, control in Control.match_repairs(repairs).items():
            inspection = Inspection.get_from_control(control, repair)
            inspection.company = repair.company
            # Empty points are not stored and would not be shown
            inspection.points = {
                p.name: False for p in control.points
                if p.type_ == 'boolean'}
            inspections.append(inspection)
        Inspection.save(inspections)
        return {i.origin for i in inspections}

    @classmethod
    @ModelView.button
    def give_up(cls, repairs):
        "Keep that the goods cannot be repaired"
        pool = Pool()
        Part = pool.get('return.repair.part')
        cls.lock(repairs)
        repairs = [
            r for r in cls.browse(repairs)
            if r.state in {'draft', 'planned', 'started'}]
        cls._check_employee(repairs)
        for repair in repairs:
            if not repair.finding:
                raise RepairError(gettext(
                        'return_quality.msg_repair_finding',
                        repair=repair.rec_name))
        Part.consume([
                p for r in repairs for p in r.parts if r.state == 'started'])
        cls._give_up(repairs)
        cls._end(repairs, 'failed')
        cls._queue_orders(repairs)

    @classmethod
    @set_employee('given_up_by')
    def _give_up(cls, repairs):
        pass

    @classmethod
    @ModelView.button
    def cancel(cls, repairs):
        cls.lock(repairs)
        repairs = [
            r for r in cls.browse(repairs)
            if r.state in {'draft', 'planned'}]
        cls._check_employee(repairs)
        for repair in repairs:
            if repair.round > 1:
                raise RepairError(gettext(
                        'return_quality.msg_repair_cancel',
                        repair=repair.rec_name))
        cls._cancel(repairs)
        cls._end(repairs, 'cancelled')
        cls._queue_orders(repairs)

    @classmethod
    @set_employee('cancelled_by')
    def _cancel(cls, repairs):
        pass

    @classmethod
    def conclude(cls, inspections):
        "Let the repairs follow the results of their inspections"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        cls.lock([i.origin for i in inspections])
        repairs = defaultdict(list)
        for inspection in inspections:
            repair = inspection.origin
            if repair.state != 'repaired':
                continue
            if inspection.state == 'passed':
                state = 'done'
            elif repair.round < config.get_multivalue(
                    'repair_rounds', company=repair.company.id):
                state = 'draft'
            else:
                state = 'failed'
            repairs[state].append(repair)
        cls._repeat(repairs['draft'])
        for state in ['done', 'failed']:
            cls._end(repairs[state], state)
        cls._queue_orders([r for group in repairs.values() for r in group])

    @classmethod
    def _repeat(cls, repairs):
        "Have what did not pass planned once more"
        cls.set_due_date(repairs)
        for repair in repairs:
            repair.round += 1
            repair.state = 'draft'
        cls.save(repairs)
        cls.log(repairs, 'transition', 'state:draft')

    @classmethod
    def _end(cls, repairs, state):
        """Let the goods be decided anew from where they lie

        The decision for the repair gives way to the next one, so that the
        goods count once and in the same favour.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        if not repairs:
            return
        Order.lock(sorted({r.order for r in repairs}, key=int))
        cls.write(repairs, {'state': state})
        cls.log(repairs, 'transition', f'state:{state}')
        # No button may cancel what is done
        Disposition.write(
            [r.disposition for r in repairs], {'state': 'cancelled'})
        Disposition.save([
                r._get_disposition() for r in cls.browse(repairs)])

    def _get_disposition(self):
        "Return the draft of where the goods go from here"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        repaired = self.disposition
        disposition = Disposition(
            line=self.line,
            repair=self,
            action=self._get_default_action(),
            accepted=repaired.accepted,
            quantity=self.quantity,
            grade=repaired.grade)
        if self.state == 'cancelled':
            disposition.inspection = repaired.inspection
        return disposition

    def _get_default_action(self):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        forbidden = (
            self._get_forbidden_actions()
            | self.line.reason.all_forbidden_actions)
        actions = []
        if not self.disposition.accepted:
            actions.append('customer')
        actions.append(self.line._get_default_action())
        if self.line.wish == 'repair':
            actions.append('customer')
        if self.state == 'failed':
            actions.append('scrap')
        actions.extend(
            a for a, _ in Disposition.fields_get(
                ['action'])['action']['selection'])
        return next(a for a in actions if a and a not in forbidden)

    def _get_forbidden_actions(self):
        "Return where the goods must not go from here"
        actions = {'repair'}
        if self.state == 'failed':
            actions.update(['restock', 'resale'])
        return actions

    @classmethod
    def _take_up(cls, repairs):
        "Take the end of repairs back while nobody has decided anew"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        Order.lock(sorted({r.order for r in repairs}, key=int))
        for repair in repairs:
            if any(d.state not in {'draft', 'cancelled'}
                    or any(m.state != 'cancelled' for m in d.moves)
                    for d in repair.dispositions):
                raise RepairError(gettext(
                        'return_quality.msg_repair_decided',
                        repair=repair.rec_name))
        Disposition.cancel([
                d for r in repairs for d in r.dispositions
                if d.state == 'draft'])
        Disposition.write(
            [r.disposition for r in repairs], {'state': 'done'})
        cls._queue_orders(repairs)

    @classmethod
    def reopen(cls, inspections):
        "Take back what followed from the results of inspections"
        ended, repeated = [], []
        cls.lock([i.origin for i in inspections])
        for inspection in inspections:
            repair = inspection.origin
            last = max(repair.quality_inspections, key=int)
            if (inspection != last
                    or repair.given_up_by
                    or repair.state not in {'draft', 'done', 'failed'}):
                raise RepairError(gettext(
                        'return_quality.msg_repair_reopen',
                        inspection=inspection.rec_name,
                        repair=repair.rec_name))
            if repair.state == 'draft':
                repair.round -= 1
                repeated.append(repair)
            else:
                ended.append(repair)
        cls.save(repeated)
        cls._take_up(ended)
        cls.write(ended + repeated, {'state': 'repaired'})
        cls._queue_orders(repeated)

    @classmethod
    def _queue_orders(cls, repairs):
        pool = Pool()
        Order = pool.get('return.order')
        Order._queue_process(list(dict.fromkeys(r.order for r in repairs)))

    def _get_parts_location(self):
        "Return where the consumed parts go"
        warehouse = self.order.warehouse
        if not warehouse.lost_found_location:
            raise AreaError(gettext(
                    'return_management.msg_area_missing',
                    **warehouse.__names__('lost_found_location', warehouse)))
        return warehouse.lost_found_location

    def _get_outgoing(self):
        """Return what is decided from here and what of it came back

        What was not resold comes back to where the line's goods are decided.
        """
        outgoing = back = 0
        for disposition in self.dispositions:
            quantity = (
                0 if disposition.state == 'cancelled'
                else disposition.quantity)
            left = max(quantity, disposition._get_moved_quantity())
            outgoing += left
            back += left - quantity
        return self.unit.round(outgoing), self.unit.round(back)


class Repair_Lot(metaclass=PoolMeta):
    __name__ = 'return.repair'

    lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Lots",
            help="The lots and serial numbers that are repaired."),
        'get_lots')

    def get_lots(self, name):
        return list(dict.fromkeys(
                m.lot.id for m in self.disposition.moves
                if m.lot and m.state == 'done'))

    def _get_disposition(self):
        disposition = super()._get_disposition()
        # A disposition of kits names no lot
        if len(self.lots) == 1 and self.line.received_lots:
            disposition.lot, = self.lots
        return disposition


class Replace(metaclass=PoolMeta):
    __name__ = 'party.replace'

    @classmethod
    def fields_to_replace(cls):
        return super().fields_to_replace() + [
            ('return.repair', 'repairer'),
            ]
