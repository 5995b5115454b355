# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Two clerks and the last unit."""
import time

import pytest
from proteus import Model, Wizard

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, deliver,
    get_reason, offer, receive, resell, sell_resale, stock)
from trytond.modules.return_refund.tests.tools import (
    approve, create_accountant, create_payment_journal, create_refund_method,
    create_voucher_method, get_refund, pay_by_payment, pay_invoice,
    return_goods)
from trytond.tests.tools import set_user

from .processes import race

pytestmark = pytest.mark.postgresql


def click(model, id_, button, user=1):
    "Click as the server does: again while another holds the lock"
    from trytond.backend import DatabaseOperationalError
    set_user(user)
    record = Model.get(model)(id_)
    for _ in range(100):
        try:
            record.click(button)
            break
        except DatabaseOperationalError:
            time.sleep(0.05)
    return record.state


def race_to_click(*clicks):
    "Return the outcomes, that of who loses first"
    return sorted(race(click, *clicks), key=lambda o: bool(o.result))


def test_submit_last_unit(database):
    "Test that the last returnable unit is announced only once"
    activate('return_management')
    product = create_product()
    stock(product, 1)
    sale = deliver(create_customer(), (product, 1))
    orders = [
        create_return(sale, (0, 1), reason=get_reason(c), state='draft')
        for c in ['other', 'demand']]

    loser, winner = race_to_click(
        *(('return.order', o.id, 'submit') for o in orders))

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
    orders = [
        create_return(sale, (0, 1), reason=get_reason(c), state='draft')
        for c in ['other', 'demand']]

    outcomes = race_to_click(
        *(('return.order', o.id, 'submit') for o in orders))

    assert [o.result for o in outcomes] == ['submitted'] * 2, outcomes


def close_short(order_id):
    from trytond.backend import DatabaseOperationalError
    order = Model.get('return.order')(order_id)
    close = order.click('close_short')
    for _ in range(100):
        try:
            close.execute('close')
            return True
        except DatabaseOperationalError:
            time.sleep(0.05)


def receive_or_close(shipment_id, order_id):
    if shipment_id:
        return click('stock.shipment.out.return', shipment_id, 'receive')
    return close_short(order_id)


def test_receive_and_close(database):
    "Test that the same goods are not both received and closed short"
    activate('return_management')
    product = create_product()
    stock(product, 1)
    sale = deliver(create_customer(), (product, 1))
    order = create_return(sale, (0, 1))
    order.reload()
    shipment, = order.shipments

    outcomes = race(
        receive_or_close, (shipment.id, None), (None, order.id))

    assert sum(bool(o.result) for o in outcomes) >= 1, outcomes
    order.reload()
    line, = order.lines
    assert line.received_quantity + line.closed_quantity == 1, outcomes
    sale_line, = sale.lines
    sale_line.reload()
    assert sale_line.returnable_quantity == line.closed_quantity


def test_refund_and_credit(database):
    "Test that a refund and a credit note do not both give the money back"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    accountant = create_accountant()
    journal = create_payment_journal()
    create_refund_method('bank', payment_journal=journal)
    product = create_product()
    stock(product, 1)
    sale = deliver(create_customer(), (product, 1))
    invoice, = sale.invoices
    pay_by_payment(invoice, journal)
    refund = get_refund(return_goods(sale))
    credit = Wizard('account.invoice.credit', [invoice])
    credit.execute('credit')
    credit_note, = credit.actions[0]

    loser, winner = race_to_click(
        ('return.refund', refund.id, 'approve', accountant.id),
        ('account.invoice', credit_note.id, 'post'))

    assert winner.result in {'approved', 'posted'}, winner
    assert not loser.result
    assert loser.error.startswith('CreditedError'), loser
    refund.reload()
    credit_note.reload()
    assert sorted([refund.state, credit_note.state]) == ['draft', 'posted']


def test_refund_approve_twice(database):
    "Test that a double click grants and pays once"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    accountants = [create_accountant("One"), create_accountant("Two")]
    journal = create_payment_journal()
    create_refund_method('bank', payment_journal=journal)
    product = create_product()
    stock(product, 2)
    sale = deliver(create_customer(), (product, 2))
    pay_by_payment(sale.invoices[0], journal)
    refund = get_refund(return_goods(sale))

    outcomes = race_to_click(
        *(('return.refund', refund.id, 'approve', a.id) for a in accountants))

    assert any(o.result for o in outcomes), outcomes
    refund.reload()
    assert refund.state == 'posted'
    assert len(refund.payments) == 1
    assert len(refund.return_order.credit_notes) == 1


def redeem(invoice_id, voucher_id):
    from trytond.backend import DatabaseOperationalError
    invoice = Model.get('account.invoice')(invoice_id)
    voucher = Model.get('return.voucher')(voucher_id)
    for _ in range(100):
        try:
            return pay_invoice(
                invoice, voucher.method.payment_method, invoice.amount_to_pay,
                voucher).state
        except DatabaseOperationalError:
            time.sleep(0.05)


def test_redeem_twice(database):
    "Test that a voucher is redeemed only once"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    journal = create_payment_journal()
    create_refund_method('bank', payment_journal=journal)
    product = create_product()
    stock(product, 3)
    customer = create_customer()
    sale = deliver(customer, (product, 1))
    pay_by_payment(sale.invoices[0], journal)
    refund = get_refund(return_goods(sale))
    refund.method = create_voucher_method()
    refund.method_reason = "Takes a voucher"
    refund.save()
    voucher, = approve(refund, create_accountant()).vouchers
    invoices = [
        i for _ in range(2) for i in deliver(customer, (product, 1)).invoices]

    outcomes = race(redeem, *((i.id, voucher.id) for i in invoices))

    loser, winner = sorted(outcomes, key=lambda o: bool(o.result))
    assert winner.result == 'paid', winner
    assert not loser.result
    assert loser.error.startswith('VoucherError'), loser
    voucher.reload()
    assert (voucher.remaining, voucher.used) == (0, voucher.amount)


def test_resell_last_unit(database):
    "Test that the last returned unit is resold only once"
    activate('return_management')
    product = create_product()
    stock(product, 1)
    customer = create_customer()
    order = create_return(deliver(customer, (product, 1)))
    receive(order.shipments[0])
    resale, = resell(order.lines[0], 1)
    offer(resale)
    sales = [sell_resale(customer, (resale, 1)) for _ in range(2)]
    for sale in sales:
        sale.click('quote')

    loser, winner = race_to_click(
        *(('sale.sale', s.id, 'confirm') for s in sales))

    assert winner.result in {'confirmed', 'processing'}, winner
    assert not loser.result
    assert loser.error.startswith('ResaleError'), loser
    resale.reload()
    assert (resale.state, resale.left_quantity) == ('sold', 0)
