# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from bisect import bisect_right
from collections import defaultdict, namedtuple
from decimal import Decimal
from functools import lru_cache

from dateutil.relativedelta import relativedelta
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool
from trytond.pyson import Eval
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .calendar import get_local_date, get_zone
from .exceptions import SimulationError
from .wish import AUTOMATIC_WISHES

VERDICTS = [
    ('accepted', "Accepted"),
    ('refused', "Refused"),
    ]
Row = namedtuple('Row', [
        'id', 'order', 'party', 'channel', 'requested_at', 'currency',
        'automatic', 'product', 'quantity', 'unit_price', 'sale_line',
        'category', 'inspect', 'policy_line', 'goodwill_line', 'eligible',
        'unopened', 'complete', 'ordered_on', 'invoiced_on', 'delivered_on',
        'wish', 'price_reduction'])


class Verdict(namedtuple('Verdict', [
            'row', 'date', 'eligible', 'amount', 'refund_before',
            'refund_after', 'limit'])):
    """What a policy says of a past return line

    The amounts are untaxed and in the currency of the company.
    """
    __slots__ = ()

    @property
    def changed(self):
        return self.eligible != bool(self.row.eligible)


class Rule:
    "A policy line whose values and last dates are read only once"

    def __init__(self, line):
        self._line = line
        self.last_date = lru_cache(maxsize=None)(line.last_date)

    def __getattr__(self, name):
        value = getattr(self._line, name)
        setattr(self, name, value)
        return value


