# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import CompanyValueMixin
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction, without_check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import ApproveError, SeparationError
from .line import PreparedMixin

limit = fields.Numeric(
    "Second Approval above", digits=(16, 2),
    domain=['OR',
        ('refund_approval_limit', '=', None),
        ('refund_approval_limit', '>=', 0),
        ],
    help="The amount, in the company's currency and tax included, up to "
    "which one person of finance approves the refunds of a return.\n"
    "Above it a second person must approve too; leave empty for no limit.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    refund_approval_limit = fields.MultiValue(limit)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'refund_approval_limit':
            return pool.get('return.configuration.refund')
        return super().multivalue_model(field)


class ConfigurationRefund(CompanyValueMixin, ModelSQL):
    "Return Configuration Refund"
    __name__ = 'return.configuration.refund'

    refund_approval_limit = limit


class Signature(PreparedMixin, ModelSQL, ModelView):
    "Return Refund Signature"
    __name__ = 'return.refund.signature'

    refund = fields.Many2One(
        'return.refund', "Refund", required=True, readonly=True,
        ondelete='CASCADE')
    kind = fields.Selection([
            ('approval', "Approved"),
            ('handler', "Handler Allowed"),
            ], "Kind", required=True, readonly=True, sort=False,
        help="Handler Allowed: who handled the goods may approve.")
    employee = fields.Many2One(
        'company.employee', "Employee", required=True, readonly=True,
        ondelete='RESTRICT')
    signed_at = fields.DateTime("Signed at", required=True, readonly=True)
    amount = Monetary(
        "Amount", currency='currency', digits='currency', required=True,
        readonly=True,
        help="The amount of the refund when it was signed, tax included.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    method = fields.Many2One(
        'return.refund.method', "Method", readonly=True, ondelete='RESTRICT',
        help="The method of the refund when it was signed.")
    reason = fields.Text(
        "Reason", readonly=True,
        states={
            'invisible': ~Eval('reason'),
            })
    voided_at = fields.DateTime(
        "Voided at", readonly=True,
        help="When the signature lost its effect; empty while it stands.")
    voided_by = fields.Many2One(
        'res.user', "Voided by", readonly=True, ondelete='RESTRICT')
    change = fields.Text(
        "Change", readonly=True,
        help="What was changed of the refund after it was signed, "
        "the old and the new value.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('refund')
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.refund, Index.Range())),
                Index(t, (t.kind, Index.Equality())),
                })
        cls._order = [('signed_at', 'DESC'), ('id', 'DESC')]

    @fields.depends('refund', '_parent_refund.currency')
    def on_change_with_currency(self, name=None):
        return self.refund.currency if self.refund else None

    def get_rec_name(self, name):
        return ' @ '.join([self.employee.rec_name, self.refund.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, _ = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('employee.rec_name', *clause[1:]),
            ('refund.rec_name', *clause[1:]),
            ]

    @classmethod
    def _check_prepared(cls):
        if Transaction().check_access:
            raise AccessError(gettext('return_refund.msg_signature_modify'))


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    signatures = fields.One2Many(
        'return.refund.signature', 'refund', "Signatures", readonly=True)
    first_approved_by = fields.Function(fields.Many2One(
            'company.employee', "First Approved by",
            help="Who approved first, where two persons must; "
            "empty when a change voided it."),
        'get_signed')
    handler_allowed = fields.Function(fields.Boolean(
            "Handler Allowed",
            help="Checked when who handled the goods may approve."),
        'get_signed')

    # What is signed for
    _signed_fields = {'party', 'amount', 'lines', 'method', 'method_reason'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'signatures'}
        cls._buttons.update({
                'allow_handler': {
                    'invisible': (
                        ~Eval('state').in_(['draft', 'failed'])
                        | Eval('handler_allowed', False)),
                    'depends': ['state', 'handler_allowed'],
                    },
                })

    @classmethod
    def get_signed(cls, refunds, names):
        signed = {n: {} for n in names}
        for refund in refunds:
            approvals = refund._get_signatures('approval')
            values = {
                'first_approved_by': (
                    approvals[0].employee.id if approvals else None),
                'handler_allowed': bool(refund._get_signatures('handler')),
                }
            for name in names:
                signed[name][refund.id] = values[name]
        return signed

    def _get_signatures(self, *kinds):
        "Return the signatures that stand, oldest first"
        return sorted((
                s for s in self.signatures
                if s.kind in kinds and not s.voided_at), key=int)

    @classmethod
    def write(cls, *args):
        signed = {}
        actions = iter(args)
        for refunds, values in zip(actions, actions):
            if cls._signed_fields & set(values):
                for refund in refunds:
                    if refund._get_signatures('approval', 'handler'):
                        signed[refund.id] = (
                            refund._get_signed(), 'lines' in values)
        super().write(*args)
        changes = {}
        for refund in cls.browse(list(signed)):
            before, prepared = signed[refund.id]
            change = [
                gettext('return_refund.msg_signature_change',
                    field=field, old=before[field], new=value)
                for field, value in refund._get_signed().items()
                if before[field] != value]
            if prepared:
                change.append(gettext('return_refund.msg_signature_lines'))
            if change:
                changes[refund] = '\n'.join(change)
        cls._void_signatures(changes)

    def _get_signed(self):
        "Map what is signed to its value as users read it"
        pool = Pool()
        Lang = pool.get('ir.lang')
        values = {
            'party': self.party.rec_name,
            'amount': Lang.get().currency(
                self.amount or Decimal(0), self.currency),
            'method': self.method.rec_name if self.method else '-',
            'method_reason': self.method_reason or '-',
            }
        return {
            self.__names__(name)['field']: value
            for name, value in values.items()}

    @classmethod
    def _void_signatures(cls, changes):
        "Void the signatures of refunds, which are mapped to what changed"
        pool = Pool()
        Signature = pool.get('return.refund.signature')
        to_write = []
        for refund, change in changes.items():
            signatures = refund._get_signatures('approval', 'handler')
            if signatures:
                to_write.extend((signatures, {
                            'voided_at': _now(),
                            'voided_by': Transaction().user,
                            'change': change,
                            }))
        if to_write:
            with without_check_access():
                Signature.write(*to_write)
                cls.write(list(changes), {'approved_by': None})

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, refunds):
        super().cancel(refunds)
        change = gettext('return_refund.msg_signature_cancelled')
        cls._void_signatures({
                r: change for r in cls.browse(refunds)
                if r.state == 'cancelled'})

    def check_separation(self):
        if not self._get_signatures('handler'):
            super().check_separation()

    @classmethod
    def _sign(cls, refunds):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Signature = pool.get('return.refund.signature')
        config = Configuration(1)
        refunds = super()._sign(refunds)
        limits = {
            c: config.get_multivalue('refund_approval_limit', company=c.id)
            for c in {r.company for r in refunds}}
        signatures, signed = [], []
        for refund in refunds:
            missing = (
                refund._get_needed_signatures(limits[refund.company])
                - len(refund._get_signatures('approval')))
            if missing > 0:
                signatures.append(refund._get_signature('approval'))
            if missing <= 1:
                signed.append(refund)
        Signature.save(signatures)
        return cls.browse(signed)

    def _get_needed_signatures(self, limit):
        "Return how many persons must approve the refund"
        pool = Pool()
        Currency = pool.get('currency.currency')
        if limit is None:
            return 1
        # Many small refunds of a return are not small
        amount = Currency.compute(
            self.currency, sum((
                    r.amount for r in self.return_order.refunds
                    if r.state != 'cancelled'), Decimal(0)),
            self.company.currency)
        return 2 if amount > limit else 1

    def _get_signature(self, kind, reason=None):
        pool = Pool()
        Signature = pool.get('return.refund.signature')
        employee = self.return_order._get_employee(self.company)
        if kind == 'approval':
            persons = self._get_persons(employee)
            for signature in self._get_signatures('approval'):
                if signature.employee.party in persons:
                    raise ApproveError(gettext(
                            'return_refund.msg_refund_second',
                            refund=self.rec_name,
                            employee=signature.employee.rec_name))
        return Signature(
            refund=self,
            kind=kind,
            employee=employee,
            signed_at=_now(),
            amount=self.amount,
            method=self.method,
            reason=reason)

    @classmethod
    @ModelView.button_action('return_refund.wizard_refund_allow_handler')
    def allow_handler(cls, refunds):
        pass

    @classmethod
    def _allow_handler(cls, refunds, reason):
        "Allow with a reason that who handled the goods approves"
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        Signature = pool.get('return.refund.signature')
        User = pool.get('res.user')
        # The client tells which action opens a wizard
        admin = ModelData.get_id('return_management', 'group_return_admin')
        cls.lock(refunds)
        signatures = []
        for refund in cls.browse(refunds):
            employee = refund.return_order._get_employee(refund.company)
            if (refund.state not in {'draft', 'failed'}
                    or admin not in User.get_groups()
                    or refund._get_handled_document(employee)):
                raise SeparationError(gettext(
                        'return_refund.msg_refund_allow',
                        refund=refund.rec_name))
            if not refund._get_signatures('handler'):
                signatures.append(refund._get_signature('handler', reason))
        Signature.save(signatures)


