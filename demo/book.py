# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Read an order book: one row per order line, returns among them"
import csv
import gzip
from collections import namedtuple
from datetime import datetime
from decimal import Decimal, InvalidOperation

__all__ = ['Book', 'BookError', 'Row', 'is_goods']

COLUMNS = [
    'InvoiceNo', 'StockCode', 'Description', 'Quantity', 'InvoiceDate',
    'UnitPrice', 'CustomerID', 'Country']
# Postage, fees, discounts, manual entries, samples, tests and vouchers
NO_GOODS = {
    'adjust', 'adjust2', 'amazonfee', 'b', 'bank charges', 'c2', 'c3', 'cruk',
    'd', 'dot', 'gift', 'm', 'pads', 'post', 's', 'test001', 'test002'}
MAX_DIGITS = 4
MAX_VALUE = 10 ** 9

Row = namedtuple('Row', [
        'line', 'number', 'code', 'description', 'quantity', 'date', 'price',
        'customer', 'country', 'extra'])
Remark = namedtuple('Remark', ['line', 'number', 'code', 'reason'])


class BookError(Exception):
    "The file as a whole can not be used"


class RowError(Exception):
    "The row can not be used"


def is_goods(code):
    code = code.casefold()
    return code not in NO_GOODS and not code.startswith('gift_')


class Book:
    """An order book in time order (file order within the same second)

    orders: rows that sold something to a known customer
    returns: rows of returns, also those without a customer
    unusable: remarks on rows that can not be used at all
    remarks: remarks on rows that are used all the same
    """

    def __init__(self, path):
        self.path = path
        self.orders = []
        self.returns = []
        self.unusable = []
        self.remarks = []
        try:
            with self._open(path) as file:
                self._read(csv.DictReader(file, strict=True))
        except UnicodeDecodeError as error:
            raise BookError(f"{path}: not UTF-8 text ({error.reason})")
        except csv.Error as error:
            raise BookError(f"{path}: not a CSV file ({error})")
        except EOFError:
            raise BookError(f"{path}: the compressed file is cut off")
        except gzip.zlib.error as error:
            raise BookError(f"{path}: the compressed file is broken ({error})")
        except OSError as error:
            raise BookError(f"{path}: {error.strerror or error}")
        self.orders.sort(key=lambda r: r.date)
        self.returns.sort(key=lambda r: r.date)

    @staticmethod
    def _open(path):
        open_ = gzip.open if str(path).endswith('.gz') else open
        return open_(path, 'rt', encoding='utf-8-sig', newline='')

    def _read(self, reader):
        header = [n.strip() for n in reader.fieldnames or []]
        if not header:
            raise BookError(f"{self.path}: the file is empty")
        missing = [n for n in COLUMNS if n not in header]
        if missing:
            raise BookError(
                f"{self.path}: column {', '.join(missing)} is missing "
                f"in the header")
        reader.fieldnames = header
        for values in reader:
            line = reader.line_num
            try:
                self._add(self._parse(line, values))
            except RowError as error:
                self._remark(
                    self.unusable, line, values.get('InvoiceNo'),
                    values.get('StockCode'), str(error))

    def _remark(self, remarks, line, number, code, reason):
        remarks.append(Remark(
                line, (number or '').strip(), (code or '').strip(), reason))

    def _parse(self, line, values):
        if None in values:
            raise RowError("too many columns")
        if None in values.values():
            raise RowError("columns are missing")
        values = {k: v.strip() for k, v in values.items()}
        if not values['InvoiceNo']:
            raise RowError("no order number")
        if not values['StockCode']:
            raise RowError("no stock code")
        quantity = self._number(values['Quantity'], "quantity")
        if quantity != int(quantity):
            raise RowError("the quantity is not a whole number")
        price = self._number(values['UnitPrice'], "price")
        if -price.as_tuple().exponent > MAX_DIGITS:
            raise RowError(f"the price has more than {MAX_DIGITS} decimals")
        return Row(
            line, values['InvoiceNo'], values['StockCode'],
            values['Description'], int(quantity),
            self._date(values['InvoiceDate']), price,
            values['CustomerID'].partition('.')[0], values['Country'],
            {k: v for k, v in values.items() if k not in COLUMNS})

    @staticmethod
    def _number(value, name):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite():
            raise RowError(f"the {name} \"{value}\" is not a number")
        if abs(number) > MAX_VALUE:
            raise RowError(f"the {name} \"{value}\" is too large")
        return number

    @staticmethod
    def _date(value):
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            raise RowError(f"the date \"{value}\" is not a date")
        if date.tzinfo and 1 < date.year < 9999:
            date = date.replace(tzinfo=None) - date.utcoffset()
        if not 1970 <= date.year <= datetime.now().year:
            raise RowError(f"the year of \"{value}\" is not one to trade in")
        return date

    def _add(self, row):
        if row.number.startswith('C'):
            if row.quantity >= 0:
                raise RowError("a return whose quantity is not negative")
            self.returns.append(row)
            if not row.customer:
                self._remark(
                    self.unusable, *row[:3], "a return without customer")
                return
        elif row.quantity < 0:
            raise RowError("a stock write-off, no return")
        elif not row.quantity:
            raise RowError("the quantity is zero")
        elif row.price < 0:
            raise RowError("the price is negative")
        elif not row.customer:
            raise RowError("an order without customer")
        else:
            self.orders.append(row)
        if row.price <= 0:
            self._remark(self.remarks, *row[:3], "there is no price")
        if not row.description:
            self._remark(self.remarks, *row[:3], "there is no description")
