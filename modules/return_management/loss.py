# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from sql import Literal
from sql.aggregate import Sum
from sql.conditionals import Case

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, ModelSQL, ModelView, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import employee_field, set_employee
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import LossError
from .model import GuardedMixin


class Loss(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Loss"
    __name__ = 'return.loss'

    _states = {
        'readonly': Eval('id', -1) >= 0,
        }

    line = fields.Many2One(
        'return.order.line', "Return Line", required=True,
        ondelete='RESTRICT', states=_states,
        help="The goods that were lost or damaged after the customer handed "
        "them over.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, states=_states,
        help="The lost or damaged part, in the unit of the line.")
    stage = fields.Selection([
            ('transport', "Transport"),
            ('receipt', "Receipt"),
            ('storage', "Storage"),
            ('inspection', "Inspection"),
            ('handling', "Handling"),
            ], "Stage", required=True, sort=False, states=_states,
        help="Where it happened.")
    cause = fields.Selection([
            ('damaged', "Damaged"),
            ('spoiled', "Spoiled"),
            ('missing', "Missing"),
            ], "Cause", required=True, sort=False, states=_states,
        help="What happened; the defect that the customer reported is no "
        "loss.\n"
        "Received goods that are missing are put on a write-off.")
    note = fields.Text(
        "Note", states=_states,
        help="How it happened.")
    disposition = fields.Many2One(
        'return.disposition', "Write-off", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('disposition'),
            },
        help="By which the missing goods leave the books.")
    recorded_by = employee_field("Recorded by")
    recorded_at = fields.DateTime("Recorded at", required=True, readonly=True)
    cancel_reason = fields.Text(
        "Reason to Cancel",
        states={
            'readonly': Eval('state') == 'cancelled',
            'invisible': Eval('id', -1) < 0,
            },
        help="Why the record is wrong.")
    cancelled_by = employee_field("Cancelled by", states=['cancelled'])
    state = fields.Selection([
            ('recorded', "Recorded"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False)
    order = fields.Function(
        fields.Many2One('return.order', "Order"),
        'on_change_with_order', searcher='search_order')
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    product = fields.Function(
        fields.Many2One(
            'product.product', "Product",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'on_change_with_product', searcher='search_order')
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.recorded_by.readonly = True
        cls.cancelled_by.readonly = True
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_loss_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.line, Index.Range())),
                Index(t, (t.recorded_at, Index.Range())),
                })
        cls._order = [('recorded_at', 'DESC'), ('id', 'DESC')]
        cls._transitions |= {('recorded', 'cancelled')}
        cls._buttons.update({
                'cancel': {
                    'invisible': Eval('state') != 'recorded',
                    'readonly': ~Bool(Eval('cancel_reason')),
                    'depends': ['state', 'cancel_reason'],
                    },
                })

    @classmethod
    def default_recorded_at(cls):
        return dt.datetime.now().replace(microsecond=0)

    @classmethod
    def default_state(cls):
        return 'recorded'

    @fields.depends('line', '_parent_line.order')
    def on_change_with_order(self, name=None):
        return self.line.order if self.line else None

    @fields.depends('line', '_parent_line.order')
    def on_change_with_company(self, name=None):
        if self.line and self.line.order:
            return self.line.order.company

    @fields.depends('line', '_parent_line.product')
    def on_change_with_product(self, name=None):
        return self.line.product if self.line else None

    @fields.depends('line', '_parent_line.unit')
    def on_change_with_unit(self, name=None):
        return self.line.unit if self.line else None

    @classmethod
    def search_order(cls, name, clause):
        return [('line.' + clause[0], *clause[1:])]

    @classmethod
    def search_company(cls, name, clause):
        return [('line.order.' + clause[0], *clause[1:])]

    def get_rec_name(self, name):
        return self.line.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('line.rec_name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'cancelled', 'muted', '')),
            ]

    @classmethod
    def copy(cls, losses, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'disposition', 'recorded_by', 'cancel_reason',
                'cancelled_by']:
            default.setdefault(name)
        default.setdefault('recorded_at', cls.default_recorded_at())
        default.setdefault('state', 'recorded')
        return super().copy(losses, default=default)

    _guarded_fields = {
        'disposition', 'recorded_by', 'recorded_at', 'cancelled_by', 'state'}
    _recorded_fields = {'line', 'quantity', 'stage', 'cause', 'note'}

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        lines = Line.browse(list({
                    int(v['line']) for v in vlist if v.get('line')}))
        Order.lock(sorted({l.order for l in lines}, key=int))
        losses = super().create(vlist)
        with without_check_access():
            employees = {
                c: Order._get_employee(c)
                for c in {l.order.company for l in lines}}
            for loss in losses:
                loss.recorded_by = employees[loss.company]
            cls.save(losses)
            cls._write_off([
                    l for l in losses
                    if l.cause == 'missing' and l.stage != 'transport'])
        return losses

    @classmethod
    def _write_off(cls, losses):
        "Draft the write-offs by which missing goods leave the books"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        ModelData = pool.get('ir.model.data')
        WriteOff = pool.get('return.write_off')
        cause = ModelData.get_id(
            'return_management', 'write_off_cause_missing')
        write_offs = {
            c: WriteOff(company=c, cause=cause)
            for c in dict.fromkeys(l.company for l in losses)}
        WriteOff.save(write_offs.values())
        for loss in losses:
            loss.disposition = Disposition(
                line=loss.line, action='write_off', accepted=True,
                quantity=loss.quantity, write_off=write_offs[loss.company])
        Disposition.save([l.disposition for l in losses])
        cls.save(losses)

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for losses, values in zip(actions, actions):
            for loss in losses:
                if cls._recorded_fields & set(values) or (
                        'cancel_reason' in values
                        and loss.state == 'cancelled'):
                    raise AccessError(gettext(
                            'return_management.msg_loss_modify',
                            loss=loss.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, losses):
        for loss in losses:
            raise AccessError(gettext(
                    'return_management.msg_loss_modify',
                    loss=loss.rec_name))
        super().delete(losses)

    @classmethod
    def validate_fields(cls, losses, field_names):
        super().validate_fields(losses, field_names)
        if field_names & {'line', 'quantity', 'stage'}:
            cls.check_quantity(losses)

    @classmethod
    def check_quantity(cls, losses):
        """Check that no more is lost than there was

        Before the receipt that is what was announced, after it what has not
        reached its end.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.browse(list({l.line.id for l in losses}))
        lost = Line._get_lost(lines)
        new = defaultdict(float)
        for loss in losses:
            if loss.stage != 'transport' and loss.state == 'recorded':
                new[loss.line.id] += loss.quantity
        for line in lines:
            total, inside = lost[line.id]
            kept = line.received_quantity - line._get_left_quantity()
            if (line.unit.round(total - line.quantity) > 0
                    or line.unit.round(inside - line.received_quantity) > 0
                    or line.unit.round(new[line.id] - kept) > 0):
                raise LossError(gettext(
                        'return_management.msg_loss_quantity',
                        line=line.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @set_employee('cancelled_by')
    def cancel(cls, losses):
        pool = Pool()
        Disposition = pool.get('return.disposition')
        for loss in losses:
            disposition = loss.disposition
            if not loss.cancel_reason:
                raise LossError(gettext(
                        'return_management.msg_loss_cancel_reason',
                        loss=loss.rec_name))
            if disposition and (
                    disposition.state not in {'draft', 'cancelled'}
                    or (disposition.write_off
                        and disposition.write_off.state
                        in {'requested', 'approved'})):
                raise LossError(gettext(
                        'return_management.msg_loss_cancel_write_off',
                        loss=loss.rec_name))
        Disposition.cancel([l.disposition for l in losses if l.disposition])


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    lost_quantity = fields.Function(fields.Float(
            "Lost", digits='unit',
            help="What was damaged, spoiled or missing after the customer "
            "handed it over."),
        'get_lost_quantity')

    def _get_left_quantity(self):
        "Return what has come to where it is no loss of a return any more"
        return sum(
            d.line_quantity for d in self.dispositions
            if d.state == 'done' and d.action != 'resale')

    @classmethod
    def get_lost_quantity(cls, lines, name):
        lost = cls._get_lost(lines)
        return {l.id: l.unit.round(lost[l.id][0]) for l in lines}

    @classmethod
    def _get_lost(cls, lines):
        "Map the id of lines to what was lost and what of it after receipt"
        pool = Pool()
        Loss = pool.get('return.loss')
        cursor = Transaction().connection.cursor()
        loss = Loss.__table__()
        lost = defaultdict(lambda: (0, 0))
        for sub_lines in grouped_slice(lines):
            cursor.execute(*loss.select(
                    loss.line, Sum(loss.quantity),
                    Sum(Case(
                            (loss.stage != 'transport', loss.quantity),
                            else_=Literal(0))),
                    where=loss.line.in_(list(map(int, sub_lines)))
                    & (loss.state == 'recorded'),
                    group_by=loss.line))
            for line_id, *quantities in cursor:
                lost[line_id] = quantities
        return lost


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    losses = fields.Function(fields.Many2Many(
            'return.loss', None, None, "Losses",
            help="What was damaged, spoiled or missing after the customer "
            "handed it over."),
        'get_losses')

    @classmethod
    def get_losses(cls, orders, name):
        pool = Pool()
        Loss = pool.get('return.loss')
        losses = defaultdict(list)
        for sub_orders in grouped_slice(orders):
            for loss in Loss.search([
                        ('order', 'in', list(map(int, sub_orders))),
                        ]):
                losses[loss.order.id].append(loss.id)
        return {o.id: losses[o.id] for o in orders}
