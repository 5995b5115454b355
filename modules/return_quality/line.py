# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from sql import Null
from sql.aggregate import Sum
from sql.operators import Concat

from trytond.model import fields
from trytond.modules.quality.quality import ControlledMixin
from trytond.pool import Pool, PoolMeta
from trytond.tools import grouped_slice
from trytond.transaction import Transaction


class Line(ControlledMixin, metaclass=PoolMeta):
    __name__ = 'return.order.line'

    inspected_quantity = fields.Function(fields.Float(
            "Inspected", digits='unit',
            help="The received quantity whose inspection is processed."),
        'get_inspected_quantity')

    @classmethod
    def get_inspected_quantity(cls, lines, name):
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        cursor = Transaction().connection.cursor()
        line = cls.__table__()
        inspection = Inspection.__table__()
        second = Inspection.__table__()
        inspected = dict.fromkeys(map(int, lines), 0)
        for sub_lines in grouped_slice(lines):
            cursor.execute(*line
                .join(inspection, condition=(
                        inspection.origin
                        == Concat(cls.__name__ + ',', line.id)))
                .join(second, 'LEFT',
                    condition=second.supersedes == inspection.id)
                .select(line.id, Sum(inspection.inspected_quantity),
                    where=line.id.in_(list(map(int, sub_lines)))
                    & inspection.state.in_(['passed', 'failed'])
                    & (second.id == Null),
                    group_by=line.id))
            inspected.update(cursor)
        for line in lines:
            inspected[line.id] = line.unit.round(inspected[line.id])
        return inspected

    @classmethod
    def _get_decided(cls, lines):
        # What an inspector has noted counts once the inspection is processed
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Inspection = pool.get('quality.inspection')
        decided = super()._get_decided(lines)
        cursor = Transaction().connection.cursor()
        disposition = Disposition.__table__()
        inspection = Inspection.__table__()
        for sub_lines in grouped_slice(lines):
            cursor.execute(*disposition
                .join(inspection,
                    condition=disposition.inspection == inspection.id)
                .select(
                    disposition.line, disposition.accepted,
                    Sum(disposition.quantity),
                    where=disposition.line.in_(list(map(int, sub_lines)))
                    & (disposition.state == 'draft')
                    & (inspection.state == 'pending'),
                    group_by=[disposition.line, disposition.accepted]))
            for line_id, accepted, quantity in cursor:
                decided[line_id, bool(accepted)] -= quantity
        return decided

    def _get_valid_inspections(self):
        "Return the inspections that no second opinion supersedes"
        return [i for i in self.quality_inspections if not i.superseded_by]

    @property
    def uninspected_quantity(self):
        """The received quantity that still needs an inspection of its own

        Goods that are decided about without inspection need none.
        """
        inspected = free = without = 0
        for inspection in self._get_valid_inspections():
            inspected += inspection.inspected_quantity
            if inspection.state != 'pending':
                free += inspection.inspected_quantity - sum(
                    d.quantity for d in inspection.dispositions
                    if d.state != 'cancelled')
        for disposition in self.dispositions:
            if not disposition.inspection and (
                    disposition.state in {'decided', 'waiting', 'done'}
                    or (disposition.state == 'draft'
                        and disposition.is_refusal())):
                without += disposition.line_quantity
        return self.unit.round(
            self.received_quantity - inspected - max(0, without - free))

    def _get_inspecting_quantity(self):
        return super()._get_inspecting_quantity() + sum(
            i.inspected_quantity for i in self.quality_inspections_pending())

    def _get_draft_dispositions(self):
        return [
            d for d in super()._get_draft_dispositions()
            if not d.inspection or d.inspection.state != 'pending']

    def quality_control_pattern(self, operation):
        pattern = super().quality_control_pattern(operation)
        pattern['company'] = self.order.company.id
        pattern['products'] = {self.product.id}
        return pattern

    @classmethod
    def create_inspections(cls, lines):
        "Create the inspections of what was received and needs one"
        pool = Pool()
        Control = pool.get('quality.control')
        Inspection = pool.get('quality.inspection')
        lines = [
            l for l in lines
            if l._needs_inspection() and l.uninspected_quantity > 0]
        inspections = [
            line._get_inspection(control)
            for line, control in Control.match_return_lines(lines).items()]
        Inspection.save(inspections)
        Inspection.set_moves(Inspection.browse(inspections))

    def _get_inspection(self, control):
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        inspection = Inspection.get_from_control(control, self)
        inspection.company = self.order.company
        inspection.inspected_quantity = self.uninspected_quantity
        # Empty points are not stored and would not be shown
        inspection.points = {
            p.name: False for p in control.points if p.type_ == 'boolean'}
        return inspection

    @classmethod
    def drop_inspections(cls, lines):
        "Drop the pending inspections of what needs none any more"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Inspection = pool.get('quality.inspection')
        to_save, to_delete = [], []
        for line in lines:
            excess = -line.uninspected_quantity
            for inspection in reversed(line.quality_inspections_pending()):
                if excess <= 0:
                    break
                rest = line.unit.round(
                    inspection.inspected_quantity - excess)
                excess -= inspection.inspected_quantity
                if rest > 0:
                    inspection.inspected_quantity = rest
                    to_save.append(inspection)
                else:
                    to_delete.append(inspection)
        Disposition.delete([
                d for i in to_delete for d in i.dispositions
                if d.state == 'draft'])
        Inspection.delete(to_delete)
        Inspection.save(to_save)

    @classmethod
    def refuse(cls, quantities):
        super().refuse(quantities)
        cls.drop_inspections(cls.browse(list(quantities)))

    def get_disposition_accepted(self, passed):
        """Return in whose favour goods are decided by default

        passed tells whether they meet the standard: a quality claim is
        supported by goods that do not, any other return by goods that do.
        """
        return passed != (self.reason.category == 'quality')
