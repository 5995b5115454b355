# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The number of SQL statements does not grow with the number of records."""
import datetime as dt
from decimal import Decimal
from functools import partial

import pytest
from proteus import Model

from trytond.modules.company.tests.tools import get_company
from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, create_return, create_user,
    deliver, get_reason, get_warehouse, receive, resell, sell_resale, stock)
from trytond.transaction import Transaction

from .statements import trace

pytestmark = pytest.mark.sqlite


def count(database, method, ids, *arguments):
    "Return the statements of a method of return orders"
    from trytond.pool import Pool

    def call():
        Order = Pool().get('return.order')
        getattr(Order, method)(Order.browse(ids), *arguments)

    statements = trace(database, call)
    # What it has queued runs with the next call of a client
    Model.get('return.order').find([], limit=1)
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


def test_stages(database):
    "Test the statements that follow the stages and their limits"
    activate('return_management')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    batches = []
    # The first fills the caches
    for size in [1, 1, 21]:
        sale = deliver(customer, *[(product, 1)] * size)
        batches.append([
                create_return(sale, (i, 1), state='draft').id
                for i in range(size)])
    for method in ['submit', 'review', 'approve', 'cancel']:
        _, small, large = (
            [
                statement for statement in count(database, method, ids)
                if statement.startswith(('SELECT', 'UPDATE'))
                and any(name in statement for name in [
                        'return_order_stage', 'return_calendar',
                        'return_configuration_limit'])]
            for ids in batches)
        assert 0 < len(small) == len(large), (method, small, large)


def test_notify_overdue(database):
    "Test the statements that look for overdue stages"
    activate('return_management')
    product = create_product()
    stock(product, 100)
    sale = deliver(create_customer(), *[(product, 1)] * 21)
    ids = [
        create_return(sale, (i, 1), state='submitted').id for i in range(21)]

    def delay(number):
        from trytond.pool import Pool
        Order = Pool().get('return.order')
        Stage = Pool().get('return.order.stage')
        Stage.delete(Stage.search([('order', 'in', ids[:number])]))
        Order._update_stages(
            Order.browse(ids[:number]), now=dt.datetime(2024, 1, 31))

    def notify():
        from trytond.pool import Pool
        Stage = Pool().get('return.order.stage')
        assert Stage.search([
                ('overdue', '=', True), ('notified_at', '=', None)])
        Stage.notify_overdue()

    statements = []
    # The first fills the caches
    for number in [1, 1, 21]:
        trace(database, partial(delay, number))
        statements.append(trace(database, notify))
    _, small, large = statements
    assert len(small) == len(large), (small, large)


def test_return_refused(database):
    "Test the statements of refusing returns and of telling the customers"
    activate('return_management')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    small, large = 1, 21
    reads = {}
    for size in [small, large]:
        sale = deliver(customer, *[(product, 1)] * size)
        orders = [
            create_return(sale, (i, 1), state='submitted')
            for i in range(size)]
        ids = [o.id for o in orders]
        reads['refuse', size] = count(
            database, 'refuse', ids, 'initial', 'other', "It is used.")
        for order in orders:
            order.reload()
            order.told_channel = 'phone'
            order.save()
        reads['tell', size] = count(database, 'tell', ids)
        assert all(len(o.contacts) == 1 for o in orders if not o.reload())
    for method in ['refuse', 'tell']:
        numbers = {
            size: len([
                    s for s in reads[method, size]
                    if s.startswith('SELECT')])
            for size in [small, large]}
        assert numbers[large] - numbers[small] < (large - small) / 2, (
            method, numbers)


def test_party_returns(database):
    "Test the statements to count the returns of parties"
    from trytond.pool import Pool
    activate('return_management')
    product = create_product()
    stock(product, 100)
    small, large = 1, 21
    customers = [create_customer() for _ in range(large)]
    for customer in customers:
        create_return(deliver(customer, (product, 1)), state='draft')

    def read(ids):
        for party in Pool().get('party.party').browse(ids):
            assert party.return_applications == 1
            assert party.refused_returns == 0
            assert len(party.return_orders) == 1
            assert not party.return_contacts

    reads = {}
    for size in [small, large]:
        ids = [c.id for c in customers[:size]]
        reads[size] = trace(database, partial(read, ids))
    # The first reads the rules of access too
    assert len(reads[large]) <= len(reads[small]), reads


