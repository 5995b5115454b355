# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
import time

import pytest
from proteus import Model

from trytond.pool import Pool
from trytond.tests.test_tryton import with_transaction
from trytond.tests.tools import activate_modules

from .processes import race

pytestmark = pytest.mark.postgresql


@with_transaction()
def lock(party_id):
    Pool().get('party.party')(party_id).lock()
    time.sleep(2)
    return True


def test_race(database):
    "Test that only one of two processes gets the lock"
    activate_modules('party')
    party = Model.get('party.party')(name="Contended")
    party.save()

    loser, winner = sorted(race(lock, (party.id,), (party.id,)))

    assert winner.result
    assert 'could not obtain lock' in loser.error
