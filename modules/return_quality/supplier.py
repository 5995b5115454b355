# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from decimal import Decimal
from itertools import groupby

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    CompanyValueMixin, employee_field, reset_employee, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import round_price
from trytond.modules.return_management.configuration import limit_field
from trytond.modules.return_management.model import GuardedMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Date, Eval, Id, If
from trytond.transaction import Transaction

from .exceptions import ClaimError

claim_days = limit_field(
    'claim_days', "Supplier's Answer",
    "The number of working days that a supplier has to answer a claim.")


def sequence(company):
    return fields.Many2One(
        'ir.sequence', "Claim Sequence", required=True,
        domain=[
            ('company', 'in', [company, None]),
            ('sequence_type', '=',
                Id('return_quality', 'sequence_type_claim')),
            ])


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    claim_sequence = fields.MultiValue(
        sequence(Eval('context', {}).get('company', -1)))
    claim_days = fields.MultiValue(claim_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in {'claim_sequence', 'claim_days'}:
            return pool.get('return.configuration.claim')
        return super().multivalue_model(field)

    @classmethod
    def default_claim_sequence(cls, **pattern):
        return cls.multivalue_model('claim_sequence').default_claim_sequence()

    @classmethod
    def default_claim_days(cls, **pattern):
        return cls.multivalue_model('claim_days').default_claim_days()


class ConfigurationClaim(CompanyValueMixin, ModelSQL):
    "Return Configuration Claim"
    __name__ = 'return.configuration.claim'

    claim_sequence = sequence(Eval('company', -1))
    claim_days = claim_days

    @classmethod
    def default_claim_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id('return_quality', 'sequence_claim')
        except KeyError:
            return None

    @classmethod
    def default_claim_days(cls):
        return 20


class Claim(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Supplier Claim"
    __name__ = 'return.supplier.claim'
    _rec_name = 'number'

    _states = {
        'readonly': Eval('state') != 'draft',
        }
    _states_answer = {
        'readonly': Eval('state') != 'sent',
        'invisible': Eval('state').in_(['draft', 'cancelled']),
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the claim is sent.")
    company = fields.Many2One(
        'company.company', "Company", required=True,
        states={
            'readonly': _states['readonly'] | Eval('dispositions', [0]),
            })
    supplier = fields.Many2One(
        'party.party', "Supplier", required=True, ondelete='RESTRICT',
        states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    reference = fields.Char(
        "Reference",
        states={
            'readonly': ~Eval('state').in_(['draft', 'sent']),
            },
        help="The supplier's number of the claim.")
    description = fields.Text(
        "Description", states=_states, help="What the supplier is told.")
    dispositions = fields.One2Many(
        'return.disposition', 'claim', "Goods",
        domain=[
            ('action', '=', 'supplier'),
            ('company', '=', Eval('company', -1)),
            ],
        states=_states,
        help="The parts of received lines that go back to the supplier.")
    currency = fields.Many2One(
        'currency.currency', "Currency", required=True, states=_states)
    amount = Monetary(
        "Amount", currency='currency', digits='currency',
        domain=['OR',
            ('amount', '=', None),
            ('amount', '>', 0),
            ],
        states={
            'readonly': _states['readonly'],
            'required': ~Eval('state').in_(['draft', 'cancelled']),
            },
        help="What the supplier is asked to credit, untaxed, positive.\n"
        "Leave empty to claim the cost that the goods came in with.")
    due_date = fields.Date(
        "Due Date", states=_states,
        help="When the supplier has to answer.\n"
        "Leave empty to use the working days of the configuration.")
    answer = fields.Text(
        "Answer", states=_states_answer,
        help="What the supplier has answered.")
    accepted_amount = Monetary(
        "Accepted", currency='currency', digits='currency',
        domain=['OR',
            ('accepted_amount', '=', None),
            [
                ('accepted_amount', '>', 0),
                ('accepted_amount', '<=', Eval('amount', 0)),
                ],
            ],
        states=_states_answer,
        help="What the supplier agrees to credit, untaxed, positive.")
    waiver = fields.Text(
        "Return Waived", states=_states_answer,
        help="Why the supplier credits goods that have not left without "
        "wanting them back; they are then decided anew.\n"
        "Leave empty when they go back: the claim is accepted once they "
        "have left.")
    credit_note = fields.Many2One(
        'account.invoice', "Credit Note", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('credit_note'),
            },
        help="The supplier's credit note that is expected.")
    credit_note_missing = fields.Function(
        fields.Boolean(
            "Credit Note Missing",
            help="Checked when the credit note that the supplier agreed to "
            "was cancelled: it has to be made anew."),
        'on_change_with_credit_note_missing')
    sent_by = employee_field(
        "Sent by", states=['sent', 'accepted', 'refused', 'settled'])
    sent_at = fields.DateTime("Sent at", readonly=True)
    accepted_by = employee_field(
        "Acceptance Recorded by", states=['accepted', 'settled'])
    refused_by = employee_field("Refusal Recorded by", states=['refused'])
    answered_at = fields.DateTime(
        "Answered at", readonly=True, help="When the answer was recorded.")
    state = fields.Selection([
            ('draft', "Draft"),
            ('sent', "Sent"),
            ('accepted', "Accepted"),
            ('refused', "Refused"),
            ('settled', "Settled"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False,
        help="Accepted: the supplier's credit note is expected, or has to "
        "be made anew when it was cancelled.\n"
        "Settled: it is posted.")

    _guarded_fields = {
        'number', 'credit_note', 'sent_by', 'sent_at', 'accepted_by',
        'refused_by', 'answered_at', 'state'}
    _sent_fields = {
        'company', 'supplier', 'description', 'dispositions', 'currency',
        'amount', 'due_date'}
    _answer_fields = {'answer', 'accepted_amount', 'waiver'}

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        cls.reference.search_unaccented = False
        super().__setup__()
        for name in ['sent_by', 'accepted_by', 'refused_by']:
            getattr(cls, name).readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Similarity())),
                Index(t, (t.supplier, Index.Range())),
                Index(t, (t.credit_note, Index.Range()),
                    where=t.credit_note != Null),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['draft', 'sent', 'accepted'])),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'sent'),
            ('draft', 'cancelled'),
            ('sent', 'accepted'),
            ('sent', 'refused'),
            ('sent', 'cancelled'),
            ('refused', 'sent'),
            ('accepted', 'settled'),
            ('settled', 'accepted'),
            }
        cls._buttons.update({
                'send': {
                    'invisible': ~Eval('state').in_(['draft', 'refused']),
                    'readonly': ~Eval('dispositions', []),
                    'depends': ['state', 'dispositions'],
                    },
                'accept': {
                    'invisible': Eval('state') != 'sent',
                    'readonly': ~Bool(Eval('accepted_amount')),
                    'depends': ['state', 'accepted_amount'],
                    },
                'refuse': {
                    'invisible': Eval('state') != 'sent',
                    'readonly': ~Bool(Eval('answer')),
                    'depends': ['state', 'answer'],
                    },
                'credit': {
                    'invisible': ~Eval('credit_note_missing'),
                    'depends': ['credit_note_missing'],
                    },
                'cancel': {
                    'invisible': ~Eval('state').in_(['draft', 'sent']),
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_currency(cls):
        pool = Pool()
        Company = pool.get('company.company')
        company = cls.default_company()
        if company is not None and company >= 0:
            return Company(company).currency.id

    @classmethod
    def default_state(cls):
        return 'draft'

    @fields.depends('state', 'credit_note', '_parent_credit_note.state')
    def on_change_with_credit_note_missing(self, name=None):
        return bool(
            self.state == 'accepted'
            and self.credit_note
            and self.credit_note.state == 'cancelled')

    def get_rec_name(self, name):
        return self.number or '(%s)' % self.id

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('number', operator, value),
            ('reference', operator, value),
            ('supplier.rec_name', operator, value),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="due_date"]', 'visual',
                If((Eval('state') == 'sent')
                    & (Eval('due_date', Date()) < Date()),
                    'danger', '')),
            ('/tree/field[@name="state"]', 'visual',
                If(Eval('credit_note_missing'), 'danger', '')),
            ]

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for claims, values in zip(args[::2], args[1::2]):
                for claim in claims:
                    if (cls._sent_fields & set(values)
                            and claim.state != 'draft') or (
                            cls._answer_fields & set(values)
                            and claim.state != 'sent'):
                        raise AccessError(gettext(
                                'return_quality.msg_claim_modify',
                                claim=claim.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, claims):
        for claim in claims:
            if claim.state != 'draft' or claim.number:
                raise AccessError(gettext(
                        'return_quality.msg_claim_modify',
                        claim=claim.rec_name))
        super().delete(claims)

    @classmethod
    def copy(cls, claims, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'reference', 'dispositions', 'due_date', 'answer',
                'accepted_amount', 'waiver', 'credit_note', 'sent_by',
                'sent_at', 'accepted_by', 'refused_by', 'answered_at']:
            default.setdefault(name)
        return super().copy(claims, default=default)

    @classmethod
    @ModelView.button
    @Workflow.transition('sent')
    @reset_employee('sent_by', 'refused_by', when='before')
    @set_employee('sent_by')
    def send(cls, claims):
        """Claim the goods from the supplier and let them go back

        A refused claim is sent again; its goods are on their way already.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        # Numbers that are taken before a lock may be lost
        Order.lock(sorted(
                {d.order for c in claims for d in c.dispositions}, key=int))
        to_decide = []
        for company, c_claims in groupby(claims, key=lambda c: c.company):
            to_decide.extend(cls._prepare(company, list(c_claims)))
        cls.save(claims)
        # The goods go back only with a claim that was sent
        cls.write(claims, {'state': 'sent'})
        Disposition.decide(to_decide)

    @classmethod
    def _prepare(cls, company, claims):
        "Fill in what is to be sent and return the dispositions to decide"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        Date = pool.get('ir.date')
        Order = pool.get('return.order')
        config = Configuration(1)
        Order._get_employee(company)
        with Transaction().set_context(company=company.id):
            today = Date.today()
        calendar = Calendar.get(company)
        days = config.get_multivalue('claim_days', company=company.id)
        sequence = config.get_multivalue('claim_sequence', company=company.id)
        to_decide = []
        for claim in claims:
            goods = claim._get_goods()
            if not goods:
                raise ClaimError(gettext(
                        'return_quality.msg_claim_empty',
                        claim=claim.rec_name))
            if not claim.supplier.supplier_location:
                raise ClaimError(gettext(
                        'return_quality.msg_claim_supplier_location',
                        claim=claim.rec_name,
                        supplier=claim.supplier.rec_name))
            if not claim.number:
                claim.number = sequence.get()
            if not claim.amount:
                claim.amount = claim._get_amount(goods)
                if not claim.amount:
                    raise ClaimError(gettext(
                            'return_quality.msg_claim_amount',
                            claim=claim.rec_name))
            if days is not None and (
                    not claim.due_date or claim.state == 'refused'):
                claim.due_date = calendar.add_days(today, days)
            claim.sent_at = dt.datetime.now().replace(microsecond=0)
            claim.answer = claim.accepted_amount = claim.answered_at = None
            claim.waiver = None
            to_decide.extend(d for d in goods if d.state == 'draft')
        return to_decide

    def _get_goods(self):
        "Return the dispositions whose goods are claimed"
        return [
            d for d in self.dispositions
            if d.state != 'cancelled' or d.return_waived]

    def _get_amount(self, dispositions):
        "Return the cost of the goods in the currency of the claim"
        pool = Pool()
        Currency = pool.get('currency.currency')
        return Currency.compute(
            self.company.currency,
            sum(d._get_received_amount() for d in dispositions),
            self.currency)

    @classmethod
    @ModelView.button
    @Workflow.transition('accepted')
    @set_employee('accepted_by')
    def accept(cls, claims):
        "Record that the supplier agrees and expect the credit note"
        for claim in claims:
            claim._check_answer(claim.accepted_amount)
            claim._check_departure()
            claim.answered_at = dt.datetime.now().replace(microsecond=0)
        cls.save(claims)
        cls._waive(claims)
        cls._create_credit_notes(claims)
        cls._queue_orders(claims)

    def _check_departure(self):
        "Check that the goods have left, or are not wanted"
        goods = self._get_goods()
        if not goods:
            raise ClaimError(gettext(
                    'return_quality.msg_claim_empty',
                    claim=self.rec_name))
        if self.waiver:
            return
        for disposition in goods:
            if disposition.state != 'done':
                raise ClaimError(gettext(
                        'return_quality.msg_claim_departure',
                        claim=self.rec_name,
                        disposition=disposition.rec_name))

    @classmethod
    def _waive(cls, claims):
        "Keep the goods that the suppliers do not want, to be decided anew"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Shipment = pool.get('stock.shipment.in.return')
        goods = [
            d for c in claims if c.waiver for d in c._get_goods()
            if d.state != 'done']
        Shipment.cancel(list(dict.fromkeys(
                    m.shipment for d in goods for m in d.moves
                    if isinstance(m.shipment, Shipment)
                    and m.state != 'cancelled')))
        Disposition.write(goods, {'return_waived': True})
        Disposition.decide_anew({d: d.quantity for d in goods})

    @classmethod
    @ModelView.button
    def credit(cls, claims):
        "Make the credit note anew after it was cancelled"
        pool = Pool()
        Order = pool.get('return.order')
        cls.lock(claims)
        for claim in claims:
            Order._get_employee(claim.company)
        cls._create_credit_notes([
                c for c in cls.browse(claims) if c.credit_note_missing])

    @classmethod
    def _create_credit_notes(cls, claims):
        pool = Pool()
        Invoice = pool.get('account.invoice')
        claims = cls.browse(claims)
        for claim in claims:
            claim.credit_note = claim._get_credit_note()
        Invoice.save([c.credit_note for c in claims])
        Invoice.update_taxes([c.credit_note for c in claims])
        cls.save(claims)

    @classmethod
    @ModelView.button
    @Workflow.transition('refused')
    @set_employee('refused_by')
    def refuse(cls, claims):
        for claim in claims:
            claim._check_answer(claim.answer)
            claim.answered_at = dt.datetime.now().replace(microsecond=0)
        cls.save(claims)
        cls._queue_orders(claims)

    def _check_answer(self, answer):
        pool = Pool()
        Order = pool.get('return.order')
        Order._get_employee(self.company)
        if not answer:
            raise ClaimError(gettext(
                    'return_quality.msg_claim_answer',
                    claim=self.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, claims):
        "Withdraw claims whose goods are still here"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        goods = [
            d for c in claims for d in c.dispositions
            if d.state != 'cancelled']
        for disposition in goods:
            if disposition.state in {'waiting', 'done'}:
                raise ClaimError(gettext(
                        'return_quality.msg_claim_cancel',
                        claim=disposition.claim.rec_name,
                        disposition=disposition.rec_name))
        cls.write(claims, {'state': 'cancelled'})
        Disposition.cancel(goods)

    @classmethod
    @Workflow.transition('settled')
    def _settle(cls, claims):
        pass

    @classmethod
    @Workflow.transition('accepted')
    def _unsettle(cls, claims):
        pass

    @classmethod
    def process(cls, claims):
        "Follow the credit notes"
        cls._settle([
                c for c in claims if c.state == 'accepted'
                and c.credit_note.state in {'posted', 'paid'}])
        cls._unsettle([
                c for c in claims if c.state == 'settled'
                and c.credit_note.state not in {'posted', 'paid'}])

    @classmethod
    def release_refunds(cls):
        "Process the returns whose refund waits for a supplier"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        Order._queue_process(list(dict.fromkeys(
                    d.order for d in Disposition.search([
                            ('action', '=', 'supplier'),
                            ['OR',
                                [
                                    ('state', '=', 'draft'),
                                    ('claim', '=', None),
                                    ],
                                ('claim.state', 'in', ['draft', 'sent']),
                                ],
                            ]))))

    @classmethod
    def _queue_orders(cls, claims):
        pool = Pool()
        Order = pool.get('return.order')
        Order._queue_process(list(dict.fromkeys(
                    d.order for c in claims for d in c.dispositions)))

    @property
    def is_open(self):
        "Whether the supplier has not answered yet"
        return self.state in {'draft', 'sent'}

    def _get_credit_note(self):
        "Return the supplier's credit note, to the cent of what is accepted"
        pool = Pool()
        Invoice = pool.get('account.invoice')
        invoice = Invoice(
            company=self.company,
            type='in',
            party=self.supplier,
            currency=self.currency,
            reference=self.reference,
            description=self.number)
        invoice.set_journal()
        invoice.on_change_party()
        invoice.lines = self._get_credit_lines(invoice)
        return invoice

    def _get_credit_lines(self, invoice):
        """Return a line of each product and what the rounding leaves

        What is accepted is shared by the cost of the goods.
        """
        goods = self._get_goods()
        costs = [d._get_received_amount() for d in goods]
        if not any(costs):
            costs = [Decimal(1)] * len(goods)
        lines, rest = [], self.accepted_amount
        for disposition, cost in zip(goods, costs):
            amount = self.currency.round(
                self.accepted_amount * cost / sum(costs))
            line = disposition._get_claim_line(invoice, amount)
            lines.append(line)
            rest -= self.currency.round(
                -Decimal(str(line.quantity)) * line.unit_price)
        if rest:
            lines.append(self._get_rounding_line(lines[0], rest))
        return lines

    def _get_rounding_line(self, line, rest):
        pool = Pool()
        Line = pool.get('account.invoice.line')
        return Line(
            type='line', invoice_type='in', company=self.company,
            currency=self.currency, account=line.account, taxes=line.taxes,
            description=gettext('return_quality.msg_claim_rounding'),
            quantity=-1, unit_price=rest)


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    claim = fields.Many2One(
        'return.supplier.claim', "Supplier Claim", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            If(Eval('action') != 'supplier', ('id', '=', None), ()),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': Eval('action') != 'supplier',
            },
        help="The claim by which the goods go back to the supplier.")
    return_waived = fields.Boolean(
        "Return Waived", readonly=True,
        states={
            'invisible': ~Eval('return_waived'),
            },
        help="Checked when the supplier credits the goods without wanting "
        "them back: the claimed disposition is cancelled and another one "
        "says where they go.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.action.selection += [('supplier', "Back to Supplier")]
        cls._guarded_fields = cls._guarded_fields | {'return_waived'}
        cls._decided_fields = cls._decided_fields | {'claim'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.claim, Index.Range()), where=t.claim != Null))

    def on_change_action(self):
        super().on_change_action()
        if self.action != 'supplier':
            self.claim = None

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('claim')
        default.setdefault('return_waived')
        return super().copy(dispositions, default=default)

    @property
    def is_claimed(self):
        "Whether the supplier has been asked for it"
        return bool(self.claim) and self.claim.state in {
            'sent', 'accepted', 'settled'}

    @property
    def is_free(self):
        return super().is_free and not self.is_claimed

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for dispositions, values in zip(actions, actions):
            if Transaction().check_access and (
                    cls._decided_fields & set(values)):
                cls._check_claimed(dispositions)
        super().write(*args)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, dispositions):
        cls._check_claimed(dispositions)
        super().cancel(dispositions)

    @classmethod
    def _check_claimed(cls, dispositions):
        "Check that what the supplier was asked for stays as it was"
        for disposition in dispositions:
            if disposition.is_claimed:
                raise AccessError(gettext(
                        'return_quality.msg_claim_modify',
                        claim=disposition.claim.rec_name))

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if 'claim' in field_names:
            for disposition in dispositions:
                claim = disposition.claim
                if claim and claim.state != 'draft':
                    raise AccessError(gettext(
                            'return_quality.msg_claim_modify',
                            claim=claim.rec_name))

    def _needs_application(self):
        return super()._needs_application() or (
            self.action == 'supplier'
            and (not self.claim or self.claim.state != 'sent'))

    def _check_decide(self):
        super()._check_decide()
        if self.action == 'supplier' and self._needs_application():
            raise ClaimError(gettext(
                    'return_quality.msg_disposition_claim',
                    disposition=self.rec_name))

    def _get_received_amount(self):
        "Return the cost the goods came in with, in the company's currency"
        pool = Pool()
        Uom = pool.get('product.uom')
        return self.company.currency.round(
            Decimal(str(self.quantity)) * Uom.compute_price(
                self.product.default_uom,
                self._get_received_cost(self.product), self.unit))

    def _get_received_cost(self, product):
        "Return the cost of the product, booked or else its own"
        cost = self.line.get_received_cost(product)
        if cost is None:
            cost = product.get_multivalue(
                'cost_price', company=self.company.id) or Decimal(0)
        return cost

    def _get_new_decision(self, quantity):
        disposition = super()._get_new_decision(quantity)
        if (self.action == 'supplier'
                and 'write_off' not in self.line.reason.all_forbidden_actions):
            # What nobody wants back is defective
            disposition.action = 'write_off'
        disposition.return_waived = self.return_waived
        return disposition

    def _is_favour_decided(self):
        return super()._is_favour_decided() or bool(
            self.state == 'draft' and self.return_waived)

    def _get_claim_line(self, invoice, amount):
        "Return the line of the credit note about the goods"
        pool = Pool()
        Line = pool.get('account.invoice.line')
        line = Line(
            invoice=invoice, type='line', invoice_type='in',
            company=self.company, currency=invoice.currency,
            party=invoice.party, product=self.product, unit=self.unit,
            quantity=-self.quantity,
            stock_moves=[m for m in self.moves if m.state == 'done'])
        line.on_change_product()
        line.unit = self.unit
        line.unit_price = round_price(amount / Decimal(str(self.quantity)))
        return line

    def _get_shipment_key(self):
        key = super()._get_shipment_key()
        if self.action == 'supplier':
            key += (self.claim,)
        return key

    def _get_to_location(self):
        if self.action == 'supplier':
            return self.claim.supplier.supplier_location
        return super()._get_to_location()

    def _get_shipment(self):
        if self.action == 'supplier':
            return self._get_shipment_in_return()
        return super()._get_shipment()

    def _get_shipment_in_return(self):
        pool = Pool()
        Date = pool.get('ir.date')
        Shipment = pool.get('stock.shipment.in.return')
        with Transaction().set_context(company=self.company.id):
            today = Date.today()
        supplier = self.claim.supplier
        return Shipment(
            company=self.company,
            supplier=supplier,
            delivery_address=supplier.address_get('delivery'),
            from_location=self.line._get_area(),
            to_location=self._get_to_location(),
            planned_date=today,
            reference=self.claim.number,
            state='draft')

    def _get_moves(self, shipment):
        pool = Pool()
        Uom = pool.get('product.uom')
        moves = super()._get_moves(shipment)
        if self.action == 'supplier':
            for move in moves:
                move.currency = self.company.currency
                move.unit_price = round_price(Uom.compute_price(
                        move.product.default_uom,
                        self._get_received_cost(move.product), move.unit))
        return moves


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @property
    def is_return_to_supplier(self):
        "Whether the move brings goods of a return back to the supplier"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        return (
            self.to_location.type == 'supplier'
            and isinstance(self.origin, Disposition))

    @property
    def is_return_departure(self):
        return super().is_return_departure or self.is_return_to_supplier


class PolicyLine(metaclass=PoolMeta):
    __name__ = 'return.policy.line'

    supplier_days = fields.Integer(
        "Wait for Supplier",
        domain=[
            If(Eval('basis') == 'statutory',
                ('supplier_days', '=', None),
                ['OR',
                    ('supplier_days', '=', None),
                    [
                        ('supplier_days', '>', 0),
                        ('supplier_days', '<=', 365),
                        ],
                    ]),
            ],
        states={
            'readonly': Eval('policy_state', 'draft') != 'draft',
            'invisible': Eval('basis') == 'statutory',
            },
        help="The number of days after the receipt that the refund of goods "
        "waits at most for the supplier to answer the claim about them.\n"
        "A statutory refund never waits; leave empty for not at all.")


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_refundable_quantity(self, disputed=True):
        quantity = super()._get_refundable_quantity(disputed=disputed)
        if disputed:
            quantity -= self._get_claimed_quantity()
        return max(0, self.unit.round(quantity))

    def _get_claimed_quantity(self):
        "Return the quantity whose refund waits for a supplier"
        pool = Pool()
        Date = pool.get('ir.date')
        claimed = [
            d for d in self.dispositions
            if d.accepted and d.action == 'supplier'
            and d.state != 'cancelled'
            and (not d.claim or d.claim.is_open)]
        rules = self._get_rules()
        if not claimed or not rules or not all(
                r.supplier_days for r in rules):
            return 0
        with Transaction().set_context(company=self.order.company.id):
            today = Date.today()
        received = max(
            m.effective_date for m in self.moves if m.state == 'done')
        last = received + dt.timedelta(
            days=min(r.supplier_days for r in rules))
        return sum(d.line_quantity for d in claimed) if today <= last else 0


class Invoice(metaclass=PoolMeta):
    __name__ = 'account.invoice'

    @classmethod
    def write(cls, *args):
        pool = Pool()
        Claim = pool.get('return.supplier.claim')
        super().write(*args)
        invoices = [
            i for invoices, values in zip(args[::2], args[1::2])
            if 'state' in values for i in invoices if i.type == 'in']
        if invoices:
            Claim.process(Claim.search([
                        ('credit_note', 'in', [i.id for i in invoices]),
                        ]))


class Cron(metaclass=PoolMeta):
    __name__ = 'ir.cron'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.method.selection.append((
                'return.supplier.claim|release_refunds',
                "Release Refunds that Wait for Suppliers"))


class Replace(metaclass=PoolMeta):
    __name__ = 'party.replace'

    @classmethod
    def fields_to_replace(cls):
        return super().fields_to_replace() + [
            ('return.supplier.claim', 'supplier'),
            ]
