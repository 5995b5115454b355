# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
import shutil
import subprocess
import sys
from configparser import ConfigParser

import pytest

from .templates import OWN, ROOT

pytestmark = pytest.mark.sqlite  # once is enough


def pip(*arguments):
    process = subprocess.run(
        [sys.executable, '-m', 'pip', '--disable-pip-version-check',
            *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not process.returncode, process.stdout


def files(directory):
    return {
        str(path.relative_to(directory)) for path in directory.rglob('*')
        if path.is_file() and path.suffix != '.pyc'}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    # pip leaves its build directory behind
    source = tmp_path_factory.mktemp('source') / 'trytond_returns'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(
            '.*', '*.egg-info', '__pycache__', 'build', 'dist', 'var'))
    return source


@pytest.fixture(scope='module', params=['wheel', 'plain'])
def installed(request, source, tmp_path_factory):
    package = source
    if request.param == 'wheel':
        pip('wheel', '--no-deps', '--no-build-isolation',
            '--wheel-dir', source / 'dist', source)
        package, = source.glob('dist/*.whl')
    target = tmp_path_factory.mktemp(request.param)
    pip('install', '--no-deps', '--no-build-isolation',
        '--target', target, package)
    return target


def test_files(installed):
    "Test that every file of the modules is installed"
    for module in OWN:
        assert (files(installed / 'trytond' / 'modules' / module)
            == files(ROOT / 'modules' / module))


def test_listed_files(installed):
    "Test that every file that tryton.cfg lists is installed"
    for module in OWN:
        directory = installed / 'trytond' / 'modules' / module
        config = ConfigParser()
        config.read(directory / 'tryton.cfg')
        for name in config.get('tryton', 'xml').split():
            assert (directory / name).is_file(), name


def test_entry_points(installed):
    "Test that trytond finds the modules"
    config = ConfigParser()
    file, = installed.glob('*.dist-info/entry_points.txt')
    config.read(file)
    assert dict(config['trytond.modules']) == {
        module: f'trytond.modules.{module}' for module in OWN}
