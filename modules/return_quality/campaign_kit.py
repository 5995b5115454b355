# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.modules.return_management.kit import FUZZ
from trytond.pool import Pool, PoolMeta


class Campaign(metaclass=PoolMeta):
    __name__ = 'return.campaign'

    @classmethod
    def _get_sale_lines(cls, origins):
        pool = Pool()
        Component = pool.get('sale.line.component')
        sale_lines = super()._get_sale_lines(origins)
        for component in Component.browse(
                cls._get_origin_ids(origins, Component)):
            sale_lines[str(component)] = component.line
        return sale_lines

    def _get_order_line(self, sale_line, quantity):
        line = super()._get_order_line(sale_line, quantity)
        if sale_line.components:
            line.note = gettext(
                'return_quality.msg_campaign_components',
                components=', '.join(
                    p.rec_name for p in sale_line.return_parts
                    if p in self.products))
        return line


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def _get_recall_quantity(self, quantities):
        pool = Pool()
        Uom = pool.get('product.uom')
        if not self.components:
            return super()._get_recall_quantity(quantities)
        # One component is enough
        return max(
            self.unit.ceil(Uom.compute_qty(
                    product.default_uom, quantities[product.id], unit,
                    round=False) / ratio - FUZZ)
            for product, (unit, ratio) in self.return_parts.items())

    def _get_recall_parts(self, quantity):
        if not self.components:
            return super()._get_recall_parts(quantity)
        return self.get_return_parts(quantity)


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_recall_products(self):
        if self.is_kit:
            return set(self.sale_line.return_parts)
        return super()._get_recall_products()
