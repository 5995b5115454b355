# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from decimal import Decimal

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company import CompanyReport
from trytond.modules.company.model import (
    CompanyValueMixin, employee_field, set_employee)
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.modules.return_management.application import ApplicationMixin
from trytond.modules.return_management.model import EvidenceMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, Id, If
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import ScrapError

METHODS = [
    ('dismantling', "Dismantling"),
    ('recycling', "Recycling"),
    ('shredding', "Shredding"),
    ('incineration', "Incineration"),
    ('disposal', "Disposal"),
    ('other', "Other"),
    ]

limit = fields.Numeric(
    "Scrap Limit", digits=(16, 2),
    domain=['OR',
        ('scrap_limit', '=', None),
        ('scrap_limit', '>=', 0),
        ],
    help="The amount, in the company's currency, up to which sales and "
    "production approve that goods are scrapped.\n"
    "Finance approves what is above; leave empty to always ask finance.")


def sequence(company):
    return fields.Many2One(
        'ir.sequence', "Scrap Sequence", required=True,
        domain=[
            ('company', 'in', [company, None]),
            ('sequence_type', '=',
                Id('return_quality', 'sequence_type_scrap')),
            ])


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    scrap_sequence = fields.MultiValue(
        sequence(Eval('context', {}).get('company', -1)))
    scrap_limit = fields.MultiValue(limit)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in {'scrap_sequence', 'scrap_limit'}:
            return pool.get('return.configuration.scrap')
        return super().multivalue_model(field)

    @classmethod
    def default_scrap_sequence(cls, **pattern):
        return cls.multivalue_model('scrap_sequence').default_scrap_sequence()


class ConfigurationScrap(CompanyValueMixin, ModelSQL):
    "Return Configuration Scrap"
    __name__ = 'return.configuration.scrap'

    scrap_sequence = sequence(Eval('company', -1))
    scrap_limit = limit

    @classmethod
    def default_scrap_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id('return_quality', 'sequence_scrap')
        except KeyError:
            return None


class Cause(metaclass=PoolMeta):
    __name__ = 'return.write_off.cause'

    abnormal = fields.Boolean(
        "Abnormal Loss",
        help="Check if the input tax of scrapped goods must be reversed.")

    @classmethod
    def default_abnormal(cls):
        return False


