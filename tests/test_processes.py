# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
import time

import pytest
from proteus import Model

from .processes import race

pytestmark = pytest.mark.postgresql


def lock(party_id):
    from trytond.pool import Pool
    from trytond.tests.test_tryton import with_transaction

    @with_transaction()
    def _lock():
        Pool().get('party.party')(party_id).lock()
        time.sleep(2)
        return True
    return _lock()


def test_race(activate_modules):
    "Test that only one of two processes gets the lock"
    activate_modules('party')
    party = Model.get('party.party')(name="Contended")
    party.save()

    loser, winner = sorted(race(lock, (party.id,), (party.id,)))

    assert winner.result
    assert 'could not obtain lock' in loser.error
