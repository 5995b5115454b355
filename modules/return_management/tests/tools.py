# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Builders of the scenarios, in proteus."""

import datetime as dt
import socket
from contextlib import contextmanager
from decimal import Decimal
from email import message_from_bytes
from email.policy import default as email_policy

from proteus import Model, config
from trytond.exceptions import UserWarning
from trytond.modules.account.tests.tools import (
    create_chart, create_fiscalyear, create_tax, get_accounts)
from trytond.modules.account_invoice.tests.tools import create_payment_term
from trytond.modules.company.tests.tools import create_company, get_company
from trytond.pyson import PYSONDecoder
from trytond.tests import test_tryton
from trytond.tests.tools import _get_config, activate_modules
from trytond.transaction import Transaction

__all__ = [
    'activate', 'confirm', 'create_areas', 'create_customer',
    'create_other_company', 'create_policy', 'create_product', 'create_return',
    'create_user', 'deliver', 'do_internal', 'get_area', 'get_balances',
    'create_user', 'deliver', 'do_internal', 'get_area', 'get_domain',
    'get_reason', 'get_stock_accounts', 'get_tabs', 'get_warehouse',
    'mail_server', 'offer', 'pass_days', 'publish', 'receive', 'resell',
    'revise_policy', 'sell_resale', 'send', 'stock']


def activate(*modules, method=None):
    """Activate modules in a database with a company ready to trade

    method is the stock accounting method of the fiscal year.
    """
    name = '-'.join(modules) + '--company' + (method or '')
    if test_tryton.restore_db_cache(name):
        cfg = _get_config()
        User = Model.get('res.user')
        cfg._context = User.get_preferences(True, {})
        return cfg
    cfg = activate_modules(list(modules))
    set_up(method)
    test_tryton.backup_db_cache(name)
    return cfg


def set_up(method=None):
    "Make the company, its books, an employee and the areas"
    create_company()
    company = get_company()
    create_employee(Model.get('res.user')(config.get_config().user))
    create_chart(company)
    create_books(company, method)
    create_categories(company)
    payment_term = create_payment_term()
    payment_term.save()
    create_areas(get_warehouse())
    # As shipped three persons sign and the receiver does not inspect
    revise_policy(roles=['sales'])
    configuration = Model.get('return.configuration')(1)
    if 'separate_inspector' in configuration._fields:
        configuration.separate_inspector = False
        configuration.save()


def create_books(company, method=None):
    "Make the fiscal year with its own sequence for credit notes"
    Sequence = Model.get('ir.sequence.strict')
    SequenceType = Model.get('ir.sequence.type')
    fiscalyear = create_fiscalyear(company)
    type_, = SequenceType.find([('name', '=', "Invoice")], limit=1)
    sequences = []
    for name in ["Invoice", "Credit Note"]:
        sequence = Sequence(
            name=name, sequence_type=type_, company=company,
            prefix=''.join(w[0] for w in name.split()) + '-')
        sequence.save()
        sequences.append(sequence)
    invoice, credit_note = sequences
    invoice_sequence, = fiscalyear.invoice_sequences
    invoice_sequence.out_invoice_sequence = invoice
    invoice_sequence.in_invoice_sequence = invoice
    invoice_sequence.out_credit_note_sequence = credit_note
    invoice_sequence.in_credit_note_sequence = credit_note
    if method:
        AccountConfiguration = Model.get('account.configuration')
        Journal = Model.get('account.journal')
        fiscalyear.account_stock_method = method
        stock_journal, = Journal.find([('code', '=', 'STO')])
        configuration = AccountConfiguration(1)
        configuration.stock_journal = stock_journal
        configuration.save()
    fiscalyear.click('create_period')


def create_categories(company):
    "Make the account categories with and without tax"
    Category = Model.get('product.category')
    accounts = get_accounts(company)
    if 'account_stock' in Category._fields:
        accounts.update(get_stock_accounts())
    tax = create_tax(Decimal('.10'))
    tax.save()
    for name, taxes in [("Taxed", [tax]), ("Untaxed", [])]:
        category = Category(name=name, accounting=True)
        category.account_revenue = accounts['revenue']
        category.account_expense = accounts['expense']
        for kind in ['stock', 'stock_in', 'stock_out', 'cogs']:
            if 'account_' + kind in Category._fields:
                setattr(category, 'account_' + kind, accounts[kind])
        for tax in taxes:
            category.customer_taxes.append(tax)
        category.save()


