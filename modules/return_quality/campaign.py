# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from email.header import Header
from email.utils import formataddr
from html import escape

from sql import Null
from sql.aggregate import Sum

from trytond.config import config
from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import (
    CompanyValueMixin, employee_field, set_employee)
from trytond.modules.party.exceptions import EraseError
from trytond.modules.return_management.model import GuardedMixin
from trytond.modules.return_management.order import CHANNELS
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, Id
from trytond.sendmail import sendmail_transactional
from trytond.tools.email_ import convert_ascii_email, set_from_header
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import CampaignError


def sequence(company):
    return fields.Many2One(
        'ir.sequence', "Campaign Sequence", required=True,
        domain=[
            ('company', 'in', [company, None]),
            ('sequence_type', '=',
                Id('return_quality', 'sequence_type_campaign')),
            ])


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    campaign_sequence = fields.MultiValue(
        sequence(Eval('context', {}).get('company', -1)))

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'campaign_sequence':
            return pool.get('return.configuration.campaign')
        return super().multivalue_model(field)

    @classmethod
    def default_campaign_sequence(cls, **pattern):
        return (
            cls.multivalue_model('campaign_sequence')
            .default_campaign_sequence())


class ConfigurationSequence(CompanyValueMixin, ModelSQL):
    "Return Configuration Campaign"
    __name__ = 'return.configuration.campaign'

    campaign_sequence = sequence(Eval('company', -1))

    @classmethod
    def default_campaign_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id('return_quality', 'sequence_campaign')
        except KeyError:
            return None


