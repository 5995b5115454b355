# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Several processes at work in one database, as several users are."""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

PATIENCE = 120


class Outcome(NamedTuple):
    result: Any = False
    error: str = ''


def race(function, *calls):
    """Call the function once with each tuple of arguments, every call in a
    process of its own and all of them at the same moment.

    The function is one of a test module, finds the database by proteus or
    Pool, and returns what can be pickled.  The outcomes are in the order of
    the calls.
    """
    context = multiprocessing.get_context('spawn')
    barrier = context.Barrier(len(calls), timeout=PATIENCE)
    with ProcessPoolExecutor(
            len(calls), context, initializer=_start, initargs=(barrier,)
            ) as executor:
        return list(executor.map(
                _call, [function] * len(calls), calls, timeout=PATIENCE * 2))


def _start(barrier):
    from proteus import config
    global _barrier
    _barrier = barrier
    config.set_trytond().pool.test = True


def _call(function, arguments):
    _barrier.wait()
    try:
        return Outcome(function(*arguments))
    except Exception as exception:
        # Tryton's own exceptions do not survive pickling
        return Outcome(error=f'{type(exception).__name__}: {exception}')
