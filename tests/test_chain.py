# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The chain of goods is read level by level."""
import pytest

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, deliver, stock)

from .statements import trace

pytestmark = pytest.mark.sqlite


def show(database, ids):
    "Return the statements and the number of steps of the chains"
    chains = []

    def call():
        from trytond.pool import Pool
        pool = Pool()
        Chain = pool.get('return.chain')
        Line = pool.get('return.order.line')
        chains.append(Chain.get(Line.browse(ids)))

    statements = trace(database, call)
    chain, = chains
    return statements, len(chain['steps'])


def test_statements(database):
    "Test the statements of the chains of many lines"
    activate('return_management')
    product = create_product()
    stock(product, 50)
    customer = create_customer()
    ids = {}
    for size in [1, 21]:
        sale = deliver(customer, *[(product, 1)] * size)
        order = create_return(sale)
        ids[size] = [l.id for l in order.lines]
    # The first fills the caches
    show(database, ids[1])
    before, few = show(database, ids[1])
    after, many = show(database, ids[21])
    assert (few, many) == (2, 42)
    assert len(after) <= len(before) + 1, (before, after)
