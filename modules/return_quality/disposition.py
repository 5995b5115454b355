# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import fields
from trytond.model.exceptions import AccessError
from trytond.model.fields.selection import TranslatedSelection
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval

from .exceptions import InspectionDispositionError, InspectionRequiredError


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    inspection = fields.Many2One(
        'quality.inspection', "Inspection", ondelete='SET NULL',
        domain=[
            ('return_line', '=', Eval('line', -1)),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="The inspection that the decision follows.")
    state_string = TranslatedSelection('state')

    @fields.depends(
        'inspection', 'line', '_parent_line.id',
        '_parent_inspection.return_line',
        '_parent_inspection.inspected_quantity',
        '_parent_inspection.dispositions', '_parent_inspection.points',
        '_parent_inspection.control', '_parent_inspection.defects')
    def on_change_inspection(self):
        if (self.line
                or not self.inspection
                or not self.inspection.return_line):
            return
        self.line = line = self.inspection.return_line
        self.quantity = line.unit.round(
            (self.inspection.inspected_quantity or 0) - sum(
                getattr(d, 'quantity', None) or 0
                for d in self.inspection.dispositions or []
                if d != self and getattr(d, 'state', None) != 'cancelled'))
        if self.inspection.control:
            passed = self.inspection.is_passing()
            self.accepted = line.get_disposition_accepted(passed)
            self.action = self._get_default_action(
                line, passed, self.accepted)

    @classmethod
    def _get_default_action(cls, line, passed, accepted):
        if not accepted:
            action = 'customer'
        else:
            action = line._get_default_action()
            if passed:
                action = action or 'restock'
            elif action in {'restock', 'resale'}:
                action = None
        if action not in line.reason.all_forbidden_actions:
            return action

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        vlist = [v.copy() for v in vlist]
        inspections = {
            i.id: i for i in Inspection.browse(list({
                        int(v['inspection'])
                        for v in vlist if v.get('inspection')}))}
        for values in vlist:
            if not values.get('inspection'):
                continue
            inspection = inspections[int(values['inspection'])]
            line = inspection.return_line
            if line:
                if not values.get('line'):
                    values['line'] = line.id
                if values.get('accepted') is None:
                    values['accepted'] = line.get_disposition_accepted(
                        inspection.is_passing())
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for dispositions, values in zip(actions, actions):
            if 'inspection' in values:
                for disposition in dispositions:
                    if disposition.state not in {'draft', 'cancelled'}:
                        raise AccessError(gettext(
                                'return_management.msg_disposition_modify',
                                disposition=disposition.rec_name))
        super().write(*args)

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('inspection')
        return super().copy(dispositions, default=default)

    @classmethod
    def _get_split_default(cls):
        return {
            **super()._get_split_default(),
            'inspection': lambda data: data['inspection'],
            }

    def _is_favour_decided(self):
        # What the inspector has decided lacks the application only
        return super()._is_favour_decided() or bool(
            self.state == 'draft'
            and self.inspection
            and self.inspection.state != 'pending'
            and self._needs_application())

    def _get_new_decision(self, quantity):
        disposition = super()._get_new_decision(quantity)
        disposition.inspection = self.inspection
        return disposition

    def is_refusal(self):
        """Test if it sends back what a review has refused

        Such goods need no inspection.
        """
        if self.accepted or self.action != 'customer' or self.inspection:
            return False
        line = self.line
        if line.order.state == 'rejected':
            return True
        if line.approved_quantity is None:
            return False
        refused = sum(
            d.line_quantity for d in line.dispositions
            if d.action == 'customer' and not d.accepted
            and not d.inspection and d.state != 'cancelled')
        return line.unit.round(
            line.quantity - line.closed_quantity - line.approved_quantity
            - refused) >= 0

    def _check_decide(self):
        super()._check_decide()
        if not self.is_refusal():
            # Only what is received as the line says is inspected
            if self.line_quantity:
                self._check_inspection()
            self._check_resale()

    def _check_inspection(self):
        pool = Pool()
        Control = pool.get('quality.control')
        inspection = self.inspection
        if inspection and inspection.state != 'pending':
            quantity = sum(
                d.quantity for d in inspection.dispositions
                if d.state != 'cancelled')
            if self.unit.round(quantity - inspection.inspected_quantity) > 0:
                raise InspectionDispositionError(gettext(
                        'return_quality.msg_disposition_inspected_quantity',
                        disposition=self.rec_name,
                        inspection=inspection.rec_name))
        elif inspection or (
                self.line._needs_inspection()
                and Control.match_return_lines([self.line])):
            raise InspectionRequiredError(gettext(
                    'return_quality.msg_disposition_inspection_required',
                    disposition=self.rec_name))

    def _check_resale(self):
        "Check that only what was found sound is sold again"
        inspection = self.inspection
        if not self._needs_sound():
            return
        elif inspection:
            sound = inspection.sound_quantity - sum(
                d.quantity for d in inspection.dispositions
                if d != self and d.state != 'cancelled' and d._needs_sound())
        elif self.action == 'resale':
            sound = 0
        elif self.line.quality_inspections and self.line_quantity:
            # What is inspected is decided about by its inspection
            sound = self.line.uninspected_quantity
        else:
            return
        if self.unit.round(self.quantity - sound) > 0:
            raise InspectionRequiredError(gettext(
                    'return_quality.msg_disposition_' + self.action,
                    disposition=self.rec_name))

    def _needs_sound(self):
        "Test if only goods that were found sound may go there"
        return self.action == 'restock' or (
            self.action == 'resale'
            and self.line.reason.category == 'quality')
