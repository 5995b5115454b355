# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Set up a company that trades, is paid and takes goods back"
import datetime as dt
import secrets
from decimal import Decimal

from trytond.pool import Pool
from trytond.transaction import Transaction

__all__ = ['USERS', 'create_policy', 'setup']

AREAS = {
    'return_location': "Returns",
    'quarantine_location': "Quarantine",
    'resale_location': "Resale",
    'repair_location': "Repair",
    }
VAT = Decimal('0.20')
# By login: the name of the employee and the groups of the user
USERS = {
    'service': ("Sam Fielding", [
            'return_management.group_return_service',
            'sale.group_sale']),
    'sales': ("Olive Marsh", [
            'return_management.group_return_sales',
            'sale.group_sale']),
    'warehouse': ("Bert Cole", [
            'return_management.group_return_warehouse',
            'stock.group_stock']),
    'logistics': ("Nina Ford", [
            'return_management.group_return_logistics',
            'stock.group_stock']),
    'quality': ("Ivo Lang", [
            'return_management.group_return_quality',
            'quality.group_quality']),
    'production': ("Petra Wood", [
            'return_management.group_return_production']),
    'finance': ("Grace Penny", [
            'return_management.group_return_finance',
            'account.group_account',
            'account_payment.group_payment',
            'account_payment.group_payment_approval']),
    'supervisor': ("Hugh Watt", [
            'return_management.group_return_supervisor']),
    'manager': ("Ruth Order", [
            'return_management.group_return_admin']),
    }


def setup(dates):
    """Set up the company and return its id and the password by login

    dates: the days that the fiscal years must cover
    """
    company = _create_company()
    with Transaction().set_context(company=company.id):
        _create_chart(company)
        _create_taxes(company)
        for year in sorted({d.year for d in dates}):
            _create_fiscalyear(company, year)
        _create_payment_means(company)
        _create_return_accounts()
        _create_product_category(company)
        _create_areas()
        passwords = _create_users(company)
    _close_wizards()
    return company.id, passwords


def _create_company():
    pool = Pool()
    Company = pool.get('company.company')
    Currency = pool.get('currency.currency')
    Party = pool.get('party.party')
    User = pool.get('res.user')

    currency = Currency(
        name="Pound Sterling", symbol="£", code='GBP', numeric_code='826',
        rounding=Decimal('0.01'), digits=2)
    currency.save()
    # The codes of the customers are those of the order book
    party = Party(name="Fairweather Gifts", code='company', addresses=[{
                'street': "1 Harbour Lane", 'city': "Whitby"}])
    party.save()
    company = Company(party=party, currency=currency)
    company.save()
    admin, = User.search([('login', '=', 'admin')])
    admin.companies = [company]
    admin.company = company
    admin.save()
    return company


def _create_chart(company):
    pool = Pool()
    Account = pool.get('account.account')
    CreateChart = pool.get('account.create_chart', type='wizard')
    ModelData = pool.get('ir.model.data')
    Template = pool.get('account.account.template')

    session_id, _, _ = CreateChart.create()
    wizard = CreateChart(session_id)
    wizard.account.account_template = Template(
        ModelData.get_id('account.account_template_root_en'))
    wizard.account.company = company
    wizard.transition_create_account()
    wizard.properties.company = company
    for name in ['receivable', 'payable', 'revenue', 'expense']:
        account, = Account.search([
                (f'type.{name}', '=', True),
                ('company', '=', company.id),
                ], limit=1)
        field = f'account_{name}'
        if name in {'revenue', 'expense'}:
            field = f'category_{field}'
        setattr(wizard.properties, field, account)
    wizard.transition_create_properties()
    CreateChart.delete(session_id)


def _get_account(name):
    account, = Pool().get('account.account').search([('name', '=', name)])
    return account


def _create_taxes(company):
    Tax = Pool().get('account.tax')

    account = _get_account("Main Tax")
    Tax.create([{
                'name': "VAT 20%",
                'description': "VAT 20%",
                'company': company.id,
                'type': 'percentage',
                'rate': VAT,
                'invoice_account': account.id,
                'credit_note_account': account.id,
                }])


def _create_fiscalyear(company, year):
    pool = Pool()
    FiscalYear = pool.get('account.fiscalyear')
    InvoiceSequence = pool.get('account.fiscalyear.invoice_sequence')
    Sequence = pool.get('ir.sequence')
    SequenceStrict = pool.get('ir.sequence.strict')

    def create_sequence(Sequence, name, type_, prefix):
        ModelData = pool.get('ir.model.data')
        sequence = Sequence(
            name=f'{name} {year}', prefix=prefix, company=company,
            sequence_type=ModelData.get_id(type_))
        sequence.save()
        return sequence

    type_ = 'account_invoice.sequence_type_account_invoice'
    invoice = create_sequence(SequenceStrict, "Invoice", type_, f'I{year}-')
    # Credit notes are posted later than the invoices of the same days
    credit = create_sequence(
        SequenceStrict, "Credit Note", type_, f'CN{year}-')
    fiscalyear = FiscalYear(
        name=str(year), company=company,
        start_date=dt.date(year, 1, 1), end_date=dt.date(year, 12, 31),
        post_move_sequence=create_sequence(
            Sequence, "Account Move", 'account.sequence_type_account_move',
            f'{year}-'),
        invoice_sequences=[InvoiceSequence(
                company=company,
                out_invoice_sequence=invoice,
                out_credit_note_sequence=credit,
                in_invoice_sequence=invoice,
                in_credit_note_sequence=credit)])
    fiscalyear.save()
    FiscalYear.create_period([fiscalyear])


