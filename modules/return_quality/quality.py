# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import ModelSQL, ModelView, Workflow, dualmethod, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import reset_employee, set_employee
from trytond.modules.return_management.model import EvidenceMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.transaction import Transaction

from .exceptions import InspectionDispositionError, InspectionQuantityError


class Control(metaclass=PoolMeta):
    __name__ = 'quality.control'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.operations.selection.append(
            ('return.order.line:receive', "Return Received"))
        # The accounts of categories depend on the company
        cls.product_category.context['company'] = Eval(
            'company', Eval('context', {}).get('company'))

    @classmethod
    def create(cls, vlist):
        vlist = [v.copy() for v in vlist]
        for values in vlist:
            if not values.get('points'):
                values['points'] = [
                    ('create', [cls._get_default_point()]),
                    ]
        return super().create(vlist)

    @classmethod
    def _get_default_point(cls):
        "Return the values of the point that no goods lack"
        return {
            'name': 'meets_standard',
            'string': gettext('return_quality.msg_control_point_standard'),
            'type_': 'boolean',
            }

    @classmethod
    def match_return_lines(cls, lines):
        """Map the return order lines to the control that applies to them

        The most specific one, as the goods are inspected once; the lines that
        none applies to are left out.
        """
        matched = {}
        if lines:
            controls = sorted(
                cls.search([
                        ('operations', 'in', 'return.order.line:receive'),
                        ]), key=cls._specificity)
            for line in lines:
                pattern = line.quality_control_pattern('receive')
                for control in controls:
                    if control.match(pattern) and control.choose(line):
                        matched[line] = control
                        break
        return matched

    def _specificity(self):
        return (
            not self.product, not self.product_category, not self.company,
            self.id)


