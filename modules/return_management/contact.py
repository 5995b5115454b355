# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
import mimetypes
from email.encoders import encode_base64
from email.header import Header
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr
from html import escape
from smtplib import SMTPException

from sql import Null

from trytond.config import config
from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import RequiredValidationError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.sendmail import get_smtp_server, sendmail_transactional
from trytond.tools import grouped_slice
from trytond.tools.email_ import convert_ascii_email, set_from_header
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import ContactError, SignatureError
from .model import ImmutableMixin
from .order import CHANNELS

KINDS = [
    ('question', "Question"),
    ('refusal', "Refusal"),
    ('note', "Note"),
    ]


class Contact(ImmutableMixin, ModelSQL, ModelView):
    "Return Contact"
    __name__ = 'return.order.contact'

    # What goes out by e-mail
    _sent_kinds = {'question'}
    _message_create = 'return_management.msg_contact_create'
    _message_modify = 'return_management.msg_contact_modify'
    _states_question = {
        'invisible': Eval('kind') != 'question',
        }

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='RESTRICT')
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company')
    party = fields.Many2One(
        'party.party', "Party", required=True, readonly=True,
        ondelete='RESTRICT',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="With whom the contact was: the applicant.")
    kind = fields.Selection(
        KINDS, "Kind", required=True, readonly=True, sort=False,
        help="A question waits for an answer.")
    kind_string = kind.translated('kind')
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, readonly=True, sort=False,
        help="How the customer was contacted.")
    channel_string = channel.translated('channel')
    text = fields.Text(
        "Text", required=True, readonly=True,
        help="What was asked or told.")
    to = fields.Char(
        "Sent to", readonly=True,
        states={
            'invisible': ~Eval('to'),
            },
        help="The e-mail address that the text was sent to.")
    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="The submission of the return that the contact is about.")
    at = fields.DateTime("At", required=True, readonly=True)
    employee = fields.Many2One(
        'company.employee', "Employee", required=True, readonly=True,
        ondelete='RESTRICT',
        help="Who asked or told.")
    answer = fields.Text(
        "Answer", readonly=True, states=_states_question,
        help="What the customer answered; empty while it is awaited.")
    answered_at = fields.DateTime(
        "Answered at", readonly=True, states=_states_question,
        help="When the answer was recorded.")
    answered_by = fields.Many2One(
        'company.employee', "Answer Recorded by", readonly=True,
        ondelete='RESTRICT', states=_states_question)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('order')
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.order, Index.Range()), (t.round, Index.Range())),
                Index(t, (t.party, Index.Range())),
                Index(t, (t.at, Index.Range())),
                Index(
                    t, (t.order, Index.Range()),
                    where=(t.kind == 'question') & (t.answered_at == Null)),
                })
        cls._order = [('at', 'DESC'), ('id', 'DESC')]

    @fields.depends('order', '_parent_order.company')
    def on_change_with_company(self, name=None):
        return self.order.company if self.order else None

    @property
    def is_open(self):
        "Whether an answer is awaited"
        return self.kind == 'question' and not self.answered_at

    def get_rec_name(self, name):
        text = self.text.splitlines()[0]
        if len(text) > 40:
            text = text[:39] + '…'
        return ' @ '.join([text, self.order.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('party.rec_name', *clause[1:]),
            ('order.rec_name', *clause[1:]),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual',
                If((Eval('kind') == 'question') & ~Eval('answered_at'),
                    'warning', '')),
            ]

    @classmethod
    def _check_write(cls, *args):
        # The answer is recorded once
        if (Transaction().check_access
                or any(c.answered_at for cs in args[::2] for c in cs)
                or any(
                    set(v) - {'answer', 'answered_at', 'answered_by'}
                    for v in args[1::2])):
            super()._check_write(*args)

    @classmethod
    def record(cls, orders, kind, text, channel):
        "Record that the applicants of orders were told or asked the text"
        contacts = []
        for order in orders:
            if order.state in {'draft', 'cancelled'} or (
                    kind == 'question'
                    and order.state not in {'submitted', 'reviewed'}):
                raise ContactError(gettext(
                        'return_management.msg_contact_state',
                        order=order.rec_name))
            contact = order._get_contact(kind, text, channel)
            if kind in cls._sent_kinds and channel == 'email':
                contact.to = order._get_email()
            contacts.append(contact)
        cls.save(contacts)
        cls.send([c for c in contacts if c.to])
        return contacts

    @classmethod
    def send(cls, contacts):
        "Send the text, and no more of the return than its number"
        pool = Pool()
        Email = pool.get('ir.email')
        User = pool.get('res.user')
        user = User(Transaction().user)
        from_ = config.get('email', 'from')
        if contacts:
            cls._check_mail_server()
        emails = []
        for contact in contacts:
            order = contact.order
            with Transaction().set_context(
                    language=(
                        contact.party.lang.code if contact.party.lang
                        else Transaction().language)):
                subject = gettext(
                    'return_management.msg_contact_subject',
                    order=order.number)
                attachments = contact._get_attachments()
            text = '\n'.join(
                [contact.text, '', '-- ', order.company.party.name])
            message = cls._get_message(text, attachments)
            set_from_header(message, from_, user.email or from_)
            message['To'] = formataddr((
                    contact.party.name or '',
                    convert_ascii_email(contact.to)))
            message['Subject'] = Header(subject, 'utf-8')
            sendmail_transactional(from_, [contact.to], message, strict=True)
            emails.append(Email(
                    recipients=f'{contact.party.name} <{contact.to}>',
                    addresses=[{'address': contact.to}],
                    subject=subject,
                    body=escape(text).replace('\n', '<br/>'),
                    resource=order))
        Email.save(emails)

    def _get_attachments(self):
        "Return the names and contents of the files that are sent"
        return []

    @classmethod
    def _get_message(cls, text, attachments):
        content = MIMEText(text, 'plain', _charset='utf-8')
        if not attachments:
            return content
        message = MIMEMultipart()
        message.attach(content)
        for name, data in attachments:
            type_, _ = mimetypes.guess_type(name)
            part = MIMEBase(
                *(type_ or 'application/octet-stream').split('/'))
            part.set_payload(data)
            encode_base64(part)
            part.add_header(
                'Content-Disposition', 'attachment',
                filename=('utf-8', '', name))
            message.attach(part)
        return message

    @classmethod
    def _check_mail_server(cls):
        "Check that e-mails leave before what they ask is recorded"
        try:
            get_smtp_server(strict=True).quit()
        except (OSError, SMTPException) as exception:
            raise ContactError(gettext(
                    'return_management.msg_contact_mail_server',
                    exception=exception)) from exception

    @classmethod
    def record_answer(cls, contacts, text):
        "Record the answer to the questions"
        pool = Pool()
        Order = pool.get('return.order')
        if not text:
            raise RequiredValidationError(gettext(
                    'return_management.msg_contact_answer_required'))
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for contact in contacts:
            if not contact.is_open:
                raise ContactError(gettext(
                        'return_management.msg_contact_answered',
                        order=contact.order.rec_name))
            employee = Order._get_employee(contact.order.company)
            to_write.extend(([contact], {
                        'answer': text,
                        'answered_at': now,
                        'answered_by': employee.id,
                        }))
        if to_write:
            cls.write(*to_write)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    contacts = fields.One2Many(
        'return.order.contact', 'order', "Contacts", readonly=True)
    waiting_customer = fields.Function(
        fields.Boolean(
            "Waiting for Customer",
            help="A question to the customer has not been answered yet."),
        'get_waiting_customer', searcher='search_waiting_customer')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'contacts'}
        cls._buttons.update({
                'ask': {
                    'invisible': Eval('state').in_(['draft', 'cancelled']),
                    'depends': ['state'],
                    },
                'answer': {
                    'invisible': ~Eval('waiting_customer'),
                    'depends': ['waiting_customer'],
                    },
                })

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('//label[@id="customer_awaited"]', 'states', {
                    'invisible': ~Eval('waiting_customer'),
                    }),
            ]

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('contacts')
        return super().copy(orders, default=default)

    @classmethod
    def _waiting_customer_query(cls, ids=None):
        "Return the query of the orders with an open question of the round"
        pool = Pool()
        Contact = pool.get('return.order.contact')
        order = cls.__table__()
        contact = Contact.__table__()
        where = (
            (contact.kind == 'question')
            & (contact.answered_at == Null)
            & order.state.in_(['submitted', 'reviewed']))
        if ids is not None:
            where &= order.id.in_(ids)
        return (order
            .join(contact, condition=(contact.order == order.id)
                & (contact.round == order.round))
            .select(order.id, where=where))

    @classmethod
    def get_waiting_customer(cls, orders, name):
        cursor = Transaction().connection.cursor()
        waiting = dict.fromkeys(map(int, orders), False)
        for sub_orders in grouped_slice(orders):
            cursor.execute(*cls._waiting_customer_query(
                    list(map(int, sub_orders))))
            waiting.update((id_, True) for id_, in cursor)
        return waiting

    @classmethod
    def search_waiting_customer(cls, name, clause):
        _, operator, value = clause
        query = cls._waiting_customer_query()
        if operator in {'in', 'not in'}:
            if {True, False} <= set(map(bool, value)):
                return [('id', '!=' if operator == 'in' else '=', None)]
            value = True in value
            operator = '=' if operator == 'in' else '!='
        return [('id',
                'in' if (operator == '=') == bool(value) else 'not in',
                query)]

    def _is_waiting_customer(self):
        "Test if the clock stands still until the customer has answered"
        return (
            self.state in {'submitted', 'reviewed'}
            and any(
                c.is_open for c in self.contacts if c.round == self.round))

    def _find_email(self):
        "Return the e-mail address of who applied, or None"
        party = self.applicant or self.party
        mechanism = self.contact_mechanism
        # Without an own address the mechanism is the buyer's
        if (mechanism and mechanism.type == 'email'
                and mechanism.party == party):
            return mechanism.email
        return party.email

    def _get_email(self):
        email = self._find_email()
        if not email:
            raise ContactError(gettext(
                    'return_management.msg_contact_email_required',
                    order=self.rec_name,
                    party=(self.applicant or self.party).rec_name))
        return email

    def _get_contact(self, kind, text, channel):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        return Contact(
            order=self,
            party=self.applicant or self.party,
            kind=kind,
            channel=channel,
            text=text,
            round=self.round,
            at=dt.datetime.now().replace(microsecond=0),
            employee=self._get_employee(self.company))

    @classmethod
    def _sign(cls, orders, stage):
        for order in orders:
            if order._is_waiting_customer():
                raise SignatureError(gettext(
                        'return_management.msg_signature_question',
                        order=order.rec_name))
        super()._sign(orders, stage)

    @classmethod
    @ModelView.button
    def tell(cls, orders):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        to_tell = [o for o in orders if o.to_tell]
        super().tell(orders)
        Contact.save([
                o._get_contact('refusal', o._get_refusal(), o.told_channel)
                for o in cls.browse(to_tell)])

    def _get_refusal(self):
        "Return the words in which the return or a part of it was refused"
        refused = [o for o in self.opinions if o.round == self.round]
        refused.extend(d for l in self.lines for d in l.dispositions)
        return '\n\n'.join(filter(None, (r.get_refusal() for r in refused)))

    @classmethod
    @ModelView.button_action('return_management.wizard_order_ask')
    def ask(cls, orders):
        pass

    @classmethod
    @ModelView.button_action('return_management.wizard_order_answer')
    def answer(cls, orders):
        pass


