# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import (
    DeactivableMixin, Index, ModelSQL, ModelView, fields, sequence_ordered)
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.transaction import Transaction

from .exceptions import ChecklistError
from .model import GuardedMixin

STAGES = [
    ('intake', "Intake"),
    ('initial', "Initial Review"),
    ]


class Check(DeactivableMixin, sequence_ordered(), ModelSQL, ModelView):
    "Return Check"
    __name__ = 'return.check'

    name = fields.Char(
        "Name", required=True, translate=True,
        help="What is checked, worded so that yes speaks for the return.")
    stage = fields.Selection(
        STAGES, "Stage", required=True, sort=False,
        help="When it is looked at: by the clerk who takes the application "
        "or by the initial review.")
    method = fields.Selection([
            (None, ""),
            ('matched', "A sale is found for every line"),
            ('returnable', "No more than can be returned"),
            ('eligible', "Every line is eligible"),
            ('covered', "A rule of the policy covers every line"),
            ], "Answered by", sort=False,
        help="How the system answers when the return is submitted.\n"
        "Leave empty to have a person answer.")
    required = fields.Boolean(
        "Required",
        states={
            'invisible': Bool(Eval('method')),
            },
        help="Check to refuse the initial review until it is answered.")

    @classmethod
    def default_required(cls):
        return False

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            actions = iter(args)
            for checks, values in zip(actions, actions):
                if 'name' in values:
                    cls._check_unused(checks, values['name'])
        super().write(*args)

    @classmethod
    def _check_unused(cls, checks, name):
        "Check that no return was checked by another wording"
        pool = Pool()
        Configuration = pool.get('ir.configuration')
        OrderCheck = pool.get('return.order.check')
        if Transaction().language != Configuration.get_language():
            # It is translated
            return
        changed = [c for c in checks if c.name != name]
        used = OrderCheck.search([
                ('check', 'in', [c.id for c in changed]),
                ], limit=1)
        if used:
            raise AccessError(gettext(
                    'return_management.msg_check_used',
                    check=used[0].check.rec_name))

    def answer(self, order):
        "Return whether the check holds for the order and a note"
        return getattr(self, '_answer_' + self.method)(order)

    def _answer_lines(self, lines):
        return not lines, '\n'.join(l.product.rec_name for l in lines)

    def _answer_matched(self, order):
        return self._answer_lines(
            [l for l in order.lines if not l.sale_line])

    def _answer_returnable(self, order):
        # Otherwise it could not be submitted
        return True, ''

    def _answer_eligible(self, order):
        return self._answer_lines([l for l in order.lines if not l.eligible])

    def _answer_covered(self, order):
        return self._answer_lines(
            [l for l in order.lines if not l.policy_line])


