# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
import pytest

from .templates import ROOT


def test_scenarios_collected(request):
    "Test that a whole run has every scenario, and any at all"
    config = request.config
    if config.args != config.getini('testpaths') or config.option.keyword:
        pytest.skip("a part of the tests was asked for")
    collected = {
        item.path for item in request.session.items
        if item.path.suffix == '.rst'}
    assert collected == set(ROOT.glob('modules/*/tests/scenario_*.rst'))
    assert collected
