# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""A recall finds and asks its customers in batch."""
import pytest
from proteus import Model

from trytond.modules.return_management.tests.tools import (
    activate, create_customer, create_product, deliver, stock)

from .statements import trace

pytestmark = pytest.mark.sqlite


def start(database, campaign):
    "Return the statements of the start, without those that take numbers"

    def call():
        from trytond.pool import Pool
        Campaign = Pool().get('return.campaign')
        Campaign.start(Campaign.browse([campaign.id]))

    return [
        s for s in trace(database, call)
        if s.startswith('SELECT') and 'sequence' not in s]


def test_statements(database):
    "Test the statements that find the customers"
    activate('return_quality')
    Campaign = Model.get('return.campaign')
    Product = Model.get('product.product')
    counts = {}
    for size in [1, 2, 20]:
        product = create_product(f"Product {size}")
        stock(product, size)
        for _ in range(size):
            deliver(create_customer(), (product, 1), post=False)
        campaign = Campaign(name=f"{size} customers", text="Stop using it.")
        campaign.products.append(Product(product.id))
        campaign.save()
        # The first fills the caches
        counts[size] = start(database, campaign)
        campaign.reload()
        assert len(campaign.customers) == size
    assert len(counts[20]) <= len(counts[2]) + 2, {
        size: len(statements) for size, statements in counts.items()}
