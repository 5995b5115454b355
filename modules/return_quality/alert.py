# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import namedtuple
from math import exp, lgamma, log, log1p

from dateutil.relativedelta import relativedelta
from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import set_employee
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Date, Eval, If
from trytond.transaction import Transaction

from .defect import CAUSES
from .exceptions import AlertError

Counts = namedtuple('Counts', [
        'returns', 'deliveries', 'past_returns', 'past_deliveries'])


def get_probability(counts):
    """Return how probable so many returns are if the rate has not changed

    With the total of the returns given, those of the last period follow the
    binomial distribution whose probability is the period's part of the
    deliveries (the conditional test of two Poisson rates: Przyborowski and
    Wilenski, Biometrika 31, 1940).  It needs no assumed rate, and few past
    returns make it careful.

    Counts of integers; returns a float from 0 to 1, 1 without deliveries.
    """
    returns, deliveries, past_returns, past_deliveries = counts
    if not returns or not deliveries or not past_deliveries:
        return 1.
    total = returns + past_returns
    part = deliveries / (deliveries + past_deliveries)

    def probability(n):
        return exp(
            lgamma(total + 1) - lgamma(n + 1) - lgamma(total - n + 1)
            + n * log(part) + (total - n) * log1p(-part))

    return min(1., sum(probability(n) for n in range(returns, total + 1)))


def find_jumps(counts, probability, minimum):
    """Return the keys of the counts whose rate jumped, with the probability

    counts maps keys to Counts; the last period needs the minimum of returns.
    probability is that of a false alarm among all keys of a run: it is
    divided by the number of those that are tested (Bonferroni).
    """
    tested = {k: c for k, c in counts.items() if c.returns >= minimum}
    jumps = {}
    for key, counted in tested.items():
        found = get_probability(counted)
        if found < probability / len(tested):
            jumps[key] = found
    return jumps


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    alert_probability = fields.Float(
        "False Alarms", digits=(1, 4), required=True,
        domain=[
            ('alert_probability', '>', 0),
            ('alert_probability', '<', 1),
            ],
        help="The probability that a month in which nothing has changed "
        "raises an alert.")
    alert_minimum = fields.Integer(
        "Minimal Returns", required=True,
        domain=[
            ('alert_minimum', '>', 0),
            ],
        help="The number of returns in a month below which no alert is "
        "raised.")

    @classmethod
    def default_alert_probability(cls):
        return 0.01

    @classmethod
    def default_alert_minimum(cls):
        return 5


