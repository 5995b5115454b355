# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""The demo carries its own order book through the road."""
import os
import subprocess
import sys

import pytest

from .templates import ROOT

pytestmark = pytest.mark.sqlite  # once is enough


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "Return what the demo prints"
    run = subprocess.run(
        [sys.executable, '-m', 'demo'], cwd=ROOT, text=True,
        encoding='utf-8', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={
            **os.environ,
            'DEMO_VAR': str(tmp_path_factory.mktemp('var')),
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
