# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Counts the SQL statements of a function."""
from contextlib import contextmanager


@contextmanager
def _record(connection):
    "Return the list to which the statements of the connection are added"
    from trytond import backend

    statements = []
    if backend.name == 'sqlite':
        connection.set_trace_callback(statements.append)
        try:
            yield statements
        finally:
            connection.set_trace_callback(None)
        return

    factory = connection.cursor_factory

    class Cursor(factory):

        def execute(self, query, args=None):
            statements.append(self.mogrify(query, args).decode())
            return super().execute(query, args)

    connection.cursor_factory = Cursor
    try:
        yield statements
    finally:
        connection.cursor_factory = factory


def trace(database, function):
    "Return the statements of a function in a transaction of its own"
    from trytond.pool import Pool
    from trytond.transaction import Transaction, TransactionError

    extras = {}
    while True:
        with Transaction().start(database, 1, **extras) as transaction:
            User = Pool().get('res.user')
            try:
                with transaction.set_context(
                        User.get_preferences(context_only=True)):
                    with _record(transaction.connection) as statements:
                        function()
            except TransactionError as exception:
                transaction.rollback()
                exception.fix(extras)
                continue
            transaction.commit()
            return statements