class Scrap(EvidenceMixin, ApplicationMixin, ModelSQL, ModelView):
    "Return Scrap"
    __name__ = 'return.scrap'
    _sequence_name = 'scrap_sequence'
    _limit_name = 'scrap_limit'
    _leaving_state = 'destroyed'
    _refusable_states = {'requested', 'approved'}
    _held_states = {'requested', 'approved', 'destroyed'}

    _states_destroyed = {
        'invisible': ~Eval('state').in_(['destroyed', 'done']),
        }
    _states_tax = {
        'invisible': ~Eval('abnormal') | (Eval('state') != 'done'),
        }

    dispositions = fields.One2Many(
        'return.disposition', 'scrap', "Goods",
        domain=[
            ('action', '=', 'scrap'),
            ('company', '=', Eval('company', -1)),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="The parts of received lines that are scrapped.")
    destroyed_on = fields.Date(
        "Destroyed on", readonly=True, states=_states_destroyed)
    destruction = fields.Selection(
        [(None, "")] + METHODS, "Method", readonly=True, sort=False,
        states=_states_destroyed, help="How the goods were destroyed.")
    destruction_string = destruction.translated('destruction')
    destruction_note = fields.Text(
        "Destruction Note", readonly=True, states=_states_destroyed,
        help="Where and by whom; the number of the waste document.")
    destroyed_by = employee_field(
        "Destruction Recorded by", states=['destroyed', 'done'])
    witness = fields.Many2One(
        'company.employee', "Witness", readonly=True, ondelete='RESTRICT',
        states=_states_destroyed,
        help="Who else saw the destruction.")
    abnormal = fields.Boolean(
        "Abnormal Loss", readonly=True,
        help="Set from the cause when the application is requested.")
    input_tax = Monetary(
        "Input Tax", currency='currency', digits='currency', readonly=True,
        states=_states_tax,
        help="The supplier taxes on the cost of the goods, that are to be "
        "reversed, in the company's currency.\n"
        "Set when the goods have left.")
    input_tax_reference = fields.Char(
        "Input Tax Reversal",
        states={
            'invisible': _states_tax['invisible'],
            'readonly': (
                (Eval('state') != 'done') | Bool(Eval('input_tax_by'))),
            },
        help="The number of the entry that reverses the input tax.")
    input_tax_by = fields.Many2One(
        'company.employee', "Input Tax Reversed by", readonly=True,
        ondelete='RESTRICT', states=_states_tax)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.destroyed_by.readonly = True
        cls.state.selection.insert(3, ('destroyed', "Destroyed"))
        cls.state.help = (
            "Approved: the goods have still to be destroyed.\n"
            "Destroyed: the warehouse has to post the shipment.\n"
            "Cancelled: nothing has left.")
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.state, Index.Equality()),
                where=(t.state == 'done') & (t.input_tax_by == Null)))
        cls._guarded_fields = cls._guarded_fields | {
            'destroyed_on', 'destruction', 'destruction_note', 'destroyed_by',
            'witness', 'abnormal', 'input_tax', 'input_tax_by'}
        cls._transitions |= {
            ('approved', 'destroyed'),
            ('approved', 'rejected'),
            ('destroyed', 'done'),
            }
        refusable = Eval('state').in_(sorted(cls._refusable_states))
        cls.refusal.states = {
            'readonly': ~refusable,
            'invisible': ~refusable & (Eval('state') != 'rejected'),
            }
        cls._buttons['reject']['invisible'] = ~refusable
        cls._buttons.update({
                'destroy': {
                    'invisible': Eval('state') != 'approved',
                    'depends': ['state'],
                    },
                'reverse_tax': {
                    'invisible': (
                        ~Eval('abnormal') | (Eval('state') != 'done')
                        | Bool(Eval('input_tax_by'))),
                    'readonly': ~Eval('input_tax_reference'),
                    'depends': [
                        'abnormal', 'state', 'input_tax_by',
                        'input_tax_reference'],
                    },
                })

    @property
    def attachments_kept(self):
        return self.state in {'destroyed', 'done'}

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for scraps, values in zip(actions, actions):
            for scrap in scraps:
                if 'input_tax_reference' in values and (
                        scrap.state != 'done' or scrap.input_tax_by):
                    raise AccessError(gettext(
                            'return_management.msg_application_modify',
                            application=scrap.rec_name))
        super().write(*args)

    @classmethod
    def copy(cls, scraps, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'destroyed_on', 'destruction', 'destruction_note',
                'destroyed_by', 'witness', 'abnormal', 'input_tax',
                'input_tax_reference', 'input_tax_by']:
            default.setdefault(name)
        return super().copy(scraps, default=default)

    @classmethod
    @ModelView.button
    @Workflow.transition('requested')
    def request(cls, scraps):
        super().request(scraps)
        for scrap in scraps:
            scrap.abnormal = scrap.cause.abnormal
        cls.save(scraps)

    @classmethod
    @ModelView.button_action('return_quality.wizard_scrap_destroy')
    def destroy(cls, scraps):
        pass

    @classmethod
    @Workflow.transition('destroyed')
    @set_employee('destroyed_by')
    def record_destruction(cls, scraps, date, method, witness, note=None):
        """Record that the goods were destroyed and let them leave the books

        Another person than the one who records it must have seen it and the
        evidence must be attached.
        """
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        Date = pool.get('ir.date')
        Order = pool.get('return.order')
        proved = {
            a.resource for a in Attachment.search([
                    ('resource', 'in', [str(s) for s in scraps]),
                    ])}
        for scrap in scraps:
            employee = Order._get_employee(scrap.company)
            if employee.party == witness.party or (
                    witness.company != scrap.company):
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_witness',
                        scrap=scrap.rec_name))
            if scrap not in proved:
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_evidence',
                        scrap=scrap.rec_name))
            with Transaction().set_context(company=scrap.company.id):
                today = Date.today()
            if date > today:
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_date',
                        scrap=scrap.rec_name))
        cls.write(scraps, {
                'destroyed_on': date,
                'destruction': method,
                'destruction_note': note,
                'witness': witness.id,
                'state': 'destroyed',
                })
        cls._take_out(scraps)

    @classmethod
    def process(cls, scraps):
        super().process(scraps)
        done = [
            s for s in cls.browse(scraps)
            if s.state == 'done' and s.abnormal and s.input_tax is None]
        for scrap in done:
            scrap.input_tax = scrap._get_input_tax()
        cls.save(done)

    def _get_input_tax(self):
        "Return the supplier taxes on the cost of what has left"
        pool = Pool()
        Tax = pool.get('account.tax')
        amount = Decimal(0)
        with Transaction().set_context(company=self.company.id):
            for part in self.__class__(self.id).get_goods():
                amount += sum(
                    tax['amount'] for tax in Tax.compute(
                        part.product.supplier_taxes_used,
                        part.write_off_cost, part.quantity,
                        self.destroyed_on))
        return self.currency.round(amount)

    @classmethod
    @ModelView.button
    def reverse_tax(cls, scraps):
        "Record that finance has reversed the input tax"
        pool = Pool()
        Order = pool.get('return.order')
        to_save = []
        for scrap in scraps:
            if (scrap.state != 'done' or not scrap.abnormal
                    or scrap.input_tax_by):
                continue
            if not scrap.input_tax_reference:
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_input_tax',
                        scrap=scrap.rec_name))
            scrap.input_tax_by = Order._get_employee(scrap.company)
            to_save.append(scrap)
        cls.save(to_save)


