# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.transaction import without_check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import SeparationError


class Inspection(metaclass=PoolMeta):
    __name__ = 'quality.inspection'

    _states_allowed = {
        'invisible': ~Eval('allowed_by'),
        }

    allowed_by = fields.Many2One(
        'company.employee', "Receiver Allowed by", readonly=True,
        states=_states_allowed,
        help="Who allowed that the goods are inspected by who received them.")
    allowed_at = fields.DateTime(
        "Receiver Allowed at", readonly=True, states=_states_allowed)
    allowed_reason = fields.Text(
        "Reason", readonly=True, states=_states_allowed,
        help="Why who received the goods may inspect them.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'allowed_by', 'allowed_at', 'allowed_reason'}
        cls._buttons.update({
                'allow_receiver': {
                    'invisible': (
                        (Eval('state') != 'pending')
                        | ~Eval('return_line')
                        | Bool(Eval('allowed_by'))),
                    'depends': ['state', 'return_line', 'allowed_by'],
                    },
                })

    @classmethod
    def copy(cls, inspections, default=None):
        default = default.copy() if default is not None else {}
        for name in ['allowed_by', 'allowed_at', 'allowed_reason']:
            default.setdefault(name)
        return super().copy(inspections, default=default)

    @classmethod
    def _check_verdict(cls, inspections, state):
        super()._check_verdict(inspections, state)
        cls._check_separation(inspections)

    def _get_receivers(self):
        "Return the employees who received the goods"
        # The goods of a kit came in by its components
        moves = self.moves or [
            m for m in self.origin.moves if m.state == 'done']
        receivers = {getattr(m.shipment, 'received_by', None) for m in moves}
        return receivers - {None}

    @classmethod
    def _check_separation(cls, inspections):
        "Check that nobody inspects what they have received"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        config = Configuration(1)
        separate = {
            c: config.get_multivalue('separate_inspector', company=c.id)
            for c in {i.company for i in inspections}}
        for inspection in inspections:
            company = inspection.company
            if (separate[company]
                    and not inspection.allowed_by
                    and Order._get_employee(company)
                    in inspection._get_receivers()):
                raise SeparationError(gettext(
                        'return_quality.msg_inspection_receiver',
                        inspection=inspection.rec_name))

    @classmethod
    @ModelView.button_action(
        'return_quality.wizard_inspection_allow_receiver')
    def allow_receiver(cls, inspections):
        pass

    @classmethod
    def _allow_receiver(cls, inspections, reason):
        "Allow with a reason that the receivers inspect"
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        Order = pool.get('return.order')
        User = pool.get('res.user')
        inspections = cls._get_returns(inspections)
        admin = ModelData.get_id('return_management', 'group_return_admin')
        to_write = []
        for inspection in inspections:
            employee = Order._get_employee(inspection.company)
            if (inspection.state != 'pending'
                    or admin not in User.get_groups()
                    or employee in inspection._get_receivers()):
                raise SeparationError(gettext(
                        'return_quality.msg_inspection_allow',
                        inspection=inspection.rec_name))
            to_write.extend(([inspection], {
                        'allowed_by': employee.id,
                        'allowed_at': dt.datetime.now().replace(
                            microsecond=0),
                        'allowed_reason': reason,
                        }))
        if to_write:
            with without_check_access():
                cls.write(*to_write)


class AllowReceiverStart(ModelView):
    "Allow Receiver to Inspect"
    __name__ = 'quality.inspection.allow_receiver.start'

    reason = fields.Text(
        "Reason", required=True,
        help="Why who received the goods may inspect them.")


class AllowReceiver(Wizard):
    "Allow Receiver to Inspect"
    __name__ = 'quality.inspection.allow_receiver'

    start = StateView(
        'quality.inspection.allow_receiver.start',
        'return_quality.inspection_allow_receiver_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Allow", 'allow', 'tryton-ok', default=True),
            ])
    allow = StateTransition()

    def transition_allow(self):
        self.model._allow_receiver(self.records, self.start.reason)
        return 'end'
