# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A policy is tried on many past returns at once."""
import datetime as dt
import re
import time
from collections import Counter, defaultdict, namedtuple
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from itertools import count, islice, starmap
from random import Random

import pytest
from proteus import Model

from trytond.modules.company.tests.tools import get_company
from trytond.modules.currency.tests.tools import get_currency
from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_policy, create_product, create_return,
    deliver, get_reason, stock)

from .statements import trace

SMALL, LARGE = 1_000, 100_000
SECONDS, STATEMENTS, SHOWN = 10, 150, 500
PRODUCTS, PARTIES, KINDS, LINES, FIRST_ID = 40, 50, 6, 2, 1_000
# The returns come on so many days, some before and after those looked at
FIRST, DAYS = dt.datetime(2023, 1, 1), 730
START, END = dt.date(2023, 1, 10), dt.date(2024, 12, 20)
# Without daylight saving time the local day is easy to know
TIMEZONE, AHEAD = 'Asia/Shanghai', dt.timedelta(hours=8)
DAYS_OFF = [dt.date(2023, 10, 2), dt.date(2024, 5, 1)]
CHANNELS = ['phone', 'web', 'email']
ANSWERS = [None, 'yes', 'no']
WISHES = ['refund', 'exchange', 'replacement', 'repair', 'price_reduction']

# The most specific first; the policy gets them the other way round.  The
# products and parties are numbers, the categories names.
RULES = [{
        'product': 3,
        'period': 50,
        'period_from': 'invoice',
        'accessories': True,
        'automatic_amount': Decimal(300),
        }, {
        'product_category': "Kind 4",
        'period': 30,
        'unopened': True,
        'fee_amount': Decimal(5),
        'automatic_amount': Decimal(200),
        }, {
        'product_category': "Group 0",
        'reason_category': 'quality',
        'basis': 'statutory',
        'period': 60,
        }, {
        'party': 5,
        'period': 62,
        'period_from': 'order',
        'automatic_amount': Decimal(600),
        }, {
        'reason_category': 'demand',
        'minimum_amount': Decimal(200),
        'period': 45,
        'evidence': True,
        'fee_rate': Decimal('.05'),
        }, {
        'reason_category': 'demand',
        'period': 15,
        'period_unit': 'working',
        'fee_rate': Decimal('.1'),
        'fee_amount': Decimal(2),
        'automatic_amount': Decimal(160),
        }, {
        'channel': 'phone',
        'basis': 'statutory',
        'period': 14,
        'automatic_amount': Decimal(120),
        }, {
        'period': 21,
        'fee_rate': Decimal('.2'),
        'automatic_amount': Decimal(80),
        }]
RULES_BEFORE = [
    {'period': 10, 'basis': 'statutory'},
    {'period': 20, 'fee_rate': Decimal('.15'), 'fee_amount': Decimal(1)},
    ]
Judged = namedtuple('Judged', [
        'key', 'order', 'automatic', 'before', 'after', 'amount',
        'refund_before', 'refund_after', 'limit'])


def get_rate(date):
    "Return how much of the foreign currency is one of the company's"
    return Decimal(90 + date.month) / 100


def get_lines(reasons):
    "Yield past returns and their lines, the same ones each time"
    random = Random(0)
    for number in count():
        requested_at = FIRST + dt.timedelta(
            days=random.randrange(DAYS), seconds=random.randrange(86400))
        order = {
            'number': number,
            'party': random.randrange(PARTIES),
            'channel': random.choice(CHANNELS),
            'requested_at': requested_at,
            'requested_on': (requested_at + AHEAD).date(),
            'foreign': random.random() < .1,
            'evidence': random.random() < .3,
            'automatic': random.random() < .2,
            }
        for i in range(LINES):
            delivered_on = order['requested_on'] - dt.timedelta(
                days=random.randrange(60))
            wish = random.choice(WISHES)
            yield order, {
                'number': number * LINES + i,
                'product': random.randrange(PRODUCTS),
                'reason': random.choice(reasons),
                'quantity': random.randrange(1, 8),
                'unit_price': Decimal(random.randrange(1, 5_000)) / 100,
                'ordered_on': delivered_on - dt.timedelta(days=4),
                'invoiced_on': delivered_on - dt.timedelta(days=1),
                'delivered_on': delivered_on,
                'unopened': random.choice(ANSWERS),
                'complete': random.choice(ANSWERS),
                'wish': wish,
                'price_reduction': (
                    Decimal(random.randrange(1, 100)) / 100
                    if wish == 'price_reduction' else None),
                'eligible': random.random() < .9,
                # The goodwill rule alone or both
                'rules_before': random.choice([[1], [0, 1]]),
                # Some have no sale or are not delivered and invoiced yet
                **random.choices([
                        {},
                        {'delivered_on': None},
                        {'invoiced_on': None},
                        {
                            'sale_line': None,
                            'ordered_on': None,
                            'invoiced_on': None,
                            'delivered_on': None,
                            },
                        ], [17, 1, 1, 1])[0],
                }


