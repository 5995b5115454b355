# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The reader and the planner of the demo, without a database."""
import datetime as dt
import gzip
from decimal import Decimal

import pytest

from demo.__main__ import BOOK, main
from demo.book import COLUMNS, Book, BookError, is_goods
from demo.plan import Plan

from .templates import ROOT

pytestmark = pytest.mark.sqlite  # once is enough

DATA = (ROOT.parent / 'shared' / 'data'
    / 'online-retail-2010-12-to-2011-01.csv.gz')


@pytest.fixture
def read(tmp_path):
    "Return the book of rows without their country"
    def read(*rows):
        path = tmp_path / 'book.csv'
        path.write_text('\n'.join([
                    ','.join(COLUMNS), *(r + ',United Kingdom' for r in rows),
                    '']))
        return Book(path)
    return read


def order(number, quantity, time='08:00:00', price='1.00', code='A1',
        customer='7.0'):
    return f'{number},{code},Mug,{quantity},2024-03-01 {time},{price},' \
        f'{customer}'


def get_pieces(plan):
    return [
        (l.row.number, l.outcome,
            [(p.row.number, p.quantity) for p in l.pieces])
        for l in plan.lines]


@pytest.fixture(scope='module')
def real():
    return Book(DATA)


def test_real(real):
    plan = Plan(real)

    assert plan.count == {
        'covered': 786, 'more than bought': 9, 'no earlier order': 575,
        'no customer': 59}
    assert len(plan.returns) == 586
    assert sum(plan.no_goods.values()) == 52
    assert len(real.orders) + len(real.returns) + len(real.unusable) == (
        77628 + 59)


def test_real_days(real):
    plan = Plan(real, dt.date(2010, 12, 1), dt.date(2010, 12, 8))

    assert len(plan.lines) == 256
    assert len(plan.orders) == 83
    assert sum(map(len, plan.orders.values())) == 2039
    assert {p.row.number for l in plan.lines for p in l.pieces} <= {
        number for number, _ in plan.orders}


def test_own():
    book = Book(BOOK)
    plan = Plan(book)

    assert set(plan.count) == {
        'covered', 'more than bought', 'no earlier order', 'no customer'}
    assert {r.reason for r in book.unusable} == {
        "a return without customer", "a stock write-off, no return",
        "an order without customer", "columns are missing",
        "the date \"9 March\" is not a date", "the price is negative",
        "the quantity \"a dozen\" is not a number",
        "the quantity is not a whole number"}
    assert {r.reason for r in book.remarks} == {
        "there is no price", "there is no description"}


@pytest.mark.parametrize('row, reason', [
        (order('1', 'x'), "the quantity \"x\" is not a number"),
        (order('1', 'NaN'), "the quantity \"NaN\" is not a number"),
        (order('1', '1e99'), "the quantity \"1e99\" is too large"),
        (order('1', '1.5'), "the quantity is not a whole number"),
        (order('1', '0'), "the quantity is zero"),
        (order('1', '-3'), "a stock write-off, no return"),
        (order('C1', '3'), "a return whose quantity is not negative"),
        (order('1', '3', price=''), "the price \"\" is not a number"),
        (order('1', '3', price='-1'), "the price is negative"),
        (order('1', '3', price='0.00001'),
            "the price has more than 4 decimals"),
        (order('1', '3', time='25:00:00'),
            "the date \"2024-03-01 25:00:00\" is not a date"),
        ('1,A1,Mug,3,0001-01-01 00:00:00,1.00,7',
            "the year of \"0001-01-01 00:00:00\" is not one to trade in"),
        (order('1', '3', customer=''), "an order without customer"),
        (order('C1', '-3', customer=''), "a return without customer"),
        (order('', '3'), "no order number"),
        (order('1', '3', code=''), "no stock code"),
        ('1,A1', "columns are missing"),
        (order('1', '3') + ',7', "too many columns"),
        ])
def test_unusable(read, row, reason):
    book = read(order('9', '1'), row)

    remark, = book.unusable
    assert (remark.line, remark.reason) == (3, reason)
    assert [r.number for r in book.orders] == ['9']


def test_row(read):
    row, = read(order('9', '6', price='2.55')).orders

    assert row.customer == '7'
    assert row.quantity == 6
    assert row.price == Decimal('2.55')
    assert row.date == dt.datetime(2024, 3, 1, 8)


def test_latest_first(read):
    "The latest earlier row first, the last of the same second"
    book = read(
        order('C5', -4, '12:00:00'), order('4', 9, '13:00:00'),
        order('3', 1, '09:00:00'), order('1', 9, '08:00:00', '2.00'),
        order('2', 2, '09:00:00'))

    assert get_pieces(Plan(book)) == [
        ('C5', 'covered', [('2', 2), ('3', 1), ('1', 1)])]