def create_policy(date):
    "Create the policy for order books of which only orders are known"
    Policy = Pool().get('return.policy')

    policies = Policy.create([{
                'name': "Order Book",
                'start_date': date,
                'conditions': "Everything that was ordered may be returned.",
                'period': "90 days from delivery.",
                'process': "Send the goods back with the number of the order.",
                'refund_method': "By the method of payment, on receipt.",
                'lines': [('create', [{
                                'period': 90,
                                'refund_timing': 'receipt',
                                }])],
                }])
    # The books begin in the past
    with Transaction().set_context(_skip_warnings=True):
        Policy.publish(policies)


def _create_payment_means(company):
    pool = Pool()
    Account = pool.get('account.account')
    Journal = pool.get('account.journal')
    PaymentJournal = pool.get('account.payment.journal')
    PaymentMethod = pool.get('account.invoice.payment.method')
    PaymentTerm = pool.get('account.invoice.payment_term')
    RefundMethod = pool.get('return.refund.method')

    PaymentTerm.create([{
                'name': "Direct",
                'lines': [('create', [{'type': 'remainder'}])],
                }])

    cash = _get_account("Main Cash")
    clearing = Account(
        name="Card Clearing", company=company, type=cash.type,
        parent=cash.parent, reconcile=True, deferral=True)
    clearing.save()
    journal, = Journal.search([('type', '=', 'cash')], limit=1)
    method, = PaymentMethod.create([{
                'name': "Cash",
                'company': company.id,
                'journal': journal.id,
                'credit_account': cash.id,
                'debit_account': cash.id,
                }])
    payment_journal, = PaymentJournal.create([{
                'name': "Card",
                'company': company.id,
                'currency': company.currency.id,
                'process_method': 'manual',
                'clearing_account': clearing.id,
                'clearing_journal': journal.id,
                }])
    RefundMethod.create([{
                'name': "Cash",
                'company': company.id,
                'kind': 'cash',
                'payment_method': method.id,
                'days': 0,
                }, {
                'name': "Card",
                'company': company.id,
                'kind': 'card',
                'payment_journal': payment_journal.id,
                'days': 7,
                }])


def _create_return_accounts():
    pool = Pool()
    Account = pool.get('account.account')
    Configuration = pool.get('return.configuration')

    goodwill, = Account.copy(
        [_get_account("Main Expense")], default={'name': "Goodwill"})
    fee, = Account.copy(
        [_get_account("Main Revenue")], default={'name': "Restocking Fees"})
    configuration = Configuration(1)
    configuration.goodwill_account = goodwill
    configuration.restocking_fee_account = fee
    configuration.save()


def _create_product_category(company):
    pool = Pool()
    Category = pool.get('product.category')
    Tax = pool.get('account.tax')

    revenue, expense = map(_get_account, ["Main Revenue", "Main Expense"])
    tax, = Tax.search([('company', '=', company.id)])
    for name, taxes in [("Untaxed", []), ("VAT 20%", [tax])]:
        Category(
            name=name, accounting=True, account_revenue=revenue,
            account_expense=expense, customer_taxes=taxes).save()


def _create_areas():
    pool = Pool()
    Location = pool.get('stock.location')

    warehouse, = Location.search([('type', '=', 'warehouse')])
    lost_found, = Location.search([('type', '=', 'lost_found')])
    for field, name in AREAS.items():
        # Under the warehouse but outside of its storage zone
        area = Location(name=name, type='storage', parent=warehouse)
        area.save()
        setattr(warehouse, field, area)
    warehouse.waste_locations = [lost_found]
    warehouse.save()


def _create_users(company):
    pool = Pool()
    Employee = pool.get('company.employee')
    ModelData = pool.get('ir.model.data')
    Party = pool.get('party.party')
    User = pool.get('res.user')

    passwords = {}
    for login, (name, groups) in USERS.items():
        party = Party(name=name, code=login)
        party.save()
        employee = Employee(party=party, company=company)
        employee.save()
        passwords[login] = secrets.token_urlsafe(9)
        User(
            name=name, login=login, password=passwords[login],
            companies=[company], company=company,
            employees=[employee], employee=employee,
            groups=[ModelData.get_id(g) for g in groups],
            ).save()
    admin, = User.search([('login', '=', 'admin')])
    admin.password = passwords['admin'] = secrets.token_urlsafe(9)
    admin.save()
    return passwords


def _close_wizards():
    "Do not open the set-up wizards at the first log-in"
    Item = Pool().get('ir.module.config_wizard.item')
    Item.write(Item.search([]), {'state': 'done'})
