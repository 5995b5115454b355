# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import configuration, disposition, line, order, quality, stage

__all__ = ['register']


def register():
    Pool.register(
        configuration.Configuration,
        configuration.ConfigurationLimit,
        disposition.Disposition,
        line.Line,
        order.Order,
        stage.Order,
        stage.Stage,
        quality.Control,
        quality.Inspection,
        quality.InspectionMove,
        module='return_quality', type_='model')
