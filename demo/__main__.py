# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Run the returns of an order book through the road"
import argparse
import datetime as dt
import os
import sys
from pathlib import Path

from .book import Book, BookError
from .plan import Plan
from .summary import print_plan, print_remarks

ROOT = Path(__file__).resolve().parent.parent
# The tests have their own
VAR = Path(os.environ.get('DEMO_VAR') or ROOT / 'var')
BOOK = Path(__file__).with_name('orders.csv')


def get_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog='scripts/demo', description=__doc__ + ".",
        epilog="Each run replaces the database of the run before. It stays "
        "under var/, or where --database says, for you to look at.")
    parser.add_argument(
        '--orders', metavar='FILE', type=Path,
        help="a real order book, .csv or .csv.gz, with the columns InvoiceNo, "
        "StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID "
        "and Country; without it, the small one that comes with the demo")
    parser.add_argument(
        '--from', dest='from_', metavar='DAY', type=parse_day,
        help="only the returns from this day on (YYYY-MM-DD)")
    parser.add_argument(
        '--to', metavar='DAY', type=parse_day,
        help="only the returns to this day, included (YYYY-MM-DD)")
    parser.add_argument(
        '--limit', metavar='N', type=parse_limit,
        help="only the first N returns (numbers that begin with C)")
    parser.add_argument(
        '--dry-run', action='store_true',
        help="only match the returns to the orders before them and count")
    parser.add_argument(
        '--database', metavar='URI',
        help="a PostgreSQL database, postgresql://USER@HOST:PORT/NAME, "
        "made if it is missing; without it, an SQLite file under var/")
    parser.add_argument(
        '--serve', action='store_true',
        help="start the server afterwards and tell the users and passwords")
    arguments = parser.parse_args(argv)
    if (arguments.from_ and arguments.to
            and arguments.from_ > arguments.to):
        parser.error("--from is after --to")
    return arguments


def parse_day(value):
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"\"{value}\" is no day like 2010-12-31")


def parse_limit(value):
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(
            f"\"{value}\" is no number of returns")
    return int(value)


def main(argv=None):
    # A line or a pound sign must not break off a run on an old terminal
    for stream in [sys.stdout, sys.stderr]:
        stream.reconfigure(errors='replace')
    arguments = get_arguments(argv)
    try:
        book = Book(arguments.orders or BOOK)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    plan = Plan(book, arguments.from_, arguments.to, arguments.limit)
    VAR.mkdir(parents=True, exist_ok=True)
    print_plan(plan)
    print_remarks(
        "Rows that can not be used", book.unusable, VAR / 'unusable.txt')
    print_remarks(
        "Rows that are used all the same", book.remarks, VAR / 'remarks.txt')
    if arguments.dry_run:
        return 0
    if not plan.lines:
        print("There is no return to run.", file=sys.stderr)
        return 2
    from trytond.exceptions import UserError
    try:
        return run(arguments, book, plan)
    except UserError as error:
        print(f"\nTryton refuses: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def run(arguments, book, plan):
    from tqdm import tqdm

    from .database import MODULES, Database, DatabaseError

    try:
        database = Database(VAR, arguments.database)
        database.create()
    except DatabaseError as error:
        print(error, file=sys.stderr)
        return 2

    with tqdm(desc="Modules", unit="module", leave=False) as bar:
        def progress(done, total, name):
            bar.total = total
            bar.update(done - bar.n)
        database.activate(MODULES, progress)

    from .company import create_policy, setup
    from .history import History
    from .result import print_summary
    from .road import Road
    from .server import serve
    from .showcase import Showcase, print_showcase

    days = {r.date.date() for rows in plan.orders.values() for r in rows}
    days |= {l.row.date.date() for l in plan.lines}
    if not arguments.orders:
        days |= Showcase.get_days()
    database.company, passwords = database.run(
        setup, days | {dt.date.today()})
    if arguments.orders:
        database.run(
            create_policy, min(days), company=database.company)

    taxed = not arguments.orders
    history = History(database, plan, taxed)
    with tqdm(
            desc="Orders", unit="order", total=len(plan.orders)) as bar:
        for done in history.load():
            bar.update(done - bar.n)
    road = Road(database, plan, history)
    with tqdm(
            desc="Returns", unit="return", total=len(road.returns)) as bar:
        for done in road.run():
            bar.update(done - bar.n)
    difference = database.run(print_summary, plan, history, taxed)
    if not arguments.orders:
        for _ in tqdm(
                Showcase(database).run(), desc="Lamps", unit="step"):
            pass
        print_showcase()
    code = 1 if difference else 0
    if arguments.serve:
        code = serve(database, passwords) or code
    return code


if __name__ == '__main__':
    try:
        sys.exit(main())
    except BrokenPipeError:
        # Nobody reads on, also not what is left in the buffer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
