# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"What the demo tells about the returns that went the road"
from collections import defaultdict
from decimal import Decimal
from textwrap import fill

from .company import AREAS
from .history import get_means
from .ledger import get_expected, get_ledger, get_open, get_states, get_units
from .road import RULE, get_course, is_goodwill
from .summary import WIDTH, title

__all__ = ['print_summary']

DEFECTIVE = "defective, and no place for scrap in this version"
UNPAID = "set against an invoice of which the rest is not paid"
STANDARD = (
    "Policy \"Standard\", as it ships: 7 days from delivery for a change of "
    "mind and other reasons, 15 for the rest; no fee; refund after the "
    "goods are accepted.")
ORDER_BOOK = (
    "Policy \"Order Book\": 90 days from delivery, no fee, refund after "
    "receipt; the reason of all returns is \"Other\".")


def print_summary(plan, history, taxed):
    "Print what has become of the returns and return the difference"
    states, units = get_states(), get_units()
    title("Returns on the road")
    rows = sum(map(len, history.orders.values()))
    _print_count("orders", len(history.orders), f"with {rows:,} lines")
    _print_count("returns", sum(states.values()))
    for state, count in sorted(states.items(), key=lambda s: -s[1]):
        _print_count(f"  {state}", count)

    title("Units")
    _print_count("came back", units.pop('came back', 0))
    for place in [
            'Back in stock', *AREAS.values(), 'Back to the customer']:
        _print_count(f"  {place}", units[place])

    difference = _print_money(get_expected(plan, taxed), get_ledger())
    _print_open(plan)
    _print_differing(plan)
    _print_unmatched(plan)
    title("Policy and rules")
    for text in [STANDARD if taxed else ORDER_BOOK, RULE]:
        print(fill(
                text, WIDTH, initial_indent='  ', subsequent_indent='  '))
    title(f"difference: {difference:,.2f}")
    return difference


def _print_count(name, count, remark=''):
    print(f"  {name + ':':26}{count:>9,.0f}   {remark}".rstrip())


def _print_money(expected, ledger):
    title("Money" + ' ' * 25 + "ledger         file   difference")
    total = Decimal(0)

    def print_row(name, keys):
        nonlocal total
        has, due = [
            sum((c[k] for k in keys), Decimal(0)) for c in [ledger, expected]]
        total += abs(has - due)
        print(f"  {name + ':':22}{has:>12,.2f} {due:>12,.2f} "
            f"{has - due:>12,.2f}")
    print_row("credited", ['goods', 'tax', 'goodwill'])
    print_row("  covered lines", ['goods'])
    print_row("  their tax", ['tax'])
    print_row("  goodwill", ['goodwill'])
    print_row("paid back", ['card', 'cash'])
    print_row("  by card", ['card'])
    print_row("  in cash", ['cash'])
    print_row("set off, not paid", ['unpaid'])
    return total


def _print_open(plan):
    rows = get_open()
    title(f"Open: {len(rows)}")
    courses, means = defaultdict(set), defaultdict(set)
    for line in plan.lines:
        number = line.row.number
        courses[number].add(get_course(line)[0])
        for piece in line.pieces:
            means[number].add(get_means(
                    plan.orders[piece.row.number, line.row.customer]))
    for reference, number, state, receipt, refund in rows:
        if 'open' in courses[reference]:
            reason = DEFECTIVE
        elif receipt == 'received' and 'unpaid' in means[reference]:
            reason = UNPAID
        else:
            reason = f"goods {receipt}, refund {refund}"
        print(f"  {reference} ({number}), {state}: {reason}")


def _print_differing(plan):
    "The pieces whose price is not that of the file"
    lines = [
        (l.row, p) for l in plan.lines for p in l.pieces
        if p.row.price != l.row.price]
    if not lines:
        return
    title(f"The file has another price than the order: {len(lines)}")
    for row, piece in lines:
        amount = piece._replace(row=row).amount
        print(f"  line {row.line} {row.number} {row.code}: {piece.quantity:,} "
            f"at {piece.row.price} = {piece.amount:,.2f}, file: {row.price} "
            f"= {amount:,.2f} ({piece.amount - amount:+,.2f})")


def _print_unmatched(plan):
    lines = [l for l in plan.lines if not l.pieces and l.row.customer]
    if not lines:
        return
    title(f"Unmatched lines: {len(lines)}")
    for line in lines:
        row = line.row
        ending = "goodwill" if is_goodwill(line) else "refused"
        print(f"  line {row.line} {row.number} {row.code}: "
            f"{-row.quantity:,} at {row.price}, {line.outcome}: {ending}")
