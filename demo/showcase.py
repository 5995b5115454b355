# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Returns of these months that stand where those of a book do not"
import datetime as dt
from decimal import Decimal
from textwrap import fill

from dateutil.relativedelta import relativedelta

from trytond.pool import Pool
from trytond.transaction import Transaction, without_check_access

from .summary import WIDTH, title

__all__ = ['Showcase', 'print_showcase']

LAMP = 'FW1050', "Desk lamp 檯燈", Decimal('48.00')
SHADE = 'FW1051', "Lampshade 燈罩", Decimal('9.00')
CUSTOMERS = [
    ("Kelp & Kin", "12 Quay Street", "Whitby"),
    ("Lantern House", "3 Mill Lane", "Scarborough"),
    ("福爾摩沙設計有限公司", "信義區松仁路 8 號", "臺北市"),
    ("Moorings Hotel", "1 The Strand", "Robin Hood's Bay"),
    ]
SUPPLIER = "Brightwork Lighting", "40 Foundry Road", "Leeds"
CARRIER = "Northern Parcels", "1 Depot Way", "York"
# What comes back: of the lamps of how many months before the last one, how
# many, the defect that they have, if any, and where they go
RETURNS = [
    (7, 1, None, 'restock'),
    (3, 1, 'P01', 'write_off'),
    (0, 2, 'P05', 'repair'),
    (0, 1, 'P01', 'repair'),
    (0, 3, 'P05', 'supplier'),
    (0, 2, 'M01', 'scrap'),
    (0, 1, None, 'restock'),
    (0, 2, None, None),
    ]
# Who does what
STEPS = [
    ('service', '_apply'),
    ('sales', '_review'),
    ('warehouse', '_receive'),
    ('quality', '_inspect'),
    ('quality', '_approve'),
    ('finance', '_approve'),
    ('sales', '_approve'),
    ('quality', '_claim'),
    ('sales', '_decide'),
    ('warehouse', '_post'),
    ('production', '_repair'),
    ('quality', '_recall'),
    ('sales', '_write_off'),
    ('quality', '_scrap'),
    ('finance', '_approve_scrap'),
    ('production', '_destroy'),
    ('sales', '_offer'),
    ('service', '_announce'),
    ('sales', '_review'),
    ('finance', '_approve'),
    ('quality', '_approve'),
    ('sales', '_approve'),
    ('logistics', '_agree'),
    ('warehouse', '_arrive'),
    ]
REMARK = (
    "Desk lamps are sold until today; they come back more than before. Look "
    "at them below Returns: Pick-ups, Parcels, Return Inspections, Repairs, "
    "Write-offs, Scrap, Supplier Claims, Recalls, Quality Analysis, Quality "
    "Trend and Return Alerts.")


