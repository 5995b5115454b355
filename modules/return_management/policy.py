# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from bisect import bisect_right
from collections import defaultdict
from decimal import Decimal
from itertools import chain
from operator import itemgetter

from trytond.i18n import gettext
from trytond.model import (
    Index, MatchMixin, ModelSQL, ModelView, Workflow, fields,
    sequence_ordered)
from trytond.model.exceptions import AccessError, RequiredValidationError
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Date, Eval, If
from trytond.transaction import Transaction

from .exceptions import (
    PolicyFeeError, PolicyPublishError, PolicyStartWarning)
from .model import GuardedMixin
from .reason import CATEGORIES

TIMINGS = [
    ('approval', "Approval"),
    ('receipt', "Receipt"),
    ('inspection', "Inspection"),
    ]
FREIGHTS = [
    ('none', "None"),
    ('proportional', "Proportional"),
    ('full', "Full"),
    ]


class Policy(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Policy"
    __name__ = 'return.policy'

    _states = {
        'readonly': Eval('state') != 'draft',
        }
    _states_text = {
        'readonly': _states['readonly'],
        'required': Eval('state') != 'draft',
        }

    name = fields.Char("Name", required=True, translate=True, states=_states)
    company = fields.Many2One(
        'company.company', "Company", ondelete='RESTRICT', states=_states,
        help="The company that the policy binds.\n"
        "Leave empty for all companies.")
    start_date = fields.Date(
        "Start Date", states=_states_text,
        help="The policy is in force for sales made from this date "
        "until a later version starts.")
    end_date = fields.Date(
        "End Date", readonly=True,
        states={
            'invisible': ~Eval('end_date'),
            },
        help="The last day on which sales are made under the policy; "
        "set when it is retired.")
    conditions = fields.Text(
        "Conditions", translate=True, states=_states_text,
        help="Which goods may be returned and in which state, "
        "as the customer reads it.")
    period = fields.Text(
        "Period", translate=True, states=_states_text,
        help="Until when the customer may apply, as the customer reads it.")
    process = fields.Text(
        "Process", translate=True, states=_states_text,
        help="How the customer applies and what happens then, "
        "as the customer reads it.")
    refund_method = fields.Text(
        "Refund Method", translate=True, states=_states_text,
        help="How and when the money goes back, as the customer reads it.")
    lines = fields.One2Many(
        'return.policy.line', 'policy', "Lines", states=_states,
        help="The rules; of those that match a return "
        "the most specific one applies.")
    published_by = fields.Many2One(
        'company.employee', "Published by", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': Eval('state') == 'draft',
            },
        help="Who published the version.")
    published_at = fields.DateTime(
        "Published at", readonly=True,
        states={
            'invisible': Eval('state') == 'draft',
            },
        help="When the version was published.")
    state = fields.Selection([
            ('draft', "Draft"),
            ('published', "Published"),
            ('retired', "Retired"),
            ], "State", required=True, readonly=True, sort=False,
        help="A published version is never changed, only succeeded.")

    _guarded_fields = {'end_date', 'published_by', 'published_at', 'state'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.start_date, Index.Range(order='DESC'))),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['draft', 'published'])),
                })
        cls._order = [('start_date', 'DESC NULLS FIRST'), ('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'published'),
            ('published', 'retired'),
            }
        cls._buttons.update({
                'publish': {
                    'invisible': Eval('state') != 'draft',
                    'readonly': ~Eval('lines', []),
                    'depends': ['state', 'lines'],
                    },
                'retire': {
                    'invisible': Eval('state') != 'published',
                    'depends': ['state'],
                    },
                'succeed': {
                    'invisible': ~Eval('state').in_(['published', 'retired']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_state(cls):
        return 'draft'

    def get_rec_name(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        if self.start_date:
            return '%s (%s)' % (
                self.name, Lang.get().strftime(self.start_date))
        return self.name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual',
                If(Eval('end_date', dt.date.max) < Date(), 'muted', '')),
            ]

    @classmethod
    def copy(cls, policies, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('state', 'draft')
        for name in ['start_date', 'end_date', 'published_by', 'published_at']:
            default.setdefault(name)
        return super().copy(policies, default=default)

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for policies, values in zip(actions, actions):
            if set(values) - cls._guarded_fields:
                cls.check_draft(policies)
        super().write(*args)

    @classmethod
    def delete(cls, policies):
        cls.check_draft(policies)
        super().delete(policies)

    @classmethod
    def check_draft(cls, policies):
        "Check that nobody has relied on the policies yet"
        for policy in policies:
            if policy.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_policy_modify',
                        policy=policy.rec_name))

    @classmethod
    def _text_fields(cls):
        "Return the names of the parts of the text, in order"
        return ['conditions', 'period', 'process', 'refund_method']

    @property
    def has_ended(self):
        "Whether sales made today do not fall under the policy any more"
        return bool(self.end_date) and self.end_date < self._get_today()

    def get_text(self):
        """Return the label and the text of each part that is filled

        In the language of the context.
        """
        policy = self.__class__(self.id)
        return [
            (policy.__names__(name)['field'], getattr(policy, name))
            for name in policy._text_fields() if getattr(policy, name)]

    @classmethod
    @ModelView.button
    def publish(cls, policies):
        pool = Pool()
        User = pool.get('res.user')
        cls.lock(cls.search([('state', '!=', 'retired')]))
        policies = [p for p in cls.browse(policies) if p.state == 'draft']
        policies.sort(key=lambda p: p.start_date or dt.date.min)
        versions = defaultdict(list)
        for version in cls.search([
                    ('company', 'in', list({p.company for p in policies})),
                    ('state', 'in', ['published', 'retired']),
                    ]):
            if not version.end_date or version.end_date >= version.start_date:
                versions[version.company].append(version)
        ends = {}
        for policy in policies:
            policy.check_publish(versions[policy.company])
            for version in versions[policy.company]:
                if version.state != 'retired':
                    ends[version] = policy.start_date - dt.timedelta(days=1)
            versions[policy.company] = [policy]
        employee = User(Transaction().user).employee
        cls.write(policies, {
                'published_by': employee.id if employee else None,
                'published_at': dt.datetime.now().replace(microsecond=0),
                })
        cls._publish(policies)
        cls._end(ends)

    def check_publish(self, versions):
        """Check that the policy may be published

        versions are those of the same company that are or were in force.
        """
        pool = Pool()
        Lang = pool.get('ir.lang')
        Warning = pool.get('res.user.warning')
        lang = Lang.get()
        for name in ['start_date', *self._text_fields(), 'lines']:
            value = getattr(self, name)
            if isinstance(value, str):
                value = value.strip()
            if not value:
                raise RequiredValidationError(gettext(
                        'return_management.msg_policy_publish_required',
                        policy=self.rec_name,
                        **self.__names__(name)))
        for version in versions:
            if version.start_date >= self.start_date:
                raise PolicyPublishError(gettext(
                        'return_management.msg_policy_publish_start',
                        policy=self.rec_name,
                        version=version.name,
                        date=lang.strftime(version.start_date)))
        if self.start_date < self._get_today():
            key = Warning.format('start_date', [self])
            if Warning.check(key):
                raise PolicyStartWarning(key, gettext(
                        'return_management.msg_policy_publish_past',
                        policy=self.rec_name))

    def _get_today(self):
        pool = Pool()
        Date = pool.get('ir.date')
        with Transaction().set_context(
                company=self.company.id if self.company
                else Transaction().context.get('company')):
            return Date.today()

    @classmethod
    @Workflow.transition('published')
    def _publish(cls, policies):
        pass

    @classmethod
    @ModelView.button
    def retire(cls, policies):
        cls.lock(policies)
        cls._end({
                p: p._get_today() for p in cls.browse(policies)
                if p.state == 'published'})

    @classmethod
    def _end(cls, ends):
        "Retire policies; ends maps them to their last day"
        policies = defaultdict(list)
        for policy, date in ends.items():
            policies[date].append(policy)
        to_write = []
        for date, ended in policies.items():
            to_write.extend((ended, {'end_date': date}))
        if to_write:
            cls.write(*to_write)
        cls._retire(cls.browse(list(ends)))

    @classmethod
    @Workflow.transition('retired')
    def _retire(cls, policies):
        pass

    @classmethod
    @ModelView.button_action('return_management.act_policy_successor')
    def succeed(cls, policies):
        successors = cls.copy([p for p in policies if p.state != 'draft'])
        if not successors:
            return
        return {'res_id': list(map(int, successors))}

    @classmethod
    def in_force(cls, keys):
        """Map each (company id, date) of keys to the policy in force then

        A policy of the company is preferred to a common one; of several the
        one that started last.  The value is None where there was no policy.
        """
        versions = cls.search([
                ('company', 'in', list({c for c, _ in keys}) + [None]),
                ('state', 'in', ['published', 'retired']),
                ],
            order=[
                ('company', 'ASC NULLS LAST'),
                ('start_date', 'DESC'),
                ('id', 'DESC')])
        return {
            (company, date): next((
                    v for v in versions
                    if (not v.company or v.company.id == company)
                    and v.start_date <= date
                    and (not v.end_date or date <= v.end_date)), None)
            for company, date in keys}

    def get_rules(self):
        "Return the lines in the form to match many patterns"
        return Rules(self.lines)

    def find(self, pattern):
        """Return the statutory and the goodwill line that match the pattern

        The most specific of each, None where there is none.  For many
        patterns use the find of get_rules.
        """
        return self.get_rules().find(pattern)


class Rules:
    "The lines of a policy, kept such that few of them are tried for a match"
    __slots__ = ('_index', '_named', '_minimums')
    _criteria = ['product', 'product_category', 'party']

    def __init__(self, lines):
        self._index = defaultdict(list)
        for rank, line in enumerate(self._sort(lines)):
            self._index[self._get_key(line)].append((rank, line))
        self._named = {
            name: {self._get_value(l, name) for l in lines} - {None}
            for name in [*self._criteria, 'reason_category', 'channel']}
        self._minimums = sorted(
            l.minimum_amount for l in lines if l.minimum_amount is not None)

    @property
    def by_amount(self):
        "Whether the amount decides which lines match"
        return bool(self._minimums)

    def get_key(self, pattern):
        """Return what of the pattern decides which lines match

        All that no line names is alike, so are the amounts that reach as many
        minimum amounts.
        """
        pattern = pattern.copy()
        categories = pattern.pop('product_categories')
        amount = pattern.pop('amount')
        return (
            *(v if v in self._named[n] else None for n, v in pattern.items()),
            frozenset(categories & self._named['product_category']),
            bisect_right(self._minimums, amount))

    def _sort(self, lines):
        return sorted(lines, key=lambda l: l.specificity())

    def _get_key(self, line):
        for name in self._criteria:
            value = self._get_value(line, name)
            if value:
                return name, value

    @staticmethod
    def _get_value(line, name):
        value = getattr(line, name)
        return getattr(value, 'id', value)

    def _get_candidates(self, pattern):
        keys = [
            ('product', pattern.get('product')),
            *(('product_category', c)
                for c in pattern.get('product_categories', [])),
            ('party', pattern.get('party')),
            None]
        candidates = sorted(
            chain.from_iterable(
                self._index[k] for k in keys if k in self._index),
            key=itemgetter(0))
        return [line for _, line in candidates]

    def find(self, pattern):
        found = {}
        for line in self._get_candidates(pattern):
            if line.basis not in found and line.match(pattern):
                found[line.basis] = line
                if len(found) == 2:
                    break
        return found.get('statutory'), found.get('goodwill')


class Line(sequence_ordered(), MatchMixin, ModelSQL, ModelView):
    "Return Policy Line"
    __name__ = 'return.policy.line'

    _states = {
        'readonly': Eval('policy_state', 'draft') != 'draft',
        }
    _states_fee = {
        'readonly': _states['readonly'] | (Eval('basis') == 'statutory'),
        }

    policy = fields.Many2One(
        'return.policy', "Policy", required=True, ondelete='CASCADE',
        states={
            'readonly': _states['readonly'] & Bool(Eval('policy')),
            })
    policy_state = fields.Function(
        fields.Selection('get_policy_states', "Policy State"),
        'on_change_with_policy_state')
    product = fields.Many2One(
        'product.product', "Product", ondelete='RESTRICT', states=_states,
        context={
            'company': Eval('_parent_policy', {}).get('company', -1),
            },
        depends={'policy'},
        help="Leave empty for all products.")
    product_category = fields.Many2One(
        'product.category', "Product Category", ondelete='RESTRICT',
        states=_states,
        help="The category or one of its children.\n"
        "Leave empty for all categories.")
    reason_category = fields.Selection(
        [(None, "")] + CATEGORIES, "Reason Category", sort=False,
        states=_states,
        help="Leave empty for all reasons.")
    reason_category_string = reason_category.translated('reason_category')
    party = fields.Many2One(
        'party.party', "Customer", ondelete='RESTRICT', states=_states,
        context={
            'company': Eval('_parent_policy', {}).get('company', -1),
            },
        depends={'policy'},
        help="Leave empty for all customers.")
    channel = fields.Selection(
        'get_channels', "Channel", states=_states,
        help="How the customer applied.\n"
        "Leave empty for all channels.")
    minimum_amount = Monetary(
        "Minimum Amount", currency='currency', digits='currency',
        domain=['OR',
            ('minimum_amount', '=', None),
            ('minimum_amount', '>=', 0),
            ],
        states=_states,
        help="The rule applies to a return line whose goods are worth at "
        "least this amount, untaxed.\n"
        "In the currency of the company; leave empty for all amounts.")
    basis = fields.Selection([
            ('statutory', "Statutory"),
            ('goodwill', "Goodwill"),
            ], "Basis", required=True, sort=False, states=_states,
        help="Statutory: a right that the law gives the customer.\n"
        "Goodwill: what the company grants beyond it; it can extend the "
        "statutory right but never cut it.")
    basis_string = basis.translated('basis')
    period = fields.Integer(
        "Period", required=True, states=_states,
        domain=[
            ('period', '>=', 0),
            ('period', '<=', 36500),
            ],
        help="The number of days within which the customer "
        "may apply; the last day included.")
    period_unit = fields.Selection([
            ('calendar', "Days"),
            ('working', "Working Days"),
            ], "Period Unit", required=True, sort=False, states=_states,
        help="Which days the period counts.")
    period_from = fields.Selection([
            ('delivery', "Delivery"),
            ('invoice', "Invoice"),
            ('order', "Order"),
            ], "Counted from", required=True, states=_states,
        help="The date from which the period counts.\n"
        "Delivery: the proof of delivery, else the dispatch plus the "
        "transit days.\n"
        "Invoice: the date of the last posted invoice.\n"
        "Order: the date of the sale.")
    period_from_string = period_from.translated('period_from')
    conditions = fields.Text(
        "Conditions", translate=True, states=_states,
        help="What else the rule asks for, in words; the explanation of the "
        "eligibility quotes it.")
    unopened = fields.Boolean(
        "Unopened", states=_states,
        help="Check to require that the goods were not opened.")
    accessories = fields.Boolean(
        "Accessories", states=_states,
        help="Check to require that the goods come back complete, "
        "with all accessories.")
    evidence = fields.Boolean(
        "Evidence", states=_states,
        help="Check to require an attachment of the return as evidence.")
    fee_rate = fields.Numeric(
        "Restocking Fee", digits=(5, 4), required=True, states=_states_fee,
        domain=[
            ('fee_rate', '>=', 0),
            ('fee_rate', '<=', 1),
            ],
        help="The share of the goods' amount, tax included, "
        "kept from the refund.")
    fee_amount = Monetary(
        "Fixed Fee", currency='currency', digits='currency',
        states=_states_fee,
        domain=['OR',
            ('fee_amount', '=', None),
            ('fee_amount', '>=', 0),
            ],
        help="The amount kept from the refund of each return line, added to "
        "the share; never more than what is refunded.\n"
        "In the currency of the company.")
    freight_refund = fields.Selection(
        FREIGHTS, "Freight Refund", required=True, sort=False, states=_states,
        help="How much the customer gets back of the freight paid with the "
        "sale: nothing, the share of the returned goods or all of it.")
    refund_timing = fields.Selection(
        TIMINGS, "Refund after", required=True, sort=False, states=_states,
        help="Which quantity is refunded: the approved one, "
        "the received one or the one accepted by the disposition.")
    roles = fields.MultiSelection([
            ('sales', "Sales"),
            ('quality', "Quality"),
            ('finance', "Finance"),
            ], "Final Signatures", required=True, states=_states,
        help="The roles that must sign the final review.")
    inspection = fields.Boolean(
        "Inspection", states=_states,
        help="Check to require an inspection of the received goods.")
    automatic_amount = Monetary(
        "Automatic Approval up to", currency='currency', digits='currency',
        domain=['OR',
            ('automatic_amount', '=', None),
            ('automatic_amount', '>=', 0),
            ],
        states=_states,
        help="A return whose goods are worth at most this amount, untaxed, "
        "is approved without signature when it is eligible.\n"
        "In the currency of the company; leave empty for never.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.party, Index.Range())))
        cls.__access__.add('policy')
        cls.sequence.states = cls._states

    @classmethod
    def default_policy_state(cls):
        return 'draft'

    @classmethod
    def default_basis(cls):
        return 'goodwill'

    @classmethod
    def default_period_unit(cls):
        return 'calendar'

    @classmethod
    def default_period_from(cls):
        return 'delivery'

    @classmethod
    def default_fee_rate(cls):
        return 0

    @classmethod
    def default_freight_refund(cls):
        return 'none'

    @classmethod
    def default_refund_timing(cls):
        return 'inspection'

    @classmethod
    def default_roles(cls):
        return ['sales', 'quality', 'finance']

    @classmethod
    def default_inspection(cls):
        return False

    @classmethod
    def get_policy_states(cls):
        pool = Pool()
        Policy = pool.get('return.policy')
        return Policy.fields_get(['state'])['state']['selection']

    @fields.depends('policy', '_parent_policy.state')
    def on_change_with_policy_state(self, name=None):
        return self.policy.state if self.policy else None

    @fields.depends('basis')
    def on_change_basis(self):
        if self.basis == 'statutory':
            self.fee_rate = Decimal(0)
            self.fee_amount = None

    @fields.depends('policy', '_parent_policy.company')
    def on_change_with_currency(self, name=None):
        if self.policy and self.policy.company:
            return self.policy.company.currency

    @classmethod
    def get_channels(cls):
        pool = Pool()
        Order = pool.get('return.order')
        return [(None, "")] + Order.fields_get(
            ['channel'])['channel']['selection']

    @property
    def period_string(self):
        "The length of the period in words"
        return gettext(
            'return_management.msg_policy_period_working'
            if self.period_unit == 'working'
            else 'return_management.msg_policy_period_calendar',
            days=self.period)

    def get_rec_name(self, name):
        criteria = [
            value if isinstance(value, str) else value.rec_name
            for value in [
                self.product, self.product_category, self.party,
                self.reason_category_string]
            if value]
        return ', '.join([
                self.policy.rec_name, *criteria, self.basis_string,
                self.period_string])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, _ = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('policy.rec_name', *clause[1:]),
            ('product.rec_name', *clause[1:]),
            ('product_category.rec_name', *clause[1:]),
            ('party.rec_name', *clause[1:]),
            ]

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Policy = pool.get('return.policy')
        # The data of modules publish a policy before they add its lines
        if Transaction().check_access:
            Policy.check_draft(Policy.browse(list({
                            int(v['policy'])
                            for v in vlist if v.get('policy')})))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        pool = Pool()
        Policy = pool.get('return.policy')
        policies = {l.policy for l in sum(args[::2], [])}
        for values in args[1::2]:
            if values.get('policy'):
                policies.add(Policy(int(values['policy'])))
        Policy.check_draft(Policy.browse(list(policies)))
        super().write(*args)

    @classmethod
    def delete(cls, lines):
        pool = Pool()
        Policy = pool.get('return.policy')
        Policy.check_draft(
            Policy.browse(list({l.policy for l in lines})))
        super().delete(lines)

    @classmethod
    def validate_fields(cls, lines, field_names):
        super().validate_fields(lines, field_names)
        cls.check_fee(lines, field_names)

    @classmethod
    def check_fee(cls, lines, field_names=None):
        "Check that no fee cuts a statutory right"
        if field_names and not (
                field_names & {'basis', 'fee_rate', 'fee_amount'}):
            return
        for line in lines:
            if line.basis == 'statutory' and (
                    line.fee_rate or line.fee_amount):
                raise PolicyFeeError(gettext(
                        'return_management.msg_policy_fee_statutory',
                        line=line.rec_name))

    def specificity(self):
        """Return the key that sorts the most specific line first

        A product is more specific than a category, a deep category than a
        shallow one; then come the customer, the reason, the higher minimum
        amount and the channel.  The sequence decides between equals.
        """
        depth, category = 0, self.product_category
        while category:
            depth += 1
            category = category.parent
        return (
            not self.product,
            -depth,
            not self.party,
            not self.reason_category,
            self.minimum_amount is None,
            -(self.minimum_amount or Decimal(0)),
            not self.channel,
            self.sequence is not None,
            self.sequence or 0,
            self.id or 0)

    def match(self, pattern, match_none=False):
        pattern = pattern.copy()
        categories = pattern.pop('product_categories', set())
        amount = pattern.pop('amount', None)
        if (self.product_category
                and self.product_category.id not in categories):
            return False
        if self.minimum_amount is not None and (
                amount is None or amount < self.minimum_amount):
            return False
        return super().match(pattern, match_none=match_none)

    def get_fee(self, amount, currency, company, date):
        """Return the fee to keep of the amount, rounded by its currency

        The fixed fee is converted at the company's rate of the date.
        """
        pool = Pool()
        Currency = pool.get('currency.currency')
        fixed = self.fee_amount or Decimal(0)
        if fixed and currency != company.currency:
            with Transaction().set_context(date=date):
                fixed = Currency.compute(company.currency, fixed, currency)
        return currency.round(min(amount * self.fee_rate + fixed, amount))

    def last_date(self, start, calendar=None):
        """Return the last date to apply when the period counts from start

        Working days are those of the calendar, per default that of the
        policy's company.
        """
        if self.period_unit == 'working':
            return (calendar or self._get_calendar()).add_days(
                start, self.period)
        return start + dt.timedelta(days=self.period)

    def _get_calendar(self):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Company = pool.get('company.company')
        return Calendar.get(
            self.policy.company
            or Company(Transaction().context.get('company')))


class Translation(metaclass=PoolMeta):
    __name__ = 'ir.translation'

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            cls._check_policies(
                (v.get('name'), v.get('res_id')) for v in vlist
                if v.get('type') == 'model')
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            keys = [
                (t.name, t.res_id) for t in sum(args[::2], [])
                if t.type == 'model']
            for translations, values in zip(args[::2], args[1::2]):
                if {'name', 'res_id', 'type'} & set(values):
                    keys.extend((
                            values.get('name', t.name),
                            values.get('res_id', t.res_id))
                        for t in translations)
            cls._check_policies(keys)
        super().write(*args)

    @classmethod
    def delete(cls, translations):
        if Transaction().check_access:
            cls._check_policies(
                (t.name, t.res_id) for t in translations
                if t.type == 'model')
        super().delete(translations)

    @classmethod
    def _check_policies(cls, keys):
        "Check that the texts of published policies stay as they are"
        pool = Pool()
        Policy = pool.get('return.policy')
        Line = pool.get('return.policy.line')
        ids = defaultdict(set)
        for name, res_id in keys:
            if name and res_id and res_id >= 0:
                ids[name.partition(',')[0]].add(res_id)
        policies = Policy.search([('id', 'in', list(ids[Policy.__name__]))])
        lines = Line.search([('id', 'in', list(ids[Line.__name__]))])
        Policy.check_draft(policies + [l.policy for l in lines])
