# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The figures of returns against what the ledgers say.

Only raw SQL over stock moves, invoices and account move lines: none of our
own code computes what is compared.
"""
from decimal import Decimal

from proteus import Model, config

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, create_user,
    deliver, do_internal, get_reason, get_warehouse, receive, send, stock)
from trytond.modules.return_refund.tests.tools import (
    accept, approve, create_accountant, create_payment_journal,
    create_refund_method, execute_payment, get_refund, pay_by_payment,
    set_accounts)
from trytond.tests.tools import set_user

# What came from customers, less what went back to them, per return line
KEPT = """
SELECT line.id, COALESCE(SUM(
        CASE WHEN source.type = 'customer' THEN move.quantity
            ELSE -move.quantity END), 0)
FROM return_order_line AS line
LEFT JOIN return_disposition AS disposition ON disposition.line = line.id
JOIN stock_move AS move ON (
    (move.origin = 'return.order.line,' || line.id
        AND (disposition.id IS NULL OR disposition.id = (
            SELECT MIN(id) FROM return_disposition WHERE line = line.id)))
    OR move.origin = 'return.disposition,' || disposition.id)
JOIN stock_location AS source ON source.id = move.from_location
JOIN stock_location AS target ON target.id = move.to_location
WHERE move.state = 'done'
    AND (source.type = 'customer') <> (target.type = 'customer')
GROUP BY line.id
"""
# What the credit notes took from revenue and tax accounts, per return line
REVENUE = """
SELECT line.id, SUM(posting.debit - posting.credit)
FROM return_order_line AS line
JOIN account_invoice_line AS credit
    ON credit.origin = 'return.order.line,' || line.id
JOIN account_move_line AS posting
    ON posting.origin = 'account.invoice.line,' || credit.id
JOIN account_move AS move ON move.id = posting.move
WHERE move.state = 'posted'
GROUP BY line.id
"""
# What the invoices posted for the sold quantity, per return line
CHARGED = """
SELECT line.id, SUM(posting.credit - posting.debit), MAX(sold.quantity)
FROM return_order_line AS line
JOIN sale_line AS sold ON sold.id = line.sale_line
JOIN account_invoice_line AS original
    ON original.origin = 'sale.line,' || sold.id
JOIN account_move_line AS posting
    ON posting.origin = 'account.invoice.line,' || original.id
JOIN account_move AS move ON move.id = posting.move
WHERE move.state = 'posted'
GROUP BY line.id
"""
# What each customer owes, and what of it is not reconciled
RECEIVABLE = """
SELECT party.name, SUM(posting.debit - posting.credit),
    SUM(CASE WHEN posting.reconciliation IS NULL
        THEN posting.debit - posting.credit ELSE 0 END)
FROM account_move_line AS posting
JOIN account_account AS account ON account.id = posting.account
JOIN account_account_type AS type ON type.id = account.type
JOIN party_party AS party ON party.id = posting.party
WHERE type.receivable
GROUP BY party.name
"""
# What left through payments, per customer
PAID = """
SELECT party.name, SUM(payment.amount)
FROM account_payment AS payment
JOIN party_party AS party ON party.id = payment.party
WHERE payment.kind = 'payable' AND payment.state = 'succeeded'
GROUP BY party.name
"""


def query(database, statement):
    from trytond.transaction import Transaction
    with Transaction().start(database, 0, readonly=True) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(statement)
        return {
            key: [
                Decimal(str(v or 0)).quantize(Decimal('.01')) for v in values]
            for key, *values in cursor.fetchall()}


def test_figures(database):
    "Test every return against stock, revenue, receivable and payments"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    set_accounts()
    accountant = create_accountant()
    journal = create_payment_journal()
    create_refund_method('bank', payment_journal=journal)
    odd = create_product(
        "Odd", list_price=Decimal('9.99'), category="Taxed")
    even = create_product("Even")
    for product in [odd, even]:
        stock(product, 100)
    expected, owed, paid = {}, {}, {}

    def returned(sale, *lines, accepted=None, **values):
        order = create_return(sale, *lines, **values)
        order.reload()
        for shipment in order.shipments:
            receive(shipment)
        if accepted is not False:
            accept(order, accepted)
        return order

    # Paid, two returns of a part at an odd price, the rest stays
    payer = create_customer("Payer")
    sale = deliver(payer, (odd, 7, Decimal('3.3333')), (even, 2))
    invoice, = sale.invoices
    pay_by_payment(invoice, journal)
    total = Decimal(0)
    for quantity in [3, 2]:
        order = returned(sale, (0, quantity))
        refund = approve(get_refund(order), accountant)
        execute_payment(refund.payment)
        order.reload()
        assert (order.state, order.refund_state) == ('done', 'refunded')
        expected[order.lines[0].id] = quantity
        total += refund.amount
    owed["Payer"] = Decimal(0)
    paid["Payer"] = total

    # Not paid: set against the invoice
    debtor = create_customer("Debtor")
    sale = deliver(debtor, (odd, 4))
    invoice, = sale.invoices
    order = returned(sale, (0, 1))
    refund = approve(get_refund(order), accountant)
    assert refund.payment is None
    expected[order.lines[0].id] = 1
    owed["Debtor"] = invoice.total_amount - refund.amount

    # Refused after receipt: sent back, no money
    refused = create_customer("Refused")
    sale = deliver(refused, (even, 2))
    pay_by_payment(sale.invoices[0], journal)
    order = returned(
        sale, reason=get_reason('quality'), accepted=False, state='reviewed')
    reject = order.click('reject')
    reject.form.reason = 'condition'
    reject.form.text = "Used."
    reject.execute('reject')
    for shipment in Model.get('stock.shipment.out').find(
            [('state', '=', 'waiting')]):
        send(shipment)
    order.reload()
    assert order.state == 'rejected' and order.goods_settled
    expected[order.lines[0].id] = 0
    owed["Refused"] = Decimal(0)

    kept = query(database, KEPT)
    revenue = query(database, REVENUE)
    charged = query(database, CHARGED)
    receivable = query(database, RECEIVABLE)
    assert {i: q for i, (q,) in kept.items()} == expected
    for line_id, quantity in expected.items():
        amount, sold = charged[line_id]
        credited, = revenue.get(line_id, [Decimal(0)])
        share = amount * quantity / sold
        assert abs(credited - share) <= Decimal('.01'), line_id
    assert {n: balance for n, (balance, _) in receivable.items()} == owed
    for name, (balance, unreconciled) in receivable.items():
        assert balance == unreconciled, name
    assert {n: a for n, (a,) in query(database, PAID).items()} == paid


# What all done moves leave at each type of location, per product; the areas
# of a warehouse apart from its stock
PLACES = """
SELECT move.product, place.type, place.area, SUM(move.quantity)
FROM (
    SELECT id, product, to_location AS location, internal_quantity AS quantity
    FROM stock_move WHERE state = 'done'
    UNION ALL
    SELECT id, product, from_location, -internal_quantity
    FROM stock_move WHERE state = 'done') AS move