class Campaign(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Return Campaign"
    __name__ = 'return.campaign'

    _states = {
        'readonly': Eval('state') != 'draft',
        }

    number = fields.Char(
        "Number", readonly=True,
        help="Set from the sequence when the campaign is started.")
    company = fields.Many2One(
        'company.company', "Company", required=True, states=_states)
    name = fields.Char("Name", required=True, states=_states)
    reason = fields.Many2One(
        'return.reason', "Reason", required=True, ondelete='RESTRICT',
        domain=[
            ('category', '=', 'quality'),
            ('freight_payer', '=', 'company'),
            ],
        states=_states,
        help="The reason of the returns: it must forbid to restock and to "
        "resell the goods.")
    products = fields.Many2Many(
        'return.campaign-product.product', 'campaign', 'product', "Products",
        required=True, states=_states,
        domain=[
            ('type', 'in', ['goods', 'assets']),
            ],
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="The products that are called back, also what was delivered of "
        "them as components.")
    from_date = fields.Date(
        "From Date",
        domain=['OR',
            ('from_date', '=', None),
            ('to_date', '=', None),
            ('from_date', '<=', Eval('to_date')),
            ],
        states=_states,
        help="The first day of the deliveries that are called back.\n"
        "Leave empty for all before.")
    to_date = fields.Date(
        "To Date", states=_states,
        help="The last day of the deliveries that are called back.\n"
        "Leave empty for all up to now.")
    text = fields.Text(
        "Text", required=True, states=_states,
        help="What the customers are told: the danger, what to do with the "
        "goods and how they come back.")
    customers = fields.One2Many(
        'return.campaign.customer', 'campaign', "Customers", readonly=True,
        states={
            'invisible': Eval('state') == 'draft',
            },
        help="Who has the goods; found when the campaign is started.")
    started_by = employee_field(
        "Started by", states=['running', 'closed', 'cancelled'])
    closed_by = employee_field("Closed by", states=['closed'])
    cancelled_by = employee_field("Cancelled by", states=['cancelled'])
    state = fields.Selection([
            ('draft', "Draft"),
            ('running', "Running"),
            ('closed', "Closed"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False)

    _guarded_fields = {
        'number', 'customers', 'started_by', 'closed_by', 'cancelled_by',
        'state'}
    _started_fields = {
        'company', 'name', 'reason', 'products', 'from_date', 'to_date',
        'text'}

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        for name in ['started_by', 'closed_by', 'cancelled_by']:
            getattr(cls, name).readonly = True
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_(['draft', 'running'])),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'running'),
            ('running', 'closed'),
            ('draft', 'cancelled'),
            ('running', 'cancelled'),
            ('closed', 'cancelled'),
            }
        cls._buttons.update({
                'start': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'close': {
                    'invisible': Eval('state') != 'running',
                    'icon': 'tryton-ok',
                    'depends': ['state'],
                    },
                'cancel': {
                    'invisible': Eval('state') == 'cancelled',
                    'depends': ['state'],
                    },
                })

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_reason(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id('return_quality', 'reason_recall')
        except KeyError:
            return None

    @classmethod
    def default_state(cls):
        return 'draft'

    def get_rec_name(self, name):
        return ' '.join(filter(None, [self.number, self.name]))

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('number', operator, value),
            ('name', operator, value),
            ]

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for campaigns, values in zip(args[::2], args[1::2]):
                if cls._started_fields & set(values):
                    cls._check_draft(campaigns)
        super().write(*args)

    @classmethod
    def delete(cls, campaigns):
        cls._check_draft(campaigns)
        super().delete(campaigns)

    @classmethod
    def _check_draft(cls, campaigns):
        for campaign in campaigns:
            if campaign.state != 'draft':
                raise AccessError(gettext(
                        'return_quality.msg_campaign_modify',
                        campaign=campaign.rec_name))

    @classmethod
    def copy(cls, campaigns, default=None):
        default = default.copy() if default is not None else {}
        for name in [
                'number', 'customers', 'started_by', 'closed_by',
                'cancelled_by']:
            default.setdefault(name)
        return super().copy(campaigns, default=default)

    @property
    def is_called(self):
        "Whether the goods are called back"
        return self.state in {'running', 'closed'}

    @classmethod
    @ModelView.button
    @Workflow.transition('running')
    @set_employee('started_by')
    def start(cls, campaigns):
        """Find who has the goods and draft their returns

        The returns wait for the customers to answer.
        """
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Customer = pool.get('return.campaign.customer')
        Order = pool.get('return.order')
        config_ = Configuration(1)
        cls._check_reason(campaigns)
        customers, orders = [], []
        for campaign in campaigns:
            Order._get_employee(campaign.company)
            if not campaign.number:
                campaign.number = config_.get_multivalue(
                    'campaign_sequence', company=campaign.company.id).get()
            by_sale_line, by_party = campaign._get_quantities()
            customers.extend(campaign._get_customers(by_sale_line, by_party))
            orders.extend(campaign._get_orders(by_sale_line))
        cls.save(campaigns)
        Customer.save(customers)
        Order.save(orders)

    @classmethod
    def _check_reason(cls, campaigns):
        for campaign in campaigns:
            if not {'restock', 'resale'} <= (
                    campaign.reason.all_forbidden_actions):
                raise CampaignError(gettext(
                        'return_quality.msg_campaign_reason',
                        campaign=campaign.rec_name,
                        reason=campaign.reason.rec_name))

    def _get_deliveries(self):
        """Yield origin, shipment, product and quantity of what was delivered

        The quantity is in the default unit of the product.
        """
        pool = Pool()
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        cursor = Transaction().connection.cursor()
        move = Move.__table__()
        location = Location.__table__()
        cursor.execute(*move
            .join(location, condition=move.to_location == location.id)
            .select(
                move.origin, move.shipment, move.product,
                Sum(move.internal_quantity),
                where=(location.type == 'customer')
                & self._get_delivery_clause(move),
                group_by=[move.origin, move.shipment, move.product],
                order_by=[move.origin, move.shipment, move.product]))
        return list(cursor)

    def _get_delivery_clause(self, move):
        "Return the SQL clause of the moves that are called back"
        clause = (
            (move.state == 'done')
            & (move.company == self.company.id)
            & move.product.in_([p.id for p in self.products]))
        if self.from_date:
            clause &= move.effective_date >= self.from_date
        if self.to_date:
            clause &= move.effective_date <= self.to_date
        return clause

    def _get_quantities(self):
        """Return what the customers have, by sale line and by party

        By sale line in its unit and no more than can still be returned;
        what was delivered without sale by party and product, in the default
        unit of the product.
        """
        pool = Pool()
        Product = pool.get('product.product')
        Shipment = pool.get('stock.shipment.out')
        sold = defaultdict(lambda: defaultdict(float))
        shipped = defaultdict(float)
        deliveries = self._get_deliveries()
        sale_lines = self._get_sale_lines({o for o, *_ in deliveries if o})
        for origin, shipment, product, quantity in deliveries:
            if origin in sale_lines:
                sold[sale_lines[origin]][product] += quantity
                continue
            model, _, id_ = (shipment or '').partition(',')
            if not origin and model == 'stock.shipment.out':
                shipped[int(id_), product] += quantity
        by_sale_line = {}
        # In the order in which they are read
        for line, quantities in sorted(
                sold.items(), key=lambda i: i[0].id):
            quantity = min(
                line.returnable_quantity,
                line._get_recall_quantity(quantities))
            if line.unit.round(quantity) > 0:
                by_sale_line[line] = line.unit.round(quantity)
        by_party = defaultdict(float)
        shipments = {
            s.id: s for s in Shipment.browse([id_ for id_, _ in shipped])}
        for (shipment, product), quantity in shipped.items():
            by_party[shipments[shipment].customer, Product(product)] += (
                quantity)
        return by_sale_line, by_party

    @classmethod
    def _get_sale_lines(cls, origins):
        "Map the origins of deliveries to the sale line"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        return {
            str(l): l for l in SaleLine.browse(
                cls._get_origin_ids(origins, SaleLine))}

    @staticmethod
    def _get_origin_ids(origins, Model):
        prefix = Model.__name__ + ','
        return sorted(
            int(o[len(prefix):]) for o in origins if o.startswith(prefix))

    def _get_customers(self, by_sale_line, by_party):
        pool = Pool()
        Customer = pool.get('return.campaign.customer')
        Uom = pool.get('product.uom')
        quantities = defaultdict(float, by_party)
        for line, quantity in by_sale_line.items():
            parts = line._get_recall_parts(quantity)
            for product, (unit, part) in parts.items():
                if product in self.products:
                    quantities[line.sale.party, product] += Uom.compute_qty(
                        unit, part, product.default_uom)
        return [
            Customer(
                campaign=self, party=party, product=product,
                unit=product.default_uom,
                quantity=product.default_uom.round(quantity))
            for (party, product), quantity in quantities.items()]

    def _get_orders(self, by_sale_line):
        "Return the draft returns, one for what has one payer"
        lines = defaultdict(list)
        for line, quantity in by_sale_line.items():
            sale = line.sale
            key = (
                sale.party, sale.invoice_party or sale.party, sale.currency)
            lines[key].append(self._get_order_line(line, quantity))
        return [
            self._get_order(party, currency, lines_)
            for (party, _, currency), lines_ in lines.items()]

    def _get_order(self, party, currency, lines):
        pool = Pool()
        Order = pool.get('return.order')
        return Order(
            company=self.company,
            party=party,
            contact_address=party.address_get(),
            currency=currency,
            channel='other',
            reference=self.number,
            description=self.text,
            warehouse=lines[0].sale_line.sale.warehouse,
            campaign=self,
            lines=lines)

    def _get_order_line(self, sale_line, quantity):
        pool = Pool()
        Line = pool.get('return.order.line')
        return Line(
            sale_line=sale_line,
            product=sale_line.product,
            unit=sale_line.unit,
            quantity=quantity,
            unit_price=sale_line.unit_price,
            reason=self.reason)

    @classmethod
    @ModelView.button
    @Workflow.transition('closed')
    @set_employee('closed_by')
    def close(cls, campaigns):
        for campaign in campaigns:
            for customer in campaign.customers:
                if not customer.told_at or not customer.answer:
                    raise CampaignError(gettext(
                            'return_quality.msg_campaign_close',
                            campaign=campaign.rec_name,
                            customer=customer.party.rec_name))

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    @set_employee('cancelled_by')
    def cancel(cls, campaigns):
        "Withdraw the recall: what no customer has answered to is cancelled"
        pool = Pool()
        Order = pool.get('return.order')
        Order.cancel(Order.search([
                    ('campaign', 'in', [c.id for c in campaigns]),
                    ('state', '=', 'draft'),
                    ]))


