# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""What pytest must know of Tryton.

trytond binds itself to one kind of database when it is imported, so a run of
pytest is one of SQLite or of PostgreSQL; scripts/test makes both.
"""
import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import templates

ROOT = Path(__file__).parent
MODULES = ROOT / 'modules'
BACKENDS = ['sqlite', 'postgresql']


def pytest_addoption(parser):
    parser.addoption(
        '--backend', choices=BACKENDS, default='sqlite',
        help="kind of database, sqlite by default")
    parser.addoption(
        '--totals', type=Path, help="file for the number of each outcome")


def pytest_configure(config):
    backend = config.option.backend
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    if not worker:
        templates.clean()
        os.environ.pop('TRYTOND_CONFIG', None)
        if backend == 'postgresql':
            os.environ['TRYTOND_DATABASE_URI'] = _start_postgresql(config)
        else:
            os.environ['TRYTOND_DATABASE_URI'] = 'sqlite://'
    if backend == 'postgresql':
        os.environ['DB_NAME'] = f'test_{worker or "main"}'
    else:
        os.environ['DB_NAME'] = ':memory:'


def _start_postgresql(config):
    server = subprocess.Popen([
            sys.executable, ROOT / 'tests' / 'postgresql.py',
            templates.CACHE, *templates.KEYS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True)

    def stop():
        server.stdin.close()
        server.wait()
    config.add_cleanup(stop)
    uri = server.stdout.readline().strip()
    if not uri:
        pytest.exit("PostgreSQL did not start", returncode=1)
    return uri


def pytest_report_header(config):
    return f'database: {config.option.backend}'


def pytest_terminal_summary(terminalreporter, config):
    if config.option.totals:
        config.option.totals.write_text(json.dumps({
                    outcome: len(reports)
                    for outcome, reports in terminalreporter.stats.items()}))


def pytest_collect_directory(path, parent):
    # pytest would import the modules' packages under names of its own
    if MODULES in path.parents:
        return pytest.Dir.from_parent(parent, path=path)


def pytest_pycollect_makemodule(module_path, parent):
    if MODULES in module_path.parents:
        return TrytonModule.from_parent(parent, path=module_path)


def pytest_collect_file(file_path, parent):
    if file_path.match('scenario_*.rst'):
        return ScenarioFile.from_parent(parent, path=file_path)


def pytest_collection_modifyitems(config, items):
    other, = set(BACKENDS) - {config.option.backend}
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def pytest_runtest_teardown(item):
    templates.unlock()


class TrytonModule(pytest.Module):

    def _getobj(self):
        templates.install()
        name = self.path.relative_to(MODULES).with_suffix('')
        return importlib.import_module(
            '.'.join(['trytond.modules', *name.parts]))


class ScenarioFile(pytest.File):

    def collect(self):
        backend = self.config.option.backend
        # As trytond.tests.test_tryton.load_doc_tests
        config = self.path.with_suffix('.json')
        configs = json.loads(config.read_text()) if config.exists() else [{}]
        for globs in configs:
            parameters = '-'.join([*map(str, globs.values()), backend])
            yield Scenario.from_parent(
                self, name=f'{self.path.stem}[{parameters}]', globs=globs)


class ScenarioFailure(Exception):
    pass


class Scenario(pytest.Item):

    def __init__(self, *, globs, **kwargs):
        super().__init__(**kwargs)
        self.globs = globs

    def runtest(self):
        templates.install()
        from trytond.tests.test_tryton import (
            doctest_checker, doctest_teardown)
        test = doctest.DocTestParser().get_doctest(
            self.path.read_text('utf-8'), dict(self.globs), self.path.name,
            str(self.path), 0)
        runner = doctest.DocTestRunner(
            checker=doctest_checker, verbose=False,
            optionflags=doctest.REPORT_ONLY_FIRST_FAILURE | doctest.FAIL_FAST)
        output = []
        try:
            runner.run(test, out=output.append)
        finally:
            doctest_teardown(test)
        if runner.failures:
            raise ScenarioFailure(''.join(output))

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, ScenarioFailure):
            return str(excinfo.value)
        excinfo.traceback = excinfo.traceback.cut(path=__file__)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, self.name


@pytest.fixture
def database():
    "Name of the database that a test may activate modules in, then dropped"
    templates.install()
    from trytond.tests.test_tryton import DB_NAME, doctest_teardown
    yield DB_NAME
    doctest_teardown(None)
