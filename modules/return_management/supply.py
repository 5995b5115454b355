# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool, PoolMeta
from trytond.transaction import Transaction


class PurchaseRequest(metaclass=PoolMeta):
    __name__ = 'purchase.request'

    @classmethod
    def generate_requests(cls, products=None, warehouses=None):
        with Transaction().set_context(_return_areas_skip=True):
            return super().generate_requests(
                products=products, warehouses=warehouses)


class Product(metaclass=PoolMeta):
    __name__ = 'product.product'

    @classmethod
    def products_by_location(
            cls, location_ids, with_childs=False, grouping=('product',),
            grouping_filter=None):
        pool = Pool()
        Location = pool.get('stock.location')
        quantities = super().products_by_location(
            location_ids, with_childs=with_childs, grouping=grouping,
            grouping_filter=grouping_filter)
        if with_childs and Transaction().context.get('_return_areas_skip'):
            # Returned goods do not meet the needs of sales
            areas = Location.get_return_areas(
                Location.browse(list(location_ids)))
            area_quantities = super().products_by_location(
                list(areas), with_childs=True, grouping=grouping,
                grouping_filter=grouping_filter) if areas else {}
            for (area, *key), quantity in area_quantities.items():
                key = (areas[area], *key)
                quantities[key] = quantities.get(key, 0) - quantity
        return quantities