def test_matches(database):
    "Test the statements to find the orders of unmatched lines"
    from trytond.pool import Pool
    activate('return_management')
    small, large = 1, 21
    products = [create_product() for _ in range(large)]
    for product in products:
        stock(product, 2)
    customer = create_customer()
    deliver(customer, *[(p, 2) for p in products])
    Order = Model.get('return.order')
    batches = {}
    for size in [small, large]:
        order = Order(party=customer)
        for product in products[:size]:
            line = order.lines.new()
            line.product = product
            line.quantity = 1
            line.reason = get_reason()
        order.save()
        batches[size] = [l.id for l in order.lines]

    def match(ids):
        Line = Pool().get('return.order.line')
        lines = Line.browse(ids)
        matches = Line.get_matches(lines)
        assert all(
            [q for _, q in matches[line]] == [1] for line in lines), matches

    reads = {
        size: trace(database, partial(match, ids))
        for size, ids in batches.items()}
    growth = len(reads[large]) - len(reads[small])
    assert growth < (large - small) / 2, {
        size: len(r) for size, r in reads.items()}


@pytest.mark.parametrize('same', [False, True])
def test_receive(database, same):
    """Test the statements of receiving and posting returned goods

    Those that grow with the lines are Tryton's: it computes the average cost
    of a product move by move, for what suppliers ship as for what customers
    return.
    """
    from trytond.pool import Pool
    activate('return_management')
    products = [create_product()] * 20 if same else [
        create_product() for _ in range(20)]
    for product in products:
        stock(product, 5)
    customer = create_customer()
    supplier = create_customer("Supplier")
    warehouse = get_warehouse()
    ShipmentIn = Model.get('stock.shipment.in')
    Internal = Model.get('stock.shipment.internal')
    Disposition = Model.get('return.disposition')

    def call(name, method, id_):
        Shipment = Pool().get(name)
        getattr(Shipment, method)(Shipment.browse([id_]))

    def post(shipment, method):
        statements = trace(database, partial(
                call, shipment.__class__.__name__, method, shipment.id))
        # What it has queued runs with the next call of a client
        Model.get('return.order').find([], limit=1)
        return len([s for s in statements if s.startswith('SELECT')])

    ours, core, decided = [], [], []
    # The first fills the caches
    for size in [2, 2, 20]:
        order = create_return(
            deliver(customer, *((p, 1) for p in products[:size])))
        order.reload()
        shipment, = order.shipments
        ours.append(
            post(shipment, 'receive') + post(shipment, 'done'))

        shipment = ShipmentIn(supplier=supplier)
        shipment.warehouse = warehouse
        for product in products[:size]:
            move = shipment.incoming_moves.new()
            move.product = product
            move.quantity = 1
            move.from_location = supplier.supplier_location
            move.to_location = warehouse.input_location
            move.unit_price = Decimal('9')
            move.currency = get_company().currency
        shipment.save()
        core.append(
            post(shipment, 'receive') + post(shipment, 'done'))

        order.reload()
        dispositions = []
        for line in order.lines:
            disposition = Disposition(line=line, action='restock')
            disposition.quantity = 1
            disposition.save()
            dispositions.append(disposition)
        Disposition.click(dispositions, 'decide')
        internal, = Internal.find([('state', '=', 'waiting')])
        internal.click('assign_try')
        decided.append(post(internal, 'done'))
        order.reload()
        assert order.state == 'done'
    _, small, large = ours
    _, core_small, core_large = core
    assert large - small <= core_large - core_small, (ours, core)
    # Tryton looks for a closed period once for each move
    _, small, large = decided
    assert large - small <= 18, decided


def test_write_off(database):
    "Test the statements of requesting and approving a write-off"
    from trytond.pool import Pool
    activate('return_management')
    Location = Model.get('stock.location')
    WriteOff = Model.get('return.write_off')
    lost, = Location.find([('type', '=', 'lost_found')], limit=1)
    warehouse = get_warehouse()
    warehouse.waste_locations.append(lost)
    warehouse.save()
    cause, = Model.get('return.write_off.cause').find(
        [('name', '=', "Missing")])
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    accountant = create_user("Accountant", 'group_return_finance')
    reads = {'request': [], 'approve': []}

    def call(method, id_, user, employee):
        Record = Pool().get('return.write_off')
        transaction = Transaction()
        if not employee:
            employee = transaction.context['employee']
        with transaction.set_user(user), \
                transaction.set_context(employee=employee):
            getattr(Record, method)(Record.browse([id_]))

    # The first fills the caches
    for size in [1, 1, 20]:
        order = create_return(deliver(customer, *[(product, 1)] * size))
        order.reload()
        for shipment in order.shipments:
            receive(shipment)
        write_off = WriteOff(cause=cause)
        for line in order.lines:
            disposition = write_off.dispositions.new()
            disposition.line = line
            disposition.action = 'write_off'
            disposition.quantity = 1
        write_off.save()

        for method, user, employee in [
                ('request', 1, None),
                ('approve', accountant.id, accountant.employee.id)]:
            statements = trace(database, partial(
                    call, method, write_off.id, user, employee))
            reads[method].append(
                [s for s in statements if s.startswith('SELECT')])
            WriteOff.find([], limit=1)
        write_off.reload()
        assert write_off.state == 'approved'
    for method, (_, small, large) in reads.items():
        assert len(large) - len(small) < 10, (
            method, len(small), len(large))


