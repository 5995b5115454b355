# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The figures of returns against what the ledgers say.

Only raw SQL over stock moves, invoices and account move lines: none of our
own code computes what is compared.
"""
from decimal import Decimal
from random import Random

import pytest
from proteus import Model, config

from trytond.exceptions import UserError
from trytond.modules.return_management.tests.tools import (
    activate, confirm, create_customer, create_product, create_return,
    create_user, deliver, do_internal, get_reason, get_warehouse, offer,
    receive, sell_resale, send, stock)
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


# What all done moves leave in each location, per product
LOCATIONS = """
SELECT product, location, SUM(quantity) FROM (
    SELECT product, to_location AS location, internal_quantity AS quantity
    FROM stock_move WHERE state = 'done'
    UNION ALL
    SELECT product, from_location, -internal_quantity
    FROM stock_move WHERE state = 'done') AS move
GROUP BY product, location
"""
# What the accounts say that the stock is worth
BOOKED = """
SELECT 0, SUM(posting.debit - posting.credit)
FROM account_move_line AS posting
JOIN account_account AS account ON account.id = posting.account
WHERE account.name = 'Stock'
"""
# What the moves brought into the books and took from them, at their cost
VALUED = """
SELECT 0, SUM(ROUND(move.internal_quantity
        * CASE WHEN source.type = 'supplier' THEN move.unit_price
            ELSE move.cost_price END, 2)
    * (CASE WHEN target.type = 'storage' THEN 1 ELSE 0 END
        - CASE WHEN source.type = 'storage' THEN 1 ELSE 0 END))
FROM stock_move AS move
JOIN stock_location AS source ON source.id = move.from_location
JOIN stock_location AS target ON target.id = move.to_location
WHERE move.state = 'done'
"""


# What is there at the average cost
WORTH = """
SELECT 0, SUM(move.internal_quantity * cost.cost_price
    * (CASE WHEN target.type = 'storage' THEN 1 ELSE 0 END
        - CASE WHEN source.type = 'storage' THEN 1 ELSE 0 END))
