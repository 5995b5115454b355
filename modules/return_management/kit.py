# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from sql import Union

from trytond.i18n import gettext
from trytond.model import Index
from trytond.pool import Pool, PoolMeta

from .exceptions import ReturnableError


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    @classmethod
    def check_returnable(cls, lines):
        # Only the components are delivered
        for line in lines:
            if line.sale_line and line.sale_line.components:
                raise ReturnableError(gettext(
                        'return_management.msg_line_kit',
                        line=line.rec_name,
                        components=', '.join(
                            c.product.rec_name
                            for c in line.sale_line.components)))
        super().check_returnable(lines)


class SaleLineComponent(metaclass=PoolMeta):
    __name__ = 'sale.line.component'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.product, Index.Range())))


class Replenishment(metaclass=PoolMeta):
    __name__ = 'return.replenishment'

    @classmethod
    def _get_ordered(cls):
        pool = Pool()
        Component = pool.get('sale.line.component')
        Line = pool.get('sale.line')
        component, line = Component.__table__(), Line.__table__()
        # Of a kit only the components are delivered
        return Union(
            super()._get_ordered(),
            component
            .join(line, condition=component.line == line.id)
            .select(
                line.sale, component.product, component.unit,
                component.quantity),
            all_=True)

    @classmethod
    def _sale_origins(cls):
        return [*super()._sale_origins(), 'sale.line.component']