def get_stock_accounts():
    "Return the accounts of stock accounting, made when they are missing"
    Account = Model.get('account.account')
    accounts = {}
    accounts['stock'], = Account.find([('name', '=', "Stock")])
    accounts['stock_in'], = Account.find([
            ('name', '=', "Stock Expense"),
            ])
    for kind, origin in [
            ('stock_out', accounts['stock_in']),
            ('cogs', get_accounts()['expense'])]:
        name = kind.replace('_', ' ').title()
        try:
            accounts[kind], = Account.find([('name', '=', name)])
        except ValueError:
            accounts[kind], = origin.duplicate(default={'name': name})
    return accounts


def get_balances(accounts):
    "Map the names of accounts to the sum of their lines, from the table"
    cfg = config.get_config()
    balances = dict.fromkeys(accounts, Decimal(0))
    with Transaction().start(cfg.database_name, 1) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(
            'SELECT account, SUM(debit - credit) FROM account_move_line '
            'GROUP BY account')
        sums = dict(cursor.fetchall())
    for name, account in accounts.items():
        balances[name] = Decimal(str(sums.get(account.id, 0))).quantize(
            Decimal('.01'))
    return balances


def create_employee(user, name="Employee", company=None):
    Employee = Model.get('company.employee')
    Party = Model.get('party.party')
    party = Party(name=name)
    party.save()
    employee = Employee(party=party, company=company or get_company())
    employee.save()
    user.employees.append(employee)
    user.employee = employee
    user.save()
    cfg = config.get_config()
    if cfg.user == user.id:
        cfg._context = type(user).get_preferences(True, {})
    return employee


def create_other_company(name="Other Company"):
    Company = Model.get('company.company')
    Party = Model.get('party.party')
    party = Party(name=name)
    party.save()
    company = Company(party=party, currency=get_company().currency)
    company.save()
    return company


def create_user(name, *groups, company=None):
    """Make a user with an employee of the company

    groups are the XML ids of its groups; the module is return_management when
    none is given.
    """
    Group = Model.get('res.group')
    ModelData = Model.get('ir.model.data')
    User = Model.get('res.user')
    user = User(name=name, login=name.lower())
    company = company or get_company()
    user.companies.append(company)
    user.company = company
    for group in groups:
        module, _, fs_id = group.rpartition('.')
        data, = ModelData.find([
                ('module', '=', module or 'return_management'),
                ('fs_id', '=', fs_id),
                ])
        user.groups.append(Group(data.db_id))
    user.save()
    create_employee(user, name, company)
    return user


def get_warehouse():
    Location = Model.get('stock.location')
    warehouse, = Location.find([('type', '=', 'warehouse')])
    return warehouse


def set_waste_location():
    "Return the location that is made the one for waste of the warehouse"
    Location = Model.get('stock.location')
    location, = Location.find([('type', '=', 'lost_found')], limit=1)
    warehouse = get_warehouse()
    warehouse.waste_locations.append(location)
    warehouse.save()
    return Location(location.id)


def get_action(fs_id, module='return_management'):
    ActWindow = Model.get('ir.action.act_window')
    ModelData = Model.get('ir.model.data')
    data, = ModelData.find([
            ('module', '=', module),
            ('fs_id', '=', fs_id),
            ])
    return ActWindow(data.db_id)


def get_domain(fs_id):
    "Return the domain of the action"
    return PYSONDecoder({}).decode(get_action(fs_id).domain)


def get_tabs(fs_id, module='return_management'):
    "Map the tabs of the action to their domain and whether they count"
    return {
        d.name: (PYSONDecoder({}).decode(d.domain or '[]'), d.count)
        for d in get_action(fs_id, module).act_window_domains}


def create_areas(warehouse):
    "Make the areas for returned goods outside the storage zone"
    Location = Model.get('stock.location')
    for name in ["Return", "Quarantine", "Resale"]:
        area = Location(name=name, type='storage', parent=warehouse)
        area.save()
        setattr(warehouse, name.lower() + '_location', area)
    warehouse.save()


