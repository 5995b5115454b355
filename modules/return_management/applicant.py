# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.model.exceptions import AccessError, RequiredValidationError
from trytond.modules.company.model import employee_field
from trytond.pool import PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.transaction import Transaction, without_check_access


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    contact_mechanism = fields.Many2One(
        'party.contact_mechanism', "Contact Mechanism",
        domain=[
            ('type', 'in', ['phone', 'mobile', 'email']),
            ['OR',
                ('party', '=', Eval('party', -1)),
                ('party', '=', Eval('applicant', -1)),
                ],
            ],
        states={
            'readonly': Eval('state').in_(['done', 'cancelled']),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="The phone number or the e-mail of the applicant: "
        "where notices about the return go.")
    identity_check = fields.Selection([
            (None, ""),
            ('document', "Document"),
            ('callback', "Call Back"),
            ('known', "Known Customer"),
            ('other', "Other"),
            ], "Identity Check", sort=False,
        states={
            'readonly': Bool(Eval('identity_at')),
            },
        help="How the identity of the applicant was found out.")
    identity_note = fields.Char(
        "Identity Note",
        states={
            'readonly': Bool(Eval('identity_at')),
            'invisible': ~Eval('identity_check'),
            'required': (
                (Eval('identity_check') == 'other')
                & Bool(Eval('identity_at'))),
            },
        help="Which document, which number was called back…")
    identity_by = employee_field("Identity Checked by")
    identity_at = fields.DateTime(
        "Identity Checked at", readonly=True,
        states={
            'invisible': ~Eval('identity_at'),
            },
        help="When the identity of the applicant was checked.")

    @classmethod
    def __setup__(cls):
        cls.identity_by.states.update({
                'invisible': ~Eval('identity_at'),
                })
        cls.identity_by.readonly = True
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'identity_by', 'identity_at'}
        cls._buttons.update({
                'check_identity': {
                    'invisible': (
                        Bool(Eval('identity_at'))
                        | Eval('state').in_(['done', 'cancelled'])),
                    'readonly': ~Eval('identity_check'),
                    'depends': ['identity_at', 'identity_check', 'state'],
                    },
                })

    @fields.depends('party', 'applicant', 'contact_mechanism')
    def on_change_party(self):
        super().on_change_party()
        self._set_contact_mechanism()

    @fields.depends('party', 'applicant', 'contact_mechanism')
    def on_change_applicant(self):
        applicant = self.applicant or self.party
        self.contact_address = applicant.address_get() if applicant else None
        self._set_contact_mechanism()

    @fields.depends('party', 'applicant', 'contact_mechanism')
    def _set_contact_mechanism(self):
        self.contact_mechanism = None
        for party in [self.applicant, self.party]:
            if party:
                self.contact_mechanism = (
                    party.contact_mechanism_get('email')
                    or party.contact_mechanism_get({'mobile', 'phone'}))
                if self.contact_mechanism:
                    break

    @classmethod
    def view_attributes(cls):
        unchecked = (
            Bool(Eval('applicant'))
            & (Eval('applicant', -1) != Eval('party', -1))
            & ~Eval('identity_at'))
        return super().view_attributes() + [
            ('//label[@id="identity_missing"]', 'states', {
                    'invisible': ~unchecked,
                    }),
            ('/tree/field[@name="applicant"]', 'visual',
                If(unchecked, 'warning', '')),
            ]

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'identity_check', 'identity_note', 'identity_by',
                'identity_at']:
            default.setdefault(name)
        return super().copy(orders, default=default)

    @classmethod
    def write(cls, *args):
        actions, to_write = iter(args), []
        for orders, values in zip(actions, actions):
            if ({'identity_check', 'identity_note'} & set(values)
                    and Transaction().check_access):
                for order in orders:
                    if order.identity_at:
                        raise AccessError(gettext(
                                'return_management.msg_order_identity',
                                order=order.rec_name))
            to_write.extend((orders, values))
            if 'applicant' in values:
                # Who was checked is somebody else
                changed = [
                    o for o in orders
                    if o.identity_at and getattr(o.applicant, 'id', None)
                    != getattr(values['applicant'], 'id', values['applicant'])]
                if changed:
                    cls._forget_identity(changed)
        super().write(*to_write)

    @classmethod
    def _forget_identity(cls, orders):
        with without_check_access():
            super().write(orders, {
                    'identity_check': None,
                    'identity_note': None,
                    'identity_by': None,
                    'identity_at': None,
                    })

    @classmethod
    @ModelView.button
    def check_identity(cls, orders):
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for order in orders:
            if order.identity_at or order.state in {'done', 'cancelled'}:
                continue
            if not order.identity_check:
                raise RequiredValidationError(gettext(
                        'return_management.msg_order_identity_check',
                        order=order.rec_name))
            to_write.extend(([order], {
                        'identity_at': now,
                        'identity_by': cls._get_employee(order.company).id,
                        }))
        if to_write:
            cls.write(*to_write)