def test_left(read):
    "A return takes from what it is matched to, only if it is covered"
    book = read(
        order('1', 5), order('C2', -3, '09:00:00'),
        order('C3', -3, '10:00:00'), order('C4', -2, '11:00:00'),
        order('C5', -1, '12:00:00'))

    assert get_pieces(Plan(book)) == [
        ('C2', 'covered', [('1', 3)]), ('C3', 'more than bought', []),
        ('C4', 'covered', [('1', 2)]), ('C5', 'no earlier order', [])]


def test_same_second(read):
    "In the same second the order of the file counts"
    book = read(order('C1', -1), order('2', 1), order('C3', -1))

    assert get_pieces(Plan(book)) == [
        ('C1', 'no earlier order', []), ('C3', 'covered', [('2', 1)])]


def test_others(read):
    "Neither another customer nor another code covers"
    book = read(
        order('1', 5, customer='8'), order('2', 5, code='A2'),
        order('C3', -1, '09:00:00'),
        order('C4', -1, '09:00:00', customer=''))

    assert get_pieces(Plan(book)) == [
        ('C3', 'no earlier order', []), ('C4', 'no customer', [])]


def test_no_price(read):
    "A purchase counts whatever its price"
    book = read(
        order('1', 5, price='0.00'), order('C2', -1, '09:00:00', '0.00'))

    line, = Plan(book).lines
    assert line.outcome == 'covered'
    assert line.pieces[0].amount == 0
    assert len(book.remarks) == 2


def test_amount(read):
    "Each piece is rounded as Tryton does, half to even"
    book = read(
        order('1', 9, price='0.335'),
        order('C2', -1, '09:00:00', '9.99'), order('C3', -3, '10:00:00'))

    assert [p.amount for l in Plan(book).lines for p in l.pieces] == [
        Decimal('0.34'), Decimal('1.00')]


def test_selection(read):
    "The returns before the selection take their part all the same"
    book = read(
        order('1', 2), order('C2', -1, '09:00:00'),
        order('C3', -1, '10:00:00'), order('C3', -1, '10:00:00'),
        order('C4', -1, '11:00:00'))
    day = dt.date(2024, 3, 1)

    assert len(Plan(book, day, day).lines) == 4
    assert not Plan(book, from_=day + dt.timedelta(1)).lines
    assert not Plan(book, to=day - dt.timedelta(1)).lines
    assert not Plan(book, to=day - dt.timedelta(1)).orders
    assert [l.row.number for l in Plan(book, limit=2).lines] == [
        'C2', 'C3', 'C3']


@pytest.mark.parametrize('code, goods', [
        ('85123A', True), ('DCGS0003', True), ('POST', False), ('m', False),
        ('BANK CHARGES', False), ('gift_0001_20', False)])
def test_goods(code, goods):
    assert is_goods(code) == goods


HEADER = ','.join(COLUMNS).encode()
# The time would give each worker of pytest another name of the test
ZIPPED = gzip.compress(HEADER, mtime=0)


@pytest.mark.parametrize('name, content, message', [
        ('book.csv', None, "No such file or directory"),
        ('book.csv', b'', "the file is empty"),
        ('book.csv', b'\n\n', "the file is empty"),
        ('book.csv', b'a,b,c\n1,2,3\n', "column InvoiceNo, StockCode"),
        ('book.csv', HEADER + b'\n\xa3', "not UTF-8 text"),
        ('book.csv', HEADER + b'\n"a', "not a CSV file"),
        ('book.csv.gz', HEADER, "Not a gzipped file"),
        ('book.csv.gz', ZIPPED[:-9], "is cut off"),
        ('book.csv.gz', ZIPPED[:12] + b'x' * 99, "is broken"),
        ])
def test_bad_file(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BookError, match=message):
        Book(path)
    assert main(['--orders', str(path)]) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_header_only(read):
    assert not Plan(read()).lines


@pytest.mark.parametrize('arguments, message', [
        (['--from', '2010-12-32'], "is no day"),
        (['--to', 'yesterday'], "is no day"),
        (['--from', '2010-12-02', '--to', '2010-12-01'], "is after"),
        (['--limit', '-1'], "is no number"),
        (['--limit', '0'], "is no number"),
        ])
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_dry_run(capsys):
    assert main(['--orders', str(DATA), '--dry-run']) == 0

    out = capsys.readouterr().out.split()
    for outcome, count in [
            ('covered', 786), ('bought', 9), ('order', 575),
            ('customer', 59)]:
        assert out[out.index(f'{outcome}:') + 1] == str(count)