def get_area(name):
    return getattr(get_warehouse(), name + '_location')


def create_customer(name="Customer"):
    Party = Model.get('party.party')
    PaymentTerm = Model.get('account.invoice.payment_term')
    payment_term, = PaymentTerm.find([], limit=1)
    customer = Party(name=name, customer_payment_term=payment_term)
    customer.save()
    return customer


def create_product(
        name="Product", list_price=Decimal('10'), cost_price=Decimal('8'),
        type='goods', category="Untaxed", cost_price_method='average'):
    Category = Model.get('product.category')
    Template = Model.get('product.template')
    Uom = Model.get('product.uom')
    unit, = Uom.find([('name', '=', "Unit")])
    category, = Category.find([('name', '=', category)])
    template = Template(
        name=name, type=type, default_uom=unit, salable=True,
        list_price=list_price, account_category=category)
    if type != 'service':
        template.cost_price_method = cost_price_method
    template.save()
    product, = template.products
    product.cost_price = cost_price
    product.save()
    return product


def stock(product, quantity, cost_price=None):
    "Bring the quantity of the product into the storage zone"
    Location = Model.get('stock.location')
    Move = Model.get('stock.move')
    supplier, = Location.find([('code', '=', 'SUP')])
    move = Move(
        product=product, quantity=quantity, from_location=supplier,
        to_location=get_warehouse().storage_location,
        unit_price=product.cost_price if cost_price is None else cost_price,
        currency=get_company().currency)
    confirm(move, 'do')


def deliver(customer, *lines, post=True, date=None, **values):
    """Sell, ship and invoice

    lines are (product, quantity) or (product, quantity, unit price), values
    those of the sale.
    """
    Sale = Model.get('sale.sale')
    sale = Sale(party=customer, **values)
    if date:
        sale.sale_date = date
    for product, quantity, *price in lines:
        line = sale.lines.new()
        line.product = product
        line.quantity = quantity
        if price:
            line.unit_price, = price
    sale.click('quote')
    sale.click('confirm')
    for shipment in sale.shipments:
        if date:
            shipment.effective_date = date
            shipment.save()
        send(shipment)
    if post:
        for invoice in sale.invoices:
            if date:
                invoice.invoice_date = date
                invoice.save()
            invoice.click('post')
    sale.reload()
    return sale


def send(shipment):
    "Let the warehouse send a customer shipment"
    shipment.click('assign_try')
    shipment.click('pick')
    shipment.click('pack')
    shipment.click('done')


def receive(shipment):
    "Let the warehouse receive a return shipment and put it away"
    shipment.click('receive')
    if shipment.state == 'received':
        shipment.click('done')


def do_internal(shipment):
    "Let the warehouse post an internal shipment"
    shipment.click('assign_try')
    shipment.click('done')


def resell(line, *quantities):
    "Decide that quantities of the line are resold and bring them there"
    Disposition = Model.get('return.disposition')
    Resale = Model.get('return.resale')
    Shipment = Model.get('stock.shipment.internal')
    resales = []
    for quantity in quantities:
        disposition = Disposition(
            line=line, action='resale', quantity=quantity)
        confirm(disposition, 'decide')
        for shipment in Shipment.find([
                    ('moves.origin', '=', str(disposition)),
                    ]):
            do_internal(shipment)
        resales.extend(Resale.find([('disposition', '=', disposition.id)]))
    return resales


def offer(resale, **values):
    "Evaluate, plan, prepare and offer the goods"
    values = {
        'grade': 'b', 'sound': 'yes', 'channel': 'internal',
        'unit_price': Decimal('5'), 'price_reason': "Agreed", **values}
    for name, value in values.items():
        setattr(resale, name, value)
    for button in ['evaluate', 'plan', 'repack', 'relabel', 'offer']:
        resale.click(button)


def sell_resale(customer, *lines, **values):
    """Make a sale of offered goods, a draft

    lines are (resale, quantity), values those of the sale.
    """
    Sale = Model.get('sale.sale')
    sale = Sale(party=customer, resale=True, **values)
    for resale, quantity in lines:
        line = sale.lines.new()
        line.resale = resale
        line.quantity = quantity
    sale.save()
    return sale


