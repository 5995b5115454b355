# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool
from trytond.pyson import Eval, If
from trytond.transaction import Transaction, without_check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

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


class _Immutable:
    "What only a signature creates and nothing changes"
    __slots__ = ()

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            raise AccessError(gettext('return_management.msg_opinion_create'))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        raise AccessError(gettext('return_management.msg_opinion_modify'))

    @classmethod
    def delete(cls, records):
        raise AccessError(gettext('return_management.msg_opinion_modify'))


class Opinion(_Immutable, ModelSQL, ModelView):
    "Return Order Opinion"
    __name__ = 'return.order.opinion'

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='RESTRICT')
    stage = fields.Selection(
        STAGES, "Stage", required=True, readonly=True, sort=False)
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
            ], "Decision", required=True, readonly=True)
    reason = fields.Selection(
        REFUSALS, "Reason", readonly=True, sort=False,
        help="Why it is refused.")
    text = fields.Text("Text", readonly=True)
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


class OpinionLine(_Immutable, ModelSQL, ModelView):
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
        return {
            'order_state': self.record.state,
            'stage': 'final' if self.record.state == 'reviewed' else 'initial',
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
        # The access is checked on the wizard
        with without_check_access():
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
            ])
    reason = fields.Selection(
        REFUSALS, "Reason", required=True, sort=False)
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
            ])