class Showcase:
    """Lamps that come back more than before

    They are sold for thirteen months.  Of the last one many come back, with
    a defect; they are repaired, claimed and written off, and the rest is
    called back.
    """

    def __init__(self, database):
        self.database = database
        # The alerts compare the last whole month with the year before
        self.month = dt.date.today().replace(day=1) - relativedelta(months=1)
        # By the months before the last one
        self.sale_lines = {}
        self.orders = {}

    @staticmethod
    def get_days():
        "Return days of the years in which something happens"
        today = dt.date.today()
        return {today, today - relativedelta(months=14)}

    def run(self):
        "Sell the lamps, take them back and go on, yielding after each step"
        self.users = self.database.run(self._get_users)
        self._prepare(self._create)
        for number in range(12, -1, -1):
            self._prepare(self._sell, number)
            yield
        for login, func in STEPS:
            self.database.run(
                getattr(self, func), user=self.users[login])
            yield
        self._prepare(self._alert)

    def _prepare(self, func, *args):
        return self.database.run(
            func, *args, queue=False, company=self.database.company,
            _skip_warnings=True)

    def _get_users(self):
        User = Pool().get('res.user')
        return {u.login: u.id for u in User.search([])}

    def _get_orders(self, *states):
        Order = Pool().get('return.order')
        return [
            o for o in Order.browse(list(self.orders))
            if not states or o.state in states]

    def _get_dispositions(self, action):
        return [
            d for o in self._get_orders() for l in o.lines
            for d in l.dispositions
            if d.action == action and d.state == 'draft']

    def _create(self):
        "The parties and the products, received from the supplier"
        pool = Pool()
        Category = pool.get('product.category')
        Company = pool.get('company.company')
        Location = pool.get('stock.location')
        ModelData = pool.get('ir.model.data')
        Party = pool.get('party.party')
        Shipment = pool.get('stock.shipment.in')
        Template = pool.get('product.template')

        unit = ModelData.get_id('product', 'uom_unit')
        category, = Category.search([('name', '=', "VAT 20%")])
        templates = Template.create([{
                    'name': name,
                    'type': 'goods',
                    'default_uom': unit,
                    'salable': True,
                    'sale_uom': unit,
                    'list_price': price,
                    'account_category': category.id,
                    'products': [('create', [{
                                    'suffix_code': code,
                                    'cost_price': price / 2,
                                    }])],
                    } for code, name, price in [LAMP, SHADE]])
        self.lamp, self.shade = [t.products[0].id for t in templates]
        *self.parties, self.supplier, self.carrier = map(int, Party.create([{
                        'name': name,
                        'addresses': [('create', [{
                                        'street': street,
                                        'city': city,
                                        }])],
                        } for name, street, city in [
                        *CUSTOMERS, SUPPLIER, CARRIER]]))
        warehouse, = Location.search([('type', '=', 'warehouse')])
        supplier, = Location.search([('type', '=', 'supplier')])
        company = Company(self.database.company)
        shipment, = Shipment.create([{
                    'company': company.id,
                    'supplier': self.supplier,
                    'warehouse': warehouse.id,
                    'warehouse_input': warehouse.input_location.id,
                    'warehouse_storage': warehouse.storage_location.id,
                    'effective_date': self.month - relativedelta(months=13),
                    'incoming_moves': [('create', [{
                                    'company': company.id,
                                    'product': t.products[0].id,
                                    'unit': unit,
                                    'quantity': 500,
                                    'from_location': supplier.id,
                                    'to_location': (
                                        warehouse.input_location.id),
                                    'unit_price': t.products[0].cost_price,
                                    'currency': company.currency.id,
                                    } for t in templates])],
                    }])
        Shipment.receive([shipment])
        Shipment.done([shipment])

    def _sell(self, number):
        "Sell, ship and invoice the lamps of the month"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        ModelData = pool.get('ir.model.data')
        Party = pool.get('party.party')
        PaymentTerm = pool.get('account.invoice.payment_term')
        Sale = pool.get('sale.sale')
        Shipment = pool.get('stock.shipment.out')
        Tax = pool.get('account.tax')

        tax, = Tax.search([])
        term, = PaymentTerm.search([])
        unit = ModelData.get_id('product', 'uom_unit')
        day = self._get_day(number)
        # Two lines each of the last month, three before
        parties, count = (
            (self.parties[:1], 3) if number else (self.parties, 2))
        sales = Sale.create([{
                    'party': party.id,
                    'invoice_address': party.addresses[0].id,
                    'shipment_address': party.addresses[0].id,
                    'sale_date': day,
                    'payment_term': term.id,
                    'lines': [('create', [{
                                    'product': self.lamp,
                                    'quantity': 4 + line,
                                    'unit': unit,
                                    'unit_price': LAMP[-1],
                                    'taxes': [('add', [tax.id])],
                                    } for line in range(count)])],
                    } for party in Party.browse(parties)])
        Sale.quote(sales)
        Sale.confirm(sales)
        Sale.process(sales)
        shipments = [s for sale in sales for s in sale.shipments]
        Shipment.write(shipments, {'effective_date': day})
        Shipment.assign_try(shipments)
        Shipment.pick(shipments)
        Shipment.pack(shipments)
        Shipment.done(shipments)
        Sale.process(sales)
        invoices = [i for sale in Sale.browse(sales) for i in sale.invoices]
        Invoice.write(invoices, {
                'invoice_date': day,
                'payment_term_date': day,
                })
        Invoice.post(invoices)
        self.sale_lines[number] = [l.id for s in sales for l in s.lines]

    def _get_day(self, number):
        return self.month - relativedelta(months=number)

    def _apply(self):
        pool = Pool()
        Order = pool.get('return.order')
        Reason = pool.get('return.reason')
        SaleLine = pool.get('sale.line')

        reason, = Reason.search([
                ('category', '=', 'quality'),
                ('parent', '=', None),
                ])
        self.orders = {}
        lines = {n: iter(l) for n, l in self.sale_lines.items()}
        for number, quantity, *course in RETURNS:
            line = SaleLine(next(lines[number]))
            order, = Order.create([{
                        'party': line.sale.party.id,
                        'channel': 'phone',
                        'requested_at': dt.datetime.combine(
                            self._get_day(number) + dt.timedelta(days=6),
                            dt.time(10, 30)),
                        'lines': [('create', [{
                                        'sale_line': line.id,
                                        'quantity': quantity,
                                        'reason': reason.id,
                                        }])],
                        }])
            self.orders[order.id] = course
        Order.submit(self._get_orders())

    def _review(self):
        Order = Pool().get('return.order')
        Order.review(self._get_orders('submitted'))

    def _receive(self):
        Shipment = Pool().get('stock.shipment.out.return')

        shipments = []
        for order in self._get_orders():
            for shipment in order.shipments:
                shipment.effective_date = (
                    order.requested_at.date() + dt.timedelta(days=3))
                shipments.append(shipment)
        Shipment.save(shipments)
        Shipment.receive(shipments)
        Shipment.done(shipments)

    def _inspect(self):
        pool = Pool()
        Defect = pool.get('return.defect')
        Disposition = pool.get('return.disposition')
        Finding = pool.get('return.inspection.defect')
        Inspection = pool.get('quality.inspection')

        defects = {d.code: d for d in Defect.search([])}
        to_process = []
        for order in self._get_orders():
            code, action = self.orders[order.id]
            if not action:
                continue
            line, = order.lines
            inspection, = Inspection.search([('origin', '=', str(line))])
            quantity = inspection.inspected_quantity
            inspection.points = {'meets_standard': not code}
            if code:
                defect = defects[code]
                inspection.defects = [Finding(
                        inspection=inspection, defect=defect,
                        severity='major', quantity=quantity)]
                inspection.defective_quantity = quantity
                inspection.cause = defect.cause
            inspection.dispositions = [Disposition(
                    inspection=inspection, line=line, quantity=quantity,
                    action=action, accepted=True)]
            to_process.append(inspection)
        Inspection.save(to_process)
        Inspection.process(to_process)

    def _approve(self):
        Order = Pool().get('return.order')
        Order.approve([
                o for o in self._get_orders('reviewed')
                if self.orders[o.id][-1]])

    def _claim(self):
        pool = Pool()
        Claim = pool.get('return.supplier.claim')

        claim = Claim(
            supplier=self.supplier,
            description="The lamps do not light up.",
            dispositions=self._get_dispositions('supplier'))
        claim.save()
        Claim.send([claim])

    def _decide(self):
        Disposition = Pool().get('return.disposition')
        Disposition.decide([
                d for a in ['repair', 'restock']
                for d in self._get_dispositions(a)])

    def _post(self):
        Shipment = Pool().get('stock.shipment.internal')

        shipments = [
            s for s in Shipment.search([('state', '=', 'waiting')])
            if any(m.product.id == self.lamp for m in s.moves)]
        Shipment.assign_try(shipments)
        Shipment.done(shipments)

    def _repair(self):
        "One is repaired, the other one begun"
        pool = Pool()
        Part = pool.get('return.repair.part')
        Product = pool.get('product.product')
        Repair = pool.get('return.repair')

        shade = Product(self.shade)
        repairs = Repair.search([])
        for repair in repairs:
            repair.plan_text = "Solder the switch anew, replace the shade."
            repair.parts = [Part(
                    product=shade, unit=shade.default_uom, quantity=1)]
            repair.hours = 0.5
            repair.hour_cost = Decimal('24.00')
        Repair.save(repairs)
        Repair.plan(repairs)
        Repair.start(repairs)
        Repair.finish(repairs[1:])

    def _recall(self):
        Campaign = Pool().get('return.campaign')

        campaign = Campaign(
            name="Desk lamps may overheat", products=[self.lamp],
            from_date=self.month,
            text="Unplug the lamp and send it back, at our cost.")
        campaign.save()
        Campaign.start([campaign])

    def _write_off(self):
        pool = Pool()
        Cause = pool.get('return.write_off.cause')
        WriteOff = pool.get('return.write_off')

        cause = Cause.search([], limit=1)[0]
        write_off = WriteOff(
            cause=cause, dispositions=self._get_dispositions('write_off'))
        write_off.save()
        WriteOff.request([write_off])

    def _scrap(self):
        pool = Pool()
        Cause = pool.get('return.write_off.cause')
        Scrap = pool.get('return.scrap')

        cause, = Cause.search([('name', '=', "Defective beyond Repair")])
        scrap = Scrap(
            cause=cause, note="The base is cracked.",
            dispositions=self._get_dispositions('scrap'))
        scrap.save()
        Scrap.request([scrap])

    def _approve_scrap(self):
        Scrap = Pool().get('return.scrap')
        Scrap.approve(Scrap.search([]))

    def _destroy(self):
        "The inspector sees the destruction"
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        Employee = pool.get('company.employee')
        Scrap = pool.get('return.scrap')

        witness, = Employee.search([('party.code', '=', 'quality')])
        scraps = Scrap.search([])
        Attachment.create([{
                    'name': "shredder.txt",
                    'resource': str(s),
                    'data': b'A photo of the shredder',
                    } for s in scraps])
        # As the wizard does, whose access is checked
        with without_check_access():
            Scrap.record_destruction(
                scraps, dt.date.today(), 'shredding', witness)

    def _offer(self):
        Resale = Pool().get('return.resale')

        resales = Resale.search([('state', '=', 'draft')])
        for resale in resales:
            resale.grade, resale.sound = 'b', 'yes'
            resale.condition = "The boxes were opened"
        Resale.save(resales)
        Resale.evaluate(resales)

    def _announce(self):
        "Two returns to come, one of them is picked up"
        pool = Pool()
        Order = pool.get('return.order')
        Reason = pool.get('return.reason')
        SaleLine = pool.get('sale.line')

        reason, = Reason.search([
                ('category', '=', 'sales'),
                ('parent', '=', None),
                ])
        line = SaleLine(self.sale_lines[0][-1])
        orders = Order.create([{
                    'party': line.sale.party.id,
                    'channel': 'phone',
                    'collection': collection,
                    'carrier_party': self.carrier,
                    'lines': [('create', [{
                                    'sale_line': line.id,
                                    'quantity': 1,
                                    'reason': reason.id,
                                    }])],
                    } for collection in ['pickup', 'ship']])
        self.orders = {o.id: [None, 'restock'] for o in orders}
        # Nobody is asked about the likeness of the two
        with Transaction().set_context(_skip_warnings=True):
            Order.submit(orders)

    def _agree(self):
        "The driver takes the protocol of the hand-over along"
        pool = Pool()
        Handover = pool.get('return.handover')
        Order = pool.get('return.order')

        pickup, _ = self._get_orders()
        start = dt.datetime.now().replace(
            minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
        Order.write([pickup], {
                'pickup_from': start,
                'pickup_to': start + dt.timedelta(hours=2),
                'pickup_note': "Ring twice, 請按門鈴",
                })
        Handover(
            order=pickup, end='customer', giver=pickup.party.name,
            taker="Driver", at=start, packages=1).save()

    def _arrive(self):
        "A parcel comes that nobody knows, and one of which goods are damaged"
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        Parcel = pool.get('return.parcel')

        _, order = self._get_orders()
        area = order.warehouse.return_location
        parcel = Parcel(
            company=order.company, warehouse=order.warehouse, location=area,
            sender="Label torn off", note="One corner is crushed",
            state='unidentified')
        parcel.arrive()
        # As the dock does, whose access is checked
        with without_check_access():
            parcel.save()
        line, = order.lines
        Discrepancy(
            order=order, line=line, kind='damaged', product=line.product,
            unit=line.unit, quantity=1, location=area,
            description="The foot is bent").save()

    def _alert(self):
        Alert = Pool().get('quality.alert')
        Alert.detect_returns()


def print_showcase():
    title("Desk lamps")
    print(fill(
            REMARK, WIDTH, initial_indent='  ', subsequent_indent='  '))
