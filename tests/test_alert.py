# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Jumps of returns are found, noise is not."""
import datetime as dt
import random
from fractions import Fraction
from math import comb

import pytest
from dateutil.relativedelta import relativedelta

from trytond.modules.return_quality.alert import (
    Counts, find_jumps, get_probability)


@pytest.mark.parametrize('counts', [
        (1, 10, 0, 90), (5, 100, 20, 1200), (30, 100, 120, 1200),
        (9, 1, 0, 1), (3, 1000, 40, 9000)])
def test_probability(counts):
    "Test the probability against exact fractions"
    returns, deliveries, past_returns, past_deliveries = counts
    total = returns + past_returns
    part = Fraction(deliveries, deliveries + past_deliveries)
    exact = sum(
        comb(total, n) * part ** n * (1 - part) ** (total - n)
        for n in range(returns, total + 1))
    assert get_probability(Counts(*counts)) == pytest.approx(float(exact))


def test_probability_without_history():
    "Test what cannot be compared"
    for counts in [(0, 10, 5, 100), (5, 0, 5, 100), (5, 10, 0, 0)]:
        assert get_probability(Counts(*counts)) == 1


def generate(rng, keys=20, rate=0.03, jump=None):
    "Return the counts of a random history in which one key may jump"
    counts = {}
    for key in range(keys):
        deliveries = [rng.randint(150, 400) for _ in range(13)]
        returns = []
        for month, number in enumerate(deliveries):
            actual = rate
            if key == jump and month == 12:
                actual *= 4
            returns.append(sum(rng.random() < actual for _ in range(number)))
        counts[key] = Counts(
            returns[12], deliveries[12], sum(returns[:12]),
            sum(deliveries[:12]))
    return counts


def test_noise():
    "Test the false alarms of random histories"
    rng = random.Random(7)
    alarms = [
        find_jumps(generate(rng), 0.01, 5) for _ in range(100)]
    assert sum(map(bool, alarms)) <= 4
    # They would be many without the correction for the number of tests
    assert sum(
        get_probability(c) < 0.01
        for _ in range(100) for c in generate(rng).values()) > 4


def test_planted():
    "Test that a rate four times as high is found, and where"
    rng = random.Random(11)
    found = [
        set(find_jumps(generate(rng, jump=3), 0.01, 5))
        for _ in range(20)]
    assert sum(f == {3} for f in found) >= 18, found


def test_detect(database):
    "Test that a planted trend raises one alert, counted by the database"
    from trytond.modules.return_management.tests.tools import (
        activate, create_customer, create_product, create_return, deliver,
        get_reason, receive, stock)
    from trytond.pool import Pool
    from trytond.transaction import Transaction

    activate('return_quality')
    customer = create_customer()
    products = [create_product(n) for n in ["Heater", "Lamp"]]
    month = dt.date.today().replace(day=1) - relativedelta(months=1)
    past = month - relativedelta(months=6)
    plan = {
        # deliveries and returns of a line each: past, month
        past: [(10, 2), (10, 2)],
        month: [(10, 8), (10, 2)],
        }
    for product in products:
        stock(product, 100)
    for date, numbers in plan.items():
        for product, (delivered, returned) in zip(products, numbers):
            sale = deliver(
                customer, *[(product, 1)] * delivered, post=False)
            for i in range(returned):
                order = create_return(
                    sale, (i, 1), reason=get_reason('quality'),
                    state='reviewed')
                receive(order.shipments[0])
            with Transaction().start(database, 1) as transaction:
                cursor = transaction.connection.cursor()
                table = Pool().get('stock.move').__table__()
                cursor.execute(*table.update(
                        [table.effective_date], [date],
                        where=table.effective_date
                        >= month + relativedelta(months=1)))
                transaction.commit()

    def detect():
        with Transaction().start(database, 1) as transaction:
            Configuration = Pool().get('return.configuration')
            Configuration.write([Configuration(1)], {
                    'alert_probability': 0.2,
                    })
            Alert = Pool().get('quality.alert')
            result = [
                (a.origin.rec_name, a.return_month, a.returns,
                    a.deliveries, a.rate, a.past_rate)
                for a in Alert.detect_returns()]
            transaction.commit()
            return result

    assert detect() == [('Heater', month, 8, 10, 0.8, 0.2)]
    # Once
    assert detect() == []
