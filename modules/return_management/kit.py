# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.pool import PoolMeta

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