def test_discrepancies(database):
    "Test the statements that open and settle what is short"
    from trytond.pool import Pool

    def write(name, ids, values):
        with Transaction().start(database, 1) as transaction:
            Model_ = Pool().get(name)
            Model_.write(Model_.browse(ids), values)
            transaction.commit()

    activate('return_management')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    orders = {}
    for size in [1, 21]:
        order = create_return(deliver(customer, *[(product, 2)] * size))
        order.reload()
        shipment, = order.shipments
        for move in shipment.incoming_moves:
            move.quantity = 1
        receive(shipment)
        order.reload()
        assert len(order.discrepancies) == size
        # As if nothing had been opened yet
        write(
            'return.discrepancy', [d.id for d in order.discrepancies],
            {'state': 'cancelled'})
        orders[size] = order
    small, large = orders
    for event in ['open', 'settle']:
        reads = {}
        for size, order in orders.items():
            if event == 'settle':
                write(
                    'return.order.line', [l.id for l in order.lines],
                    {'closed_quantity': 1})
            statements = count(database, 'process', [order.id])
            verb = 'INSERT' if event == 'open' else 'UPDATE'
            assert any(
                s.startswith(verb) and 'return_discrepancy' in s
                for s in statements)
            # Tryton takes numbers one by one
            reads[size] = [
                s for s in statements
                if s.startswith('SELECT') and 'sequence' not in s]
            order.reload()
        growth = len(reads[large]) - len(reads[small])
        assert growth < (large - small) / 2, (
            event, {size: len(r) for size, r in reads.items()})
        assert sorted(d.state for d in order.discrepancies) == sorted(
            ['cancelled', 'open' if event == 'open' else 'resolved'] * large)


def test_resale(database):
    "Test the statements to offer returned goods and to quote and sell them"
    from trytond.pool import Pool
    activate('return_management')
    product = create_product()
    stock(product, 60)
    customer = create_customer()
    order = create_return(deliver(customer, (product, 60)))
    receive(order.shipments[0])
    small, large = 2, 20
    resales = resell(order.lines[0], *[1] * (small + small + large))
    batches = [
        resales[:small], resales[small:2 * small], resales[2 * small:]]

    def click(name, method, ids):
        Model_ = Pool().get(name)
        getattr(Model_, method)(Model_.browse(ids))

    reads = {}
    # The first fills the caches
    for batch in batches:
        ids = [r.id for r in batch]
        for resale in batch:
            resale.grade, resale.sound = 'b', 'yes'
            resale.channel = 'internal'
            resale.unit_price = Decimal('5')
            resale.price_reason = "Agreed"
            resale.save()
        for method in ['evaluate', 'plan', 'repack', 'relabel', 'offer']:
            reads[method, len(batch)] = trace(
                database, partial(click, 'return.resale', method, ids))
        for resale in batch:
            resale.reload()
        sale = sell_resale(customer, *((r, 1) for r in batch))
        for method in ['quote', 'confirm']:
            reads[method, len(batch)] = trace(
                database, partial(click, 'sale.sale', method, [sale.id]))
        # What it has queued runs with the next call of a client
        Model.get('return.order').find([], limit=1)
    for method in [
            'evaluate', 'plan', 'repack', 'relabel', 'offer', 'quote',
            'confirm']:
        numbers = {
            size: len([
                    s for s in reads[method, size]
                    if s.startswith('SELECT')])
            for size in [small, large]}
        assert numbers[large] == numbers[small], (method, numbers)


