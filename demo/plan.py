# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Match the returns of an order book to the orders before them"
from collections import Counter, defaultdict, namedtuple
from decimal import ROUND_HALF_EVEN, Decimal
from operator import attrgetter

from .book import is_goods

__all__ = ['OUTCOMES', 'Plan']

COVERED = 'covered'
MORE = 'more than bought'
MISSING = 'no earlier order'
NOBODY = 'no customer'
OUTCOMES = [COVERED, MORE, MISSING, NOBODY]
CENT = Decimal('0.01')

Line = namedtuple('Line', ['row', 'outcome', 'pieces'])


class Piece(namedtuple('Piece', ['row', 'quantity'])):
    "A quantity of a return that belongs to one row of an order"
    __slots__ = ()

    @property
    def amount(self):
        "What is to be refunded, before tax"
        return (self.quantity * self.row.price).quantize(
            CENT, ROUND_HALF_EVEN)


class Purchase:
    __slots__ = ('left', 'row')

    def __init__(self, row):
        self.row = row
        self.left = row.quantity


class Plan:
    """The returns of a book from one day to another, matched to orders

    The whole history before them counts.
    """

    def __init__(self, book, from_=None, to=None, limit=None):
        self.book = book
        self.lines = [
            l for l in self._match(book)
            if (not from_ or l.row.date.date() >= from_)
            and (not to or l.row.date.date() <= to)]
        if limit is not None:
            numbers = list(dict.fromkeys(l.row.number for l in self.lines))
            numbers = set(numbers[:limit])
            self.lines = [l for l in self.lines if l.row.number in numbers]

    @staticmethod
    def _match(book):
        purchases = defaultdict(list)
        rows = sorted(
            book.orders + book.returns, key=attrgetter('date', 'line'))
        for row in rows:
            key = row.customer, row.code
            if row.quantity > 0:
                purchases[key].append(Purchase(row))
            elif not row.customer:
                yield Line(row, NOBODY, [])
            else:
                # Rows that are used up would make long histories slow
                purchases[key] = left = [p for p in purchases[key] if p.left]
                if not left:
                    yield Line(row, MISSING, [])
                elif sum(p.left for p in left) < -row.quantity:
                    yield Line(row, MORE, [])
                else:
                    yield Line(row, COVERED, list(
                            Plan._take(left, -row.quantity)))

    @staticmethod
    def _take(purchases, quantity):
        for purchase in reversed(purchases):
            taken = min(purchase.left, quantity)
            purchase.left -= taken
            quantity -= taken
            yield Piece(purchase.row, taken)
            if not quantity:
                break

    @property
    def count(self):
        return Counter(l.outcome for l in self.lines)

    @property
    def no_goods(self):
        return Counter(
            l.outcome for l in self.lines if not is_goods(l.row.code))

    @property
    def returns(self):
        "The lines by return: a number and a customer"
        returns = defaultdict(list)
        for line in self.lines:
            returns[line.row.number, line.row.customer].append(line)
        return dict(returns)

    @property
    def orders(self):
        """The rows by order, of the orders that the returns can belong to:
        the orders of their customers up to the day of the last return"""
        orders = defaultdict(list)
        if self.lines:
            customers = {l.row.customer for l in self.lines}
            last = max(l.row.date for l in self.lines).date()
            for row in self.book.orders:
                if row.customer in customers and row.date.date() <= last:
                    orders[row.number, row.customer].append(row)
        return dict(orders)