class Inspection(EvidenceMixin, metaclass=PoolMeta):
    __name__ = 'quality.inspection'

    _states_return = {
        'readonly': Eval('state') != 'pending',
        'required': Bool(Eval('return_line')),
        'invisible': ~Eval('return_line'),
        }

    return_line = fields.Function(
        fields.Many2One('return.order.line', "Return Line"),
        'on_change_with_return_line', searcher='search_return_line')
    return_order = fields.Function(
        fields.Many2One(
            'return.order', "Return",
            states={
                'invisible': ~Eval('return_order'),
                },
            help="The return whose goods are inspected."),
        'on_change_with_return_order', searcher='search_return_order')
    return_product = fields.Function(
        fields.Many2One(
            'product.product', "Product",
            states={
                'invisible': ~Eval('return_order'),
                },
            context={
                'company': Eval('company', -1),
                },
            depends={'company'},
            help="What is inspected."),
        'on_change_with_return_product')
    return_reason = fields.Function(
        fields.Many2One(
            'return.reason', "Return Reason",
            states={
                'invisible': ~Eval('return_line'),
                },
            help="Why the customer returns the goods."),
        'on_change_with_return_reason')
    return_note = fields.Function(
        fields.Text(
            "Return Note",
            states={
                'invisible': ~Eval('return_line'),
                },
            help="What was noted on the line of the return."),
        'on_change_with_return_note')
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    inspected_quantity = fields.Float(
        "Inspected Quantity", digits='unit',
        domain=['OR',
            ('inspected_quantity', '=', None),
            ('inspected_quantity', '>', 0),
            ],
        states=_states_return,
        help="The part of the received quantity that is inspected, "
        "in the unit of the return line.\n"
        "The inspector may lower it: another inspection is made "
        "of the rest.")
    moves = fields.Many2Many(
        'quality.inspection-stock.move', 'inspection', 'move', "Receipts",
        readonly=True,
        states={
            'invisible': ~Eval('return_line'),
            },
        help="The moves that brought the inspected goods in.")
    dispositions = fields.One2Many(
        'return.disposition', 'inspection', "Dispositions",
        states={
            'invisible': ~Eval('return_line'),
            },
        help="Where the inspected goods go and in whose favour "
        "the return is decided.\n"
        "Entered by the inspector, decided when the inspection "
        "is processed.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.origin.domain['return.order.line'] = [
            ('order.company', '=', Eval('company', -1)),
            ]

    @classmethod
    def _get_origins(cls):
        return super()._get_origins() + ['return.order.line']

    @fields.depends('origin')
    def on_change_with_return_line(self, name=None):
        pool = Pool()
        Line = pool.get('return.order.line')
        if isinstance(self.origin, Line) and self.origin.id >= 0:
            return self.origin

    @classmethod
    def search_return_line(cls, name, clause):
        nested = clause[0][len(name):]
        if not nested:
            nested = '.rec_name' if isinstance(clause[2], str) else '.id'
        return [('origin' + nested, *clause[1:3],
                'return.order.line', *clause[3:])]

    @fields.depends(methods=['on_change_with_return_line'])
    def on_change_with_return_order(self, name=None):
        line = self.on_change_with_return_line()
        return line.order if line else None

    @classmethod
    def search_return_order(cls, name, clause):
        nested = clause[0][len(name):]
        if not nested:
            nested = '.rec_name' if isinstance(clause[2], str) else '.id'
        return [('origin.order' + nested, *clause[1:3],
                'return.order.line', *clause[3:])]

    @fields.depends(methods=['on_change_with_return_line'])
    def on_change_with_return_product(self, name=None):
        line = self.on_change_with_return_line()
        return line.product if line else None

    @fields.depends(methods=['on_change_with_return_line'])
    def on_change_with_return_reason(self, name=None):
        line = self.on_change_with_return_line()
        return line.reason if line else None

    @fields.depends(methods=['on_change_with_return_line'])
    def on_change_with_return_note(self, name=None):
        line = self.on_change_with_return_line()
        return line.note if line else None

    @fields.depends(methods=['on_change_with_return_line'])
    def on_change_with_unit(self, name=None):
        line = self.on_change_with_return_line()
        return line.unit if line else None

    @fields.depends(
        'inspected_quantity', methods=['on_change_with_return_line'])
    def on_change_origin(self):
        try:
            super_on_change_origin = super().on_change_origin
        except AttributeError:
            pass
        else:
            super_on_change_origin()
        line = self.on_change_with_return_line()
        if line and not self.inspected_quantity:
            self.company = line.order.company
            self.inspected_quantity = line.uninspected_quantity

    def is_passing(self):
        "Test if the points that are filled in so far meet the standard"
        points = self.points or {}
        return all(p.check(points.get(p.name)) for p in self.control.points)

    @classmethod
    def _get_returns(cls, inspections):
        "Return the inspections of returned goods"
        pool = Pool()
        Line = pool.get('return.order.line')
        return [i for i in inspections if isinstance(i.origin, Line)]

    @property
    def is_evidence(self):
        "Whether what a return comes to depends on it"
        return bool(self._get_returns([self]))

    @property
    def attachments_kept(self):
        return self.is_evidence and self.state != 'pending'

    @property
    def attachments_closed(self):
        # A second opinion has evidence of its own
        return self.attachments_kept

    _guarded_fields = {
        'moves', 'state', 'processed_by', 'passed_by', 'failed_by'}
    _processed_fields = {
        'company', 'origin', 'control', 'points', 'inspected_quantity',
        'moves'}

    @classmethod
    def create(cls, vlist):
        inspections = super().create(vlist)
        if Transaction().check_access:
            returns = cls._get_returns(inspections)
            cls._check_inspector(returns)
            returned = set(returns)
            cls._check_guarded(returns, {
                    n for i, values in zip(inspections, vlist)
                    for n in cls._guarded_fields & set(values)
                    if i in returned and values[n]
                    and (n, values[n]) != ('state', 'pending')})
        return inspections

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for inspections, values in zip(actions, actions):
            returns = cls._get_returns(inspections)
            if Transaction().check_access:
                cls._check_inspector(returns)
                cls._check_guarded(
                    returns,
                    (cls._guarded_fields | {'company', 'origin'})
                    & set(values))
            if cls._processed_fields & set(values):
                cls._check_pending(returns)
        super().write(*args)
        if Transaction().check_access:
            for inspections, values in zip(args[::2], args[1::2]):
                if 'origin' in values:
                    returns = cls._get_returns(cls.browse(inspections))
                    cls._check_inspector(returns)
                    cls._check_pending(returns)

    @classmethod
    def delete(cls, inspections):
        returns = cls._get_returns(inspections)
        if Transaction().check_access:
            cls._check_inspector(returns)
        cls._check_pending(returns)
        super().delete(inspections)

    @classmethod
    def copy(cls, inspections, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('moves')
        default.setdefault('dispositions')
        return super().copy(inspections, default=default)

    @classmethod
    def validate_fields(cls, inspections, field_names):
        super().validate_fields(inspections, field_names)
        if field_names & {'origin', 'inspected_quantity'}:
            cls.check_inspected_quantity(inspections)

    @classmethod
    def check_inspected_quantity(cls, inspections):
        "Check that the received goods are inspected once"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.browse(list({
                    i.origin.id for i in cls._get_returns(inspections)}))
        for line in lines:
            if line.uninspected_quantity < 0:
                raise InspectionQuantityError(gettext(
                        'return_quality.msg_inspection_quantity',
                        line=line.rec_name))

    @classmethod
    def _check_inspector(cls, inspections):
        """Check that the user may inspect returned goods

        The buttons of an inspection are those of all kinds of goods.
        """
        pool = Pool()
        Order = pool.get('return.order')
        if inspections and 'quality' not in Order._get_user_roles():
            raise AccessError(gettext(
                    'return_quality.msg_inspection_inspector',
                    inspection=inspections[0].rec_name))

    @classmethod
    def _check_guarded(cls, inspections, names):
        if inspections and names:
            raise AccessError(gettext(
                    'return_management.msg_field_guarded',
                    **cls.__names__(min(names))))

    @classmethod
    def _check_pending(cls, inspections):
        for inspection in inspections:
            if inspection.state != 'pending':
                raise AccessError(gettext(
                        'return_quality.msg_inspection_modify',
                        inspection=inspection.rec_name))

    @classmethod
    def _check_changeable(cls, inspections):
        "Check that nothing follows yet from what is processed"
        pool = Pool()
        Line = pool.get('return.order.line')
        inspections = cls._get_returns(inspections)
        if not Transaction().context.get('_return_inspection'):
            for inspection in inspections:
                if inspection.state == 'pending':
                    raise AccessError(gettext(
                            'return_quality.msg_inspection_process',
                            inspection=inspection.rec_name))
        inspections = [i for i in inspections if i.state != 'pending']
        cls._check_inspector(inspections)
        for inspection in inspections:
            if any(d.state in {'waiting', 'done'}
                    for d in inspection.dispositions):
                raise AccessError(gettext(
                        'return_quality.msg_inspection_moved',
                        inspection=inspection.rec_name))
        Line._check_unsigned([
                i.origin for i in inspections
                if i.origin.order.state == 'reviewed'], 'final')

    @classmethod
    @ModelView.button
    def pending(cls, inspections):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        cls._check_changeable(inspections)
        returns = cls._get_returns(inspections)
        Disposition.draft([d for i in returns for d in i.dispositions])
        super().pending(inspections)
        cls._queue_orders(returns)

    @dualmethod
    @ModelView.button
    def process(cls, inspections):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        returns = cls._get_returns(inspections)
        processed = {i for i in returns if i.state != 'pending'}
        inspections = [i for i in inspections if i not in processed]
        returns = [i for i in returns if i not in processed]
        cls._check_process(returns)
        cls.set_moves(returns)
        with Transaction().set_context(_return_inspection=True):
            super().process(inspections)
        returns = cls.browse(returns)
        Disposition.decide([
                d for i in returns for d in i.dispositions
                if d.state == 'draft' and not d._needs_application()])
        cls._queue_orders(returns)

    @classmethod
    def _check_process(cls, inspections):
        pool = Pool()
        Lang = pool.get('ir.lang')
        Order = pool.get('return.order')
        cls._check_inspector(inspections)
        lang = Lang.get()
        for inspection in inspections:
            Order._get_employee(inspection.company)
            unit = inspection.unit
            quantity = unit.round(sum(
                    d.quantity for d in inspection.dispositions
                    if d.state != 'cancelled'))
            if quantity != unit.round(inspection.inspected_quantity):
                raise InspectionDispositionError(gettext(
                        'return_quality.msg_inspection_dispositions',
                        inspection=inspection.rec_name,
                        quantity=lang.format_number_symbol(quantity, unit),
                        inspected=lang.format_number_symbol(
                            inspection.inspected_quantity, unit)))

    @classmethod
    def _check_verdict(cls, inspections, state):
        "Check that nothing speaks against the result of returned goods"

    @classmethod
    @ModelView.button
    def pass_(cls, inspections):
        cls._check_changeable(inspections)
        cls._check_verdict(cls._get_returns(inspections), 'passed')
        super().pass_(inspections)

    @classmethod
    @ModelView.button
    def fail(cls, inspections):
        cls._check_changeable(inspections)
        returns = cls._get_returns(inspections)
        cls._check_verdict(returns, 'failed')
        cls._fail_returns(returns)
        super().fail([i for i in inspections if i not in set(returns)])
        for inspection in cls.browse(returns):
            for disposition in inspection.dispositions:
                if disposition.state == 'decided':
                    disposition._check_decide()

    @classmethod
    @Workflow.transition('failed')
    @reset_employee('passed_by')
    @set_employee('failed_by')
    def _fail_returns(cls, inspections):
        "Fail without the alert of other inspections"

    @classmethod
    def set_moves(cls, inspections):
        "Set the receipts, the first ones for the first inspections"
        pool = Pool()
        Uom = pool.get('product.uom')
        to_save = []
        by_line = defaultdict(set)
        for inspection in inspections:
            by_line[inspection.origin].add(inspection)
        for line, to_set in by_line.items():
            moves = sorted(
                (m for m in line.moves
                    if m.state == 'done' and m.product == line.product),
                key=lambda m: (m.effective_date, m.id))
            before = 0
            for inspection in sorted(
                    line._get_valid_inspections(),
                    key=lambda i: (i.state == 'pending', i.id)):
                after = before + inspection.inspected_quantity
                if inspection in to_set:
                    start, received = 0, []
                    for move in moves:
                        end = start + Uom.compute_qty(
                            move.unit, move.quantity, line.unit, round=False)
                        if (line.unit.round(end - before) > 0
                                and line.unit.round(after - start) > 0):
                            received.append(move)
                        start = end
                    inspection.moves = received
                    to_save.append(inspection)
                before = after
        cls.save(to_save)

    @classmethod
    def _queue_orders(cls, inspections):
        pool = Pool()
        Order = pool.get('return.order')
        Order._queue_process(
            list(dict.fromkeys(i.origin.order for i in inspections)))


class InspectionMove(ModelSQL):
    "Quality Inspection - Stock Move"
    __name__ = 'quality.inspection-stock.move'

    inspection = fields.Many2One(
        'quality.inspection', "Inspection", required=True,
        ondelete='CASCADE')
    move = fields.Many2One(
        'stock.move', "Move", required=True, ondelete='RESTRICT')