def test_evaluate(database):
    "Test the statements of evaluating goods and of the list of the areas"
    activate('return_management')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    batches = []
    # The first fills the caches
    for size in [2, 2, 20]:
        sale = deliver(customer, *[(product, 1)] * size)
        order = create_return(sale)
        order.reload()
        for shipment in order.shipments:
            receive(shipment)
        batches.append([l.id for l in order.lines])

    def evaluate(ids):
        from trytond.pool import Pool
        Evaluate = Pool().get('return.order.evaluate', type='wizard')
        Start = Pool().get('return.order.evaluate.start')
        Row = Pool().get('return.order.evaluate.start.row')
        with Transaction().set_context(
                active_model='return.order.line', active_ids=ids,
                active_id=ids[0]):
            session, _, _ = Evaluate.create()
            wizard = Evaluate(session)
            rows = wizard.default_start([])['rows']
            assert len(rows) == len(ids)
            wizard.start = Start(rows=[
                    Row(grade=None, note=None, **row) for row in rows])
            wizard.transition_decide()
            Evaluate.delete(session)

    def read(ids):
        from trytond.pool import Pool
        Goods = Pool().get('return.area.goods')
        assert len(Goods.search_read([
                    ('line', 'in', ids)], fields_names=[
                        'location', 'product', 'quantity', 'since'])) == len(
                            ids)

    _, small, large = (
        [s for s in trace(database, partial(read, ids))
            if 'stock_move' in s] for ids in batches)
    # The search and the reading
    assert len(small) == len(large) == 2, (small, large)
    statements = []
    for ids in batches:
        statements.append([
                s for s in trace(database, partial(evaluate, ids))
                if s.startswith('SELECT')])
        Model.get('return.order').find([], limit=1)
    _, small, large = statements
    assert len(large) - len(small) < 18 / 2, (len(small), len(large))


def test_locations(database):
    "Test the statements that find the areas of moves on many shelves"
    from trytond.pool import Pool
    activate('return_management')
    Location = Model.get('stock.location')
    product = create_product()
    stock(product, 100)
    customer = create_customer()
    area = get_warehouse().return_location
    shelves = []
    for i in range(20):
        shelf = Location(name=f"Shelf {i}", type='storage', parent=area)
        shelf.save()
        shelves.append(shelf)
    moves = []
    # The first fills the caches
    for size in [2, 2, 20]:
        order = create_return(deliver(customer, *[(product, 1)] * size))
        order.reload()
        shipment, = order.shipments
        shipment.click('receive')
        for move, shelf in zip(shipment.inventory_moves, shelves):
            move.to_location = shelf
            move.save()
        moves.append([
                m.id for m in shipment.incoming_moves
                + shipment.inventory_moves])

    def find(ids):
        Move = Pool().get('stock.move')
        for move in Move.browse(ids):
            move.from_location.find_return_area()
            move.to_location.find_return_area()
            move._leaves_return_area()
            move._get_left_output()

    def do(ids):
        Move = Pool().get('stock.move')
        Move.do([m for m in Move.browse(ids) if m.state != 'done'])

    for function in [find, do]:
        reads = []
        for ids in moves:
            reads.append([
                    s for s in trace(database, partial(function, ids))
                    if 'FROM "stock_location"' in s])
            Model.get('return.order').find([], limit=1)
        _, small, large = reads
        assert 0 < len(small) == len(large), (small, large)


def test_refunds(database):
    "Test the statements of what finance compares with the books"
    activate('return_quality', 'return_refund', 'account_payment_clearing')
    from trytond.modules.return_refund.tests.tools import (
        approve, create_accountant, create_cash_method, get_refund,
        pay_invoice, return_goods)
    from trytond.pool import Pool
    accountant = create_accountant()
    cash = create_cash_method()
    product = create_product(category="Taxed")
    stock(product, 100)
    customer = create_customer()
    small, large = 2, 8
    refunds = []
    for _ in range(large):
        sale = deliver(customer, (product, 2))
        pay_invoice(sale.invoices[0], cash.payment_method)
        refunds.append(approve(
                get_refund(return_goods(sale, (0, 1))), accountant).id)

    def read(ids):
        Refund = Pool().get('return.refund')
        rows = Refund.read(ids, [
                'age', 'credited_amount', 'paid_amount', 'set_off_amount',
                'open_amount', 'executed', 'difference'])
        assert {r['paid_amount'] for r in rows} == {Decimal('11')}

    def check(ids):
        Refund = Pool().get('return.refund')
        assert not Refund._check(Refund.browse(ids))

    for function in [read, check]:
        statements = {
            size: [
                s for s in trace(database, partial(function, ids))
                if s.startswith('SELECT')]
            for size, ids in [
                (small, refunds[:small]), (large, refunds)]}
        assert len(statements[large]) <= len(statements[small]), (
            function, {n: len(s) for n, s in statements.items()})
