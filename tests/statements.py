# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Counts the SQL statements of a function, on SQLite."""


def trace(database, function):
    "Return the statements of a function in a transaction of its own"
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
                    transaction.connection.set_trace_callback(
                        statements.append)
                    function()
                    transaction.connection.set_trace_callback(None)
            except TransactionError as exception:
                transaction.connection.set_trace_callback(None)
                transaction.rollback()
                exception.fix(extras)
                continue
            transaction.commit()
            return statements
