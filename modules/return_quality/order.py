# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.pool import Pool, PoolMeta

from .exceptions import InspectionRequiredError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _process(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        super()._process(orders)
        Line.create_inspections([
                l for o in cls.browse(orders) for l in o.lines
                if o.state in {'reviewed', 'approved', 'done'}])

    def _goods_settled(self):
        return super()._goods_settled() and not any(
            l.quality_inspections_pending() for l in self.lines)

    @classmethod
    def _sign(cls, orders, stage):
        if stage == 'final':
            cls._check_inspected(orders)
        super()._sign(orders, stage)

    @classmethod
    def _check_inspected(cls, orders):
        "Check that the final review sees what it asked to inspect first"
        pool = Pool()
        Control = pool.get('quality.control')
        lines = [
            l for o in orders for l in o.lines
            if l.reason.inspect and l.expects_goods]
        for line in Control.match_return_lines(lines):
            quantity = line.open_quantity
            if line.approved_quantity is not None:
                quantity = min(quantity, line.approved_quantity)
            if line.unit.round(quantity - line.inspected_quantity) > 0:
                raise InspectionRequiredError(gettext(
                        'return_quality.msg_order_inspection_required',
                        order=line.order.rec_name,
                        line=line.rec_name))