class CampaignProduct(ModelSQL):
    "Return Campaign - Product"
    __name__ = 'return.campaign-product.product'

    campaign = fields.Many2One(
        'return.campaign', "Campaign", required=True, ondelete='CASCADE')
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.campaign, Index.Range())),
                Index(t, (t.product, Index.Range())),
                })


class Customer(GuardedMixin, ModelSQL, ModelView):
    "Return Campaign Customer"
    __name__ = 'return.campaign.customer'

    _states_answer = {
        'readonly': (
            (Eval('campaign_state') != 'running') | ~Eval('told_at')),
        }

    campaign = fields.Many2One(
        'return.campaign', "Campaign", required=True, readonly=True,
        ondelete='CASCADE')
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_company')
    campaign_state = fields.Function(
        fields.Selection('get_campaign_states', "Campaign State"),
        'on_change_with_campaign_state')
    party = fields.Many2One(
        'party.party', "Customer", required=True, readonly=True,
        ondelete='RESTRICT',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    product = fields.Many2One(
        'product.product', "Product", required=True, readonly=True,
        ondelete='RESTRICT',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, readonly=True,
        ondelete='RESTRICT', help="The default unit of the product.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, readonly=True,
        help="What the customer had when the campaign was started.")
    returned_quantity = fields.Function(fields.Float(
            "Returned", digits='unit',
            help="What has come back by the returns of the campaign."),
        'get_returned_quantities')
    scrapped_quantity = fields.Function(fields.Float(
            "Scrapped", digits='unit',
            help="What of it we have destroyed."),
        'get_returned_quantities')
    destroyed_quantity = fields.Float(
        "Destroyed", digits='unit', required=True,
        domain=[
            ('destroyed_quantity', '>=', 0),
            ('destroyed_quantity', '<=', Eval('quantity', 0)),
            ],
        states=_states_answer,
        help="What the customer has destroyed; attach the evidence.")
    open_quantity = fields.Function(fields.Float(
            "Open", digits='unit',
            help="What is neither returned nor destroyed."),
        'get_open_quantity')
    told_at = fields.DateTime(
        "Told at", readonly=True, help="When the customer was told last.")
    told_by = fields.Many2One(
        'company.employee', "Told by", readonly=True, ondelete='RESTRICT')
    told_channel = fields.Selection(
        [(None, "")] + CHANNELS, "Channel", readonly=True, sort=False,
        help="How the customer was told.")
    told_text = fields.Text(
        "Told", readonly=True, help="What the customer was told.")
    told_to = fields.Char(
        "Sent to", readonly=True,
        states={
            'invisible': ~Eval('told_to'),
            },
        help="The e-mail address that the text was sent to.")
    answer = fields.Selection([
            (None, ""),
            ('returns', "Returns the Goods"),
            ('destroyed', "Has Destroyed Them"),
            ('used', "Has Used or Resold Them"),
            ('keeps', "Keeps Them"),
            ('unreachable', "Cannot be Reached"),
            ], "Answer", sort=False, states=_states_answer,
        help="What the customer has answered.")
    note = fields.Text(
        "Note", states=_states_answer,
        help="What else the customer has said.")
    answered_at = fields.DateTime(
        "Answered at", readonly=True,
        help="When the answer was recorded last.")
    answered_by = fields.Many2One(
        'company.employee', "Answer Recorded by", readonly=True,
        ondelete='RESTRICT')

    _guarded_fields = {
        'told_at', 'told_by', 'told_channel', 'told_text', 'told_to',
        'answered_at', 'answered_by'}
    _answer_fields = {'destroyed_quantity', 'answer', 'note'}
    _told_fields = [
        'told_at', 'told_by', 'told_channel', 'told_text', 'told_to']
    _given_fields = ['answer', 'answered_at', 'answered_by']

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.campaign, Index.Range())),
                Index(t, (t.party, Index.Range())),
                Index(
                    t, (t.campaign, Index.Range()),
                    where=(t.told_at == Null) | (t.answer == Null)),
                })
        cls._buttons.update({
                'tell': {
                    'invisible': Eval('campaign_state') != 'running',
                    'depends': ['campaign_state'],
                    },
                })

    @classmethod
    def merge(cls, source, destination):
        "Let one party answer for the goods of another that it replaces"
        to_save, to_delete = [], []
        rows = {
            (r.campaign, r.product): r
            for r in cls.search([('party', '=', destination.id)])}
        for row in cls.search([('party', '=', source.id)]):
            other = rows.get((row.campaign, row.product))
            if not other:
                continue
            for name in ['quantity', 'destroyed_quantity']:
                setattr(other, name, row.unit.round(
                        getattr(row, name) + getattr(other, name)))
            other.note = '\n'.join(filter(None, [other.note, row.note]))
            for names in [cls._told_fields, cls._given_fields]:
                if not any(getattr(other, n) for n in names):
                    for name in names:
                        setattr(other, name, getattr(row, name))
            to_save.append(other)
            to_delete.append(row)
        cls.save(to_save)
        cls.delete(to_delete)

    @classmethod
    def default_destroyed_quantity(cls):
        return 0

    @classmethod
    def get_campaign_states(cls):
        pool = Pool()
        Campaign = pool.get('return.campaign')
        return Campaign.fields_get(['state'])['state']['selection']

    @fields.depends('campaign', '_parent_campaign.company')
    def on_change_with_company(self, name=None):
        return self.campaign.company if self.campaign else None

    @classmethod
    def search_company(cls, name, clause):
        return [('campaign.' + clause[0], *clause[1:])]

    @fields.depends('campaign', '_parent_campaign.state')
    def on_change_with_campaign_state(self, name=None):
        return self.campaign.state if self.campaign else None

    @classmethod
    def get_returned_quantities(cls, customers, names):
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.search([
                ('order.campaign', 'in', list({
                            c.campaign.id for c in customers})),
                ])
        received = Line._get_received(lines)
        returned, scrapped = defaultdict(float), defaultdict(float)
        for line in lines:
            campaign, party = line.order.campaign.id, line.order.party.id
            for product, quantity in received[line.id].items():
                returned[campaign, party, product] += quantity
            for disposition in line.dispositions:
                if disposition.action == 'scrap':
                    for move in disposition.moves:
                        if (move.state == 'done'
                                and move.to_location.type == 'lost_found'):
                            scrapped[campaign, party, move.product.id] += (
                                move.internal_quantity)
        quantities = {
            'returned_quantity': returned,
            'scrapped_quantity': scrapped,
            }
        return {
            name: {
                c.id: c.unit.round(quantities[name][
                        c.campaign.id, c.party.id, c.product.id])
                for c in customers}
            for name in names}

    def get_open_quantity(self, name):
        return self.unit.round(max(
                0., self.quantity - self.returned_quantity
                - self.destroyed_quantity))

    def get_rec_name(self, name):
        return ' @ '.join([self.party.rec_name, self.campaign.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        _, operator, value = clause
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('party.rec_name', operator, value),
            ('campaign.rec_name', operator, value),
            ]

    @classmethod
    def write(cls, *args):
        if not Transaction().check_access:
            return super().write(*args)
        pool = Pool()
        Order = pool.get('return.order')
        now = dt.datetime.now().replace(microsecond=0)
        answered = []
        for customers, values in zip(args[::2], args[1::2]):
            cls._check_guarded(
                {n for n in values if n not in cls._answer_fields})
            for customer in customers:
                if (customer.campaign_state != 'running'
                        or not customer.told_at):
                    raise AccessError(gettext(
                            'return_quality.msg_campaign_customer_modify',
                            customer=customer.rec_name))
                answered.extend(([customer], {
                            'answered_at': now,
                            'answered_by': Order._get_employee(
                                customer.company).id,
                            }))
        super().write(*args)
        if answered:
            with Transaction().set_user(0, set_context=True):
                cls.write(*answered)

    @classmethod
    @ModelView.button_action('return_quality.wizard_campaign_tell')
    def tell(cls, customers):
        pass

    @classmethod
    def record_told(cls, customers, channel, text):
        "Record that the customers were told; by e-mail the text is sent"
        pool = Pool()
        Order = pool.get('return.order')
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for customer in customers:
            if customer.campaign_state != 'running':
                raise AccessError(gettext(
                        'return_quality.msg_campaign_customer_modify',
                        customer=customer.rec_name))
            if channel == 'email' and not customer.party.email:
                raise CampaignError(gettext(
                        'return_quality.msg_campaign_customer_email',
                        customer=customer.party.rec_name))
            to_write.extend(([customer], {
                        'told_at': now,
                        'told_by': Order._get_employee(customer.company).id,
                        'told_channel': channel,
                        'told_text': text,
                        'told_to': (
                            customer.party.email if channel == 'email'
                            else None),
                        }))
        if to_write:
            cls.write(*to_write)
        if channel == 'email':
            cls.send(cls.browse(customers))

    @classmethod
    def send(cls, customers):
        "Send the text, once to a party of a campaign"
        pool = Pool()
        Contact = pool.get('return.order.contact')
        Email = pool.get('ir.email')
        User = pool.get('res.user')
        user = User(Transaction().user)
        from_ = config.get('email', 'from')
        if customers:
            Contact._check_mail_server()
        emails = []
        for (campaign, party), customer in {
                (c.campaign, c.party): c for c in customers}.items():
            message = Contact._get_message('\n'.join([
                        customer.told_text, '', '-- ',
                        campaign.company.party.name]), [])
            set_from_header(message, from_, user.email or from_)
            message['To'] = formataddr((
                    party.name or '', convert_ascii_email(customer.told_to)))
            message['Subject'] = Header(campaign.name, 'utf-8')
            sendmail_transactional(
                from_, [customer.told_to], message, strict=True)
            emails.append(Email(
                    recipients=f'{party.name} <{customer.told_to}>',
                    addresses=[{'address': customer.told_to}],
                    subject=campaign.name,
                    body=escape(customer.told_text).replace('\n', '<br/>'),
                    resource=customer))
        Email.save(emails)


class Tell(Wizard):
    "Tell Customers of Return Campaign"
    __name__ = 'return.campaign.tell'

    start = StateView(
        'return.campaign.tell.start',
        'return_quality.campaign_tell_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'tell', 'tryton-ok', default=True),
            ])
    tell = StateTransition()

    def default_start(self, fields):
        return {
            'channel': 'email',
            'text': self.record.campaign.text,
            }

    def transition_tell(self):
        self.model.record_told(
            self.records, self.start.channel, self.start.text)
        return 'end'


