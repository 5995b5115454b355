# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from itertools import groupby

from trytond.i18n import gettext
from trytond.model import Index, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    employee_field, reset_employee, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool
from trytond.pyson import Bool, Eval
from trytond.transaction import Transaction

from .calendar import get_local_date
from .exceptions import ApplicationError
from .model import GuardedMixin


class ApplicationMixin(Workflow, GuardedMixin):
    """Apply for returned goods to leave the books

    The goods are dispositions with an action of their own.  Another person
    than the one who asks approves, by the cost of the goods.
    """
    __slots__ = ()
    _rec_name = 'number'
    # The names of the sequence and the limit on the configuration
    _sequence_name = None
    _limit_name = None
    # The state in which the goods leave
    _leaving_state = 'approved'
    _refusable_states = {'requested'}
    # The states in which no part of the goods can be given up
    _held_states = {'requested'}

    _states = {
        'readonly': Eval('state') != 'draft',
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the application is requested.")
    company = fields.Many2One(
        'company.company', "Company", required=True,
        states={
            'readonly': _states['readonly'] | Eval('dispositions', [0]),
            })
    cause = fields.Many2One(
        'return.write_off.cause', "Cause", required=True,
        ondelete='RESTRICT', states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Why the goods leave; it gives the account.")
    note = fields.Text("Note", states=_states)
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    amount = Monetary(
        "Amount", currency='currency', digits='currency', readonly=True,
        help="The cost of the goods, rounded, in the company's currency.\n"
        "Set when the application is requested; at its end that of what has "
        "really left.")
    requested_by = employee_field(
        "Requested by", states=[
            'requested', 'approved', 'done', 'rejected', 'cancelled'])
    approved_by = employee_field(
        "Approved by", states=['approved', 'done'])
    rejected_by = employee_field("Rejected by", states=['rejected'])
    refusal = fields.Text(
        "Refusal",
        states={
            'readonly': Eval('state') != 'requested',
            'invisible': ~Eval('state').in_(['requested', 'rejected']),
            },
        help="Why the application is refused.")
    state = fields.Selection([
            ('draft', "Draft"),
            ('requested', "Requested"),
            ('approved', "Approved"),
            ('done', "Done"),
            ('rejected', "Rejected"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Approved: the goods have still to leave.\n"
        "Cancelled: nothing has left.")

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        for name in ['requested_by', 'approved_by', 'rejected_by']:
            getattr(cls, name).readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['draft', 'requested', 'approved'])),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'requested'),
            ('requested', 'draft'),
            ('requested', 'approved'),
            ('requested', 'rejected'),
            ('approved', 'done'),
            ('draft', 'cancelled'),
            ('requested', 'cancelled'),
            }
        cls._buttons.update({
                'request': {
                    'invisible': Eval('state') != 'draft',
                    'readonly': ~Eval('dispositions', []),
                    'depends': ['state', 'dispositions'],
                    },
                'draft': {
                    'invisible': Eval('state') != 'requested',
                    'depends': ['state'],
                    },
                'approve': {
                    'invisible': Eval('state') != 'requested',
                    'depends': ['state'],
                    },
                'reject': {
                    'invisible': Eval('state') != 'requested',
                    'readonly': ~Bool(Eval('refusal')),
                    'depends': ['state', 'refusal'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(['draft', 'requested']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    def get_rec_name(self, name):
        return self.number or '(%s)' % self.id

    _guarded_fields = {
        'number', 'amount', 'requested_by', 'approved_by', 'rejected_by',
        'state'}
    _requested_fields = {'company', 'cause', 'note', 'dispositions'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for applications, values in zip(actions, actions):
            for application in applications:
                if (cls._requested_fields & set(values)
                        and application.state != 'draft') or (
                        'refusal' in values
                        and application.state not in cls._refusable_states):
                    raise AccessError(gettext(
                            'return_management.msg_application_modify',
                            application=application.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, applications):
        for application in applications:
            if application.state != 'draft' or application.number:
                raise AccessError(gettext(
                        'return_management.msg_application_modify',
                        application=application.rec_name))
        super().delete(applications)

    @classmethod
    def copy(cls, applications, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'amount', 'dispositions', 'refusal',
                'requested_by', 'approved_by', 'rejected_by']:
            default.setdefault(name)
        return super().copy(applications, default=default)

    @classmethod
    @ModelView.button
    @Workflow.transition('requested')
    @set_employee('requested_by')
    def request(cls, applications):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        config = Configuration(1)
        cls.lock(applications)
        cls._check_unclaimed(applications)
        to_save = []
        for application in applications:
            Order._get_employee(application.company)
            goods = application.get_goods()
            if not goods:
                raise ApplicationError(gettext(
                        'return_management.msg_application_empty',
                        application=application.rec_name))
            for part in goods:
                part._check_application_goods()
                part.set_write_off_cost()
            application._set_amount(goods)
            to_save.extend(goods)
        for company, c_applications in groupby(
                applications, key=lambda a: a.company):
            sequence = config.get_multivalue(
                cls._sequence_name, company=company.id)
            for application in c_applications:
                if not application.number:
                    application.number = sequence.get()
        cls._save_goods(to_save)
        cls.save(applications)

    def get_goods(self):
        "Return the records of the goods, without those that were given up"
        return [d for d in self.dispositions if d.state != 'cancelled']

    def _set_amount(self, goods):
        for part in goods:
            part.set_write_off_amount()
        self.amount = sum(p.write_off_amount for p in goods)

    @classmethod
    def _save_goods(cls, goods):
        models = defaultdict(list)
        for part in goods:
            models[part.__class__].append(part)
        for Model, records in models.items():
            Model.save(records)

    @classmethod
    def _check_unclaimed(cls, applications):
        "Check that customers had the time to claim what was refused"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        Lang = pool.get('ir.lang')
        config = Configuration(1)
        orders = defaultdict(dict)
        for application in applications:
            for disposition in application.dispositions:
                if (not disposition.accepted
                        and disposition.state != 'cancelled'):
                    orders[application.company].setdefault(
                        disposition.order, disposition)
        for company, dispositions in orders.items():
            calendar = Calendar.get(company)
            days = config.get_multivalue('unclaimed_days', company=company.id)
            today = Calendar.get_today(company)
            for order, disposition in dispositions.items():
                if order.to_tell or not order.told_at:
                    raise ApplicationError(gettext(
                            'return_management.msg_application_untold',
                            disposition=disposition.rec_name,
                            order=order.rec_name))
                if days is None:
                    continue
                date = calendar.add_days(
                    get_local_date(company, order.told_at), days)
                if today <= date:
                    raise ApplicationError(gettext(
                            'return_management.msg_application_unclaimed',
                            disposition=disposition.rec_name,
                            order=order.rec_name,
                            date=Lang.get().strftime(date)))

    @classmethod
    @ModelView.button
    @Workflow.transition('draft')
    @reset_employee('requested_by')
    def draft(cls, applications):
        pass

    @classmethod
    @ModelView.button
    @Workflow.transition('approved')
    @set_employee('approved_by')
    def approve(cls, applications):
        for application in applications:
            application._check_approve()
            for part in application.get_goods():
                part._check_application_goods()
        cls.write(applications, {'state': 'approved'})

    @classmethod
    def _take_out(cls, applications):
        "Let the goods leave the areas"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Disposition.decide([
                d for a in applications for d in a.dispositions
                if d.state == 'draft'])

    def _check_approve(self):
        "Check that the user may approve: another person, by amount"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        employee = Order._get_employee(self.company)
        if employee.party == self.requested_by.party:
            raise ApplicationError(gettext(
                    'return_management.msg_application_separation',
                    application=self.rec_name))
        limit = Configuration(1).get_multivalue(
            self._limit_name, company=self.company.id)
        if 'finance' not in Order._get_user_roles() and (
                limit is None or self.amount > limit):
            raise ApplicationError(gettext(
                    'return_management.msg_application_finance',
                    application=self.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('rejected')
    @set_employee('rejected_by')
    def reject(cls, applications):
        pool = Pool()
        Order = pool.get('return.order')
        for application in applications:
            Order._get_employee(application.company)
            if not application.refusal:
                raise ApplicationError(gettext(
                        'return_management.msg_application_refusal',
                        application=application.rec_name))
        cls.write(applications, {'state': 'rejected'})
        cls._release(applications)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, applications):
        cls.write(applications, {'state': 'cancelled'})
        cls._release(applications)

    @classmethod
    def _release(cls, applications):
        "Let the goods be decided anew; what is refused stays so"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        dispositions = [
            d for a in applications for d in a.get_goods()
            if isinstance(d, Disposition)]
        Disposition.cancel(dispositions)
        Disposition.copy(
            [d for d in dispositions if not d.accepted], default={
                'action': 'customer',
                'state': 'draft',
                })

    @classmethod
    def process(cls, applications):
        "Follow the goods to the end"
        done, cancelled, to_save = [], [], []
        for application in applications:
            goods = application.get_goods()
            if application.state != application._leaving_state or not all(
                    p.is_written_off for p in goods):
                continue
            # A part may have stayed
            application._set_amount(goods)
            to_save.extend(goods)
            (done if goods else cancelled).append(application)
        cls._save_goods(to_save)
        cls.save(done + cancelled)
        cls._do(done)
        cls.write(cancelled, {'state': 'cancelled'})

    @classmethod
    @Workflow.transition('done')
    def _do(cls, applications):
        pass
