# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Builders of the scenarios of quality, in proteus."""

from collections import defaultdict
from decimal import Decimal

from proteus import Model, config
from trytond.modules.return_management.tests.tools import (
    confirm, do_internal, get_warehouse)
from trytond.transaction import Transaction

__all__ = [
    'create_repair_location', 'find_defect', 'get_balances', 'inspect',
    'repair', 'send_to_repair']


def create_repair_location():
    "Make the repair location outside the storage zone"
    Location = Model.get('stock.location')
    warehouse = get_warehouse()
    location = Location(name="Repair", type='storage', parent=warehouse)
    location.save()
    warehouse.repair_location = location
    warehouse.save()
    return location


def find_defect(inspection, quantity=None, code='P05', severity='major'):
    "Note a defect of the quantity, that of the inspection by default"
    Defect = Model.get('return.defect')
    finding = inspection.defects.new()
    finding.defect, = Defect.find([('code', '=', code)])
    finding.severity = severity
    finding.quantity = (
        inspection.inspected_quantity if quantity is None else quantity)
    return finding


def inspect(inspection, passed, *dispositions):
    "Process the inspection; dispositions are dictionaries of values"
    inspection.points = {'meets_standard': passed}
    if not passed and inspection.return_line:
        find_defect(inspection)
    for values in dispositions:
        disposition = inspection.dispositions.new()
        for name, value in values.items():
            setattr(disposition, name, value)
    inspection.click('process')


def send_to_repair(line, quantity, disposition=None, **values):
    """Decide that goods of the line are repaired, bring them there

    With the disposition, a draft, if there is one.
    """
    Disposition = Model.get('return.disposition')
    Repair = Model.get('return.repair')
    Shipment = Model.get('stock.shipment.internal')
    disposition = disposition or Disposition(line=line)
    disposition.action = 'repair'
    disposition.quantity = quantity
    for name, value in values.items():
        setattr(disposition, name, value)
    confirm(disposition, 'decide')
    shipment, = Shipment.find([('moves.origin', '=', str(disposition))])
    do_internal(shipment)
    repair, = Repair.find([('disposition', '=', disposition.id)])
    return repair


def repair(repair, passed=None):
    "Plan and repair the goods and, if they passed or not, inspect them"
    Inspection = Model.get('quality.inspection')
    repair.plan_text = "Solder the contact."
    for button in ['plan', 'start', 'finish']:
        repair.click(button)
    if passed is not None:
        inspection, = Inspection.find([
                ('origin', '=', str(repair)),
                ('state', '=', 'pending'),
                ])
        inspect(inspection, passed)
        repair.reload()


def get_balances(product):
    """Return where the product is and what our stock of it is worth

    A dictionary of quantities by the name of the location, and the value of
    what came into our stock and left it, from the rows of the moves.
    """
    cfg = config.get_config()
    quantities, value = defaultdict(float), Decimal(0)
    with Transaction().start(cfg.database_name, 1) as transaction:
        cursor = transaction.connection.cursor()
        cursor.execute(
            'SELECT f.name, f.type, t.name, t.type, '
            'm.internal_quantity, m.cost_price '
            'FROM stock_move AS m '
            'JOIN stock_location AS f ON f.id = m.from_location '
            'JOIN stock_location AS t ON t.id = m.to_location '
            "WHERE m.state = 'done' AND m.product = %d" % product.id)
        for from_, from_type, to, to_type, quantity, cost in cursor:
            quantities[from_] -= quantity
            quantities[to] += quantity
            if from_type != to_type:
                sign = (to_type == 'storage') - (from_type == 'storage')
                value += sign * Decimal(str(quantity)) * Decimal(str(cost))
    return {
        n: q for n, q in sorted(quantities.items()) if q}, round(value, 2)
