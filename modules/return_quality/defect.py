# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from sql.conditionals import Coalesce

from trytond.i18n import gettext
from trytond.model import (
    Check, DeactivableMixin, Index, ModelSQL, ModelView, Unique, fields, tree)
from trytond.model.fields.selection import TranslatedSelection
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction

from .exceptions import DefectError

CAUSES = [
    ('production', "Production"),
    ('material', "Material"),
    ('transport', "Transport"),
    ('use', "Use"),
    ('other', "Other"),
    ]


class Defect(tree(), DeactivableMixin, ModelSQL, ModelView):
    "Return Defect"
    __name__ = 'return.defect'

    code = fields.Char(
        "Code", required=True,
        help="The short name by which inspectors know the defect.")
    name = fields.Char("Name", required=True, translate=True)
    parent = fields.Many2One(
        'return.defect', "Parent", ondelete='RESTRICT',
        help="Add the defect below the parent.")
    children = fields.One2Many('return.defect', 'parent', "Children")
    cause = fields.Selection(
        CAUSES, "Cause", required=True, sort=False,
        help="Where the defect comes from as a rule; an inspection may find "
        "another cause.")
    control = fields.Many2One(
        'quality.control', "Control", ondelete='SET NULL',
        help="The control that should have caught the defect.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('code_unique', Unique(t, t.code),
                'return_quality.msg_defect_code_unique'),
            ]
        cls._sql_indexes.add(
            Index(t, (Coalesce(t.parent, 0), Index.Range())))
        cls._order = [('code', 'ASC')]

    @fields.depends('cause', 'parent', '_parent_parent.cause')
    def on_change_parent(self):
        if self.parent and not self.cause:
            self.cause = self.parent.cause

    def get_rec_name(self, name):
        return f"{self.code} {self.name}"

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('code', operator, value, *clause[3:]),
            ('name', operator, value, *clause[3:]),
            ]

    @classmethod
    def copy(cls, defects, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('code', lambda data: f"{data['code']} (copy)")
        return super().copy(defects, default=default)


class InspectionDefect(ModelSQL, ModelView):
    "Return Inspection Defect"
    __name__ = 'return.inspection.defect'

    inspection = fields.Many2One(
        'quality.inspection', "Inspection", required=True,
        ondelete='CASCADE')
    defect = fields.Many2One(
        'return.defect', "Defect", required=True, ondelete='RESTRICT')
    severity = fields.Selection([
            ('minor', "Minor"),
            ('major', "Major"),
            ('critical', "Critical"),
            ], "Severity", required=True, sort=False,
        help="Minor: the goods can still meet the standard.\n"
        "Major: they do not serve their purpose as they should.\n"
        "Critical: they are dangerous or of no use.")
    severity_string = severity.translated('severity')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        help="How many of the goods that were looked at have the defect, "
        "in the unit of the inspection.")
    note = fields.Char("Note")
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_quality.msg_inspection_defect_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.inspection, Index.Range())),
                Index(t, (t.defect, Index.Range())),
                })

    @classmethod
    def default_severity(cls):
        return 'major'

    @fields.depends('inspection', '_parent_inspection.unit')
    def on_change_with_unit(self, name=None):
        return self.inspection.unit if self.inspection else None

    def get_rec_name(self, name):
        return self.defect.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('defect.rec_name', *clause[1:])]

    @classmethod
    def create(cls, vlist):
        defects = super().create(vlist)
        cls._check_inspections(defects)
        return defects

    @classmethod
    def write(cls, *args):
        defects = sum(args[::2], [])
        cls._check_inspections(defects)
        super().write(*args)
        cls._check_inspections(cls.browse(defects))

    @classmethod
    def delete(cls, defects):
        cls._check_inspections(defects)
        super().delete(defects)

    @classmethod
    def _check_inspections(cls, defects):
        "Check that the inspections may still be changed by the user"
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        inspections = Inspection.browse(list({
                    d.inspection.id for d in defects}))
        if Transaction().check_access:
            Inspection._check_inspector(inspections)
        Inspection._check_pending(inspections)


