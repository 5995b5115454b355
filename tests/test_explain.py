# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The conditions of a return are explained without writing anything."""
from decimal import Decimal

import pytest

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_policy, create_product, deliver, stock)

from .test_batch import trace

pytestmark = pytest.mark.sqlite


def explain(database, ids):
    "Return the statements and the number of lines of the explanation"
    results = []

    def call():
        from trytond.pool import Pool
        from trytond.transaction import Transaction
        Explain = Pool().get('return.policy.explain', type='wizard')
        with Transaction().set_context(
                active_model='sale.sale', active_ids=ids, active_id=ids[0]):
            session, _, _ = Explain.create()
            wizard = Explain(session)
            for name, value in wizard.default_start([]).items():
                setattr(wizard.start, name, value)
            wizard.start.reason = None
            wizard.start.unopened = wizard.start.complete = None
            results.append(wizard.default_result([]))

    statements = trace(database, call)
    result, = results
    return statements, len(result['lines'])


def test_statements(database):
    "Test the statements of the explanation of many sale lines"
    activate('return_management')
    products = [create_product(str(i)) for i in range(21)]
    for product in products:
        stock(product, 10)
    customer = create_customer()
    create_policy(
        {'period': 15, 'basis': 'statutory'},
        {'period': 20, 'period_unit': 'working', 'fee_amount': Decimal(5)},
        {'period': 30, 'minimum_amount': Decimal(1000)})
    small = deliver(customer, (products[0], 1))
    large = [
        deliver(customer, *[(p, 1) for p in products]) for _ in range(2)]
    # The first fills the caches
    explain(database, [small.id])
    before, few = explain(database, [small.id])
    after, many = explain(database, [s.id for s in large])
    assert (few, many) == (5, 5 * 2 * 21)
    assert len(after) <= len(before) + 2, (before, after)
    assert not [
        s for s in before + after
        if 'return_' in s and s.startswith(('INSERT', 'UPDATE', 'DELETE'))]
