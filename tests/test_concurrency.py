# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Two clerks and the last unit."""
import time

import pytest
from proteus import Model

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, deliver, stock)

from .processes import race

pytestmark = pytest.mark.postgresql


def submit(order_id):
    from trytond.backend import DatabaseOperationalError
    order = Model.get('return.order')(order_id)
    # As the server does: [database] retry
    for _ in range(100):
        try:
            order.click('submit')
            break
        except DatabaseOperationalError:
            time.sleep(0.05)
    return order.state


def test_submit_last_unit(database):
    "Test that the last returnable unit is announced only once"
    activate('return_management')
    product = create_product()
    stock(product, 1)
    sale = deliver(create_customer(), (product, 1))
    orders = [create_return(sale, (0, 1), state='draft') for _ in range(2)]

    loser, winner = sorted(
        race(submit, *((o.id,) for o in orders)), key=lambda o: bool(o.result))

    assert winner.result == 'submitted', winner
    assert not loser.result
    assert loser.error.startswith('ReturnableError'), loser
    assert "can still be returned" in loser.error
    for order in orders:
        order.reload()
    assert sorted(o.state for o in orders) == ['draft', 'submitted']
    line, = sale.lines
    line.reload()
    assert line.returnable_quantity == 0


def test_submit_different_units(database):
    "Test that two clerks who do not compete both win"
    activate('return_management')
    product = create_product()
    stock(product, 2)
    sale = deliver(create_customer(), (product, 2))
    orders = [create_return(sale, (0, 1), state='draft') for _ in range(2)]

    outcomes = race(submit, *((o.id,) for o in orders))

    assert [o.result for o in outcomes] == ['submitted'] * 2, outcomes