class Ask(Wizard):
    "Contact Customer"
    __name__ = 'return.order.ask'

    start = StateView(
        'return.order.ask.start',
        'return_management.order_ask_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'ask', 'tryton-ok', default=True),
            ])
    ask = StateTransition()

    def default_start(self, fields):
        order = self.record
        party = order.applicant or order.party
        asking = order.state in {'submitted', 'reviewed'}
        return {
            'order_state': order.state,
            'kind': 'question' if asking else 'note',
            'party': party.id,
            'channel': order.channel,
            'to': order._find_email(),
            }

    def transition_ask(self):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        self.model.lock([self.record])
        orders = self.model.browse([self.record])
        # A refusal is recorded by telling it
        kind = 'question' if self.start.kind == 'question' else 'note'
        Contact.record(
            orders, kind, self.start.text, self.start.channel)
        self.model._update_stages(orders)
        return 'end'


class AskStart(ModelView):
    "Contact Customer"
    __name__ = 'return.order.ask.start'

    order_state = fields.Char("Order State", readonly=True)
    kind = fields.Selection([
            ('question', "Question"),
            ('note', "Note"),
            ], "Kind", required=True, sort=False,
        domain=[
            If(~Eval('order_state').in_(['submitted', 'reviewed']),
                ('kind', '=', 'note'),
                ()),
            ],
        help="Question: an answer is awaited; the return is not agreed to "
        "before and the days until then do not count.\n"
        "Note: a contact that took place.")
    party = fields.Many2One('party.party', "Party", readonly=True)
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="A question by e-mail is sent at once; "
        "otherwise record what was asked.")
    to = fields.Char(
        "Send to", readonly=True,
        states={
            'invisible': (
                (Eval('kind') != 'question') | (Eval('channel') != 'email')),
            },
        help="The e-mail address of who applied.")
    text = fields.Text(
        "Text", required=True,
        help="The e-mail consists of this text alone: neither prices nor "
        "data of the buyer when somebody else applied.")