class Inspection(metaclass=PoolMeta):
    __name__ = 'quality.inspection'

    _states_finding = {
        'readonly': Eval('state') != 'pending',
        'invisible': ~Eval('return_line'),
        }

    sample_quantity = fields.Float(
        "Sample", digits='unit',
        domain=['OR',
            ('sample_quantity', '=', None),
            ('sample_quantity', '>', 0),
            ],
        states=_states_finding,
        help="How many of the inspected goods are looked at; leave empty if "
        "all are.\n"
        "The result is that of the whole inspected quantity: when a sample "
        "fails, none of it counts as sound until all is looked at.")
    defective_quantity = fields.Float(
        "Defective", digits='unit',
        domain=['OR',
            ('defective_quantity', '=', None),
            ('defective_quantity', '>=', 0),
            ],
        states=_states_finding,
        help="How many of the goods that were looked at have a defect; a "
        "piece with several defects counts once.")
    defects = fields.One2Many(
        'return.inspection.defect', 'inspection', "Defects",
        states=_states_finding)
    cause = fields.Selection(
        [(None, "")] + CAUSES, "Cause", sort=False, states=_states_finding,
        help="Where the defects come from, as the inspector found.")
    cause_string = cause.translated('cause')
    cause_analysis = fields.Text("Cause Analysis", states=_states_finding)
    conclusion = fields.Text(
        "Conclusion", states=_states_finding,
        help="What the inspector concludes, for those who decide.")
    state_string = TranslatedSelection('state')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._processed_fields = cls._processed_fields | {
            'sample_quantity', 'defective_quantity', 'defects', 'cause',
            'cause_analysis', 'conclusion'}

    @fields.depends(
        'cause', 'defects', 'inspected_quantity', 'sample_quantity',
        methods=['on_change_with_unit'])
    def on_change_defects(self):
        unit = self.on_change_with_unit()
        if unit:
            self.defective_quantity = unit.round(min(
                    self.looked_quantity,
                    sum(
                        getattr(d, 'quantity', None) or 0
                        for d in self.defects)))
        if not self.cause:
            self.cause = next((
                    d.defect.cause for d in self.defects
                    if getattr(d, 'defect', None)), None)

    @property
    def looked_quantity(self):
        return self.sample_quantity or self.inspected_quantity or 0

    @property
    def sound_quantity(self):
        "How much of the goods the inspection has found sound"
        if self.state == 'passed':
            return self.inspected_quantity
        elif (self.state == 'failed'
                and self.defective_quantity
                and self.looked_quantity >= self.inspected_quantity):
            return max(0, self.unit.round(
                    self.inspected_quantity - self.defective_quantity))
        return 0

    def is_passing(self):
        return super().is_passing() and not self._has_serious_defect()

    def check(self):
        return super().check() and not self._has_serious_defect()

    def _has_serious_defect(self):
        return any(
            getattr(d, 'severity', None) in {'major', 'critical'}
            for d in self.defects or [])

    @classmethod
    def copy(cls, inspections, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('defects')
        return super().copy(inspections, default=default)

    @classmethod
    def _check_verdict(cls, inspections, state):
        super()._check_verdict(inspections, state)
        for inspection in inspections:
            if state == 'passed' and inspection._has_serious_defect():
                raise DefectError(gettext(
                        'return_quality.msg_inspection_pass_defect',
                        inspection=inspection.rec_name))
            if state == 'failed' and not (
                    inspection.defects and inspection.cause):
                raise DefectError(gettext(
                        'return_quality.msg_inspection_fail_defect',
                        inspection=inspection.rec_name))
        cls._check_findings(inspections)

    @classmethod
    def _check_findings(cls, inspections):
        "Check that the quantities found agree with each other"
        for inspection in inspections:
            round_ = inspection.unit.round
            quantities = [d.quantity for d in inspection.defects]
            defective = inspection.defective_quantity or 0
            if round_(
                    inspection.looked_quantity
                    - inspection.inspected_quantity) > 0:
                raise DefectError(gettext(
                        'return_quality.msg_inspection_sample',
                        inspection=inspection.rec_name))
            if (round_(max(quantities, default=0) - defective) > 0
                    or round_(defective - sum(quantities)) > 0
                    or round_(defective - inspection.looked_quantity) > 0):
                raise DefectError(gettext(
                        'return_quality.msg_inspection_defective',
                        inspection=inspection.rec_name))