class Replay:
    """Past return lines judged again by a policy

    Those that customers applied for from start_date to end_date, on the dates
    and answers that they were judged by then.
    """

    def __init__(self, policy, company, start_date, end_date):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        self.policy = policy
        self.company = company
        self.currency = company.currency
        self.start_date = start_date
        self.end_date = end_date
        self.calendar = Calendar.get(company)
        self.rules = policy.get_rules()
        self._keep = lru_cache(maxsize=None)(Rule)
        self._found = {}
        self.verdicts = list(self._judge())

    def get_automatic_before(self):
        "Return the number of returns that were approved automatically"
        return len({
                v.row.order for v in self.verdicts if v.row.automatic})

    def get_automatic_after(self):
        "Return the number of returns that would be approved automatically"
        orders = defaultdict(list)
        for verdict in self.verdicts:
            orders[verdict.row.order].append(verdict)
        return sum(
            all(
                v.limit is not None and not v.row.inspect
                and v.row.wish in AUTOMATIC_WISHES for v in verdicts)
            and sum(v.amount for v in verdicts)
            <= min(v.limit for v in verdicts)
            for verdicts in orders.values())

    def explain(self, verdicts):
        "Return what the policy says of each of the lines, and why"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.browse([v.row.id for v in verdicts])
        return [
            line.explain(
                self.rules, self._get_pattern(v.row, v.amount),
                self._get_facts(v.row, v.date))
            for line, v in zip(lines, verdicts)]

    def _judge(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        PolicyLine = pool.get('return.policy.line')
        Product = pool.get('product.product')
        zone = get_zone(self.company)
        rows = []
        for row in self._get_rows():
            date = get_local_date(self.company, row.requested_at, zone)
            if self.start_date <= date <= self.end_date:
                rows.append((row, date))
        self._proved = self._get_proved()
        self._categories = {
            p.id: p.get_return_categories()
            for p in Product.browse(list({r.product for r, _ in rows}))}
        known = {
            r.id: r for r in PolicyLine.browse(list({
                        id_ for r, _ in rows
                        for id_ in [r.policy_line, r.goodwill_line] if id_}))}
        amounts = self._get_amounts(rows)
        for row, date in rows:
            amount = amounts[row.id]
            facts = self._get_facts(row, date)
            rules = [
                r for r in self._find(row, amount)
                if Line.is_eligible(r, facts)]
            rules_before = row.eligible and [
                known[r] for r in [row.policy_line, row.goodwill_line] if r]
            yield Verdict(
                row=row,
                date=date,
                eligible=bool(rules),
                amount=amount,
                refund_before=self._get_refund(
                    row, date, amount, rules_before),
                refund_after=self._get_refund(row, date, amount, rules),
                limit=Line.get_automatic_limit(rules, facts))

    def _find(self, row, amount):
        "Return the rules that match; lines that are alike are tried once"
        pool = Pool()
        Line = pool.get('return.order.line')
        pattern = self._get_pattern(row, amount)
        key = self.rules.get_key(pattern)
        if key not in self._found:
            self._found[key] = [
                self._keep(r) for r in Line._find_rules(self.rules, pattern)]
        return self._found[key]

    def _get_pattern(self, row, amount):
        return {
            'product': row.product,
            'product_categories': self._categories[row.product],
            'reason_category': row.category,
            'party': row.party,
            'channel': row.channel,
            'amount': amount,
            }

    def _get_rows(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        Opinion = pool.get('return.order.opinion')
        Order = pool.get('return.order')
        Reason = pool.get('return.reason')
        cursor = Transaction().connection.cursor()
        line = Line.__table__()
        opinion = Opinion.__table__()
        order = Order.__table__()
        reason = Reason.__table__()
        cursor.execute(*line
            .join(order, condition=line.order == order.id)
            .join(reason, condition=line.reason == reason.id)
            .join(opinion, 'LEFT', condition=(opinion.order == order.id)
                & (opinion.round == order.round)
                & (opinion.role == 'policy'))
            .select(
                line.id, order.id, order.party, order.channel,
                order.requested_at, order.currency, opinion.id,
                line.product, line.quantity, line.unit_price, line.sale_line,
                reason.category, reason.inspect, line.policy_line,
                line.goodwill_line, line.eligible, line.unopened,
                line.complete, line.ordered_on, line.invoiced_on,
                line.delivered_on, line.wish, line.price_reduction,
                where=self._get_where(order),
                order_by=[order.requested_at.desc, line.id.desc]))
        return map(Row._make, cursor)

    def _get_where(self, order):
        # The days are those of the company's time zone
        day = dt.timedelta(days=1)
        return ((order.company == self.company.id)
            & ~order.state.in_(['draft', 'cancelled'])
            & (order.requested_at
                >= dt.datetime.combine(self.start_date - day, dt.time()))
            & (order.requested_at
                < dt.datetime.combine(self.end_date + 2 * day, dt.time())))

    def _get_proved(self):
        "Return the set of the ids of orders that have an attachment"
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        Order = pool.get('return.order')
        cursor = Transaction().connection.cursor()
        attachment = Attachment.__table__()
        order = Order.__table__()
        cursor.execute(*order
            .join(attachment, condition=(
                    attachment.resource
                    == Concat(Order.__name__ + ',', order.id)))
            .select(order.id, where=self._get_where(order)))
        return {id_ for id_, in cursor}

    def _get_amounts(self, rows):
        "Map the id of rows to the untaxed amount of their goods"
        pool = Pool()
        Currency = pool.get('currency.currency')
        currencies = {
            c.id: c for c in Currency.browse(list({
                        r.currency for r, _ in rows}))}
        convert = self._get_converter(currencies)
        amounts = {}
        for row, date in rows:
            currency = currencies[row.currency]
            amount = currency.round(
                Decimal(str(row.quantity)) * (row.unit_price or Decimal(0)))
            if row.currency != self.currency.id:
                amount = convert(currency, amount, date)
            amounts[row.id] = amount
        return amounts

    def _get_converter(self, currencies):
        """Return the function that converts amounts at the rate of a date

        As Currency.compute, but the rates of all dates are read at once.
        """
        pool = Pool()
        Currency = pool.get('currency.currency')
        Rate = pool.get('currency.currency.rate')
        cursor = Transaction().connection.cursor()
        rate = Rate.__table__()
        cursor.execute(*rate.select(
                rate.currency, rate.date, rate.rate,
                where=rate.currency.in_([self.currency.id, *currencies]),
                order_by=rate.date.asc))
        dates, rates = defaultdict(list), defaultdict(lambda: [None])
        for currency, date, value in cursor:
            dates[currency].append(date)
            rates[currency].append(value)

        def get_rate(currency, date):
            return rates[currency.id][
                bisect_right(dates[currency.id], date)]

        def convert(currency, amount, date):
            from_rate = get_rate(currency, date)
            to_rate = get_rate(self.currency, date)
            if not from_rate or not to_rate:
                # It tells which rate is missing
                with Transaction().set_context(date=date):
                    return Currency.compute(currency, amount, self.currency)
            return self.currency.round(amount * to_rate / from_rate)

        return convert

    def _get_facts(self, row, date):
        return {
            'sale': bool(row.sale_line),
            'order': row.ordered_on,
            'invoice': row.invoiced_on,
            'delivery': row.delivered_on,
            'requested': date,
            'unopened': row.unopened,
            'complete': row.complete,
            'evidence': row.order in self._proved,
            'calendar': self.calendar,
            }

    def _get_refund(self, row, date, amount, rules):
        "Return what is left of the amount after the lowest fee of the rules"
        if not rules or row.wish in {'replacement', 'repair'}:
            return Decimal(0)
        if row.wish == 'price_reduction':
            return self.currency.round(amount * row.price_reduction)
        if row.category == 'quality':
            return amount
        return amount - min(
            r.get_fee(amount, self.currency, self.company, date)
            for r in rules)


class Simulate(Wizard):
    "Simulate Policy"
    __name__ = 'return.policy.simulate'

    start = StateView(
        'return.policy.simulate.start',
        'return_management.policy_simulate_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Simulate", 'simulate', 'tryton-ok', default=True),
            ])
    simulate = StateTransition()
    result = StateView(
        'return.policy.simulate.result',
        'return_management.policy_simulate_result_view_form', [
            Button("Back", 'start', 'tryton-back'),
            Button("Close", 'end', 'tryton-ok', default=True),
            ])
    _shown = 500

    def default_start(self, fields):
        pool = Pool()
        Date = pool.get('ir.date')
        company = (
            self.record.company.id if self.record.company
            else Transaction().context.get('company'))
        with Transaction().set_context(company=company):
            today = Date.today()
        return {
            'policy': self.record.id,
            'company': company,
            'start_date': today - relativedelta(years=1),
            'end_date': today,
            }

    def transition_simulate(self):
        pool = Pool()
        User = pool.get('res.user')
        start = self.start
        if (start.company not in User(Transaction().user).companies
                or (self.record.company
                    and self.record.company != start.company)):
            raise SimulationError(gettext(
                    'return_management.msg_simulation_company',
                    policy=self.record.rec_name))
        return 'result'

    def default_result(self, fields):
        replay = Replay(
            self.record, self.start.company,
            self.start.start_date, self.start.end_date)
        verdicts = replay.verdicts
        accepted_before = sum(bool(v.row.eligible) for v in verdicts)
        accepted_after = sum(v.eligible for v in verdicts)
        changed = [v for v in verdicts if v.changed]
        shown = changed[:self._shown]
        return {
            'policy': self.record.id,
            'currency': self.start.company.currency.id,
            'lines': len(verdicts),
            'accepted_before': accepted_before,
            'accepted_after': accepted_after,
            'refused_before': len(verdicts) - accepted_before,
            'refused_after': len(verdicts) - accepted_after,
            'automatic_before': replay.get_automatic_before(),
            'automatic_after': replay.get_automatic_after(),
            'refund_before': sum(
                (v.refund_before for v in verdicts), Decimal(0)),
            'refund_after': sum(
                (v.refund_after for v in verdicts), Decimal(0)),
            'changed': len(changed),
            'changes': [
                self._get_change(v, replay, explanation)
                for v, explanation in zip(shown, replay.explain(shown))],
            }

    def _get_change(self, verdict, replay, explanation):
        row = verdict.row
        return {
            'order': row.order,
            'party': row.party,
            'product': row.product,
            'requested_on': verdict.date,
            'before': 'accepted' if row.eligible else 'refused',
            'after': 'accepted' if verdict.eligible else 'refused',
            'refund_before': verdict.refund_before,
            'refund_after': verdict.refund_after,
            'currency': replay.currency.id,
            'explanation': explanation,
            }


class SimulateStart(ModelView):
    "Simulate Policy"
    __name__ = 'return.policy.simulate.start'

    policy = fields.Many2One('return.policy', "Policy", readonly=True)
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True,
        help="The company whose returns are judged again.")
    start_date = fields.Date(
        "From", required=True,
        domain=[
            ('start_date', '<=', Eval('end_date', None)),
            ],
        help="The first day on which customers applied.")
    end_date = fields.Date(
        "To", required=True,
        domain=[
            ('end_date', '>=', Eval('start_date', None)),
            ],
        help="The last day on which customers applied.")


