# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A worker that is killed while it pays."""
import multiprocessing
import os
import signal

import pytest
from proteus import Model, config

from trytond.ir import queue_
from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, deliver, stock)
from trytond.modules.return_refund.tests.tools import (
    as_user, create_accountant, create_cash_method, create_payment_journal,
    create_refund_method, get_refund, pay_by_payment, pay_invoice,
    return_goods)
from trytond.transaction import Transaction

from .processes import PATIENCE

pytestmark = pytest.mark.postgresql

CREDIT_NOTES = """
SELECT refund.id, COUNT(note.id), COALESCE(SUM(posting.credit), 0)
FROM return_refund AS refund
LEFT JOIN account_invoice AS note ON note.id IN (
        SELECT line.invoice FROM account_invoice_line AS line
        JOIN return_refund_line AS part ON part.id = line.return_refund_line
        WHERE part.refund = refund.id)
LEFT JOIN account_move_line AS posting ON posting.move = note.move
    AND posting.account = note.account
GROUP BY refund.id ORDER BY refund.id
"""
PAYMENTS = """
SELECT COUNT(*), COALESCE(SUM(amount), 0) FROM account_payment
WHERE kind = 'payable'
"""
CASH = """
SELECT COUNT(*), COALESCE(SUM(line.credit), 0)
FROM account_move_line AS line
JOIN account_move AS move ON move.id = line.move
JOIN account_journal AS journal ON journal.id = move.journal
JOIN account_invoice_payment_method AS method
    ON method.journal = journal.id AND method.credit_account = line.account
WHERE line.credit > 0 AND move.origin LIKE 'account.invoice,%'
"""


def query(sql):
    with Transaction().start(
            config.get_config().database_name, 0, readonly=True
            ) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall()


def work(task_id, step):
    "Run the task as a worker does, and die when it comes to the step"
    from trytond.pool import Pool
    from trytond.worker import run_task
    name = config.set_trytond().database_name
    if step:
        def die(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(Pool(name).get('return.refund'), step, die)
    run_task(name, task_id)


def test_kill(database, monkeypatch):
    "Test that a refund whose worker is killed is paid once"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    accountant = create_accountant()
    journal = create_payment_journal()
    create_refund_method('epayment', payment_journal=journal)
    cash = create_cash_method()
    product = create_product()
    stock(product, 5)
    by_payment = deliver(create_customer(), (product, 3))
    pay_by_payment(by_payment.invoices[0], journal)
    in_cash = deliver(create_customer(), (product, 2))
    pay_invoice(in_cash.invoices[0], cash.payment_method)
    refunds = [get_refund(return_goods(s)) for s in [by_payment, in_cash]]
    Refund = Model.get('return.refund')

    with monkeypatch.context() as patch:
        patch.setattr(queue_, 'has_worker', True)
        as_user(accountant, lambda: Refund.click(
                [Refund(r.id) for r in refunds], 'approve'))
    (task,), = query('SELECT MAX(id) FROM ir_queue')

    def get_money():
        return query(CREDIT_NOTES), query(PAYMENTS), query(CASH)

    def run(step=None):
        process = multiprocessing.get_context('spawn').Process(
            target=work, args=(task, step))
        process.start()
        process.join(PATIENCE)
        for refund in refunds:
            refund.reload()
        return process.exitcode

    nothing = [(r.id, 0, 0) for r in refunds], [(0, 0)], [(0, 0)]
    # Before, between and after the credit notes and the payments
    for step in ['_credit', '_post', '_execute', '_queue_orders']:
        assert run(step) == -signal.SIGKILL, step
        assert [r.state for r in refunds] == ['approved'] * 2, step
        assert get_money() == nothing, step

    money = [
        (refunds[0].id, 1, 30), (refunds[1].id, 1, 20)], [(1, 30)], [(1, 20)]
    assert run() == 0
    assert [r.state for r in refunds] == ['posted', 'paid']
    assert get_money() == money
    # As when the one who presses the button does not know of the worker
    assert run() == 0
    as_user(accountant, lambda: Refund.click(
            [Refund(r.id) for r in refunds], 'process'))
    assert get_money() == money
