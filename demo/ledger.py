# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""What stock and ledger say in SQL, and what they should by the file

Not one figure comes from the models of the returns.
"""
from collections import Counter, defaultdict
from decimal import ROUND_HALF_EVEN, Decimal

from trytond.transaction import Transaction

from .company import AREAS, VAT
from .history import get_means
from .plan import CENT
from .road import get_course

__all__ = ['get_expected', 'get_ledger', 'get_open', 'get_states', 'get_units']

CREDITED = '''
    SELECT account.name, SUM(line.debit - line.credit)
    FROM account_invoice AS invoice
        JOIN account_move AS move ON invoice.move = move.id
        JOIN account_move_line AS line ON line.move = move.id
        JOIN account_account AS account ON line.account = account.id
    WHERE move.state = 'posted' AND invoice.number LIKE 'CN%'
    GROUP BY account.name
    '''
CARD = '''
    SELECT SUM(line.credit)
    FROM account_payment AS payment
        JOIN account_move AS move ON payment.clearing_move = move.id
        JOIN account_move_line AS line ON line.move = move.id
        JOIN account_account AS account ON line.account = account.id
    WHERE move.state = 'posted' AND payment.state = 'succeeded'
        AND payment.kind = 'payable' AND account.name = 'Card Clearing'
    '''
CASH = '''
    SELECT SUM(line.credit)
    FROM account_move_line AS line
        JOIN account_move AS move ON line.move = move.id
        JOIN account_account AS account ON line.account = account.id
    WHERE move.state = 'posted' AND account.name = 'Main Cash'
    '''
# The debts to customers that are set against what they owe
SET_OFF = '''
    SELECT SUM(line.credit)
    FROM account_invoice AS note
        JOIN account_move_line AS line ON line.move = note.move
        JOIN account_account AS account ON line.account = account.id
    WHERE note.number LIKE 'CN%' AND account.name = 'Main Receivable'
        AND (EXISTS (
                SELECT * FROM "account_invoice-account_move_line" AS payment
                WHERE payment.line = line.id)
            OR EXISTS (
                SELECT * FROM account_invoice AS invoice
                    JOIN account_move_line AS debt
                        ON debt.move = invoice.move
                WHERE invoice.number LIKE 'I%'
                    AND debt.reconciliation = line.reconciliation))
    '''
UNITS = '''
    SELECT source.type, source.name, target.type, target.name,
        SUM(move.internal_quantity)
    FROM stock_move AS move
        JOIN stock_location AS source ON move.from_location = source.id
        JOIN stock_location AS target ON move.to_location = target.id
    WHERE move.state = 'done' AND (move.origin LIKE 'return.%'
        OR source.name IN ({0}) OR target.name IN ({0}))
    GROUP BY source.type, source.name, target.type, target.name
    '''.format(', '.join(f"'{n}'" for n in AREAS.values()))
STATES = 'SELECT state, COUNT(*) FROM return_order GROUP BY state'
OPEN = '''
    SELECT reference, number, state, receipt_state, refund_state
    FROM return_order
    WHERE state NOT IN ('done', 'rejected', 'cancelled')
        OR (state = 'rejected' AND NOT goods_settled)
    ORDER BY number
    '''


def _execute(query):
    cursor = Transaction().connection.cursor()
    cursor.execute(query)
    return cursor.fetchall()


def _round(amount):
    return Decimal(str(amount or 0)).quantize(CENT, ROUND_HALF_EVEN)


def get_ledger():
    credited = {n: _round(a) for n, a in _execute(CREDITED)}
    (card,), = _execute(CARD)
    (cash,), = _execute(CASH)
    (set_off,), = _execute(SET_OFF)
    return Counter({
            'goods': credited.get('Main Revenue', Decimal(0)),
            'tax': credited.get('Main Tax', Decimal(0)),
            'goodwill': credited.get('Goodwill', Decimal(0)),
            'card': _round(card),
            'cash': _round(cash),
            'unpaid': _round(set_off),
            })


def get_expected(plan, taxed):
    "What the rows of the file and the rules stated give"
    means = {o: get_means(rows) for o, rows in plan.orders.items()}
    amounts, expected = defaultdict(Decimal), Counter()
    for line in plan.lines:
        course, number = get_course(line)
        row = line.row
        if course == 'goodwill' and row.customer:
            amount = _round(-row.quantity * row.price)
            expected['goodwill'] += amount
            expected['card'] += amount
        elif course in {'restock', 'resale', 'short'}:
            for piece in line.pieces:
                if course == 'short':
                    piece = piece._replace(quantity=number)
                amounts[row.number, piece.row.number, row.customer] += (
                    piece.amount)
    for (_, *order), amount in amounts.items():
        tax = _round(amount * VAT) if taxed else Decimal(0)
        expected['goods'] += amount
        expected['tax'] += tax
        expected[means[tuple(order)]] += amount + tax
    return expected


def get_units():
    "The units by where they have come to"
    units = Counter()
    areas = AREAS.values()
    for source_type, source, target_type, target, quantity in _execute(UNITS):
        if source_type == 'customer':
            units['came back'] += quantity
        elif target_type == 'customer':
            units['Back to the customer'] += quantity
        elif source in areas and target == 'Storage Zone':
            units['Back in stock'] += quantity
        for name, sign in [(source, -1), (target, 1)]:
            if name in areas:
                units[name] += sign * quantity
    return units


def get_states():
    return dict(_execute(STATES))


def get_open():
    return _execute(OPEN)
