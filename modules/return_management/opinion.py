# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from sql import Literal

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError, RequiredValidationError
from trytond.modules.company.model import employee_field
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import SignatureError, UnmatchedError
from .model import ImmutableMixin
from .order import CHANNELS

STAGES = [
    ('intake', "Intake"),
    ('initial', "Initial Review"),
    ('final', "Final Review"),
    ]
REFUSALS = [
    (None, ""),
    ('ineligible', "Not Eligible"),
    ('not_covered', "Reason not Covered"),
    ('misunderstanding', "Misunderstanding"),
    ('unreasonable', "Unreasonable Demand"),
    ('condition', "Condition of the Goods"),
    ('fraud', "Fraud"),
    ('other', "Other"),
    ]


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    _states_sign = {
        'readonly': ~Eval('state').in_(['submitted', 'reviewed']),
        'invisible': Eval('state') == 'draft',
        }
    _states_told = {
        'invisible': ~Eval('to_tell') & ~Eval('told_at'),
        }

    signing_role = fields.Selection(
        'get_roles', "Sign as", states=_states_sign,
        help="The role to sign for when you have several.")
    opinion_text = fields.Text(
        "Opinion", states=_states_sign,
        help="The text of the next opinion; kept with the signature.")
    opinion_author = fields.Many2One(
        'res.user', "Opinion Written by", readonly=True,
        states={
            'invisible': ~Eval('opinion_author'),
            },
        help="Who wrote the text of the next opinion: nobody else signs it.")
    opinions = fields.One2Many(
        'return.order.opinion', 'order', "Opinions", readonly=True)

    to_tell = fields.Boolean(
        "To Tell", readonly=True,
        help="Checked when the customer must be told what was refused, "
        "the whole return or a part of it.")
    told_channel = fields.Selection(
        [(None, "")] + CHANNELS, "Told through", sort=False,
        states={
            'invisible': _states_told['invisible'],
            'readonly': Bool(Eval('told_at')),
            },
        help="How the customer was told the refusal.")
    told_at = fields.DateTime(
        "Told at", readonly=True, states=_states_told,
        help="When the customer was told the refusal.")
    told_by = employee_field("Told by")

    @classmethod
    def __setup__(cls):
        cls.told_by.readonly = True
        cls.told_by.states['invisible'] = cls._states_told['invisible']
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.to_tell, Index.Equality()),
                where=t.to_tell == Literal(True)))
        cls._guarded_fields = cls._guarded_fields | {
            'opinions', 'to_tell', 'told_at', 'told_by'}
        cls._transitions |= {
            ('submitted', 'reviewed'),
            ('submitted', 'approved'),
            ('submitted', 'rejected'),
            ('reviewed', 'approved'),
            ('reviewed', 'rejected'),
            }
        cls._buttons.update({
                'review': {
                    'invisible': Eval('state') != 'submitted',
                    'depends': ['state'],
                    },
                'approve': {
                    'invisible': Eval('state') != 'reviewed',
                    'depends': ['state'],
                    },
                'reject': {
                    'invisible': ~Eval('state').in_(
                        ['submitted', 'reviewed']),
                    'depends': ['state'],
                    },
                'tell': {
                    'invisible': ~Eval('to_tell'),
                    'readonly': ~Eval('told_channel'),
                    'depends': ['to_tell', 'told_channel'],
                    },
                })

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('//label[@id="refusal_untold"]', 'states', {
                    'invisible': ~Eval('to_tell'),
                    }),
            ]

    @classmethod
    def default_to_tell(cls):
        return False

    @classmethod
    def get_roles(cls):
        pool = Pool()
        Opinion = pool.get('return.order.opinion')
        roles = Opinion.fields_get(['role'])['role']['selection']
        return [(None, "")] + [
            (role, name) for role, name in roles if role != 'policy']

    @classmethod
    def _role_groups(cls):
        "Return the XML id of the group for each role that persons sign for"
        return {
            'service': 'return_management.group_return_service',
            'sales': 'return_management.group_return_sales',
            'quality': 'return_management.group_return_quality',
            'finance': 'return_management.group_return_finance',
            }

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('to_tell', False)
        for name in [
                'told_channel', 'told_at', 'told_by', 'signing_role',
                'opinion_text', 'opinion_author', 'opinions']:
            default.setdefault(name)
        return super().copy(orders, default=default)

    @classmethod
    def create(cls, vlist):
        for values in vlist:
            if values.get('opinion_author') and Transaction().check_access:
                cls._check_guarded({'opinion_author'})
        return super().create([cls._set_author(v) for v in vlist])

    @classmethod
    def _set_author(cls, values):
        "Add who writes the text of the next opinion to the values"
        if 'opinion_text' in values:
            values = values.copy()
            values['opinion_author'] = (
                Transaction().user if values['opinion_text'] else None)
        return values

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for values in args[1::2]:
                cls._check_guarded({'opinion_author'} & set(values))
        args = [
            cls._set_author(a) if i % 2 else a for i, a in enumerate(args)]
        actions = iter(args)
        for orders, values in zip(actions, actions):
            if 'told_channel' in values and Transaction().check_access:
                for order in orders:
                    if order.told_at:
                        raise AccessError(gettext(
                                'return_management.msg_order_told',
                                order=order.rec_name))
        super().write(*args)

    @classmethod
    def _approve_automatically(cls, orders):
        pool = Pool()
        Opinion = pool.get('return.order.opinion')
        orders = [o for o in orders if o._is_automatic()]
        Opinion.save([
                o._get_opinion('final', 'policy', 'agree') for o in orders])
        cls._approve(orders)

    def _is_automatic(self):
        "Test if the policy approves the return without a person"
        pool = Pool()
        Currency = pool.get('currency.currency')
        amount = 0
        limits = []
        for line in self.lines:
            limit = line._get_automatic_amount()
            if (not line.sale_line or not line.eligible
                    or line.reason.inspect or limit is None):
                return False
            amount += line.amount
            limits.append(limit)
        with Transaction().set_context(date=self.requested_on):
            amount = Currency.compute(
                self.currency, amount, self.company.currency)
        return amount <= min(limits)

    def _get_opinion(self, stage, role, decision, text=None, employee=None):
        pool = Pool()
        Opinion = pool.get('return.order.opinion')
        return Opinion(
            order=self, stage=stage, role=role, round=self.round,
            decision=decision, text=text, employee=employee,
            signed_at=dt.datetime.now().replace(microsecond=0))

    def _required_roles(self, stage):
        "Return the set of roles that must agree at the stage"
        pool = Pool()
        PolicyLine = pool.get('return.policy.line')
        if stage == 'initial':
            return {'sales'}
        roles = set()
        # What was refused before needs no signature
        for line in [l for l in self.lines if l.open_quantity] or self.lines:
            if line.policy_line:
                roles.update(line.policy_line.roles)
            else:
                roles.update(PolicyLine.default_roles())
            if not line.sale_line:
                roles.add('finance')
        return roles

    def _get_signed_roles(self, stage):
        "Return the set of roles that have agreed at the stage"
        return {
            o.role for o in self.opinions
            if o.round == self.round and o.stage == stage
            and o.decision == 'agree'}

    def _missing_roles(self, stage):
        return self._required_roles(stage) - self._get_signed_roles(stage)

    @classmethod
    def _get_user_roles(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        User = pool.get('res.user')
        groups = set(User.get_groups())
        return {
            role for role, xml_id in cls._role_groups().items()
            if ModelData.get_id(xml_id) in groups}

    @classmethod
    def _get_role_names(cls, roles):
        names = dict(cls.get_roles())
        return ', '.join(sorted(names[r] for r in roles)) or '-'

    def _get_signing_role(self, roles, employee):
        """Return the one role of roles that the employee signs for

        roles is the set that may still sign.
        """
        chosen = (
            Transaction().context.get('return_role') or self.signing_role)
        possible = roles & self._get_user_roles()
        if chosen:
            possible &= {chosen}
        if not possible:
            raise SignatureError(gettext(
                    'return_management.msg_signature_role',
                    order=self.rec_name,
                    roles=self._get_role_names(roles)))
        if len(possible) > 1:
            raise SignatureError(gettext(
                    'return_management.msg_signature_several_roles',
                    order=self.rec_name,
                    roles=self._get_role_names(possible)))
        role, = possible
        for opinion in self.opinions:
            # A person may be employed more than once
            if (opinion.employee
                    and opinion.employee.party == employee.party
                    and opinion.role != role):
                raise SignatureError(gettext(
                        'return_management.msg_signature_other_role',
                        order=self.rec_name,
                        employee=employee.rec_name,
                        role=opinion.role_string))
        return role

    @classmethod
    def _sign(cls, orders, stage):
        "Sign the agreement of the user with the orders at the stage"
        pool = Pool()
        Opinion = pool.get('return.order.opinion')
        opinions = []
        for order in orders:
            employee = cls._get_employee(order.company)
            order._check_author()
            role = order._get_signing_role(
                order._missing_roles(stage), employee)
            opinion = order._get_opinion(
                stage, role, 'agree', order.opinion_text, employee)
            opinion.lines = opinion.get_differences()
            opinions.append(opinion)
        Opinion.save(opinions)
        cls._clear_opinion(orders)

    def _check_author(self):
        "Check that the user does not sign the words of somebody else"
        if (self.opinion_text and self.opinion_author
                and self.opinion_author.id != Transaction().user):
            raise SignatureError(gettext(
                    'return_management.msg_signature_author',
                    order=self.rec_name,
                    user=self.opinion_author.rec_name))

    @classmethod
    def _clear_opinion(cls, orders):
        cls.write(orders, {
                'signing_role': None,
                'opinion_text': None,
                })

    def _check_prices(self):
        for line in self.lines:
            if line.unit_price is None and line.open_quantity:
                raise UnmatchedError(gettext(
                        'return_management.msg_line_price_required',
                        line=line.rec_name,
                        order=self.rec_name))

    def _check_approved(self):
        "Check that something is agreed to"
        if not any(
                l.open_quantity if l.approved_quantity is None
                else l.approved_quantity for l in self.lines):
            raise SignatureError(gettext(
                    'return_management.msg_order_approve_nothing',
                    order=self.rec_name))

    @classmethod
    @ModelView.button
    def review(cls, orders):
        orders = cls._signable(orders, 'submitted')
        for order in orders:
            if any(l.reason.inspect for l in order.lines):
                order._check_prices()
        cls._sign(orders, 'initial')
        cls._review([o for o in orders if not o._missing_roles('initial')])

    @classmethod
    @Workflow.transition('reviewed')
    def _review(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        Line.check_goods([
                l for o in orders for l in o.lines if l.reason.inspect])
        cls._queue_process(orders)

    @classmethod
    @ModelView.button
    def approve(cls, orders):
        orders = cls._signable(orders, 'reviewed')
        for order in orders:
            order._check_prices()
            order._check_approved()
        cls._sign(orders, 'final')
        cls._approve([o for o in orders if not o._missing_roles('final')])

    @classmethod
    def _signable(cls, orders, state):
        cls.lock(orders)
        return [o for o in cls.browse(orders) if o.state == state]

    @classmethod
    @Workflow.transition('approved')
    def _approve(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = [l for o in orders for l in o.lines]
        refused = Line.apply_approved(lines)
        cls._set_to_tell([
                o for o in orders if any(
                    l in refused or l.rejected_quantity for l in o.lines)])
        Line.check_goods(Line.browse(lines))
        cls._queue_process(orders)

    @classmethod
    @ModelView.button_action('return_management.wizard_order_reject')
    def reject(cls, orders):
        pass

    @classmethod
    def refuse(cls, orders, stage, reason, text, quantities=None):
        """Sign the refusal of orders at the stage, in the name of the user

        quantities maps return order lines to the quantity refused, in the
        unit of the line; None refuses the orders whole.  An order of which
        something is left goes on with it.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        Opinion = pool.get('return.order.opinion')
        state = {
            'intake': 'submitted',
            'initial': 'submitted',
            'final': 'reviewed',
            }[stage]
        signable = cls._signable(orders, state)
        for order in orders:
            if order not in signable:
                raise SignatureError(gettext(
                        'return_management.msg_order_refuse_state',
                        order=order.rec_name))
        orders = signable
        if quantities is None:
            quantities = {
                l: l.open_quantity for o in orders for l in o.lines}
        quantities = {
            l: q for l, q in quantities.items() if q and l.order in orders}
        Line.check_refused(quantities)
        for order in orders:
            if (any(l.open_quantity for l in order.lines)
                    and not any(l.order == order for l in quantities)):
                raise RequiredValidationError(gettext(
                        'return_management.msg_order_refuse_nothing',
                        order=order.rec_name))
        opinions = []
        for order in orders:
            employee = cls._get_employee(order.company)
            roles = (
                {'service', 'sales'} if stage == 'intake'
                else order._required_roles(stage))
            role = order._get_signing_role(roles, employee)
            opinion = order._get_opinion(
                stage, role, 'refuse', text, employee)
            opinion.reason = reason
            opinion.lines = opinion.get_refusals(quantities)
            opinions.append(opinion)
        Opinion.save(opinions)
        Line.refuse(quantities)
        cls._clear_opinion(orders)
        cls._set_to_tell(orders)
        orders = cls.browse(orders)
        cls._reject([
                o for o in orders if not any(l.open_quantity for l in o.lines)
                ])
        cls._queue_process(orders)

    @classmethod
    @Workflow.transition('rejected')
    def _reject(cls, orders):
        cls._cancel_shipments(orders)

    @classmethod
    def _set_to_tell(cls, orders):
        "Ask sales to tell the customers what was refused"
        cls.write(orders, {
                'to_tell': True,
                'told_channel': None,
                'told_at': None,
                'told_by': None,
                })

    @classmethod
    def _reset_values(cls):
        return {**super()._reset_values(), 'to_tell': False}

    @classmethod
    @ModelView.button
    def tell(cls, orders):
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for order in orders:
            if not order.to_tell:
                continue
            if not order.told_channel:
                raise RequiredValidationError(gettext(
                        'return_management.msg_order_told_channel',
                        order=order.rec_name))
            to_write.extend(([order], {
                        'to_tell': False,
                        'told_at': now,
                        'told_by': cls._get_employee(order.company).id,
                        }))
        if to_write:
            cls.write(*to_write)


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @classmethod
    @ModelView.button
    @Workflow.transition('decided')
    def decide(cls, dispositions):
        pool = Pool()
        Order = pool.get('return.order')
        super().decide(dispositions)
        # Before the final review it is only proposed
        Order._set_to_tell(list(dict.fromkeys(
                    d.order for d in dispositions
                    if not d.accepted and d.action == 'customer'
                    and d.order.state != 'reviewed')))

    def get_refusal(self):
        "Return in words what is refused, None when it is not"
        pool = Pool()
        Lang = pool.get('ir.lang')
        if self.accepted or self.state in {'draft', 'cancelled'}:
            return
        return gettext(
            'return_management.msg_disposition_refusal',
            product=self.product.rec_name,
            quantity=Lang.get().format_number_symbol(
                self.quantity, self.unit, digits=self.unit.digits))


class Opinion(ImmutableMixin, ModelSQL, ModelView):
    "Return Order Opinion"
    __name__ = 'return.order.opinion'

    _states_refusal = {
        'required': Eval('decision') == 'refuse',
        }

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='RESTRICT')
    stage = fields.Selection(
        STAGES, "Stage", required=True, readonly=True, sort=False)
    stage_string = stage.translated('stage')
    role = fields.Selection([
            ('service', "Service"),
            ('sales', "Sales"),
            ('quality', "Quality"),
            ('finance', "Finance"),
            ('policy', "Policy"),
            ], "Role", required=True, readonly=True, sort=False,
        help="For which role it is signed; "
        "the policy signs automatic approvals.")
    role_string = role.translated('role')
    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="The submission of the return that the opinion is about.")
    decision = fields.Selection([
            ('agree', "Agree"),
            ('refuse', "Refuse"),
            ], "Decision", required=True, readonly=True,
        help="Whether the role agrees to the whole but for the differences, "
        "or refuses what the differences name.")
    decision_string = decision.translated('decision')
    reason = fields.Selection(
        REFUSALS, "Reason", readonly=True, sort=False,
        states=_states_refusal,
        help="Why it is refused.")
    reason_string = reason.translated('reason')
    text = fields.Text(
        "Text", readonly=True, states=_states_refusal,
        help="The words of who signed.")
    lines = fields.One2Many(
        'return.order.opinion.line', 'opinion', "Differences", readonly=True,
        help="The lines on which the opinion differs from the whole.")
    employee = fields.Many2One(
        'company.employee', "Signed by", readonly=True, ondelete='RESTRICT',
        states={
            'required': Eval('role') != 'policy',
            })
    signed_at = fields.DateTime("Signed at", required=True, readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('order')
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.order, Index.Range()), (t.round, Index.Range())))
        cls._order = [('signed_at', 'ASC'), ('id', 'ASC')]

    def get_rec_name(self, name):
        return ' @ '.join([self.role_string, self.order.rec_name])

    def get_refusal(self):
        """Return in words what the opinion refuses

        None when it agrees to all.
        """
        if self.decision != 'refuse' and not self.lines:
            return
        texts = [self.text or self.reason_string or self.decision_string]
        if self.order.state != 'rejected':
            texts.extend(l.rec_name for l in self.lines)
        return '\n'.join(texts)

    def get_differences(self):
        "Return the lines of which less than all is agreed to"
        pool = Pool()
        OpinionLine = pool.get('return.order.opinion.line')
        return [
            OpinionLine(
                line=line, quantity=line.quantity,
                agreed_quantity=line.approved_quantity)
            for line in self.order.lines
            if line.approved_quantity is not None
            and line.approved_quantity != line.quantity]

    def get_refusals(self, quantities):
        """Return the lines that are refused

        quantities maps return order lines to the quantity refused.
        """
        pool = Pool()
        OpinionLine = pool.get('return.order.opinion.line')
        return [
            OpinionLine(
                line=line, quantity=line.quantity,
                agreed_quantity=line.unit.round(
                    line.open_quantity - quantity))
            for line, quantity in quantities.items()
            if line.order == self.order]


class OpinionLine(ImmutableMixin, ModelSQL, ModelView):
    "Return Order Opinion Line"
    __name__ = 'return.order.opinion.line'

    opinion = fields.Many2One(
        'return.order.opinion', "Opinion", required=True, readonly=True,
        ondelete='RESTRICT')
    line = fields.Many2One(
        'return.order.line', "Line", required=True, readonly=True,
        ondelete='RESTRICT')
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    quantity = fields.Float(
        "Announced", digits='unit', required=True, readonly=True,
        help="The quantity that the customer announced.")
    agreed_quantity = fields.Float(
        "Agreed", digits='unit', required=True, readonly=True,
        help="The quantity that is agreed to; the rest is refused.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('opinion')

    @fields.depends('line')
    def on_change_with_unit(self, name=None):
        return self.line.unit if self.line else None

    def get_rec_name(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        return gettext(
            'return_management.msg_opinion_line_rec_name',
            product=self.line.product.rec_name,
            agreed=lang.format_number(
                self.agreed_quantity, digits=self.unit.digits),
            quantity=lang.format_number_symbol(
                self.quantity, self.unit, digits=self.unit.digits))


class Reject(Wizard):
    "Reject Return"
    __name__ = 'return.order.reject'

    start = StateView(
        'return.order.reject.start',
        'return_management.order_reject_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Refuse", 'reject', 'tryton-close', default=True),
            ])
    reject = StateTransition()

    def default_start(self, fields):
        if self.record.state == 'reviewed':
            stage = 'final'
        elif 'sales' in self.model._get_user_roles():
            stage = 'initial'
        else:
            stage = 'intake'
        return {
            'order_state': self.record.state,
            'stage': stage,
            'lines': [{
                    'line': l.id,
                    'unit': l.unit.id,
                    'open_quantity': l.open_quantity,
                    'quantity': l.open_quantity,
                    } for l in self.record.lines if l.open_quantity],
            }

    def transition_reject(self):
        quantities = {
            l.line: l.quantity for l in self.start.lines
            if l.line in self.record.lines}
        self.model.refuse(
            [self.record], self.start.stage, self.start.reason,
            self.start.text, quantities)
        return 'end'


class RejectStart(ModelView):
    "Reject Return"
    __name__ = 'return.order.reject.start'

    order_state = fields.Char("Order State", readonly=True)
    stage = fields.Selection(
        STAGES, "Stage", required=True, sort=False,
        domain=[
            If(Eval('order_state') == 'reviewed',
                ('stage', '=', 'final'),
                ('stage', '!=', 'final')),
            ],
        help="Intake: refused at the desk by customer service or sales.\n"
        "Initial and final review: refused by a role that signs there.")
    reason = fields.Selection(
        REFUSALS, "Reason", required=True, sort=False,
        help="Why it is refused, for the analysis of refusals.")
    text = fields.Text(
        "Explanation", required=True,
        help="What the customer is told, and by which rule.")
    lines = fields.One2Many(
        'return.order.reject.start.line', None, "Lines",
        help="Lower the quantity of what is not refused.")


class RejectStartLine(ModelView):
    "Reject Return"
    __name__ = 'return.order.reject.start.line'

    line = fields.Many2One('return.order.line', "Line", readonly=True)
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    open_quantity = fields.Float(
        "Open", digits='unit', readonly=True,
        help="The quantity that is not refused yet.")
    quantity = fields.Float(
        "Refused", digits='unit', required=True,
        domain=[
            ('quantity', '>=', 0),
            ('quantity', '<=', Eval('open_quantity', 0)),
            ],
        help="How much of the line is refused; 0 refuses nothing of it.")