class Answer(Wizard):
    "Record Answer"
    __name__ = 'return.order.answer'

    start = StateView(
        'return.order.answer.start',
        'return_management.order_answer_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'answer', 'tryton-ok', default=True),
            ])
    answer = StateTransition()

    def default_start(self, fields):
        contacts = [
            c.id for c in self.record.contacts
            if c.is_open and c.round == self.record.round]
        return {
            'contacts': contacts,
            # The first that was asked
            'contact': contacts[-1] if contacts else None,
            }

    def transition_answer(self):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        self.model.lock([self.record])
        orders = self.model.browse([self.record])
        contacts = Contact.browse([
                c for o in orders for c in o.contacts
                if c == self.start.contact])
        Contact.record_answer(contacts, self.start.answer)
        self.model._update_stages(orders)
        return 'end'


class AnswerStart(ModelView):
    "Record Answer"
    __name__ = 'return.order.answer.start'

    contacts = fields.Many2Many(
        'return.order.contact', None, None, "Contacts", readonly=True)
    contact = fields.Many2One(
        'return.order.contact', "Contact", required=True,
        domain=[
            ('id', 'in', Eval('contacts', [])),
            ],
        help="The question that is answered.")
    question = fields.Text("Question", readonly=True)
    answer = fields.Text(
        "Answer", required=True, help="What the customer answered.")

    @fields.depends('contact')
    def on_change_with_question(self):
        return self.contact.text if self.contact else None