def get_reason(category='other'):
    Reason = Model.get('return.reason')
    reason, = Reason.find([
            ('category', '=', category),
            ('parent', '=', None),
            ])
    return reason


def create_policy(*rules, publish=True, **values):
    """Make a policy and publish it

    rules are the values of its lines, one that allows 7 days when there is
    none; sales signs alone unless they say otherwise.  values are those of
    the policy.
    """
    Policy = Model.get('return.policy')
    values = {
        'name': "Policy",
        'start_date': dt.date.today(),
        'conditions': "As new.",
        'period': "As the rules say.",
        'process': "Apply by telephone.",
        'refund_method': "As you paid.",
        **values}
    policy = Policy(**values)
    for rule in rules or [{'period': 7}]:
        line = policy.lines.new()
        line.roles = ['sales']
        for name, value in rule.items():
            setattr(line, name, value)
    policy.save()
    if publish:
        _publish(policy)
    return policy


def publish(policy):
    "Publish the policy, whenever it starts"
    confirm(policy, 'publish')


_publish = publish


def revise_policy(*categories, **values):
    """Publish a successor of the policy in force that starts a day later

    The lines of the reason categories, all when there is none, get the
    values.
    """
    Policy = Model.get('return.policy')
    version = Policy.find([
            ('state', '=', 'published'),
            ('start_date', '<=', dt.date.today()),
            ], limit=1)[0]
    policy = Policy(version.click('succeed')[0].id)
    policy.start_date = version.start_date + dt.timedelta(days=1)
    for line in policy.lines:
        if not categories or line.reason_category in categories:
            for name, value in values.items():
                setattr(line, name, value)
    policy.save()
    publish(policy)
    return policy


def create_return(
        sale, *lines, reason=None, state='approved', **values):
    """Make a return of sale lines and drive it to the state

    lines are (number of the sale line from zero, quantity); all delivered
    goods when there is none.  values are those of the return.
    """
    Order = Model.get('return.order')
    reason = reason or get_reason()
    order = Order(party=sale.party, **values)
    for index, quantity in lines or [
            (i, l.quantity) for i, l in enumerate(sale.lines)]:
        line = order.lines.new()
        line.sale_line = sale.lines[index]
        line.quantity = quantity
        line.reason = reason
    order.save()
    for button, result in [
            ('submit', 'submitted'),
            ('review', 'reviewed'),
            ('approve', 'approved')]:
        if state != 'draft':
            confirm(order, button)
        if state == result:
            break
    return order


def confirm(record, button):
    "Click and go on after warnings"
    Warning = Model.get('res.user.warning')
    while True:
        try:
            return record.click(button)
        except UserWarning as warning:
            Warning.skip(warning.name, False, config.get_config().context)


def pass_days(orders, days=30):
    "Let days pass since the stages of orders began and customers were told"
    cfg = config.get_config()
    with Transaction().start(cfg.database_name, 1) as transaction:
        Stage = cfg.pool.get('return.order.stage')
        Order = cfg.pool.get('return.order')
        delay = dt.timedelta(days=days)
        for order in Order.browse([o.id for o in orders]):
            if order.told_at:
                Order.write([order], {'told_at': order.told_at - delay})
        for stage in Stage.search([
                    ('order', 'in', [o.id for o in orders])]):
            Stage.write([stage], {
                    name: getattr(stage, name) - delay
                    for name in ['started_at', 'ended_at', 'due_date']
                    if getattr(stage, name)})
        transaction.commit()


@contextmanager
def mail_server():
    "Run a mail server and return the list of the messages that it gets"
    from aiosmtpd.controller import Controller
    from trytond.config import config as server_config

    messages = []

    class Handler:

        async def handle_DATA(self, server, session, envelope):
            message = message_from_bytes(
                envelope.content, policy=email_policy)
            message.recipients = envelope.rcpt_tos
            messages.append(message)
            return '250 OK'

    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(Handler(), hostname='127.0.0.1', port=port)
    previous = {n: server_config.get('email', n) for n in ['uri', 'from']}
    server_config.set('email', 'uri', f'smtp://127.0.0.1:{port}')
    server_config.set('email', 'from', 'returns@company.example')
    controller.start()
    try:
        yield messages
    finally:
        controller.stop()
        for name, value in previous.items():
            server_config.set('email', name, value)
