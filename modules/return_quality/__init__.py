# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import (
    configuration, defect, disposition, inspection_report, line, order,
    quality, second, separation, stage)

__all__ = ['register']


def register():
    Pool.register(
        configuration.Configuration,
        configuration.ConfigurationInspection,
        configuration.ConfigurationLimit,
        defect.Defect,
        defect.InspectionDefect,
        disposition.Disposition,
        line.Line,
        order.Order,
        stage.Order,
        stage.Stage,
        quality.Control,
        quality.Inspection,
        quality.InspectionMove,
        defect.Inspection,
        second.Inspection,
        second.Disposition,
        separation.Inspection,
        separation.AllowReceiverStart,
        module='return_quality', type_='model')
    Pool.register(
        separation.AllowReceiver,
        module='return_quality', type_='wizard')
    Pool.register(
        inspection_report.InspectionReport,
        module='return_quality', type_='report')