class Alert(metaclass=PoolMeta):
    __name__ = 'quality.alert'

    _states_jump = {
        'invisible': ~Eval('return_month'),
        }
    _states_return = {
        'readonly': ~Eval('state').in_(['open', 'processing']),
        'invisible': ~Eval('return_month'),
        }

    return_month = fields.Date(
        "Month", readonly=True, states=_states_jump,
        help="The first day of the month whose rate of returns jumped.")
    returns = fields.Integer(
        "Returns", readonly=True, states=_states_jump,
        help="The number of returns in the month.")
    deliveries = fields.Integer(
        "Deliveries", readonly=True, states=_states_jump,
        help="The number of sale lines delivered in the month.")
    rate = fields.Float(
        "Rate", digits=(16, 4), readonly=True, states=_states_jump,
        help="Returns divided by deliveries of the month.")
    past_rate = fields.Float(
        "Rate Before", digits=(16, 4), readonly=True, states=_states_jump,
        help="Returns divided by deliveries of the twelve months before.")
    probability = fields.Float(
        "Probability", digits=(1, 8), readonly=True, states=_states_jump,
        help="How probable so many returns were if the rate had not "
        "changed.")
    cause = fields.Selection(
        [(None, "")] + CAUSES, "Cause", sort=False, states=_states_return)
    cause_analysis = fields.Text("Cause Analysis", states=_states_return)
    proposal = fields.Text(
        "Proposal", states=_states_return, help="What should be improved.")
    department = fields.Selection([
            (None, ""),
            ('production', "Production"),
            ('purchase', "Purchasing"),
            ('quality', "Quality"),
            ('logistics', "Logistics"),
            ('sales', "Sales"),
            ('management', "Management"),
            ], "Department", sort=False, states=_states_return,
        help="Who is responsible for the improvement.")
    department_string = department.translated('department')
    due_date = fields.Date(
        "Due Date", states=_states_return,
        help="When the improvement must be made.")
    follow_up = fields.Text(
        "Follow-up", states=_states_return, help="What has been done.")
    effective = fields.Selection([
            (None, ""),
            ('yes', "Yes"),
            ('no', "No"),
            ], "Effective", sort=False, states=_states_return,
        help="Whether the rate has fallen since; an alert is resolved only "
        "by an improvement that works.")
    effective_by = fields.Many2One(
        'company.employee', "Effectiveness Checked by", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('effective_by'),
            },
        help="Who signed it with the resolution.")

    _return_fields = {
        'return_month', 'returns', 'deliveries', 'rate', 'past_rate',
        'probability', 'effective_by'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(
                    t, (t.origin, Index.Equality()), (t.return_month,
                        Index.Range()),
                    where=t.return_month != Null),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['open', 'processing'])
                    & (t.return_month != Null)),
                })

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/form//page[@id="return"]', 'states', {
                    'invisible': ~Eval('return_month'),
                    }),
            ('/tree/field[@name="due_date"]', 'visual',
                If(Eval('state').in_(['open', 'processing'])
                    & (Eval('due_date', Date()) < Date()),
                    'danger', '')),
            ]

    @classmethod
    def _get_origins(cls):
        return super()._get_origins() + ['product.product', 'return.defect']

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            for values in vlist:
                cls._check_return_fields(
                    n for n, v in values.items() if v is not None)
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            actions = iter(args)
            for alerts, values in zip(actions, actions):
                cls._check_return_fields(values)
                cls._check_open(alerts)
        super().write(*args)

    @classmethod
    def _check_return_fields(cls, names):
        for name in cls._return_fields.intersection(names):
            raise AccessError(gettext(
                    'return_management.msg_field_guarded',
                    **cls.__names__(name)))

    @classmethod
    def _check_open(cls, alerts):
        "Check that what was resolved stays as it is"
        for alert in alerts:
            if alert.return_month and alert.state == 'resolved':
                raise AccessError(gettext(
                        'return_quality.msg_alert_modify',
                        alert=alert.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('resolved')
    @set_employee('resolved_by')
    def resolve(cls, alerts):
        pool = Pool()
        Order = pool.get('return.order')
        for alert in alerts:
            if not alert.return_month:
                continue
            for name in [
                    'cause', 'proposal', 'department', 'due_date',
                    'follow_up']:
                if not getattr(alert, name):
                    raise AlertError(gettext(
                            'return_quality.msg_alert_resolve',
                            alert=alert.rec_name,
                            **cls.__names__(name)))
            if alert.effective != 'yes':
                raise AlertError(gettext(
                        'return_quality.msg_alert_effective',
                        alert=alert.rec_name))
            alert.effective_by = Order._get_employee(alert.company)
        cls.save(alerts)
        super().resolve(alerts)

    @classmethod
    def detect_returns(cls, today=None):
        """Raise an alert of each product and defect whose rate jumped

        The last whole month is compared with the twelve before, once; what
        has an open alert gets no other one.
        """
        pool = Pool()
        Company = pool.get('company.company')
        Date = pool.get('ir.date')
        alerts = []
        for company in Company.search([]):
            with Transaction().set_context(company=company.id):
                month = (today or Date.today()).replace(day=1) - (
                    relativedelta(months=1))
                alerts.extend(cls._get_return_alerts(company, month))
        cls.save(alerts)
        return alerts

    @classmethod
    def _get_return_alerts(cls, company, month):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        configuration = Configuration(1)
        known = {
            a.origin for a in cls.search([
                    ('company', '=', company.id),
                    ('return_month', '!=', None),
                    ['OR',
                        ('return_month', '=', month),
                        ('state', 'in', ['open', 'processing']),
                        ],
                    ])}
        counts = cls._get_return_counts(company, month)
        jumps = find_jumps(
            counts, configuration.alert_probability,
            configuration.alert_minimum)
        return [
            cls._get_return_alert(
                company, origin, month, counts[origin], probability)
            for origin, probability in jumps.items() if origin not in known]

    @classmethod
    def _get_return_counts(cls, company, month):
        "Map the products and defects to the counts of the month and before"
        pool = Pool()
        Analysis = pool.get('return.quality.analysis')
        year = relativedelta(years=1)
        day = relativedelta(days=1)
        periods = [
            (month, month + relativedelta(months=1) - day),
            (month - year, month - day)]
        counts = {}
        for dimension, category in [('product', 'quality'), ('defect', None)]:
            (returns, deliveries), (past_returns, past_deliveries) = (
                Analysis.count(
                    dimension, company=company.id, product=None,
                    reason_category=category, from_date=start, to_date=end)
                for start, end in periods)
            for origin in returns:
                counts[origin] = Counts(
                    returns[origin], deliveries[origin],
                    past_returns[origin], past_deliveries[origin])
        return counts

    @classmethod
    def _get_return_alert(cls, company, origin, month, counts, probability):
        return cls(
            company=company,
            origin=origin,
            title=gettext(
                'return_quality.msg_alert_title', origin=origin.rec_name),
            return_month=month,
            returns=counts.returns,
            deliveries=counts.deliveries,
            rate=round(counts.returns / counts.deliveries, 4),
            past_rate=round(
                counts.past_returns / counts.past_deliveries, 4),
            probability=round(probability, 8))


class Cron(metaclass=PoolMeta):
    __name__ = 'ir.cron'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.method.selection.append((
                'quality.alert|detect_returns',
                "Detect Jumps of Returns"))
