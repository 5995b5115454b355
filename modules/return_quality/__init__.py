# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import disposition, line, order, quality

__all__ = ['register']


def register():
    Pool.register(
        disposition.Disposition,
        line.Line,
        order.Order,
        quality.Control,
        quality.Inspection,
        quality.InspectionMove,
        module='return_quality', type_='model')
