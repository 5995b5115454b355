# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import check_access
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .configuration import default_limit, limit_field
from .exceptions import EvaluateError
from .stage import _search_flag

decide_days = limit_field(
    'decide_days', "Decide Goods",
    "The number of working days that sales has to decide where received "
    "goods go that wait for no inspection.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    decide_days = fields.MultiValue(decide_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'decide_days':
            return pool.get('return.configuration.limit')
        return super().multivalue_model(field)

    default_decide_days = default_limit('decide_days')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    decide_days = decide_days

    @classmethod
    def default_decide_days(cls):
        return 3


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('decide', "Decide Goods"))

    @classmethod
    def _limit_names(cls):
        return {**super()._limit_names(), 'decide': 'decide_days'}


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    to_decide = fields.Function(fields.Boolean(
            "Goods to Decide",
            help="Checked when received goods that need no inspection wait "
            "for a decision."),
        'get_stage_flag', searcher='search_to_decide')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._buttons.update({
                'evaluate': {
                    'invisible': ~Eval('to_decide', False),
                    'depends': ['to_decide'],
                    },
                })

    @classmethod
    def search_to_decide(cls, name, clause):
        domain = [('ended_at', '=', None), ('stage', '=', 'decide')]
        return _search_flag(
            clause,
            [('stages', 'where', domain)], [('stages', 'not where', domain)])

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if (self.state in {'approved', 'done'}
                and any(l.to_decide for l in self.lines)):
            stages.add(('decide', 'sales'))
        return stages

    @classmethod
    @ModelView.button_action('return_management.wizard_order_evaluate')
    def evaluate(cls, orders):
        pass


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    decidable_quantity = fields.Function(fields.Float(
            "To Decide", digits='unit',
            help="Received, neither decided nor waiting for an inspection."),
        'get_decidable_quantity')
    to_decide = fields.Function(fields.Boolean(
            "Goods to Decide",
            help="Checked when received goods that need no inspection wait "
            "for a decision."),
        'get_to_decide', searcher='search_to_decide')

    @classmethod
    def get_decidable_quantity(cls, lines, name):
        return {
            l.id: max(0, l.unit.round(
                    l.undecided_quantity - l._get_inspecting_quantity()))
            for l in lines}

    def _get_inspecting_quantity(self):
        "Return the undecided quantity that waits for an inspection"
        return 0

    @classmethod
    def get_to_decide(cls, lines, name):
        return {
            l.id: bool(
                l.decidable_quantity or l._get_draft_dispositions())
            for l in lines}

    def _get_draft_dispositions(self):
        "Return the dispositions that only wait to be decided"
        return [
            d for d in self.dispositions
            if d.state == 'draft' and not d.is_applied_for]

    @classmethod
    def search_to_decide(cls, name, clause):
        # The stage leaves only the work that is open
        lines = cls.search([('order.to_decide', '=', True)], order=[])
        ids = [l.id for l in lines if l.to_decide]
        return _search_flag(
            clause, [('id', 'in', ids)], [('id', 'not in', ids)])

    def _get_default_action(self):
        action = super()._get_default_action()
        if (not action
                and self.reason.category != 'quality'
                and not self._needs_inspection()
                and 'restock' not in self.reason.all_forbidden_actions):
            action = 'restock'
        return action


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @fields.depends('line', '_parent_line.policy_line')
    def on_change_line(self):
        # The default action depends on whether an inspection is needed
        super().on_change_line()


class Evaluate(Wizard):
    "Evaluate Returned Goods"
    __name__ = 'return.order.evaluate'

    start = StateView(
        'return.order.evaluate.start',
        'return_management.order_evaluate_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Decide", 'decide', 'tryton-ok', default=True),
            ])
    decide = StateTransition()

    def _get_lines(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        if self.model.__name__ == Line.__name__:
            lines = self.records
        else:
            lines = [l for o in self.records for l in o.lines]
        return [l for l in lines if l.decidable_quantity > 0]

    def default_start(self, fields):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        lines = self._get_lines()
        if not lines:
            raise EvaluateError(gettext('return_management.msg_evaluate'))
        rows = []
        for line in lines:
            disposition = Disposition(
                line=line, action=line._get_default_action())
            disposition.on_change_action()
            rows.append({
                    'line': line.id,
                    'unit': line.unit.id,
                    'quantity': line.decidable_quantity,
                    'action': disposition.action,
                    'accepted': disposition.accepted,
                    })
        return {
            'return_lines': [l.id for l in lines],
            'rows': rows,
            }

    def transition_decide(self):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        lines = self._get_lines()
        dispositions = [
            row.get_disposition() for row in self.start.rows
            if row.quantity and row.line in lines]
        # The same rights as by hand; save would not look at them
        with check_access():
            dispositions = Disposition.create(
                [d._save_values for d in dispositions])
            Disposition.decide(dispositions)
        return 'end'


class EvaluateStart(ModelView):
    "Evaluate Returned Goods"
    __name__ = 'return.order.evaluate.start'

    return_lines = fields.Many2Many(
        'return.order.line', None, None, "Return Lines", readonly=True)
    rows = fields.One2Many(
        'return.order.evaluate.start.row', 'start', "Goods",
        help="Where the goods go.\n"
        "Lower a quantity and add a row to split the goods of a line.")


class EvaluateStartRow(ModelView):
    "Evaluate Returned Goods"
    __name__ = 'return.order.evaluate.start.row'

    start = fields.Many2One('return.order.evaluate.start', "Start")
    line = fields.Many2One(
        'return.order.line', "Return Line", required=True,
        domain=[
            ('id', 'in', Eval('_parent_start', {}).get('return_lines', [])),
            ])
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        domain=[('quantity', '>=', 0)],
        help="The part of the goods, in the unit of the line.")
    action = fields.Selection(
        'get_actions', "Action", required=True, sort=False,
        help="Where the goods go.")
    accepted = fields.Boolean(
        "Accepted",
        help="Checked if the return is decided in favour of the customer, "
        "wherever the goods go.")
    grade = fields.Selection(
        'get_grades', "Grade", sort=False, help="The condition of the goods.")
    note = fields.Text("Note")

    @classmethod
    def get_actions(cls):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return Disposition.fields_get(['action'])['action']['selection']

    @classmethod
    def get_grades(cls):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return Disposition.fields_get(['grade'])['grade']['selection']

    @fields.depends('line', 'start', '_parent_start.rows', 'action',
        methods=['on_change_action'])
    def on_change_line(self):
        if not self.line:
            return
        self.unit = self.line.unit
        others = self.start.rows if self.start else []
        self.quantity = max(0, self.line.unit.round(
                self.line.decidable_quantity - sum(
                    r.quantity or 0 for r in others or []
                    if r != self and r.line == self.line)))
        if not self.action:
            self.action = self.line._get_default_action()
            self.on_change_action()

    @fields.depends('line', 'action')
    def on_change_action(self):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        disposition = Disposition(line=self.line, action=self.action)
        disposition.on_change_action()
        self.accepted = disposition.accepted

    def get_disposition(self):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return Disposition(
            line=self.line,
            quantity=self.quantity,
            action=self.action,
            accepted=self.accepted,
            grade=self.grade,
            note=self.note)
