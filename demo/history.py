# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Load orders in batches: sold, shipped, invoiced and paid on their days"
import datetime as dt
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import islice

from trytond.pool import Pool
from trytond.transaction import Transaction

from .book import is_goods

__all__ = ['History']

# Small, as shipments cost time with the square of how many there are
BATCH = 5


class History:
    """The orders of a plan as the documents of the company

    After the load, parties and products have the ids by customer and code,
    sale_lines those by the line of the file.
    """

    def __init__(self, database, plan, taxed=False):
        self.database = database
        self.orders = plan.orders
        self.returns = [l.row for l in plan.lines if l.row.customer]
        self.taxed = taxed
        self.parties = {}
        self.products = {}
        self.sales = {}
        self.sale_lines = {}

    def load(self):
        "Load order by order, yielding how many orders are loaded"
        self._run(self._create_parties)
        self._run(self._create_products)
        self._run(self._supply)
        orders = iter(self.orders.items())
        while batch := dict(islice(orders, BATCH)):
            self.sales.update(self._run(self._sell, batch))
            self._run(self._process, batch)
            for order in batch:
                self._run(self._ship, [order])
            for func in [self._invoice, self._pay, self._process]:
                self._run(func, batch)
            yield len(self.sales)

    def _run(self, func, *args):
        # Each document would be processed and printed many times
        return self.database.run(
            func, *args, queue=False, company=self.database.company,
            _skip_warnings=True)

    @property
    def _rows(self):
        return [r for rows in self.orders.values() for r in rows]

    def _create_parties(self):
        pool = Pool()
        Country = pool.get('country.country')
        Party = pool.get('party.party')

        # The last one wins
        rows = {r.customer: r for r in self._rows + self.returns}
        names = sorted({r.country for r in rows.values() if r.country})
        countries = dict(zip(names, Country.create(
                    [{'name': n} for n in names])))
        parties = Party.create([{
                    'name': row.extra.get('Customer') or f"Customer {code}",
                    'code': code,
                    'addresses': [('create', [{
                                    'country': countries.get(row.country),
                                    }])],
                    } for code, row in sorted(rows.items())])
        self.parties = {p.code: p.id for p in parties}

    def _create_products(self):
        pool = Pool()
        Category = pool.get('product.category')
        ModelData = pool.get('ir.model.data')
        Template = pool.get('product.template')

        rows = defaultdict(list)
        for row in self._rows + self.returns:
            rows[row.code].append(row)
        unit = ModelData.get_id('product', 'uom_unit')
        category, = Category.search([
                ('name', '=', "VAT 20%" if self.taxed else "Untaxed"),
                ])

        def get_values(code, rows):
            (price, _), = Counter(abs(r.price) for r in rows).most_common(1)
            (name, _), = Counter(
                r.description or code for r in rows).most_common(1)
            return {
                'name': name,
                'type': 'goods' if is_goods(code) else 'service',
                'default_uom': unit,
                'salable': True,
                'sale_uom': unit,
                'list_price': price,
                'account_category': category.id,
                'products': [('create', [{
                                'suffix_code': code,
                                'cost_price': (price / 2).quantize(
                                    Decimal('0.0001')),
                                }])],
                }
        templates = Template.create([
                get_values(*item) for item in sorted(rows.items())])
        self.products = {
            t.products[0].code: t.products[0].id for t in templates}

    def _supply(self):
        "Receive what the orders take, on the day before the first"
        pool = Pool()
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Product = pool.get('product.product')

        quantities = Counter()
        for row in self._rows:
            if is_goods(row.code):
                quantities[self.products[row.code]] += row.quantity
        if not quantities:
            return
        warehouse, = Location.search([('type', '=', 'warehouse')])
        supplier, = Location.search([('type', '=', 'supplier')])
        day = min(r.date for r in self._rows).date() - dt.timedelta(1)
        currency = self._company.currency
        moves = Move.create([{
                    'product': product.id,
                    'unit': product.default_uom.id,
                    'quantity': quantities[product.id],
                    'from_location': supplier.id,
                    'to_location': warehouse.storage_location.id,
                    'effective_date': day,
                    'company': self.database.company,
                    'currency': currency.id,
                    'unit_price': product.cost_price,
                    } for product in Product.browse(list(quantities))])
        Move.do(moves)

    def _sell(self, orders):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        PaymentTerm = pool.get('account.invoice.payment_term')
        Location = pool.get('stock.location')
        Party = pool.get('party.party')
        Sale = pool.get('sale.sale')
        Tax = pool.get('account.tax')

        parties = [self.parties[customer] for _, customer in orders]
        addresses = {
            p.id: p.addresses[0].id for p in Party.browse(parties)}
        tax, = Tax.search([])
        taxes = [('add', [tax.id])] if self.taxed else []
        unit = ModelData.get_id('product', 'uom_unit')
        term, = PaymentTerm.search([])
        warehouse, = Location.search([('type', '=', 'warehouse')])

        def get_line(row):
            return {
                'product': self.products[row.code],
                'description': row.description or None,
                'quantity': row.quantity,
                'unit': unit,
                'unit_price': row.price,
                'taxes': taxes,
                }

        def get_sale(rows):
            party = self.parties[rows[0].customer]
            return {
                'party': party,
                'number': rows[0].number,
                'sale_date': rows[0].date.date(),
                'currency': self._company.currency.id,
                'invoice_address': addresses[party],
                'shipment_address': addresses[party],
                'warehouse': warehouse.id,
                'payment_term': term.id,
                'lines': [('create', [get_line(r) for r in rows])],
                }
        sales = Sale.create([get_sale(r) for r in orders.values()])
        for sale, rows in zip(sales, orders.values()):
            for line, row in zip(sale.lines, rows):
                self.sale_lines[row.line] = line.id
        Sale.quote(sales)
        Sale.confirm(sales)
        return dict(zip(orders, map(int, sales)))

    def _process(self, orders):
        pool = Pool()
        Sale = pool.get('sale.sale')

        Sale.process(self._get_sales(orders))

    def _ship(self, orders):
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')

        shipments = []
        for sale in self._get_sales(orders):
            for shipment in sale.shipments:
                shipment.effective_date = sale.sale_date
                shipments.append(shipment)
        Shipment.save(shipments)
        Shipment.assign_try(shipments)
        Shipment.pick(shipments)
        Shipment.pack(shipments)
        Shipment.done(shipments)

    def _invoice(self, orders):
        pool = Pool()
        Invoice = pool.get('account.invoice')

        invoices = []
        for sale in self._get_sales(orders):
            for invoice in sale.invoices:
                invoice.invoice_date = sale.sale_date
                invoice.payment_term_date = sale.sale_date
                invoices.append(invoice)
        Invoice.save(invoices)
        Invoice.post(invoices)

    def _pay(self, orders):
        pool = Pool()
        Invoice = pool.get('account.invoice')

        invoices = defaultdict(list)
        for sale, rows in zip(self._get_sales(orders), orders.values()):
            invoices[get_means(rows)].extend(
                i for i in sale.invoices if i.state == 'posted')
        self._pay_card(invoices['card'])
        self._pay_cash(invoices['cash'])
        Invoice.process(sum(invoices.values(), []))

    def _pay_card(self, invoices):
        pool = Pool()
        Journal = pool.get('account.payment.journal')
        Group = pool.get('account.payment.group')
        Move = pool.get('account.move')
        Payment = pool.get('account.payment')

        journal, = Journal.search([])
        days = defaultdict(list)
        for invoice in invoices:
            for line in invoice.lines_to_pay:
                if line.reconciliation or not line.debit:
                    continue
                days[invoice.invoice_date].append({
                        'kind': 'receivable',
                        'company': self.database.company,
                        'journal': journal.id,
                        'party': line.party.id,
                        'line': line.id,
                        'amount': line.debit - line.credit,
                        'date': invoice.invoice_date,
                        })

        def get_group():
            group = Group(
                company=self._company, journal=journal, kind='receivable')
            group.save()
            return group
        for day, values in sorted(days.items()):
            payments = Payment.create(values)
            Payment.submit(payments)
            Payment.process(payments, get_group)
            with Transaction().set_context(clearing_date=day):
                Payment.succeed(payments)
            Move.post([p.clearing_move for p in payments])

    def _pay_cash(self, invoices):
        pool = Pool()
        Line = pool.get('account.move.line')
        Method = pool.get('account.invoice.payment.method')

        method, = Method.search([])
        to_reconcile = []
        for invoice in invoices:
            lines = invoice.pay_invoice(
                invoice.amount_to_pay, method, invoice.invoice_date)
            to_reconcile.append(list(invoice.lines_to_pay) + lines)
        Line.reconcile(*to_reconcile)

    @property
    def _company(self):
        return Pool().get('company.company')(self.database.company)

    def _get_sales(self, orders):
        return Pool().get('sale.sale').browse([self.sales[o] for o in orders])


def get_means(rows):
    """How the order was paid: card, cash or unpaid

    The column Paid tells or, without it, one order in three is cash.
    """
    means = rows[0].extra.get('Paid')
    if not means:
        digits = ''.join(filter(str.isdigit, rows[0].number)) or '0'
        means = 'card' if int(digits) % 3 else 'cash'
    return means
