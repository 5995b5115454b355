# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Make a database, activate the modules and act in it as one of its users"
import gc
import logging
import warnings
from contextlib import closing, contextmanager
from pathlib import Path

from trytond.config import config, parse_uri

__all__ = ['MODULES', 'Database', 'DatabaseError']

MODULES = [
    'return_management', 'return_quality', 'return_refund',
    'account_payment_clearing']
NAME = 'return_demo'
# What tells our databases from those that are not ours to drop
MARK = "Tryton Returns demo"


class DatabaseError(Exception):
    "The database can not be made"


class Database:
    "A database of the demo, SQLite in a folder or PostgreSQL by its URI"

    def __init__(self, folder, uri=None):
        self.folder = Path(folder)
        self.contexts = {}
        if uri:
            parts = parse_uri(uri)
            if parts.scheme != 'postgresql':
                raise DatabaseError(
                    f"--database: \"{uri}\" is no URI like "
                    f"postgresql://USER@HOST:PORT/NAME")
            self.name = parts.path.strip('/') or NAME
            self.uri = parts._replace(path='/').geturl()
        else:
            self.name = NAME
            self.uri = 'sqlite://'
        self.configuration = self.folder / 'trytond.conf'

    @property
    def is_sqlite(self):
        return self.uri.startswith('sqlite')

    def create(self):
        "Make the empty database, in the place of that of an earlier run"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(
            f'[database]\nuri = {self.uri}\npath = {self.folder}\n\n'
            f'[session]\ntimeout = 28800\n\n'
            # Orders with hundreds of lines would be read again and again
            f'[cache]\nrecord = 20000\n')
        self.configuration.chmod(0o600)
        config.update_etc(str(self.configuration))
        if self.is_sqlite:
            for suffix in ['', '-journal', '-wal', '-shm']:
                (self.folder / f'{self.name}.sqlite{suffix}').unlink(
                    missing_ok=True)
            (self.folder / f'{self.name}.sqlite').touch(mode=0o600)
        else:
            self._create_postgresql()

    def _create_postgresql(self):
        try:
            import psycopg2
            from psycopg2.extensions import quote_ident
        except ImportError:
            raise DatabaseError("psycopg2 is missing: install psycopg2-binary")
        def connect(name):
            connection = psycopg2.connect(
                parse_uri(self.uri)._replace(path=f'/{name}').geturl())
            connection.autocommit = True
            return closing(connection)

        try:
            with connect('postgres') as connection, \
                    connection.cursor() as cursor:
                name = quote_ident(self.name, cursor)
                cursor.execute(
                    'SELECT shobj_description(oid, %s) FROM pg_database '
                    'WHERE datname = %s', ('pg_database', self.name))
                found = cursor.fetchone()
                if found:
                    if found[0] != MARK and not self._is_empty(connect):
                        raise DatabaseError(
                            f"--database: {self.name} is not the demo's own, "
                            f"choose another name")
                    cursor.execute(f'DROP DATABASE {name}')
                cursor.execute(
                    f'CREATE DATABASE {name} TEMPLATE template0 '
                    f"ENCODING 'UTF8'")
                cursor.execute(f'COMMENT ON DATABASE {name} IS %s', (MARK,))
        except psycopg2.Error as error:
            message = ' '.join(str(error).split())
            raise DatabaseError(f"--database: {message}")

    def _is_empty(self, connect):
        with connect(self.name) as connection, connection.cursor() as cursor:
            cursor.execute(
                'SELECT count(*) FROM information_schema.tables '
                'WHERE table_schema = current_schema()')
            return cursor.fetchone() == (0,)

    def activate(self, modules, progress):
        "Activate the modules, calling progress(done, total, name)"
        from trytond import backend
        from trytond.pool import Pool

        # What it has collected is hardly ever garbage
        gc.set_threshold(100000, 50, 50)
        backend.Database(self.name).connect().init()
        with warnings.catch_warnings():
            # About old crypt functions and what SQLite can not alter
            warnings.simplefilter('ignore')
            Pool.start()
            # Some of what has been imported asks to show them always
            warnings.simplefilter('ignore')
            self.pool = Pool(self.name)
            with _follow_modules(modules, progress):
                self.pool.init(
                    update=modules, lang=['en'], activatedeps=True)

    def run(self, func, *args, user=0, queue=True, **context):
        """Call func in a transaction of its own, then what it has queued

        queue: False forgets what it has queued
        """
        from trytond.transaction import Transaction, TransactionError
        from trytond.worker import run_task

        context = {**self._context(user), **context}
        extras = {}
        while True:
            with Transaction().start(
                    self.name, user, context=context, **extras) as transaction:
                try:
                    result = func(*args)
                except TransactionError as error:
                    transaction.rollback()
                    transaction.tasks.clear()
                    error.fix(extras)
                    continue
                except BaseException:
                    transaction.tasks.clear()
                    raise
                if not queue:
                    Queue = self.pool.get('ir.queue')
                    Queue.delete(Queue.browse(transaction.tasks))
                    transaction.tasks.clear()
                transaction.commit()
            while transaction.tasks:
                run_task(self.pool, transaction.tasks.pop())
            return result

    def _context(self, user):
        "The context that a client has after the log-in of the user"
        from trytond.transaction import Transaction

        if user not in self.contexts:
            with Transaction().start(self.name, user, readonly=True):
                User = self.pool.get('res.user')
                context = dict(User.get_preferences(context_only=True))
            if user:
                context['_check_access'] = True
            # The company comes later than the first steps
            if not context.get('company'):
                return context
            self.contexts[user] = context
        return self.contexts[user]


def _with_dependencies(modules):
    from trytond.modules import get_module_info

    found, todo = set(), {'ir', 'res', *modules}
    while todo:
        found |= todo
        todo = {
            d for m in todo for d in get_module_info(m).get('depends', [])
            } - found
    return found


@contextmanager
def _follow_modules(modules, progress):
    "Turn the log of trytond's module loader into progress"
    left = _with_dependencies(modules)
    total = len(left)

    class Handler(logging.Handler):
        def emit(self, record):
            name = record.getMessage().partition(':')[0]
            if name in left:
                left.remove(name)
                progress(total - len(left), total, name)

    logger = logging.getLogger('trytond.modules')
    handler, level, propagate = Handler(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
