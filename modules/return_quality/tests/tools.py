# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Builders of the scenarios, in proteus."""

from proteus import Model

__all__ = ['find_defect']


def find_defect(inspection, quantity=None, code='P05', severity='major'):
    "Note a defect of the quantity, that of the inspection by default"
    Defect = Model.get('return.defect')
    finding = inspection.defects.new()
    finding.defect, = Defect.find([('code', '=', code)])
    finding.severity = severity
    finding.quantity = (
        inspection.inspected_quantity if quantity is None else quantity)
    return finding
