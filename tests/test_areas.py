# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""What the list of the goods in the areas reads of the past."""
import datetime as dt

import pytest
from proteus import Model

from trytond.modules.company.tests.tools import get_company
from trytond.modules.return_management.tests.tools import (
    activate, confirm, create_customer, create_product, create_return,
    deliver, do_internal, receive, resell, stock)
from trytond.transaction import Transaction

from .statements import trace

STEP = 1000


def plant(database, order, first, last):
    "Repeat the settled return in the past, with its moves"
    line, = order.lines
    disposition, = line.dispositions
    moved = [str(line), str(disposition)]
    with Transaction().start(database, 1) as transaction:
        cursor = transaction.connection.cursor()

        def repeat(table, where, **values):
            cursor.execute(
                "SELECT column_name FROM information_schema.columns "
                "WHERE table_name = %s", [table])
            columns = [name for name, in cursor.fetchall()]
            values = {'id': f'id + {STEP} * series', **values}
            cursor.execute(
                'INSERT INTO "%s" (%s) SELECT %s FROM "%s", '
                'generate_series(%d, %d) AS series WHERE %s' % (
                    table, ', '.join(f'"{c}"' for c in columns),
                    ', '.join(values.get(c, f'"{c}"') for c in columns),
                    table, first, last, where))
            return cursor.rowcount

        repeat(
            'return_order', f'id = {order.id}',
            number="number || '-' || series")
        repeat(
            'return_order_line', f'id = {line.id}',
            order=f'"order" + {STEP} * series')
        repeat(
            'return_disposition', f'id = {disposition.id}',
            line=f'line + {STEP} * series')
        origin = (
            "split_part(origin, ',', 1) || ',' || "
            f"(split_part(origin, ',', 2)::integer + {STEP} * series)")
        past = "DATE '2020-01-01'"
        cursor.execute(
            "SELECT id FROM stock_move WHERE origin = ANY(%s)", [moved])
        origins = moved + [f'stock.move,{id_}' for id_, in cursor.fetchall()]
        names = ', '.join(f"'{o}'" for o in origins)
        moves = repeat(
            'stock_move', f'origin IN ({names}) AND id < {STEP}',
            origin=origin, effective_date=past, planned_date=past)
        assert moves == 3 * (last - first + 1)
        transaction.commit()
    with Transaction().start(database, 0, autocommit=True) as transaction:
        transaction.connection.cursor().execute("ANALYZE")


def read_goods(database, domain):
    "Return the goods and the rows that are read for them by table"

    def search():
        from trytond.pool import Pool
        Goods = Pool().get('return.area.goods')
        goods.extend(
            (g.line.id if g.line else None, g.quantity)
            for g in Goods.search(domain))

    goods, rows, scanned = [], {}, set()
    statements = [
        s for s in trace(database, search) if 'stock_move' in s]

    def walk(node):
        if name := node.get('Relation Name'):
            rows[name] = rows.get(name, 0) + node['Actual Loops'] * (
                node['Actual Rows']
                + node.get('Rows Removed by Filter', 0)
                + node.get('Rows Removed by Index Recheck', 0))
            if node['Node Type'] == 'Seq Scan':
                scanned.add(name)
        for child in node.get('Plans', []):
            walk(child)

    with Transaction().start(database, 0, readonly=True) as transaction:
        cursor = transaction.connection.cursor()
        for statement in statements:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement)
            (plan,), = cursor.fetchone()
            walk(plan['Plan'])
    return sorted(goods, key=str), rows, scanned


@pytest.mark.postgresql
def test_history(database):
    "Test that the list reads what is there and not what has gone"
    activate('return_management')
    Disposition = Model.get('return.disposition')
    Internal = Model.get('stock.shipment.internal')
    Period = Model.get('stock.period')
    product = create_product()
    stock(product, 30)
    sale = deliver(create_customer(), (product, 20))

    def restock(order, quantity):
        line, = order.lines
        disposition = Disposition(
            line=line, action='restock', quantity=quantity)
        confirm(disposition, 'decide')
        shipment, = Internal.find([('state', '=', 'waiting')])
        do_internal(shipment)
        order.reload()

    def return_(quantity):
        order = create_return(sale, (0, quantity))
        order.reload()
        receive(order.shipments[0])
        order.reload()
        return order

    settled = return_(1)
    restock(settled, 1)
    assert settled.state == 'done' and not settled.lines[0].in_area
    kept, resold = return_(5), return_(4)
    restock(kept, 2)
    resell(resold.lines[0], 3)
    expected = sorted([
            (kept.lines[0].id, 3), (resold.lines[0].id, 1),
            (resold.lines[0].id, 3)], key=str)
    tables = {
        'return_order', 'return_order_line', 'return_disposition',
        'stock_move'}

    def read(order, closed):
        "Read all, or without closed period what is of the order"
        found = {}
        goods, found['all'], scanned = read_goods(database, [])
        assert goods == expected
        if closed:
            assert not scanned & tables, scanned
        goods, found['order'], scanned = read_goods(
            database, [('order', '=', order.id)])
        assert goods == [(order.lines[0].id, 3)]
        assert not scanned & tables, scanned
        return found

    plant(database, settled, 1, 10_000)
    open_ = read(kept, False)
    period = Period(
        company=get_company(), date=dt.date.today() - dt.timedelta(days=1))
    period.click('close')
    closed = read(kept, True)
    period.click('draft')
    plant(database, settled, 10_001, 20_000)
    assert read(kept, False)['order'] == open_['order']
    period.click('close')
    assert read(kept, True) == closed, (closed, read(kept, True))
    assert sum(closed['all'].get(t, 0) for t in tables) < 200, closed
