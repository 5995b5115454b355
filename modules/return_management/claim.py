# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .configuration import default_limit, limit_field
from .exceptions import DiscrepancyError

ANSWERS = [
    ('accepted', "Accepted"),
    ('refused', "Refused"),
    ]
claim_days = limit_field(
    'claim_days', "Claim on the Carrier",
    "The number of working days that a carrier has to answer a claim.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    claim_days = fields.MultiValue(claim_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'claim_days':
            return pool.get('return.configuration.limit')
        return super().multivalue_model(field)

    default_claim_days = default_limit('claim_days')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    claim_days = claim_days

    @classmethod
    def default_claim_days(cls):
        return 20


class Discrepancy(metaclass=PoolMeta):
    __name__ = 'return.discrepancy'

    _states_claim = {
        'invisible': Eval('resolution') != 'claim',
        }

    claim_due_date = fields.Date(
        "Claim Due", readonly=True, states=_states_claim,
        help="The day until which the carrier has to answer.")
    claim_answer = fields.Selection(
        [(None, "")] + ANSWERS, "Answer", readonly=True, sort=False,
        states={
            **_states_claim,
            'required': Bool(Eval('claim_answered_at')),
            },
        help="What the carrier answered; empty while it is awaited.")
    claim_answer_amount = Monetary(
        "Conceded", currency='currency', digits='currency', readonly=True,
        states=_states_claim,
        help="What the carrier pays, positive.")
    claim_answer_text = fields.Text(
        "Answer Text", readonly=True,
        states={
            **_states_claim,
            'required': Bool(Eval('claim_answered_at')),
            })
    claim_answered_by = fields.Many2One(
        'company.employee', "Answer Recorded by", readonly=True,
        ondelete='RESTRICT', states=_states_claim)
    claim_answered_at = fields.DateTime(
        "Answered at", readonly=True, states=_states_claim)
    claim_invoice_lines = fields.One2Many(
        'account.invoice.line', 'origin', "Claim Invoice Lines",
        readonly=True, states=_states_claim,
        help="The lines of invoices to the carrier that have the "
        "discrepancy as origin.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'claim_due_date', 'claim_answer', 'claim_answer_amount',
            'claim_answer_text', 'claim_answered_by', 'claim_answered_at',
            'claim_invoice_lines'}
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(
                    t, (t.claim_due_date, Index.Range()),
                    where=(t.resolution == 'claim')
                    & (t.claim_answer == Null)),
                Index(
                    t, (t.claim_answer, Index.Equality()),
                    where=t.claim_answer == 'accepted'),
                })
        cls._buttons.update({
                'answer_claim': {
                    'invisible': (
                        (Eval('resolution') != 'claim')
                        | Bool(Eval('claim_answer'))),
                    'depends': ['resolution', 'claim_answer'],
                    },
                })

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('//group[@id="claim"]', 'states', cls._states_claim),
            ]

    @classmethod
    @ModelView.button_action(
        'return_management.wizard_discrepancy_answer_claim')
    def answer_claim(cls, discrepancies):
        pass

    @classmethod
    def record_answer(cls, discrepancies, answer, amount, text):
        "Record, once, what the carrier answered to claims"
        pool = Pool()
        Order = pool.get('return.order')
        Order.lock(sorted({d.order for d in discrepancies}, key=int))
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for discrepancy in cls.browse(discrepancies):
            if discrepancy.resolution != 'claim' or discrepancy.claim_answer:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_claim_answered',
                        discrepancy=discrepancy.rec_name))
            if answer == 'accepted' and not 0 < (amount or 0) <= (
                    discrepancy.claim_amount):
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_claim_amount',
                        discrepancy=discrepancy.rec_name))
            to_write.extend(([discrepancy], {
                        'claim_answer': answer,
                        'claim_answer_amount': (
                            amount if answer == 'accepted' else None),
                        'claim_answer_text': text,
                        'claim_answered_by': Order._get_employee(
                            discrepancy.company).id,
                        'claim_answered_at': now,
                        }))
        if to_write:
            cls.write(*to_write)


class InvoiceLine(metaclass=PoolMeta):
    __name__ = 'account.invoice.line'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.discrepancy']


class Resolve(metaclass=PoolMeta):
    __name__ = 'return.discrepancy.resolve'

    def default_start(self, fields):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        values = super().default_start(fields)
        company = self.record.company
        days = Configuration(1).get_multivalue(
            'claim_days', company=company.id)
        if days is not None:
            values['claim_due_date'] = Calendar.get(company).add_days(
                Calendar.get_today(company), days)
        return values

    def _get_values(self):
        values = super()._get_values()
        if self.start.resolution == 'claim':
            values['claim_due_date'] = self.start.claim_due_date
        return values


class ResolveStart(metaclass=PoolMeta):
    __name__ = 'return.discrepancy.resolve.start'

    claim_due_date = fields.Date(
        "Claim Due",
        states={
            'required': Eval('resolution') == 'claim',
            'invisible': Eval('resolution') != 'claim',
            },
        help="The day until which the carrier has to answer.")


class AnswerClaim(Wizard):
    "Record Answer to Claim"
    __name__ = 'return.discrepancy.answer_claim'

    start = StateView(
        'return.discrepancy.answer_claim.start',
        'return_management.discrepancy_answer_claim_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'answer', 'tryton-ok', default=True),
            ])
    answer = StateTransition()

    def default_start(self, fields):
        return {
            'currency': self.record.currency.id,
            'amount': self.record.claim_amount,
            }

    def transition_answer(self):
        start = self.start
        self.model.record_answer(
            [self.record], start.answer, start.amount, start.text)
        return 'end'


class AnswerClaimStart(ModelView):
    "Record Answer to Claim"
    __name__ = 'return.discrepancy.answer_claim.start'

    answer = fields.Selection(ANSWERS, "Answer", required=True, sort=False)
    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)
    amount = Monetary(
        "Conceded", currency='currency', digits='currency',
        domain=[
            If(Eval('answer') == 'accepted', ('amount', '>', 0), ()),
            ],
        states={
            'required': Eval('answer') == 'accepted',
            'invisible': Eval('answer') != 'accepted',
            },
        help="What the carrier pays, positive, no more than was claimed.")
    text = fields.Text(
        "Text", required=True, help="What the carrier answered, and how.")