class Destroy(Wizard):
    "Record Destruction"
    __name__ = 'return.scrap.destroy'

    start = StateView(
        'return.scrap.destroy.start',
        'return_quality.scrap_destroy_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'destroy', 'tryton-ok', default=True),
            ])
    destroy = StateTransition()

    def default_start(self, fields):
        return {
            'company': self.record.company.id,
            }

    def transition_destroy(self):
        self.model.record_destruction(
            self.records, self.start.date, self.start.method,
            self.start.witness, self.start.note)
        return 'end'


class DestroyStart(ModelView):
    "Record Destruction"
    __name__ = 'return.scrap.destroy.start'

    company = fields.Many2One('company.company', "Company", readonly=True)
    date = fields.Date("Date", required=True)
    method = fields.Selection(METHODS, "Method", required=True, sort=False)
    witness = fields.Many2One(
        'company.employee', "Witness", required=True,
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        help="Who else saw the destruction.")
    note = fields.Text(
        "Note", help="Where and by whom; the number of the waste document.")


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    scrap = fields.Many2One(
        'return.scrap', "Scrap", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            If(Eval('action') != 'scrap', ('id', '=', None), ()),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': Eval('action') != 'scrap',
            },
        help="The application that must be approved.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.action.selection += [('scrap', "Scrap")]
        for name in ['write_off_cost', 'write_off_amount']:
            getattr(cls, name).states['invisible'] &= (
                Eval('action') != 'scrap')
        cls._application_fields = cls._application_fields | {'scrap'}
        cls._decided_fields = cls._decided_fields | {'scrap'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.scrap, Index.Range()), where=t.scrap != Null))

    @classmethod
    def _applied_actions(cls):
        return super()._applied_actions() | {'scrap'}

    def _check_moves(self, moves):
        pool = Pool()
        Uom = pool.get('product.uom')
        super()._check_moves(moves)
        if not self.scrap:
            return
        for product, (unit, quantity) in self._get_parts().items():
            moved = sum(
                Uom.compute_qty(m.unit, m.quantity, unit)
                for m in moves if m.product == product)
            if unit.round(moved - quantity) < 0:
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_whole',
                        disposition=self.rec_name,
                        scrap=self.scrap.rec_name))

    @property
    def application(self):
        return self.scrap or super().application

    def on_change_action(self):
        super().on_change_action()
        if self.action != 'scrap':
            self.scrap = None

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('scrap')
        return super().copy(dispositions, default=default)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _process_dispositions(cls, orders):
        pool = Pool()
        Scrap = pool.get('return.scrap')
        super()._process_dispositions(orders)
        Scrap.process(Scrap.browse(list({
                        d.scrap.id for o in orders for l in o.lines
                        for d in l.dispositions if d.scrap})))


class Application(CompanyReport):
    __name__ = 'return.scrap.application'

    @classmethod
    def get_context(cls, records, header, data):
        pool = Pool()
        Report = pool.get('return.inspection.report', type='report')
        context = super().get_context(records, header, data)
        context['cost_digits'] = price_digits[1]
        context['format_quantity'] = cls.format_quantity
        context['get_lots'] = Report.get_lots
        return context

    @classmethod
    def format_quantity(cls, disposition):
        return cls.format_number_symbol(
            disposition.quantity, None, disposition.unit,
            digits=disposition.unit.digits)


class Certificate(Application):
    __name__ = 'return.scrap.certificate'

    @classmethod
    def execute(cls, ids, data):
        pool = Pool()
        Scrap = pool.get('return.scrap')
        for scrap in Scrap.browse(ids):
            if scrap.state not in {'destroyed', 'done'}:
                raise ScrapError(gettext(
                        'return_quality.msg_scrap_certificate',
                        scrap=scrap.rec_name))
        return super().execute(ids, data)
