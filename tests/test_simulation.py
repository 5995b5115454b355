# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A policy is tried on many past returns at once."""
import datetime as dt
import time
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_policy, create_product, create_return,
    deliver, get_reason, stock)

from .statements import trace

SMALL, LARGE = 1_000, 100_000
SECONDS = 10
CENT = Decimal('0.01')


def get_figures(number):
    "Return the days until the application, the quantity and the price"
    return number % 60, number % 7 + 1, Decimal(number % 997 + 1) / 100


def multiply(database, order_id, numbers):
    "Copy the order and its line, by SQL, with the figures of the numbers"
    from trytond.pool import Pool
    from trytond.transaction import Transaction

    def insert(table, where, change):
        cursor.execute(*table.select(where=where))
        names = [d[0] for d in cursor.description]
        values = dict(zip(names, cursor.fetchone()))
        for start in range(0, len(numbers), 500):
            rows = [
                {**values, **change(number, values)}
                for number in numbers[start:start + 500]]
            cursor.execute(*table.insert(
                    [getattr(table, n) for n in names],
                    [[row[n] for n in names] for row in rows]))

    def change_order(number, values):
        days, _, _ = get_figures(number)
        return {
            'id': number,
            'number': str(number),
            'requested_at': values['requested_at'] + dt.timedelta(days=days),
            }

    def change_line(number, values):
        _, quantity, price = get_figures(number)
        return {
            'id': number,
            'order': number,
            'quantity': quantity,
            'unit_price': price,
            }

    with Transaction().start(database, 0) as transaction:
        pool = Pool()
        cursor = transaction.connection.cursor()
        order = pool.get('return.order').__table__()
        line = pool.get('return.order.line').__table__()
        insert(order, order.id == order_id, change_order)
        insert(line, line.order == order_id, change_line)
        transaction.commit()


def replay(policy_id):
    "Return the judged lines and the seconds of CPU that it takes"
    from trytond.modules.return_management.simulation import Replay
    from trytond.pool import Pool

    pool = Pool()
    policy = pool.get('return.policy')(policy_id)
    company = pool.get('res.user')(1).company
    start = time.process_time()
    verdicts = Replay(
        policy, company, dt.date(2000, 1, 1), dt.date(2100, 1, 1)).verdicts
    return verdicts, time.process_time() - start


def measure(database, policy_id):
    "Return the number of statements, the judged lines and the seconds"
    results = []
    statements = trace(database, lambda: results.extend(replay(policy_id)))
    return len(statements), *results


def get_last_day(day, working_days):
    "Return the day that many days from Monday to Friday later"
    while working_days:
        day += dt.timedelta(days=1)
        working_days -= day.weekday() < 5
    return day


@pytest.mark.sqlite
def test_scale(database):
    "Test the statements and the time of many past lines"
    activate('return_management')
    product = create_product()
    stock(product, 10)
    sale = deliver(create_customer(), (product, 1))
    order = create_return(
        sale, reason=get_reason('demand'), state='submitted')
    policy = create_policy({
            'reason_category': 'demand',
            'period': 15,
            'period_unit': 'working',
            'fee_rate': Decimal('.1'),
            }, {
            'product': product,
            'reason_category': 'quality',
            'period': 60,
            }, publish=False)
    today = order.requested_at.date()
    days = (get_last_day(today, 15) - today).days
    statements, last = {}, 1000
    for size in [SMALL, LARGE]:
        numbers = range(1001, 1001 + size)
        multiply(database, order.id, range(last + 1, 1001 + size))
        last = 1000 + size
        statements[size], verdicts, seconds = measure(database, policy.id)
        figures = [get_figures(n) for n in numbers]
        amounts = [
            (d, (q * p).quantize(CENT, ROUND_HALF_EVEN))
            for d, q, p in figures] + [(0, Decimal(10))]
        in_time = [a for d, a in amounts if d <= days]
        assert len(verdicts) == size + 1
        assert sum(v.eligible for v in verdicts) == len(in_time)
        assert sum(v.amount for v in verdicts) == sum(a for _, a in amounts)
        assert sum(v.refund_after for v in verdicts) == sum(
            a - (a / 10).quantize(CENT, ROUND_HALF_EVEN) for a in in_time)
    assert statements[LARGE] == statements[SMALL]
    assert seconds < SECONDS
    print(f'{LARGE} lines in {seconds:.1f} s of CPU')