class TellStart(ModelView):
    "Tell Customers of Return Campaign"
    __name__ = 'return.campaign.tell.start'

    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="By e-mail the text is sent at once; "
        "otherwise record what was told.")
    text = fields.Text("Text", required=True)


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def _get_recall_quantity(self, quantities):
        """Return how much of the line has what is called back

        quantities maps the ids of products to quantities in their default
        unit.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        return Uom.compute_qty(
            self.product.default_uom, quantities[self.product.id], self.unit)

    def _get_recall_parts(self, quantity):
        "Map the products of a quantity of the line to unit and quantity"
        return {self.product: (self.unit, quantity)}


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    campaign = fields.Many2One(
        'return.campaign', "Campaign", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': ~Eval('campaign'),
            },
        help="The recall that asks for the goods: they can be returned "
        "outside every period, at our cost and without fee.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'campaign'}
        t = cls.__table__()
        cls._sql_indexes.add(Index(
                t, (t.campaign, Index.Range()), where=t.campaign != Null))

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('campaign')
        return super().copy(orders, default=default)

    @property
    def _is_called_back(self):
        # A return that is only explained has none
        campaign = getattr(self, 'campaign', None)
        return bool(campaign) and campaign.is_called


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _judge(self, rules, facts):
        super()._judge(rules, facts)
        if self._is_called_back:
            self.eligible = True
            self.eligibility = '\n'.join(filter(None, [
                        gettext(
                            'return_quality.msg_eligibility_campaign',
                            campaign=self.order.campaign.rec_name),
                        self.eligibility]))

    @property
    def _is_called_back(self):
        "Whether the campaign asks for the goods, not only for the return"
        return bool(
            self.sale_line and self.order._is_called_back
            and any(
                self.order.campaign.calls_delivery(m)
                for m in self.sale_line._get_delivery_moves()))

    def _get_recall_products(self):
        "Return the products that may be called back"
        return {self.product}

    def _get_fee_rules(self):
        if self._is_called_back:
            return []
        return super()._get_fee_rules()


class Replace(metaclass=PoolMeta):
    __name__ = 'party.replace'

    @classmethod
    def fields_to_replace(cls):
        return super().fields_to_replace() + [
            ('return.campaign.customer', 'party'),
            ]

    def transition_replace(self):
        pool = Pool()
        Customer = pool.get('return.campaign.customer')
        Customer.merge(self.ask.source, self.ask.destination)
        return super().transition_replace()


class Erase(metaclass=PoolMeta):
    __name__ = 'party.erase'

    def check_erase_company(self, party, company):
        pool = Pool()
        Customer = pool.get('return.campaign.customer')
        super().check_erase_company(party, company)
        if Customer.search([
                    ('party', '=', party.id),
                    ('campaign.company', '=', company.id),
                    ('campaign.state', '=', 'running'),
                    ], limit=1):
            raise EraseError(gettext(
                    'return_quality.msg_erase_party_campaign',
                    party=party.rec_name,
                    company=company.rec_name))

    def to_erase(self, party_id):
        pool = Pool()
        Customer = pool.get('return.campaign.customer')
        Email = pool.get('ir.email')
        EmailAddress = pool.get('ir.email.address')
        where = [('party', '=', party_id)]
        customers = [str(c) for c in Customer.search(where)]
        return super().to_erase(party_id) + [
            (Customer, where, True,
                ['told_to', 'told_text', 'note'],
                [None, None, None]),
            (EmailAddress, [('email.resource', 'in', customers)], False,
                ['address'],
                ['****']),
            (Email, [('resource', 'in', customers)], False,
                ['recipients', 'body'],
                [None, None]),
            ]
