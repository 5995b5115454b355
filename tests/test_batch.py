# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The number of SQL statements does not grow with the number of records."""
import pytest

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, deliver, stock)

pytestmark = pytest.mark.sqlite


def count(database, method, ids):
    "Return the number of statements of a method of return orders"
    from trytond.pool import Pool
    from trytond.transaction import Transaction, TransactionError

    extras = {}
    while True:
        with Transaction().start(database, 1, **extras) as transaction:
            User = Pool().get('res.user')
            statements = []
            try:
                with transaction.set_context(
                        User.get_preferences(context_only=True)):
                    Order = Pool().get('return.order')
                    orders = Order.browse(ids)
                    transaction.connection.set_trace_callback(
                        statements.append)
                    getattr(Order, method)(orders)
                    transaction.connection.set_trace_callback(None)
            except TransactionError as exception:
                transaction.connection.set_trace_callback(None)
                transaction.rollback()
                exception.fix(extras)
                continue
            transaction.commit()
            return statements


def test_return_order(database):
    "Test the statements of the buttons of a return order"
    activate('return_management')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    small, large = 1, 21
    batches = {}
    for size in [small, large]:
        sale = deliver(customer, *[(product, 1)] * size)
        batches[size] = [
            create_return(sale, (i, 1), state='draft').id
            for i in range(size)]
    for method in ['submit', 'review', 'approve', 'process', 'cancel']:
        reads = {
            size: [
                statement
                for statement in count(database, method, ids)
                # Tryton takes numbers one by one
                if statement.startswith('SELECT')
                and 'sequence' not in statement]
            for size, ids in batches.items()}
        growth = len(reads[large]) - len(reads[small])
        assert growth < (large - small) / 2, (
            method, {size: len(r) for size, r in reads.items()})
