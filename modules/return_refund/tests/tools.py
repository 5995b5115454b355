# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Builders of the scenarios about money, in proteus."""

from proteus import Model, Wizard, config
from trytond.modules.account.tests.tools import get_accounts
from trytond.modules.return_management.tests.tools import (
    create_return, create_user)
from trytond.tests.tools import set_user

__all__ = [
    'accept', 'approve', 'as_user', 'create_accountant',
    'create_cash_method', 'create_payment_journal',
    'create_payment_method', 'create_refund_method',
    'create_voucher_method', 'execute_payment', 'find_differences',
    'get_refund', 'pay_by_payment', 'pay_invoice', 'retry', 'return_goods',
    'set_accounts', 'undo']


def set_accounts():
    "Configure the accounts for goodwill and fees"
    Configuration = Model.get('return.configuration')
    accounts = get_accounts()
    goodwill, = accounts['expense'].duplicate(default={'name': "Goodwill"})
    fee, = accounts['revenue'].duplicate(default={'name': "Restocking Fees"})
    configuration = Configuration(1)
    configuration.goodwill_account = goodwill
    configuration.restocking_fee_account = fee
    configuration.save()
    return goodwill, fee


def create_payment_journal(name="Bank"):
    "Make a manual payment journal, with clearing where it is installed"
    Account = Model.get('account.account')
    Journal = Model.get('account.journal')
    PaymentJournal = Model.get('account.payment.journal')
    journal = PaymentJournal(name=name, process_method='manual')
    if 'clearing_account' in PaymentJournal._fields:
        payable = get_accounts()['payable']
        clearing = Account(parent=payable.parent)
        clearing.name = f"{name} Clearing"
        clearing.type = payable.type
        clearing.reconcile = True
        clearing.deferral = True
        clearing.save()
        journal.clearing_account = clearing
        journal.clearing_journal, = Journal.find([('code', '=', 'CASH')])
    journal.save()
    return journal


def create_payment_method(name="Cash"):
    "Make a method of the Pay Invoice wizard"
    Journal = Model.get('account.journal')
    Method = Model.get('account.invoice.payment.method')
    cash = get_accounts()['cash']
    method = Method(name=name, credit_account=cash, debit_account=cash)
    method.journal, = Journal.find([('code', '=', 'CASH')])
    method.save()
    return method


def create_refund_method(kind='bank', days=7, **values):
    Method = Model.get('return.refund.method')
    method = Method(name=kind.title(), kind=kind, days=days, **values)
    method.save()
    return method


def create_cash_method():
    return create_refund_method(
        'cash', days=0, payment_method=create_payment_method())


def create_voucher_method(**values):
    "Make a refund method that issues vouchers on a liability account"
    Account = Model.get('account.account')
    Type = Model.get('account.account.type')
    payable = get_accounts()['payable']
    type_ = Type(
        name="Vouchers", parent=payable.type.parent, statement='balance')
    type_.save()
    account = Account(
        name="Vouchers", parent=payable.parent, type=type_, deferral=True)
    account.save()
    method = create_payment_method("Voucher")
    method.credit_account = method.debit_account = account
    method.save()
    return create_refund_method(
        'voucher', days=0, payment_method=method, **values)


def pay_invoice(invoice, method, amount=None, voucher=None):
    "Pay the invoice with the wizard, partially when an amount is given"
    pay = invoice.click('pay')
    pay.form.payment_method = method
    pay.form.return_voucher = voucher
    if amount is not None:
        pay.form.amount = amount
    pay.execute('choice')
    if pay.state != 'end':
        pay.form.type = 'partial'
        pay.execute('pay')
    invoice.reload()
    return invoice


def pay_by_payment(invoice, journal):
    "Let the customer pay the invoice by payments of the journal"
    for line in invoice.lines_to_pay:
        pay = Wizard('account.move.line.pay', [line])
        pay.execute('next_')
        pay.form.journal = journal
        pay.execute('next_')
        payment, = pay.actions[0]
        execute_payment(payment)
    invoice.reload()
    return invoice


def execute_payment(payment, button='succeed'):
    "Do the accountant's steps with the payment, up to the button"
    payment.click('submit')
    if payment.kind == 'payable':
        payment.click('approve')
    payment.click('process_wizard')
    post_clearing(payment)
    if button:
        payment.click(button)
        post_clearing(payment)
    return payment


def post_clearing(payment):
    payment.reload()
    move = getattr(payment, 'clearing_move', None)
    if move and move.state == 'draft':
        move.click('post')
        payment.reload()


def accept(order, quantities=None):
    "Take what was received back to stock, in favour of the customer"
    Disposition = Model.get('return.disposition')
    Internal = Model.get('stock.shipment.internal')
    order.reload()
    for index, line in enumerate(order.lines):
        quantity = (
            quantities[index] if quantities else line.undecided_quantity)
        if quantity:
            disposition = Disposition(line=line, action='restock')
            disposition.quantity = quantity
            disposition.click('decide')
    for shipment in Internal.find([('state', '=', 'waiting')]):
        shipment.click('assign_try')
        shipment.click('done')
    order.reload()
    return order


def return_goods(sale, *lines, **values):
    "Return goods of the sale and accept them"
    order = create_return(sale, *lines, **values)
    order.reload()
    for shipment in order.shipments:
        shipment.click('receive')
        if shipment.state == 'received':
            shipment.click('done')
    return accept(order)


def get_refund(order):
    order.reload()
    refund, = [r for r in order.refunds if r.state != 'cancelled']
    return refund


def find_differences():
    "Compare all refunds with the books and return what differs"
    Refund = Model.get('return.refund')
    Refund.click(
        Refund.find([('state', 'not in', ['draft', 'cancelled'])]), 'check')
    return [
        (r.number, r.difference_cause, r.difference)
        for r in Refund.find([('difference_cause', '!=', None)])]


def approve(refund, user):
    "Let the user of finance approve the refund"
    as_user(user, lambda: type(refund)(refund.id).click('approve'))
    refund.reload()
    return refund


def retry(refund, user):
    "Let the user of finance pay the refund again"
    as_user(user, lambda: type(refund)(refund.id).click('retry'))
    refund.reload()
    return refund


def undo(refund, user, reason="A mistake."):
    "Let the user of finance take the refund back"
    def undo():
        wizard = type(refund)(refund.id).click('undo')
        wizard.form.reason = reason
        wizard.execute('undo')
    as_user(user, undo)
    refund.reload()
    return refund


def as_user(user, func):
    """Return what func does as user

    It must make its records anew: they keep the context of who made them.
    """
    current = config.get_config().user
    set_user(user)
    try:
        return func()
    finally:
        set_user(current)


def create_accountant(name="Accountant"):
    "Make a user who approves refunds"
    return create_user(
        name, 'group_return_finance', 'account.group_account',
        'account_payment.group_payment')