class OrderCheck(GuardedMixin, ModelSQL, ModelView):
    "Return Order Check"
    __name__ = 'return.order.check'

    _states = {
        'readonly': ~Eval('editable'),
        }

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='RESTRICT')
    check = fields.Many2One(
        'return.check', "Check", required=True, readonly=True,
        ondelete='RESTRICT')
    stage = fields.Selection(
        STAGES, "Stage", required=True, readonly=True, sort=False)
    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="The submission of the return that the answer is about.")
    automatic = fields.Boolean(
        "Automatic", readonly=True,
        help="Checked when the system answers.")
    required = fields.Function(
        fields.Boolean(
            "Required",
            help="The initial review cannot be signed without an answer."),
        'on_change_with_required')
    answer = fields.Selection([
            (None, ""),
            ('yes', "Yes"),
            ('no', "No"),
            ], "Answer", sort=False,
        states={
            'readonly': _states['readonly'] | Bool(Eval('automatic')),
            },
        help="Whether it holds; leave empty while it is not known.")
    answer_string = answer.translated('answer')
    note = fields.Text(
        "Note", states=_states, help="What was found, in words.")
    employee = fields.Many2One(
        'company.employee', "Answered by", readonly=True, ondelete='RESTRICT',
        help="Who answered; empty when the system did.")
    answered_at = fields.DateTime("Answered at", readonly=True)
    editable = fields.Function(
        fields.Boolean("Editable"), 'get_editable')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.order, Index.Range()), (t.round, Index.Range())),
                Index(t, (t.check, Index.Range())),
                })
        cls._order = [
            ('round', 'DESC'),
            ('check.sequence', 'ASC NULLS FIRST'),
            ('id', 'ASC'),
            ]

    _guarded_fields = {'order', 'check', 'stage', 'round', 'automatic'}

    @fields.depends('check')
    def on_change_with_required(self, name=None):
        return bool(
            self.check and self.check.required and not self.check.method)

    def get_editable(self, name):
        return (
            self.order.state == 'submitted'
            and self.order.round == self.round
            and not self.order._get_signed_roles('initial'))

    def get_rec_name(self, name):
        return ' @ '.join([self.check.rec_name, self.order.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('check.rec_name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="answer"]', 'visual',
                If(Eval('answer') == 'no', 'danger', '')),
            ]

    @classmethod
    def prepare(cls, orders):
        "Make the checklist of the round of orders"
        pool = Pool()
        Check = pool.get('return.check')
        now = dt.datetime.now().replace(microsecond=0)
        checks = Check.search([])
        to_save = []
        for order in orders:
            for check in checks:
                row = cls(
                    order=order, check=check, stage=check.stage,
                    round=order.round, automatic=bool(check.method))
                if check.method:
                    holds, note = check.answer(order)
                    row.answer = 'yes' if holds else 'no'
                    row.note = note or None
                    row.answered_at = now
                to_save.append(row)
        cls.save(to_save)

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            raise AccessError(gettext('return_management.msg_check_create'))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            args = cls._stamp(args)
        super().write(*args)

    @classmethod
    def _stamp(cls, args):
        "Add who answers and when to the arguments of write"
        pool = Pool()
        Order = pool.get('return.order')
        now = dt.datetime.now().replace(microsecond=0)
        stamped = []
        actions = iter(args)
        for checks, values in zip(actions, actions):
            cls._check_guarded({'employee', 'answered_at'} & set(values))
            cls._check_editable(checks, values)
            if 'answer' not in values:
                stamped.extend((checks, values))
                continue
            companies = defaultdict(list)
            for check in checks:
                companies[check.order.company].append(check)
            for company, c_checks in companies.items():
                employee = Order._get_employee(company)
                stamped.extend((c_checks, {
                            **values,
                            'employee': (
                                employee.id if values['answer'] else None),
                            'answered_at': now if values['answer'] else None,
                            }))
        return stamped

    @classmethod
    def _check_editable(cls, checks, values):
        for check in checks:
            if not check.editable:
                raise AccessError(gettext(
                        'return_management.msg_check_frozen',
                        check=check.check.rec_name,
                        order=check.order.rec_name))
            if check.automatic and 'answer' in values:
                raise AccessError(gettext(
                        'return_management.msg_check_automatic',
                        check=check.check.rec_name,
                        order=check.order.rec_name))

    @classmethod
    def delete(cls, checks):
        raise AccessError(gettext('return_management.msg_check_delete'))


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    checks = fields.One2Many(
        'return.order.check', 'order', "Checklist",
        states={
            'invisible': Eval('state') == 'draft',
            'readonly': Eval('state') != 'submitted',
            })

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('checks')
        return super().copy(orders, default=default)

    @classmethod
    @ModelView.button
    def submit(cls, orders):
        pool = Pool()
        OrderCheck = pool.get('return.order.check')
        drafts = [o for o in orders if o.state == 'draft']
        super().submit(orders)
        OrderCheck.prepare(cls.browse(drafts))

    @classmethod
    def _sign(cls, orders, stage):
        if stage == 'initial':
            cls._check_answered(orders)
        super()._sign(orders, stage)

    @classmethod
    def _check_answered(cls, orders):
        "Check that the required answers are given"
        for order in orders:
            missing = [
                c.check.rec_name for c in order.checks
                if c.round == order.round and c.required and not c.answer]
            if missing:
                raise ChecklistError(gettext(
                        'return_management.msg_order_checklist',
                        order=order.rec_name,
                        checks='\n'.join(missing)))


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    product_code = fields.Function(
        fields.Char(
            "Product Code",
            help="The code of the product, to compare with the model that "
            "the customer names."),
        'on_change_with_product_code')
    specification = fields.Function(
        fields.Text(
            "Specification",
            help="The description that was sold, else the product's."),
        'on_change_with_specification')
    purchase_date = fields.Function(
        fields.Date(
            "Purchase Date",
            help="The date of the sale."),
        'on_change_with_purchase_date')

    @fields.depends('sale_line', '_parent_sale_line.product', 'product')
    def on_change_with_product_code(self, name=None):
        product = self.sale_line.product if self.sale_line else self.product
        return product.code if product else None

    @fields.depends('sale_line', '_parent_sale_line.description', 'product')
    def on_change_with_specification(self, name=None):
        text = None
        if self.sale_line:
            text = self.sale_line.description
        if not text and self.product:
            text = self.product.description
        return text

    @fields.depends('sale_line', '_parent_sale_line.sale')
    def on_change_with_purchase_date(self, name=None):
        if self.sale_line:
            return self.sale_line.sale.sale_date
