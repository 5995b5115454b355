# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Warm databases behind trytond's own test tools.

Activating sale, stock and account takes a minute, so what it gives is kept:
for SQLite as files under .cache, for PostgreSQL as template databases.
A database of standard modules is good as long as their versions, one with
modules of ours as long as the content of those, one that is set up for a day.
So after a change only ours are activated again, on top of the standard ones,
and each of ours on top of those that it builds on.
"""
import datetime as dt
import fcntl
import hashlib
import os
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / '.cache'
OWN = {path.parent.name for path in ROOT.glob('modules/*/tryton.cfg')}


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _standard_key():
    return _digest(sorted(
            f'{d.metadata["Name"]} {d.version}' for d in distributions()
            if d.metadata['Name'].startswith(('trytond', 'proteus'))))


def _own_key():
    # Scenarios and tests only use databases, all other files make them.
    return _digest(STANDARD, [
            (str(path.relative_to(ROOT)), path.read_bytes())
            for path in sorted([
                    *ROOT.glob('modules/*/**/*'), ROOT / 'setup.cfg',
                    *ROOT.glob('tests/tools.py')])
            if path.is_file() and path.suffix != '.pyc'
            and not path.name.startswith(('scenario_', 'test_'))])


STANDARD = _standard_key()
CONTENT = _own_key()
SETUP = _digest(CONTENT, dt.date.today())
KEYS = STANDARD, CONTENT, SETUP
_locks = {}


def _template(name):
    modules, _, setup = name.partition('--')
    if setup:
        key = SETUP
    elif OWN & set(modules.split('-')):
        key = CONTENT
    else:
        key = STANDARD
    return f'{key}-{_digest(name)}'


def _depends(modules, extras=()):
    "The modules and what they depend on, with those of their extras"
    from trytond.modules import get_module_info
    found, todo = set(), list(modules)
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            info = get_module_info(module)
            todo += info.get('depends', [])
            todo += set(info.get('extras_depend', [])).intersection(extras)
    return found - {'ir', 'res'}


def _base(modules):
    "The modules on top of which the modules are activated"
    every = _depends(modules)
    own, standard = every & OWN, every - OWN
    if not own:
        core = sorted(_depends(['return_management']) - OWN)
        return core if set(core) < standard else None
    for module in sorted(own, reverse=True):
        rest = own - {module}
        # Activating an extra activates what it is an extra of once more.
        if rest and _depends(rest, extras=every) == _depends(rest):
            return sorted(
                rest - set().union(*(_depends([m]) - {m} for m in rest)))
    return sorted(standard)


def restore_db_cache(name):
    from trytond.pool import Pool
    from trytond.tests import test_tryton

    template = _template(name)
    _lock(template)
    test_tryton.drop_db()
    if _restore(template):
        _unlock(template)
        Pool(test_tryton.DB_NAME).init()
        return True

    modules, _, setup = name.partition('--')
    modules = modules.split('-')
    base = _base(modules)
    if setup or not base:
        # The caller makes the database and then calls backup_db_cache
        return False
    test_tryton.activate_module(base)
    test_tryton.activate_module(modules)
    return True


def backup_db_cache(name):
    template = _template(name)
    if template in _locks:
        # A file may have changed since this process has read it
        if template.startswith(STANDARD) or CONTENT == _own_key():
            _backup(template)
        _unlock(template)


def _lock(template):
    "Let other processes wait while this one makes the template"
    _locks[template] = file = open(CACHE / f'{template}.lock', 'w')
    fcntl.flock(file, fcntl.LOCK_EX)


def _unlock(template):
    _locks.pop(template).close()


def unlock():
    for template in list(_locks):
        _unlock(template)


def _restore(template):
    from trytond import backend
    from trytond.tests import test_tryton
    if backend.name == 'sqlite':
        return test_tryton._sqlite_copy(
            CACHE / f'{template}.sqlite', restore=True)
    else:
        return _create(test_tryton.DB_NAME, template)


def _backup(template):
    from trytond import backend
    from trytond.tests import test_tryton
    if backend.name == 'sqlite':
        file = CACHE / f'{template}.sqlite'
        new = CACHE / f'{template}.{os.getpid()}'
        test_tryton._sqlite_copy(new)
        new.rename(file)
    else:
        backend.Database(test_tryton.DB_NAME).close()
        _create(template, test_tryton.DB_NAME, is_template=True)


def _create(name, template, is_template=False):
    from psycopg2.errors import InvalidCatalogName
    from trytond.transaction import Transaction
    with Transaction().start(
            None, 0, close=True, autocommit=True) as transaction:
        try:
            transaction.database.create(
                transaction.connection, name, template)
        except InvalidCatalogName:
            return False
        if is_template:
            # Hides it from trytond's list of databases
            transaction.connection.cursor().execute(
                f'ALTER DATABASE "{name}" IS_TEMPLATE true')
    return True


def install():
    "Put the cache behind trytond's test tools"
    # Not sooner than a test needs it: a broken module fails tests, not pytest.
    # And first by ourselves, as trytond hides what is wrong with a module.
    for module in OWN:
        import_module(f'trytond.modules.{module}')
    from trytond.tests import test_tryton, tools
    for function in [restore_db_cache, backup_db_cache]:
        for module in [test_tryton, tools]:
            setattr(module, function.__name__, function)


def clean():
    "Remove what was made from other versions, other content or another day"
    CACHE.mkdir(exist_ok=True)
    for path in CACHE.glob('?' * 16 + '-*'):
        if not path.name.startswith(KEYS):
            path.unlink()
