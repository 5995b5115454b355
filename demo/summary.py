# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"What the demo tells about a book and its plan"
from collections import defaultdict
from itertools import groupby
from textwrap import fill

from .plan import OUTCOMES

__all__ = ['WIDTH', 'print_plan', 'print_remarks', 'title']

WIDTH = 79
# The lines of the file that are named for one reason before they are cut off
SHOWN = 60


def title(text):
    print()
    print(text)
    print('─' * len(text))


def print_plan(plan):
    count, no_goods = plan.count, plan.no_goods
    title("Returns and the orders before them")
    for outcome in OUTCOMES:
        print(f"  {outcome + ':':18}{count[outcome]:>7,}"
            f"   of which no goods: {no_goods[outcome]:,}")
    print(f"  {'return lines:':18}{sum(count.values()):>7,}"
        f"   of which no goods: {sum(no_goods.values()):,}")
    rows = sum(map(len, plan.orders.values()))
    print(f"  {len(plan.returns):,} returns by "
        f"{len({c for _, c in plan.returns if c}):,} customers; they can "
        f"belong to {len(plan.orders):,} orders with {rows:,} lines.")


def print_remarks(heading, remarks, path):
    """Print the remarks by reason with the numbers of their lines

    The file at the path has those that are too many to print.
    """
    if not remarks:
        return
    title(heading)
    reasons = defaultdict(list)
    for remark in remarks:
        reasons[remark.reason].append(remark.line)
    cut = False
    for reason, lines in sorted(reasons.items()):
        ranges = list(_get_ranges(sorted(lines)))
        shown = ', '.join(ranges[:SHOWN])
        if len(ranges) > SHOWN:
            cut = True
            shown += ', …'
        print(fill(
                f"{reason} ({len(lines):,}): line {shown}", WIDTH,
                initial_indent='  ', subsequent_indent='    '))
    if cut:
        with open(path, 'w', encoding='utf-8') as file:
            for remark in remarks:
                print(*remark, sep='\t', file=file)
        print(f"  All of them: {path}")


def _get_ranges(lines):
    for _, group in groupby(enumerate(lines), lambda p: p[1] - p[0]):
        group = [l for _, l in group]
        yield str(group[0]) + (f'–{group[-1]}' if len(group) > 1 else '')