FROM stock_move AS move
JOIN product_cost_price AS cost ON cost.product = move.product
JOIN stock_location AS source ON source.id = move.from_location
JOIN stock_location AS target ON target.id = move.to_location
WHERE move.state = 'done'
"""


def read_locations(database, product):
    from trytond.transaction import Transaction
    with Transaction().start(database, 0, readonly=True) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(LOCATIONS)
        return {
            location: quantity
            for id_, location, quantity in cursor.fetchall()
            if id_ == product.id and quantity}


class Walk:
    """What a company does with one product, one step after another

    Each step says what it should have changed, and whether there was
    anything to do.
    """

    def __init__(self, random, places, accountant, number):
        self.random = random
        self.places = places
        self.accountant = accountant
        self.customer = create_customer(f"Customer {number}")
        self.product = create_product(f"Product {number}")
        self.areas, self.orders, self.sales = {}, [], []
        self.taken = set()
        self.expected = dict.fromkeys(places, 0)
        if number % 3 == 0:
            self.shelve()
        self.buy()
        self.sell()
        self.ask()
        self.receive()

    def shelve(self):
        "Keep what is returned on a shelf"
        Category = Model.get('product.category')
        Location = Model.get('stock.location')
        Rule = Model.get('return.area.rule')
        category = Category(name=self.product.name)
        category.save()
        self.product.template.categories.append(Category(category.id))
        self.product.template.save()
        shelf = Location(
            name=self.product.name, type='storage',
            parent=get_warehouse().return_location)
        shelf.save()
        self.places = {**self.places, 'shelf': shelf.id}
        self.expected['shelf'] = 0
        Rule(
            warehouse=get_warehouse(), category=category,
            location=shelf).save()

    def move(self, source, target, quantity):
        self.expected[source] -= quantity
        self.expected[target] += quantity

    def find(self, name, *domain):
        return Model.get(name).find(
            [*domain], order=[('id', 'ASC')])

    def choose(self, records):
        return self.random.choice(records) if records else None

    def lines(self, name):
        "Return the lines with a quantity of the name"
        for order in self.orders:
            order.reload()
        return [
            l for o in self.orders for l in o.lines if getattr(l, name) > 0]

    def take(self, quantity):
        return self.random.randint(1, int(quantity))

    def buy(self):
        if self.expected['storage'] > 8:
            return
        stock(
            self.product, 10, Decimal(self.random.choice(['8', '12', '7.33'])))
        self.move('supplier', 'storage', 10)
        return True

    def sell(self):
        quantity = min(4, int(self.expected['storage']))
        if quantity:
            self.sales.append(deliver(self.customer, (self.product, quantity)))
            self.move('storage', 'customer', quantity)
        return quantity

    def ask(self, resold=False):
        sales = []
        for sale in self.sales:
            sale.reload()
            if sale.lines[0].returnable_quantity > 0:
                sales.append(sale)
        sale = self.choose([s for s in sales if s.resale or not resold])
        if not sale:
            return
        reason = self.random.choice(['other', 'quality'])
        order = create_return(
            sale, (0, self.take(sale.lines[0].returnable_quantity)),
            reason=get_reason(reason))
        self.orders.append(order)
        self.areas[order.id] = (
            'quarantine' if reason == 'quality'
            else 'shelf' if 'shelf' in self.places else 'return')
        return True

    def receive(self):
        shipments = []
        for order in self.orders:
            order.reload()
            shipments.extend(
                (order, s) for s in order.shipments if s.state == 'draft')
        if shipments:
            order, shipment = self.choose(shipments)
            move, = shipment.incoming_moves
            move.quantity = self.take(move.quantity)
            receive(shipment)
            self.move('customer', self.areas[order.id], move.quantity)
            if order.lines[0].sale_line.sale.resale:
                self.taken.add('resold returned')
            return True

    def dispute(self):
        "Find what is damaged; it is of the customer until it is accepted"
        if line := self.choose(self.lines('missing_quantity')):
            Discrepancy = Model.get('return.discrepancy')
            discrepancy = Discrepancy(kind='damaged')
            discrepancy.order = line.order
            discrepancy.line = line
            discrepancy.quantity = 1
            discrepancy.location = get_warehouse().return_location
            try:
                discrepancy.save()
            except UserError:
                # All of it is in dispute
                return
            return True

    def settle(self):
        if discrepancy := self.choose(self.find(
                    'return.discrepancy', ('state', '=', 'open'),
                    ('order', 'in', [o.id for o in self.orders]))):
            resolve = discrepancy.click('resolve')
            resolve.form.resolution = self.random.choice({
                    'short': ['wait', 'close'],
                    'damaged': ['accept', 'send_back'],
                    }[discrepancy.kind])
            resolve.form.text = "Agreed."
            resolve.execute('resolve')
            return True

    def decide(self, action=None):
        if line := self.choose(self.lines('undecided_quantity')):
            disposition = Model.get('return.disposition')()
            disposition.line = line
            disposition.action = action or self.random.choice(
                ['restock', 'resale', 'resale', 'customer', 'write_off'])
            disposition.quantity = self.take(line.undecided_quantity)
            if disposition.action != 'write_off':
                confirm(disposition, 'decide')
                return True
            WriteOff = Model.get('return.write_off')
            write_off = WriteOff()
            write_off.cause = self.find('return.write_off.cause')[0]
            write_off.dispositions.append(disposition)
            write_off.save()
            return True

    def lose(self):
        if line := self.choose(self.lines('undecided_quantity')):
            Loss = Model.get('return.loss')
            loss = Loss(line=line, stage='storage', cause='missing')
            loss.quantity = 1
            loss.save()
            return True

    def approve(self):
        if write_off := self.choose(self.find(
                    'return.write_off', ('state', '=', 'draft'),
                    ('dispositions.line.order', 'in', [
                            o.id for o in self.orders]))):
            write_off.click('request')
            admin = config.get_config().user
            set_user(self.accountant)
            Model.get('return.write_off')(write_off.id).click('approve')
            set_user(admin)
            return True

    def undo(self):
        "Take a decision back, at the warehouse or before"
        if shipment := self.choose(self.waiting('stock.shipment.internal')):
            shipment.click('cancel')
        if disposition := self.choose(self.find(
                    'return.disposition', ('state', '=', 'draft'),
                    ('action', '!=', 'write_off'),
                    ('line.order', 'in', [o.id for o in self.orders]))):
            confirm(disposition, self.random.choice(['decide', 'cancel']))
            return True

    def waiting(self, name):
        return self.find(
            name, ('state', '=', 'waiting'),
            ('moves.product', '=', self.product.id))

    def post(self):
        if shipment := self.choose(self.waiting('stock.shipment.internal')):
            do_internal(shipment)
        elif shipment := self.choose(self.waiting('stock.shipment.out')):
            send(shipment)
        else:
            return
        moves = getattr(shipment, 'outgoing_moves', shipment.moves)
        for move in moves:
            origin = move.origin
            if origin.__class__.__name__ == 'return.resale':
                area = self.areas[origin.disposition.order.id]
                self.move('resale', area, move.quantity)
                self.taken.add('withdrawn')
                continue
            self.move(self.areas[origin.order.id], {
                    'restock': 'storage', 'resale': 'resale',
                    'customer': 'customer', 'write_off': 'lost',
                    }[origin.action], move.quantity)
        return True

    def resell(self, withdraw=None):
        if resale := self.choose(self.find(
                    'return.resale', ('state', '=', 'draft'),
                    ('product', '=', self.product.id))):
            offer(resale)
            if withdraw is None:
                withdraw = self.random.random() < .5
            if withdraw:
                resale.click('withdraw')
                return True
            quantity = self.take(resale.quantity)
            sale = sell_resale(self.customer, (resale, quantity))
            sale.click('quote')
            sale.click('confirm')
            send(sale.shipments[0])
            self.sales.append(sale)
            self.move('resale', 'customer', quantity)
            return True

    def check(self, database):
        found = read_locations(database, self.product)
        names = {id_: name for name, id_ in self.places.items()}
        assert {names[l]: q for l, q in found.items()} == {
            n: q for n, q in self.expected.items() if q}
        assert all(
            q >= 0 for n, q in self.expected.items() if n != 'supplier')
        # What the list tells of each return adds up to it
        lines, listed = {}, {}
        for goods in self.find(
                'return.area.goods', ('product', '=', self.product.id)):
            assert goods.line, goods.quantity
            for key, quantities in [
                    (goods.location.id, listed), (goods.line.id, lines)]:
                quantities[key] = quantities.get(key, 0) + goods.quantity
        assert listed == {
            l: q for l, q in found.items()
            if names[l] in {'return', 'quarantine', 'shelf', 'resale'}}
        for order in self.orders:
            order.reload()
            for line in order.lines:
                assert line.in_area == (line.id in lines)
                assert (
                    line.accepted_quantity + line.rejected_quantity
                    + line.undecided_quantity == line.received_quantity)


STEPS = [
    'buy', 'sell', 'dispute', 'settle', 'lose',
    *['ask', 'receive', 'approve', 'undo'] * 2,
    *['decide', 'post', 'resell'] * 4]


# What is resold comes back, is resold again and withdrawn
RESOLD = [
    ('decide', 'resale'), ('post',), ('resell', False), ('ask', True),
    ('receive',), ('decide', 'resale'), ('post',), ('resell', True),
    ('post',)]


@pytest.mark.sqlite
def test_walks(database):
    "Test that whatever is done, in any order, goods and values add up"
    activate(
        'return_management', 'account_stock_continental',
        method='continental')
    Location = Model.get('stock.location')
    lost, = Location.find([('type', '=', 'lost_found')], limit=1)
    warehouse = get_warehouse()
    warehouse.waste_locations.append(lost)
    warehouse.save()
    places = {
        'storage': warehouse.storage_location.id,
        'return': warehouse.return_location.id,
        'quarantine': warehouse.quarantine_location.id,
        'resale': warehouse.resale_location.id,
        'lost': lost.id,
        }
    for name, code in [('supplier', 'SUP'), ('customer', 'CUS')]:
        location, = Location.find([('code', '=', code)])
        places[name] = location.id
    accountant = create_user("Accountant", 'group_return_finance')
    taken = set()
    for number in range(8):
        walk = Walk(Random(number), places, accountant, number)
        steps, script = [], [] if number else list(RESOLD)
        while len(steps) < 14:
            if script:
                step, *arguments = script.pop(0)
            else:
                step, arguments = walk.choose(STEPS), []
            if not getattr(walk, step)(*arguments):
                continue
            steps.append(step)
            try:
                walk.check(database)
                (booked,), = query(database, BOOKED).values()
                (valued,), = query(database, VALUED).values()
                assert booked == valued
                (worth,), = query(database, WORTH).values()
                assert abs(booked - worth) <= Decimal('.05')
            except AssertionError as exception:
                raise AssertionError(f"{number}: {steps}") from exception
        taken.update(steps, walk.taken)
    assert taken == {*STEPS, 'resold returned', 'withdrawn'}