class SimulateResult(ModelView):
    "Simulate Policy"
    __name__ = 'return.policy.simulate.result'

    policy = fields.Many2One('return.policy', "Policy", readonly=True)
    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)
    lines = fields.Integer(
        "Return Lines", readonly=True,
        help="The number of lines that were judged again: those of all "
        "returns but the draft and the cancelled ones.")
    accepted_before = fields.Integer(
        "Accepted until Now", readonly=True,
        help="The number of lines that were eligible.")
    accepted_after = fields.Integer(
        "Accepted under the Policy", readonly=True,
        help="The number of lines that would be eligible.")
    refused_before = fields.Integer(
        "Refused until Now", readonly=True,
        help="The number of lines that were not eligible.")
    refused_after = fields.Integer(
        "Refused under the Policy", readonly=True,
        help="The number of lines that would not be eligible.")
    automatic_before = fields.Integer(
        "Automatic until Now", readonly=True,
        help="The number of returns that were approved automatically.")
    automatic_after = fields.Integer(
        "Automatic under the Policy", readonly=True,
        help="The number of returns that would be approved automatically.")
    refund_before = Monetary(
        "Refund until Now", currency='currency', digits='currency',
        readonly=True,
        help="The goods of the eligible lines, untaxed, less the fees.")
    refund_after = Monetary(
        "Refund under the Policy", currency='currency', digits='currency',
        readonly=True,
        help="The goods of the lines that would be eligible, untaxed, "
        "less the fees.")
    changed = fields.Integer(
        "Changing Side", readonly=True,
        help="The number of lines that only one of the two accepts.")
    changes = fields.One2Many(
        'return.policy.simulate.change', None, "Changes", readonly=True,
        help="The latest of the lines that change side.")


class SimulateChange(ModelView):
    "Simulate Policy"
    __name__ = 'return.policy.simulate.change'

    order = fields.Many2One('return.order', "Return", readonly=True)
    party = fields.Many2One('party.party', "Customer", readonly=True)
    product = fields.Many2One('product.product', "Product", readonly=True)
    requested_on = fields.Date("Requested on", readonly=True)
    before = fields.Selection(
        VERDICTS, "Until Now", readonly=True, sort=False)
    after = fields.Selection(
        VERDICTS, "Under the Policy", readonly=True, sort=False)
    refund_before = Monetary(
        "Refund until Now", currency='currency', digits='currency',
        readonly=True)
    refund_after = Monetary(
        "Refund under the Policy", currency='currency', digits='currency',
        readonly=True)
    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)
    explanation = fields.Text(
        "Explanation", readonly=True,
        help="What the policy says of the line.")
