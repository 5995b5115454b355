# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The demo carries its own order book through the road."""
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from lxml import etree

from .templates import ROOT

pytestmark = pytest.mark.sqlite  # once is enough


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('var')


@pytest.fixture(scope='module')
def demo(folder):
    "Return what the demo prints"
    run = subprocess.run(
        [sys.executable, '-m', 'demo'], cwd=ROOT, text=True,
        encoding='utf-8', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={
            **os.environ,
            'DEMO_VAR': str(folder),
            'PYTHONIOENCODING': 'utf-8',
            })
    assert run.returncode == 0, run.stdout + run.stderr
    assert 'Traceback' not in run.stderr
    return [l.split() for l in run.stdout.splitlines()]


def test_difference(demo):
    assert ['difference:', '0.00'] in demo
    for name in ['credited:', 'paid', 'set']:
        figures, = [
            l[-3:] for l in demo if l[:1] == [name] and len(l) > 3]
        assert figures[0] == figures[1] != '0.00'
        assert figures[2] == '0.00'


def test_returns(demo):
    states = {
        l[0]: int(l[1]) for l in demo
        if l and l[0] in {'done:', 'rejected:', 'approved:', 'reviewed:'}}
    # Every other one has come to its end
    assert states == {
        'done:': 12, 'rejected:': 6, 'approved:': 1, 'reviewed:': 1}


def test_units(demo):
    units = {' '.join(l[:-1]): l[-1] for l in demo if l}
    assert units['came back:'] == '91'
    assert units['Back in stock:'] == '81'
    assert units['Resale:'] == '6'
    assert units['Quarantine:'] == '2'
    assert units['Back to the customer:'] == '2'


def test_reports(demo, folder, tmp_path):
    "Each report prints something, no values as Python writes them"
    run = subprocess.run(
        [sys.executable, '-m', 'tests.reports', folder, tmp_path], cwd=ROOT,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout
    documents = sorted(tmp_path.glob('*.odt'))
    assert len(documents) == len(list(tmp_path.iterdir())) > 0, [
        p.name for p in tmp_path.iterdir() if p not in documents]
    for document in documents:
        with zipfile.ZipFile(document) as archive:
            content = etree.fromstring(archive.read('content.xml'))
        words = [
            word for p in content.iter('{*}p', '{*}h')
            for word in ''.join(p.itertext()).split()]
        assert len(words) > 5, document.name
        assert not {'None', 'False', 'True'} & set(words), document.name
        assert not [
            w for w in words if w.startswith(('Decimal(', 'datetime.', '<'))]
    soffice = shutil.which('soffice')
    if soffice:
        subprocess.run(
            [soffice, '--headless', f'-env:UserInstallation=file://{folder}',
                '--convert-to', 'pdf', '--outdir', tmp_path, *documents],
            check=True, stdout=subprocess.DEVNULL)
        assert {p.stem for p in tmp_path.glob('*.pdf')} == {
            p.stem for p in documents}