def create_goods():
    "Make the products, the categories by name and the customers"
    Category = Model.get('product.category')
    categories = {}
    for i in range(KINDS):
        group, kind = f"Group {i // 2}", f"Kind {i}"
        if group not in categories:
            categories[group] = Category(name=group)
            categories[group].save()
        categories[kind] = Category(name=kind, parent=categories[group])
        categories[kind].save()
    products = []
    for i in range(PRODUCTS):
        product = create_product(f"Product {i}")
        product.template.categories.append(
            Category(categories[f"Kind {i % KINDS}"].id))
        product.template.save()
        products.append(product)
    return products, categories, [
        create_customer(f"Customer {i}") for i in range(PARTIES)]


def set_company():
    "Let the company have a time zone, days off and a foreign currency"
    Calendar = Model.get('return.calendar')
    Rate = Model.get('currency.currency.rate')
    company = get_company()
    company.timezone = TIMEZONE
    company.save()
    calendar = Calendar(company=company)
    for day in DAYS_OFF:
        calendar.days.new(date=day, name="Off")
    calendar.save()
    currency = get_currency('EUR')
    for month in range(24):
        date = dt.date(2023 + month // 12, month % 12 + 1, 1)
        Rate(currency=currency, date=date, rate=get_rate(date)).save()
    return currency


def create_approval(database, order_id):
    "Return the ids of an attachment and an automatic approval of the order"
    results = []

    def create():
        from trytond.pool import Pool
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        Opinion = pool.get('return.order.opinion')
        order = pool.get('return.order')(order_id)
        results.extend(Attachment.create([{
                        'name': "Photo",
                        'resource': str(order),
                        }]))
        results.extend(Opinion.create([{
                        'order': order.id,
                        'stage': 'final',
                        'role': 'policy',
                        'round': order.round,
                        'decision': 'agree',
                        'signed_at': order.requested_at,
                        }]))

    trace(database, create)
    return [r.id for r in results]


def multiply(database, model, id_, changes):
    "Copy the record, by SQL, with the changes"
    from trytond.pool import Pool
    from trytond.transaction import Transaction

    with Transaction().start(database, 0) as transaction:
        cursor = transaction.connection.cursor()
        table = Pool().get(model).__table__()
        cursor.execute(*table.select(where=table.id == id_))
        names = [d[0] for d in cursor.description]
        values = dict(zip(names, cursor.fetchone()))
        query, _ = tuple(table.insert(
                [getattr(table, n) for n in names], [[''] * len(names)]))
        cursor.executemany(query, (
                [{**values, **change}[n] for n in names]
                for change in changes))
        transaction.commit()


def simulate(database, policy_id):
    "Return the result of the wizard, its statements and the seconds of CPU"
    results = []

    def call(function):
        from trytond.pool import Pool
        from trytond.transaction import Transaction
        Simulate = Pool().get('return.policy.simulate', type='wizard')
        with Transaction().set_context(
                active_model='return.policy', active_id=policy_id,
                active_ids=[policy_id]):
            results.append(function(Simulate))

    def show(Simulate):
        wizard = Simulate(session_id)
        for name, value in wizard.default_start([]).items():
            setattr(wizard.start, name, value)
        wizard.start.start_date, wizard.start.end_date = START, END
        start = time.process_time()
        result = wizard.default_result([])
        return result, time.process_time() - start

    trace(database, lambda: call(lambda Simulate: Simulate.create()))
    session_id, _, _ = results.pop()
    statements = trace(database, lambda: call(show))
    (result, seconds), = results
    return result, statements, seconds


def round_(amount):
    return amount.quantize(Decimal('.01'), ROUND_HALF_EVEN)


def get_amount(order, line):
    amount = round_(line['quantity'] * line['unit_price'])
    if order['foreign']:
        amount = round_(amount / get_rate(order['requested_on']))
    return amount


def find(order, line, amount):
    "Return the most specific rule of each basis"
    kind = line['product'] % KINDS
    criteria = {
        'product': {line['product']},
        'product_category': {f"Kind {kind}", f"Group {kind // 2}"},
        'party': {order['party']},
        'reason_category': {line['reason'].category},
        'channel': {order['channel']},
        }
    found = {}
    for rule in RULES:
        if (all(rule[n] in v for n, v in criteria.items() if n in rule)
                and amount >= rule.get('minimum_amount', 0)):
            found.setdefault(rule.get('basis', 'goodwill'), rule)
    return list(found.values())


@cache
def get_last_day(day, days, unit):
    if unit == 'calendar':
        return day + dt.timedelta(days=days)
    while days:
        day += dt.timedelta(days=1)
        days -= day.weekday() < 5 and day not in DAYS_OFF
    return day


def holds(rule, order, line):
    "Test if the rule gives the right to return"
    day = line[{
            'delivery': 'delivered_on',
            'invoice': 'invoiced_on',
            'order': 'ordered_on',
            }[rule.get('period_from', 'delivery')]]
    return (
        day is not None
        and order['requested_on'] <= get_last_day(
            day, rule['period'], rule.get('period_unit', 'calendar'))
        and not (rule.get('unopened') and line['unopened'] == 'no')
        and not (rule.get('accessories') and line['complete'] == 'no')
        and not (rule.get('evidence') and not order['evidence']))


def get_refund(line, amount, rules):
    if not rules or line['wish'] in {'replacement', 'repair'}:
        return Decimal(0)
    if line['wish'] == 'price_reduction':
        return round_(amount * line['price_reduction'])
    if line['reason'].category == 'quality':
        return amount
    return amount - min(
        round_(min(
                amount * r.get('fee_rate', 0) + r.get('fee_amount', 0),
                amount))
        for r in rules)


def get_limit(line, rules):
    "Return the highest amount of the automatic approval, None for never"
    if line['reason'].inspect or line['wish'] not in {'refund', 'exchange'}:
        return None
    return max((
            r['automatic_amount'] for r in rules
            if 'automatic_amount' in r
            and not (r.get('unopened') and not line['unopened'])
            and not (r.get('accessories') and not line['complete'])),
        default=None)


def judge(size, reasons):
    "Return what the policy says of so many lines, the latest first"
    judged = []
    for order, line in islice(get_lines(reasons), size):
        if not START <= order['requested_on'] <= END:
            continue
        amount = get_amount(order, line)
        rules = [
            r for r in find(order, line, amount) if holds(r, order, line)]
        rules_before = [
            RULES_BEFORE[i] for i in line['rules_before'] if line['eligible']]
        judged.append(Judged(
                (order['requested_at'], line['number']), order['number'],
                order['automatic'], line['eligible'], bool(rules), amount,
                get_refund(line, amount, rules_before),
                get_refund(line, amount, rules), get_limit(line, rules)))
    return sorted(judged, reverse=True)


def get_figures(judged):
    "Return the figures of the result"
    orders = defaultdict(list)
    for line in judged:
        orders[line.order].append(line)
    before = sum(l.before for l in judged)
    after = sum(l.after for l in judged)
    return {
        'lines': len(judged),
        'accepted_before': before,
        'accepted_after': after,
        'refused_before': len(judged) - before,
        'refused_after': len(judged) - after,
        'automatic_before': sum(
            lines[0].automatic for lines in orders.values()),
        'automatic_after': sum(
            all(l.limit is not None for l in lines)
            and sum(l.amount for l in lines) <= min(l.limit for l in lines)
            for lines in orders.values()),
        'refund_before': sum(l.refund_before for l in judged),
        'refund_after': sum(l.refund_after for l in judged),
        'changed': sum(l.before != l.after for l in judged),
        }


@pytest.mark.sqlite
def test_scale(database, record_property):
    "Test the figures, the statements and the time of many past lines"
    activate('return_management')
    products, categories, parties = create_goods()
    stock(products[0], 10)
    sale = deliver(parties[0], (products[0], 1))
    template = create_return(
        sale, reason=get_reason('demand'), state='submitted')
    template_line, = template.lines
    attachment, opinion = create_approval(database, template.id)
    foreign = set_company()
    reasons = Model.get('return.reason').find()
    rules_before = create_policy(*RULES_BEFORE, publish=False).lines
    records = {
        'product': products,
        'product_category': categories,
        'party': parties,
        }
    policy = create_policy(*[{
                name: records[name][value] if name in records else value
                for name, value in rule.items()}
            for rule in reversed(RULES)], publish=False)

    def get_order_values(order):
        values = {
            'id': FIRST_ID + order['number'],
            'number': str(FIRST_ID + order['number']),
            'party': parties[order['party']].id,
            'channel': order['channel'],
            'requested_at': order['requested_at'],
            }
        if order['foreign']:
            values['currency'] = foreign.id
        return values

    def get_line_values(order, line):
        first, *second = [rules_before[i].id for i in line['rules_before']]
        return {
            **line,
            'id': FIRST_ID + line['number'],
            'order': FIRST_ID + order['number'],
            'product': products[line['product']].id,
            'reason': line['reason'].id,
            'policy_line': first,
            'goodwill_line': second[0] if second else None,
            }

    def add(start, stop):
        lines = list(islice(get_lines(reasons), start, stop))
        orders = [o for o, l in lines if not l['number'] % LINES]
        multiply(
            database, 'return.order', template.id,
            map(get_order_values, orders))
        multiply(
            database, 'return.order.line', template_line.id,
            starmap(get_line_values, lines))
        for model, id_, name in [
                ('ir.attachment', attachment, 'evidence'),
                ('return.order.opinion', opinion, 'automatic')]:
            multiply(database, model, id_, [{
                        'id': FIRST_ID + o['number'],
                        'order': FIRST_ID + o['number'],
                        'resource': f'return.order,{FIRST_ID + o["number"]}',
                        } for o in orders if o[name]])

    tables, done = {}, 0
    # The first fills the caches
    for size in [SMALL, SMALL, LARGE]:
        add(done, size)
        done = size
        result, statements, seconds = simulate(database, policy.id)
        record_property(f'seconds of CPU for {size} lines', seconds)
        print(
            f"{size} lines: {len(statements)} statements, "
            f"{seconds:.1f} s of CPU")
        assert len(statements) <= STATEMENTS
        assert not [
            s for s in statements
            if s.startswith(('INSERT', 'UPDATE', 'DELETE'))]
        tables[size] = Counter(
            re.search(r'FROM "(\w+)"', s).group(1) for s in statements)

        judged = judge(size, reasons)
        for name, figure in get_figures(judged).items():
            assert result[name] == figure, name
        changed = [l for l in judged if l.before != l.after]
        assert len(result['changes']) == SHOWN
        for change, line in zip(result['changes'], changed):
            assert change['order'] == FIRST_ID + line.order
            assert change['before'] == (
                'accepted' if line.before else 'refused')
            assert change['refund_before'] == line.refund_before
            assert change['refund_after'] == line.refund_after
            assert change['explanation']
    # Of the lines only those that are shown are read as records, by slices;
    # the rules, in up to three reads, by one or two slices, as Tryton leaves
    # one out that stands before the one that it needs first
    growth = tables[LARGE] - tables[SMALL]
    assert set(growth) <= {'return_policy_line'}, growth
    assert sum(growth.values()) <= 3, growth
    assert seconds < SECONDS