JOIN (
    SELECT location.id, location.type, COUNT(warehouse.id) AS area
    FROM stock_location AS location
    LEFT JOIN stock_location AS warehouse ON location.id IN (
        warehouse.return_location, warehouse.quarantine_location,
        warehouse.resale_location)
    GROUP BY location.id, location.type) AS place
    ON place.id = move.location
GROUP BY move.product, place.type, place.area
"""


def read_places(database):
    "Map products to the quantity of each type of place"
    from trytond.transaction import Transaction
    places = {}
    with Transaction().start(database, 0, readonly=True) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(PLACES)
        for product, type_, area, quantity in cursor.fetchall():
            places.setdefault(product, {})[
                'area' if area else type_] = quantity
    return places


def test_goods(database):
    "Test that no step of a return makes goods or lets any vanish"
    activate('return_management')
    Disposition = Model.get('return.disposition')
    Internal = Model.get('stock.shipment.internal')
    Location = Model.get('stock.location')
    Out = Model.get('stock.shipment.out')
    WriteOff = Model.get('return.write_off')
    products = [create_product("One"), create_product("Two")]
    for product in products:
        stock(product, 20)
    customer = create_customer()
    sale = deliver(customer, *[(p, 8) for p in products])
    lost, = Location.find([('type', '=', 'lost_found')], limit=1)
    warehouse = get_warehouse()
    warehouse.waste_locations.append(lost)
    warehouse.save()

    def check(**expected):
        "Compare what lies where, the same for both products"
        places = read_places(database)
        for product in products:
            found = {n: q for n, q in places[product.id].items() if q}
            assert sum(found.values()) == 0
            # Bought, and in the books somewhere
            assert -found.pop('supplier') == 20
            assert found == {n: q for n, q in expected.items() if q}

    def decide(action, quantity):
        for line in order.lines:
            disposition = Disposition(action=action)
            disposition.line = line
            disposition.action = action
            disposition.quantity = quantity
            disposition.click('decide')

    def post():
        for shipment in Internal.find([('state', '=', 'waiting')]):
            do_internal(shipment)
        for shipment in Out.find([('state', '=', 'waiting')]):
            send(shipment)

    check(storage=12, customer=8)
    order = create_return(sale, (0, 6), (1, 6))
    order.reload()
    check(storage=12, customer=8)
    shipment, = order.shipments
    receive(shipment)
    check(storage=12, customer=2, area=6)
    order.reload()
    for action, places in [
            ('restock', {'storage': 14, 'customer': 2, 'area': 4}),
            # In another area
            ('resale', {'storage': 14, 'customer': 2, 'area': 4}),
            ('customer', {'storage': 14, 'customer': 3, 'area': 3})]:
        before = read_places(database)
        decide(action, {'restock': 2}.get(action, 1))
        assert read_places(database) == before
        post()
        check(**places)

    write_off = WriteOff()
    write_off.cause, = Model.get('return.write_off.cause').find(
        [('name', '=', "Missing")])
    for line in order.lines:
        disposition = write_off.dispositions.new()
        disposition.line = line
        disposition.action = 'write_off'
        disposition.quantity = 2
    write_off.click('request')
    admin = config.get_config().user
    set_user(create_user("Accountant", 'group_return_finance'))
    WriteOff(write_off.id).click('approve')
    set_user(admin)
    check(storage=14, customer=3, area=3)
    post()
    check(storage=14, customer=3, area=1, lost_found=2)
    order.reload()
    assert order.state == 'done'
    write_off.reload()
    assert write_off.state == 'done'
