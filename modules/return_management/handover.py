# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from functools import partial

from sql import Literal

from trytond.i18n import gettext
from trytond.model import (
    Index, ModelSQL, ModelView, Unique, Workflow, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company import CompanyReport
from trytond.modules.company.model import employee_field
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.transaction import check_access

from .exceptions import HandoverError
from .model import EvidenceMixin, GuardedMixin


class Handover(EvidenceMixin, GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Hand-over"
    __name__ = 'return.handover'

    _states = {
        'readonly': Eval('state') != 'draft',
        }
    _guarded_fields = {'state', 'confirmed_by'}

    order = fields.Many2One(
        'return.order', "Order", required=True, ondelete='RESTRICT',
        states=_states,
        domain=[
            If(Eval('end') == 'back', (),
                ('state', 'not in', ['draft', 'submitted', 'cancelled'])),
            ])
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    end = fields.Selection([
            ('customer', "Customer"),
            ('warehouse', "Warehouse"),
            ('back', "Back"),
            ], "End", required=True, sort=False, states=_states,
        help="Customer: from the customer to the carrier or the driver.\n"
        "Warehouse: from the carrier or the driver to us.\n"
        "Back: from us to the carrier, of goods in dispute that go back.")
    end_string = end.translated('end')
    giver = fields.Char(
        "Handed over by", required=True, states=_states,
        help="The name of who handed the goods over.")
    giver_party = fields.Many2One(
        'party.party', "Party", states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="For whom the goods were handed over: customer or carrier.")
    taker = fields.Char(
        "Taken by", required=True, states=_states,
        help="The name of who took the goods.")
    at = fields.DateTime(
        "At", required=True, states=_states,
        help="When the goods were handed over.")
    condition = fields.Selection([
            ('good', "Good"),
            ('damaged', "Damaged"),
            ('opened', "Opened"),
            ('incomplete', "Incomplete"),
            ], "Condition", required=True, sort=False, states=_states,
        help="How the packages looked from outside.")
    condition_string = condition.translated('condition')
    packages = fields.Integer(
        "Packages", required=True, states=_states,
        domain=[('packages', '>', 0)],
        help="The number of packages handed over.")
    note = fields.Text("Note", states=_states)
    signature = fields.Binary(
        "Signature", file_id='signature_id', store_prefix='return_handover',
        states=_states,
        help="The signature as a picture or a scan of the protocol.")
    signature_id = fields.Char("Signature ID", readonly=True)
    replaces = fields.Many2One(
        'return.handover', "Replaces", ondelete='RESTRICT', states=_states,
        domain=[
            ('order', '=', Eval('order', -1)),
            ('end', '=', Eval('end', '')),
            ('state', '=', 'confirmed'),
            ],
        help="The confirmed hand-over that this one corrects.")
    confirmed_by = employee_field("Confirmed by")
    state = fields.Selection([
            ('draft', "Draft"),
            ('confirmed', "Confirmed"),
            ], "State", required=True, readonly=True, sort=False)

    @classmethod
    def __setup__(cls):
        cls.confirmed_by.readonly = True
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('replaces_unique', Unique(t, t.replaces),
                'return_management.msg_handover_replaced'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.order, Index.Range())),
                Index(t, (t.at, Index.Range())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state == 'draft'),
                })
        cls._order = [('at', 'DESC'), ('id', 'DESC')]
        cls._transitions |= {('draft', 'confirmed')}
        cls._buttons.update({
                'confirm': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_at(cls):
        return dt.datetime.now().replace(microsecond=0)

    @classmethod
    def default_condition(cls):
        return 'good'

    @classmethod
    def default_packages(cls):
        return 1

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('order', '_parent_order.company')
    def on_change_with_company(self, name=None):
        return self.order.company if self.order else None

    @classmethod
    def search_company(cls, name, clause):
        return [('order.' + clause[0], *clause[1:])]

    def get_rec_name(self, name):
        return self.order.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('order.rec_name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'draft', 'warning', '')),
            ]

    @classmethod
    def copy(cls, handovers, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('confirmed_by')
        default.setdefault('replaces')
        return super().copy(handovers, default=default)

    @classmethod
    def write(cls, *args):
        cls._check_draft([h for hs in args[::2] for h in hs])
        super().write(*args)

    @classmethod
    def delete(cls, handovers):
        cls._check_draft(handovers)
        super().delete(handovers)

    @property
    def attachments_kept(self):
        return self.state != 'draft'

    @classmethod
    def _check_draft(cls, handovers):
        for handover in handovers:
            if handover.state != 'draft':
                raise AccessError(gettext(
                        'return_management.msg_handover_modify',
                        handover=handover.rec_name))

    @classmethod
    def _check_end(cls, handovers):
        "Check that the user may write about the ends of the hand-overs"
        pool = Pool()
        Rule = pool.get('ir.rule')
        # A button runs without the rules of the user
        with check_access():
            domain = Rule.domain_get(cls.__name__, mode='write')
        allowed = set(cls.search([
                    ('id', 'in', [h.id for h in handovers]), domain]))
        for handover in handovers:
            if handover not in allowed:
                raise AccessError(gettext(
                        'return_management.msg_handover_end',
                        handover=handover.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('confirmed')
    def confirm(cls, handovers):
        pool = Pool()
        Order = pool.get('return.order')
        Order.lock({h.order for h in handovers})
        cls._check_end(handovers)
        now = dt.datetime.now()
        employees = defaultdict(list)
        for handover in handovers:
            if handover.at > now:
                raise HandoverError(gettext(
                        'return_management.msg_handover_future',
                        handover=handover.rec_name))
            employees[Order._get_employee(handover.company)].append(handover)
        for employee, records in employees.items():
            cls.write(records, {
                    'confirmed_by': employee.id,
                    'state': 'confirmed',
                    })
        orders = Order.browse(sorted({h.order for h in handovers}))
        Order._set_handovers(orders)
        Order._queue_process(orders)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    handovers = fields.One2Many(
        'return.handover', 'order', "Hand-overs", readonly=True,
        help="Who gave the goods to whom on their way back.")
    picked_up = fields.Boolean(
        "Picked up", readonly=True,
        help="Checked when the customer has handed the goods over.")
    handover_difference = fields.Boolean(
        "Difference between the Ends", readonly=True,
        help="Checked when other packages or another condition came to the "
        "warehouse than the customer handed over.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'handovers', 'picked_up', 'handover_difference'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.handover_difference, Index.Equality()),
                where=t.handover_difference == Literal(True)))

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('//label[@id="handover_differs"]', 'states', {
                    'invisible': ~Eval('handover_difference'),
                    }),
            ]

    @classmethod
    def default_picked_up(cls):
        return False

    @classmethod
    def default_handover_difference(cls):
        return False

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('handovers')
        default.setdefault('picked_up', False)
        default.setdefault('handover_difference', False)
        return super().copy(orders, default=default)

    def get_handovers(self, end):
        "Return the confirmed hand-overs of the end that nothing corrects"
        confirmed = [
            h for h in self.handovers
            if h.state == 'confirmed' and h.end == end]
        replaced = {h.replaces for h in confirmed}
        return [h for h in confirmed if h not in replaced]

    def _differs_between_ends(self):
        ends = [self.get_handovers(e) for e in ['customer', 'warehouse']]
        if not all(ends):
            return False
        customer, warehouse = (
            (sum(h.packages for h in hs), {h.condition for h in hs})
            for hs in ends)
        return customer != warehouse

    @classmethod
    def _set_handovers(cls, orders):
        values = defaultdict(list)
        for order in orders:
            values[
                bool(order.get_handovers('customer')),
                order._differs_between_ends()].append(order)
        for (picked_up, difference), records in values.items():
            cls.write(records, {
                    'picked_up': picked_up,
                    'handover_difference': difference,
                    })
        cls._update_stages(orders)


class Protocol(CompanyReport):
    __name__ = 'return.handover.protocol'

    @classmethod
    def get_context(cls, records, header, data):
        pool = Pool()
        Slip = pool.get('return.order.slip', type='report')
        WorkOrder = pool.get('return.order.work_order', type='report')
        context = super().get_context(records, header, data)
        company = context['company']
        context['format_quantity'] = Slip.format_quantity
        context['format_time'] = partial(
            WorkOrder.format_time,
            timezone=company.timezone if company else None)
        return context
