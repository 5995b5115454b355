# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A policy with many lines judges many goods at once."""
import datetime as dt
import re
import time
from collections import Counter
from decimal import Decimal
from functools import partial

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, deliver, stock)

from .statements import trace

SMALL, LARGE = 1_000, 10_000
RULES, KINDS = 1_000, 250
SECONDS = 60
CATEGORIES = ['quality', 'demand', 'sales', 'logistics', 'other']


def in_transaction(database, function):
    "Return what function returns in a transaction of the user, committed"
    results = []
    trace(database, lambda: results.append(function()))
    return results[0]


def create_rules(product_id):
    """Publish a policy with many lines of all kinds

    Return its id and the ids of the products and parties that it names.
    """
    from trytond.pool import Pool
    from trytond.transaction import Transaction

    pool = Pool()
    Category = pool.get('product.category')
    Party = pool.get('party.party')
    Policy = pool.get('return.policy')
    Product = pool.get('product.product')
    Template = pool.get('product.template')

    product = Product(product_id)
    parents = Category.create([
            {'name': f'Group {i}'} for i in range(KINDS // 10)])
    categories = Category.create([
            {'name': f'Kind {i}', 'parent': parents[i // 10].id}
            for i in range(KINDS)])
    templates = Template.create([{
                'name': f'Product {i}',
                'type': 'goods',
                'default_uom': product.default_uom.id,
                'salable': True,
                'sale_uom': product.default_uom.id,
                'list_price': Decimal(10),
                'cost_price_method': 'fixed',
                'categories': [('add', [category.id])],
                'products': [('create', [{}])],
                } for i, category in enumerate(categories)])
    products = [t.products[0] for t in templates]
    parties = Party.create([
            {'name': f'Customer {i}'} for i in range(KINDS)])
    lines = []
    for i in range(RULES):
        kind, i = i % 4, i // 4
        lines.append({
                'period': i + 1,
                'basis': 'statutory' if i % 2 else 'goodwill',
                **[
                    # Half of the products and parties have no rule
                    {'product': products[i // 2].id},
                    {'product_category': categories[i].id},
                    {'party': parties[i // 2].id},
                    {
                        'reason_category': CATEGORIES[i % 5],
                        'minimum_amount': Decimal(i),
                        },
                    ][kind],
                })
    policy, = Policy.create([{
                'name': "Large",
                'start_date': dt.date(2000, 1, 1),
                **dict.fromkeys(Policy._text_fields(), "Text"),
                'lines': [('create', lines)],
                }])
    with Transaction().set_context(_skip_warnings=True):
        Policy.publish([policy])
    return policy.id, [p.id for p in products], [p.id for p in parties]


def multiply(sale_line_id, policy_id, products, numbers):
    "Copy the sale line and its move, by SQL, for the numbers"
    from trytond.pool import Pool
    from trytond.transaction import Transaction

    pool = Pool()
    cursor = Transaction().connection.cursor()
    line = pool.get('sale.line').__table__()
    move = pool.get('stock.move').__table__()

    def insert(table, where, change):
        cursor.execute(*table.select(where=where))
        names = [d[0] for d in cursor.description]
        values = dict(zip(names, cursor.fetchone()))
        for start in range(0, len(numbers), 500):
            rows = [
                {**values, **change(number)}
                for number in numbers[start:start + 500]]
            cursor.execute(*table.insert(
                    [getattr(table, n) for n in names],
                    [[row[n] for n in names] for row in rows]))

    insert(line, line.id == sale_line_id, lambda number: {
            'id': number,
            'product': products[number % len(products)],
            'return_policy': policy_id,
            })
    insert(
        move,
        (move.origin == f'sale.line,{sale_line_id}')
        & (move.state == 'done') & (move.shipment != None),  # noqa: E711
        lambda number: {
            'id': number,
            'product': products[number % len(products)],
            'origin': f'sale.line,{number}',
            })


def judge(numbers, products, parties):
    "Judge unsaved return lines; return them and the seconds of CPU"
    from trytond.pool import Pool

    pool = Pool()
    Line = pool.get('return.order.line')
    Order = pool.get('return.order')
    Party = pool.get('party.party')
    Product = pool.get('product.product')
    Reason = pool.get('return.reason')
    SaleLine = pool.get('sale.line')
    company = pool.get('res.user')(1).company
    reasons = {
        r.category: r for r in Reason.search([('parent', '=', None)])}
    products, parties = Product.browse(products), Party.browse(parties)
    lines = []
    for number, sale_line in zip(numbers, SaleLine.browse(numbers)):
        order = Order(
            company=company, currency=company.currency, channel='phone',
            party=parties[number // 3 % len(parties)],
            requested_at=dt.datetime.now(), lines=[])
        lines.append(Line(
                order=order,
                sale_line=sale_line,
                product=products[number % len(products)],
                reason=reasons[CATEGORIES[number % 5]],
                quantity=number % 30 + 1,
                unit_price=Decimal(10),
                unopened=None,
                complete=None))
    start = time.process_time()
    Line.judge(lines)
    return lines, time.process_time() - start


def measure(database, numbers, products, parties):
    "Return the statements and the seconds of CPU that judging takes"
    seconds = []
    statements = trace(database, lambda: seconds.append(
            judge(numbers, products, parties)[1]))
    return statements, *seconds


def find(rules, line):
    "Return the most specific statutory and goodwill rule, one by one"
    def depth(category):
        return 1 + depth(category.parent) if category else 0

    def key(rule):
        return (
            bool(rule.product), depth(rule.product_category),
            bool(rule.party), bool(rule.reason_category),
            -1 if rule.minimum_amount is None else rule.minimum_amount,
            -rule.id)

    amount = Decimal(str(line.quantity)) * line.unit_price
    categories = set()
    for category in line.product.categories_all:
        while category:
            categories.add(category)
            category = category.parent
    found = {}
    for rule in rules:
        if ((not rule.product or rule.product == line.product)
                and (not rule.product_category
                    or rule.product_category in categories)
                and (not rule.party or rule.party == line.order.party)
                and (not rule.reason_category
                    or rule.reason_category == line.reason.category)
                and (rule.minimum_amount is None
                    or rule.minimum_amount <= amount)):
            best = found.get(rule.basis)
            if not best or key(rule) > key(best):
                found[rule.basis] = rule
    return [found[b] for b in ['statutory', 'goodwill'] if b in found]


def check(numbers, products, parties, policy_id):
    "Check that the rules are those found one by one"
    from trytond.pool import Pool

    policy = Pool().get('return.policy')(policy_id)
    lines, _ = judge(numbers, products, parties)
    found = set()
    for line in lines:
        rules = find(policy.lines, line)
        holding = [
            r for r in rules
            if line.delivered_on + dt.timedelta(days=r.period)
            >= line.order.requested_on]
        assert line._get_rules() == (holding or rules[:1])
        assert line.eligible == bool(holding)
        found.update(rules)
    # Of all kinds
    for name in [
            'product', 'product_category', 'party', 'reason_category']:
        assert any(getattr(r, name) for r in found), name


def get_shape(statement):
    "Return the statement without its values"
    statement = re.sub(r"'[^']*'|\b\d+\b", '?', statement)
    return re.sub(r'\?(, \?)+', '?', statement)


def test_scale(database, record_property):
    "Test the statements and the rules found for many goods"
    activate('return_management')
    product = create_product()
    stock(product, 10)
    sale = deliver(create_customer(), (product, 1))
    sale_line_id = sale.lines[0].id
    policy_id, products, parties = in_transaction(
        database, lambda: create_rules(product.id))
    last = 100_000
    statements, shapes = {}, {}
    # The first fills the caches
    for size in [100, SMALL, LARGE]:
        numbers = list(range(last, last + size))
        last += size
        in_transaction(database, partial(
                multiply, sale_line_id, policy_id, products, numbers))
        statements[size], seconds = measure(
            database, numbers, products, parties)
        shapes[size] = Counter(map(get_shape, statements[size]))
        record_property(f'seconds of CPU for {size} lines', seconds)
        print(
            f"{size} lines: {len(statements[size])} statements, "
            f"{seconds:.2f} s of CPU")

    from trytond.backend import Database
    slices = -(-LARGE // Database.IN_MAX)
    # All is read by slices, some of it twice, and nothing line by line
    for shape, number in shapes[LARGE].items():
        assert number <= 2 * slices + 1, (number, shape)
    assert len(shapes[LARGE]) <= len(shapes[SMALL]) + 2
    assert seconds < SECONDS

    numbers = list(range(last - LARGE, last - LARGE + SMALL, 20))
    in_transaction(
        database, lambda: check(numbers, products, parties, policy_id))
