# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Serve the database of the demo, with the web client where npm is there"
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .company import USERS

__all__ = ['serve']

CLIENT = 'tryton-sao@~7.0.0'
# index.html looks for them in bower_components
LIBRARIES = [
    'jquery@3', 'bootstrap@3', 'moment', 'gettext.js@0.7', 'c3@0.7',
    'papaparse', 'fullcalendar@3.10', 'mousetrap', 'sortablejs@1.8']
PORT = 8000
START = 60


def serve(database, passwords):
    "Serve until Ctrl-C and return the exit code"
    client = get_client(database.folder)
    port = get_port()
    configuration = database.configuration
    with open(configuration, 'a', encoding='utf-8') as file:
        file.write(f'\n[web]\nlisten = 127.0.0.1:{port}\n')
        if client:
            file.write(f'root = {client}\n')
    for number in [signal.SIGINT, signal.SIGTERM]:
        signal.signal(number, signal.default_int_handler)
    log = database.folder / 'trytond.log'
    with open(log, 'w', encoding='utf-8') as file:
        server = subprocess.Popen([
                sys.executable, '-W', 'ignore',
                Path(sys.executable).with_name('trytond'),
                '-c', configuration, '-d', database.name],
            stdout=file, stderr=file, start_new_session=True)
    try:
        if not wait(server, port):
            print(f"The server does not start: {log}", file=sys.stderr)
            return 1
        print_access(database.name, port, client, passwords)
        code = server.wait()
        print(f"The server has stopped: {log}", file=sys.stderr)
        return code or 1
    except KeyboardInterrupt:
        print()
        return 0
    finally:
        server.terminate()
        server.wait()


def get_port():
    "Return the usual port or else one that is free"
    for port in [PORT, 0]:
        with socket.socket() as listener, suppress(OSError):
            # As the server does
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(('127.0.0.1', port))
            return listener.getsockname()[1]


def wait(server, port):
    "Wait for the server and return whether it answers"
    end = time.monotonic() + START
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError), \
                socket.create_connection(('127.0.0.1', port), 1):
            return True
        time.sleep(0.2)
    return False


def print_access(name, port, client, passwords):
    if client:
        print(f"\nThe server runs: http://127.0.0.1:{port}/#{name}")
    else:
        print(
            f"\nThe server runs for a Tryton 7.0 client: host "
            f"127.0.0.1:{port}, database {name}")
    print("Ctrl-C stops it. The users of this run:\n")
    for login, password in sorted(passwords.items()):
        person = USERS[login][0] if login in USERS else "Administrator"
        print(f"  {login:12}{password:16}{person}")
    sys.stdout.flush()


def get_client(folder):
    """Return the folder of the web client, installed the first time

    None where that is not possible.
    """
    client = folder / 'sao'
    if (client / 'bower_components').is_dir():
        return client
    npm = shutil.which('npm')
    if not npm:
        print("\nThere is no npm, so the server goes without web client.")
        return
    print("\nInstalling the web client …", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        directory = Path(directory)
        try:
            _install(npm, directory)
        except (OSError, subprocess.CalledProcessError) as error:
            message = (getattr(error, 'stderr', '') or str(error)).strip()
            print(
                f"npm can not install it, so the server goes without web "
                f"client:\n{message}", file=sys.stderr)
            return
        shutil.rmtree(client, ignore_errors=True)
        (directory / 'package').rename(client)
    return client


def _install(npm, directory):
    def run(*arguments):
        subprocess.run(
            [npm, *arguments], cwd=directory, check=True, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, 'npm_config_update_notifier': 'false'})

    run('pack', '--silent', CLIENT)
    archive, = directory.glob('*.tgz')
    with tarfile.open(archive) as tar:
        tar.extractall(directory)
    (directory / 'package.json').write_text('{}')
    run('install', '--silent', '--legacy-peer-deps', '--ignore-scripts',
        '--omit=dev', '--no-audit', '--no-fund', *LIBRARIES)
    components = directory / 'package' / 'bower_components'
    (directory / 'node_modules').rename(components)
    shutil.copytree(components / 'sortablejs', components / 'Sortable')
    shutil.copy(components / 'd3' / 'dist' / 'd3.min.js', components / 'd3')