class Method(metaclass=PoolMeta):
    __name__ = 'return.refund.method'

    # Where the money comes from and how it goes
    _signed_fields = {'kind', 'payment_journal', 'payment_method'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        signed = {
            m.id: m._get_signed() for methods, values in zip(actions, actions)
            if cls._signed_fields & set(values) for m in methods}
        super().write(*args)
        if not signed:
            return
        with without_check_access():
            cls._void_signatures({
                    m: gettext(
                        'return_refund.msg_signature_change',
                        field=cls.__names__()['model'],
                        old=signed[m.id], new=m._get_signed())
                    for m in cls.browse(list(signed))
                    if m._get_signed() != signed[m.id]})

    def _get_signed(self):
        return ', '.join([
                self.rec_name, self.kind_string,
                *(w.rec_name for w in [
                        self.payment_journal, self.payment_method] if w)])

    @classmethod
    def _void_signatures(cls, changes):
        "Void what was signed with the methods, mapped to what changed"
        pool = Pool()
        Refund = pool.get('return.refund')
        voided = {}
        for refund in Refund.search([
                    ('state', 'in', ['draft', 'failed']),
                    ('signatures', 'where', [('voided_at', '=', None)]),
                    ]):
            # Money may go back by several methods
            for method in [
                    refund.method,
                    *(m for m, _ in refund._get_shares(refund._get_money()))]:
                if method in changes:
                    voided[refund] = changes[method]
        Refund._void_signatures(voided)


class AllowHandlerStart(ModelView):
    "Allow Handler to Approve"
    __name__ = 'return.refund.allow_handler.start'

    reason = fields.Text(
        "Reason", required=True,
        help="Why who handled the goods may approve their refund.")


class AllowHandler(Wizard):
    "Allow Handler to Approve"
    __name__ = 'return.refund.allow_handler'

    start = StateView(
        'return.refund.allow_handler.start',
        'return_refund.refund_allow_handler_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Allow", 'allow', 'tryton-ok', default=True),
            ])
    allow = StateTransition()

    def transition_allow(self):
        self.model._allow_handler(self.records, self.start.reason)
        return 'end'


def _now():
    return dt.datetime.now().replace(microsecond=0)
