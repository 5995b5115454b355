# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .order import CHANNELS


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._buttons.update({
                'send_instructions': {
                    'invisible': (
                        ~Eval('state').in_(['reviewed', 'approved'])
                        | (Eval('receipt_state') == 'none')),
                    'depends': ['state', 'receipt_state'],
                    },
                })

    @classmethod
    @ModelView.button_action('return_management.wizard_order_instruct')
    def send_instructions(cls, orders):
        pass

    def _get_instructions(self):
        "Return the paragraphs that tell how the goods come back"
        return list(filter(None, [
                    self._get_instructions_way(),
                    self._get_instructions_parcel(),
                    self._get_instructions_goods(),
                    ]))

    def _get_instructions_way(self):
        if self.collection == 'pickup':
            if not self.pickup_from:
                return gettext(
                    'return_management.msg_instructions_pickup_open',
                    order=self.number)
            start, end = self._get_pickup_times()
            address = self._get_pickup_address()
            return '\n'.join([
                    gettext(
                        'return_management.msg_instructions_pickup',
                        order=self.number, start=start, end=end),
                    *(address.full_address.splitlines() if address else [])])
        return '\n'.join([
                gettext(
                    'return_management.msg_instructions_ship',
                    order=self.number),
                *self.get_return_recipient()])

    def _get_instructions_parcel(self):
        return '\n'.join([
                gettext('return_management.msg_instructions_parcel'),
                gettext(
                    'return_management.msg_instructions_number',
                    order=self.number),
                gettext(
                    'return_management.msg_instructions_sale',
                    sale=', '.join(s.number for s in self.sales)),
                gettext(
                    'return_management.msg_instructions_reason',
                    reason=', '.join(self.get_slip_reasons())),
                ])

    def _get_instructions_goods(self):
        pool = Pool()
        Slip = pool.get('return.order.slip', type='report')
        return '\n'.join([
                gettext('return_management.msg_instructions_goods'),
                *(f'{Slip.format_quantity(l, l.missing_quantity)} '
                    f'{l.product.rec_name}' for l in self.awaited_lines)])


class Contact(metaclass=PoolMeta):
    __name__ = 'return.order.contact'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.kind.selection.append(('instructions', "Instructions"))
        cls._sent_kinds = cls._sent_kinds | {'instructions'}

    def _get_attachments(self):
        pool = Pool()
        Slip = pool.get('return.order.slip', type='report')
        attachments = super()._get_attachments()
        if self.kind == 'instructions':
            type_, data, _, name = Slip.execute([self.order.id], {})
            attachments.append((f'{name}.{type_}', data))
        return attachments


class Instruct(Wizard):
    "Send Return Instructions"
    __name__ = 'return.order.instruct'

    start = StateView(
        'return.order.instruct.start',
        'return_management.order_instruct_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Send", 'send', 'tryton-ok', default=True),
            ])
    send = StateTransition()

    def default_start(self, fields):
        order = self.record
        party = order.applicant or order.party
        self.model.check_slip([order])
        email = order._find_email()
        with Transaction().set_context(
                language=(
                    party.lang.code if party.lang
                    else Transaction().language)):
            text = '\n\n'.join(
                self.model(order.id)._get_instructions())
        return {
            'party': party.id,
            'channel': 'email' if email else order.channel,
            'to': email,
            'text': text,
            }

    def transition_send(self):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        self.model.lock([self.record])
        orders = self.model.browse([self.record])
        self.model.check_slip(orders)
        Contact.record(
            orders, 'instructions', self.start.text, self.start.channel)
        return 'end'


class InstructStart(ModelView):
    "Send Return Instructions"
    __name__ = 'return.order.instruct.start'

    party = fields.Many2One('party.party', "Party", readonly=True)
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="By e-mail the text is sent at once with the return slip; "
        "otherwise record what was told.")
    to = fields.Char(
        "Send to", readonly=True,
        states={
            'invisible': Eval('channel') != 'email',
            },
        help="The e-mail address of who applied.")
    text = fields.Text(
        "Text", required=True,
        help="In the language of who applied; change it as needed.")
