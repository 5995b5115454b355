# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import re
from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.tools import escape_wildcard
from trytond.transaction import Transaction, check_access
from trytond.wizard import Button, StateAction, StateView, Wizard

from .exceptions import EntryError
from .order import CHANNELS
from .wish import WISHES

LIMIT_FOUND = 20
LIMIT_SALES = 200
LIMIT_SEARCHED = 500
LIMIT_SHOWN = 100


class Entry(Wizard):
    "Enter Return"
    __name__ = 'return.order.entry'

    start = StateView(
        'return.order.entry.start',
        'return_management.order_entry_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Find", 'select', 'tryton-search', default=True),
            ])
    select = StateView(
        'return.order.entry.select',
        'return_management.order_entry_select_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Back", 'start', 'tryton-back'),
            Button("Enter", 'enter', 'tryton-ok', default=True),
            ])
    enter = StateAction('return_management.act_order_form')

    def default_start(self, fields):
        # What was searched for before going back
        defaults = {}
        if getattr(self.start, 'query', None):
            defaults['query'] = self.start.query
        if getattr(self.start, 'party', None):
            defaults['party'] = self.start.party.id
        return defaults

    def default_select(self, fields):
        pool = Pool()
        Order = pool.get('return.order')
        SaleLine = pool.get('sale.line')
        party = self.start.party
        # A wizard runs without the rules of the user
        with check_access():
            lines, complete = self._find_lines()
        if not lines and not party:
            raise EntryError(gettext(
                    'return_management.msg_entry_nothing',
                    query=self.start.query or ''))
        dates = SaleLine.get_return_dates(lines)
        parties = {l.sale.party for l in lines}
        if not party and len(parties) == 1:
            party, = parties
        message = None
        if not lines:
            message = gettext(
                'return_management.msg_entry_nothing_party',
                party=party.rec_name)
        elif not complete:
            message = gettext(
                'return_management.msg_entry_incomplete', count=len(lines))
        return {
            'message': message,
            'party': party.id if party else None,
            'channel': Order.default_channel(),
            'requested_at': Order.default_requested_at(),
            'wish': 'refund',
            'lines': [{
                    'company': l.sale.company.id,
                    'sale_line': l.id,
                    'sale': l.sale.id,
                    'party': l.sale.party.id,
                    'product': l.product.id,
                    'delivered_on': dates[l]['delivery'],
                    'returnable_quantity': l.returnable_quantity,
                    'unit': l.unit.id,
                    } for l in lines],
            }

    def _find_lines(self):
        "Return the lines to return from, latest first, and whether all"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        query = (self.start.query or '').strip()
        if not query and not self.start.party:
            raise EntryError(gettext('return_management.msg_entry_query'))
        sales, complete = self._find_sales(query)
        domains = [('sale', 'in', [s.id for s in sales])]
        if query:
            more, all_ = self._get_line_domains(query)
            domains += more
            complete &= all_
        found = SaleLine.search([
                ('type', '=', 'line'),
                ('quantity', '>', 0),
                ('product', '!=', None),
                *(('sale.' + n, o, v) for n, o, v in self._get_sale_domain()),
                ['OR', *domains],
                ],
            limit=LIMIT_SEARCHED + 1,
            order=[('sale.sale_date', 'DESC'), ('id', 'DESC')])
        lines = [
            l for l in found[:LIMIT_SEARCHED] if l.returnable_quantity > 0]
        complete &= (
            len(found) <= LIMIT_SEARCHED and len(lines) <= LIMIT_SHOWN)
        return lines[:LIMIT_SHOWN], complete

    def _get_sale_domain(self):
        domain = [
            ('company', '=', Transaction().context.get('company', -1)),
            ('state', 'in', ['confirmed', 'processing', 'done']),
            ]
        if self.start.party:
            domain.append(('party', '=', self.start.party.id))
        return domain

    def _find_sales(self, query):
        "Return the sales that the query may mean and whether all of them"
        pool = Pool()
        Party = pool.get('party.party')
        Sale = pool.get('sale.sale')
        domain, complete = self._get_sale_domain(), True
        if query:
            sales = Sale.search([domain[:2], ('number', '=', query)])
            if sales:
                party = self.start.party
                return [
                    s for s in sales if not party or s.party == party], True
            pattern = '%' + escape_wildcard(query) + '%'
            party_domain = ['OR', ('rec_name', 'ilike', pattern)]
            if re.fullmatch(r'[\d\s()+./-]{5,}', query):
                # A phone number as it was spoken
                digits = '%'.join(re.findall(r'\d+', query.lstrip('+0')))
                party_domain.append(
                    ('contact_mechanisms.value_compact', 'ilike',
                        '%' + digits + '%'))
            parties = Party.search(party_domain, limit=LIMIT_FOUND + 1)
            complete = len(parties) <= LIMIT_FOUND
            domain = [domain, ['OR',
                    ('number', 'ilike', pattern),
                    ('reference', 'ilike', pattern),
                    ('party', 'in', [p.id for p in parties[:LIMIT_FOUND]]),
                    ]]
        sales = Sale.search(
            domain, limit=LIMIT_SALES + 1,
            order=[('sale_date', 'DESC'), ('id', 'DESC')])
        return sales[:LIMIT_SALES], complete and len(sales) <= LIMIT_SALES

    def _get_line_domains(self, query):
        """Return the domains of other sale lines that the query may mean

        And whether they are all of them.
        """
        return [], True

    def do_enter(self, action):
        with check_access():
            orders = self._create_orders()
        if len(orders) == 1:
            action['views'].reverse()
        return action, {'res_id': [o.id for o in orders]}

    def _create_orders(self):
        pool = Pool()
        Order = pool.get('return.order')
        SaleLine = pool.get('sale.line')
        quantities = {}
        for line in self.select.lines or []:
            quantity = line.quantity
            if quantity is None and self.select.return_all:
                quantity = line.returnable_quantity
            if quantity:
                quantities[line.sale_line.id] = (quantity, line)
        groups = defaultdict(list)
        for sale_line in SaleLine.browse(list(quantities)):
            quantity, entered = quantities[sale_line.id]
            if sale_line.unit.round(
                    quantity - sale_line.returnable_quantity) > 0:
                raise EntryError(gettext(
                        'return_management.msg_entry_returnable',
                        line=sale_line.rec_name))
            groups[self._get_key(sale_line.sale)].append(
                self._get_line(sale_line, quantity, entered))
        products = self.select.products or []
        if products:
            if not self.select.party:
                raise EntryError(gettext('return_management.msg_entry_party'))
            key = next(
                (k for k in groups if k[1] == self.select.party),
                (self.select.company, self.select.party, None,
                    self.select.company.currency))
            groups[key].extend(
                self._get_product_line(p) for p in products)
        if not groups:
            raise EntryError(gettext('return_management.msg_entry_quantity'))
        orders = [
            self._get_order(key, lines) for key, lines in groups.items()]
        Order.save(orders)
        return orders

    def _get_key(self, sale):
        "Return what the sales of one return have in common"
        return (
            sale.company, sale.party, sale.invoice_party or sale.party,
            sale.currency)

    def _get_order(self, key, lines):
        pool = Pool()
        Order = pool.get('return.order')
        company, party, _, currency = key
        order = Order(
            company=company,
            party=party,
            currency=currency,
            channel=self.select.channel,
            requested_at=self.select.requested_at,
            reference=self.select.reference,
            description=self.select.description)
        order.on_change_party()
        if self.select.applicant and self.select.applicant != party:
            order.applicant = self.select.applicant
            order.on_change_applicant()
        order.lines = lines
        order._set_from_sale()
        return order

    def _get_line(self, sale_line, quantity, entered):
        pool = Pool()
        Line = pool.get('return.order.line')
        line = Line(
            sale_line=sale_line, quantity=quantity,
            **Line._get_sale_values(sale_line))
        self._set_line(line, entered)
        return line

    def _get_product_line(self, product):
        pool = Pool()
        Line = pool.get('return.order.line')
        line = Line(
            product=product.product, unit=product.unit,
            quantity=product.quantity, unit_price=product.unit_price,
            note=product.note)
        self._set_line(line, product)
        return line

    def _set_line(self, line, entered):
        "Set what is said of the line or else once for all lines"
        if line.quantity <= 0:
            raise EntryError(gettext(
                    'return_management.msg_entry_quantity_positive',
                    product=line.product.rec_name))
        line.reason = entered.reason or self.select.reason
        if not line.reason:
            raise EntryError(gettext(
                    'return_management.msg_entry_reason',
                    product=line.product.rec_name))
        if not entered.wish:
            entered = self.select
        line.wish = entered.wish
        if line.wish == 'exchange':
            line.wished_product = entered.wished_product
        elif line.wish == 'price_reduction':
            line.price_reduction = entered.price_reduction
        line.goods_expected = line.expects_wished(line.product, line.wish)


class EntryStart(ModelView):
    "Enter Return"
    __name__ = 'return.order.entry.start'

    query = fields.Char(
        "Search",
        help="The number or reference of the order, the customer's name, "
        "code, e-mail or phone, or a serial number.")
    party = fields.Many2One(
        'party.party', "Customer",
        help="Leave empty to search the orders of all customers.")


class WishMixin:
    "What the customer wants for goods that are entered"
    __slots__ = ()

    company = fields.Many2One('company.company', "Company", readonly=True)
    wish = fields.Selection(
        [(None, "")] + WISHES, "Wish", sort=False,
        help="What the customer wants for the goods.\n"
        "Leave empty for the wish of all lines.")
    wished_product = fields.Many2One(
        'product.product', "Wished Product",
        domain=[
            ('salable', '=', True),
            ],
        states={
            'required': Eval('wish') == 'exchange',
            'invisible': Eval('wish') != 'exchange',
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="What the customer wants instead.")
    price_reduction = fields.Numeric(
        "Price Reduction", digits=(5, 4),
        domain=[
            If(Eval('wish') == 'price_reduction', [
                    ('price_reduction', '>', 0),
                    ('price_reduction', '<=', 1),
                    ], []),
            ],
        states={
            'required': Eval('wish') == 'price_reduction',
            'invisible': Eval('wish') != 'price_reduction',
            },
        help="The share of the price that is given back "
        "for goods that the customer keeps.")

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')


class EntrySelect(WishMixin, ModelView):
    "Enter Return"
    __name__ = 'return.order.entry.select'

    message = fields.Text(
        "Message", readonly=True,
        states={
            'invisible': ~Eval('message'),
            })
    party = fields.Many2One(
        'party.party', "Customer",
        states={
            'required': Bool(Eval('products', [])),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="The customer of the products without order.")
    applicant = fields.Many2One(
        'party.party', "Applicant",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who asks for the return.\n"
        "Leave empty when it is the customer.")
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="How the customer applied.")
    requested_at = fields.DateTime(
        "Requested at", required=True,
        help="When the customer applied.")
    reference = fields.Char(
        "Reference", help="The customer's own reference of the application.")
    reason = fields.Many2One(
        'return.reason', "Reason",
        help="The reason of all lines that have none of their own.")
    description = fields.Text(
        "Description", help="The application in the customer's words.")
    return_all = fields.Boolean(
        "Return All",
        help="Check to return all that can be returned of the lines "
        "without quantity.")
    lines = fields.One2Many(
        'return.order.entry.line', None, "Lines",
        help="What was delivered and can still be returned.")
    products = fields.One2Many(
        'return.order.entry.product', None, "Products without Order",
        help="What comes back and no order is known for.")

    @fields.depends('return_all', 'lines')
    def on_change_return_all(self):
        if self.return_all:
            for line in self.lines or []:
                if line.quantity is None:
                    line.quantity = line.returnable_quantity
            self.lines = self.lines

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.wish.required = True
        cls.wish.help = "The wish of all lines that have none of their own."


class EntryLine(WishMixin, ModelView):
    "Enter Return"
    __name__ = 'return.order.entry.line'

    sale_line = fields.Many2One(
        'sale.line', "Sale Line", readonly=True, required=True)
    sale = fields.Many2One('sale.sale', "Sale", readonly=True)
    party = fields.Many2One(
        'party.party', "Customer", readonly=True,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    product = fields.Many2One(
        'product.product', "Product", readonly=True,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    delivered_on = fields.Date(
        "Delivered on", readonly=True,
        help="When the last of the goods were delivered.")
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    returnable_quantity = fields.Float(
        "Returnable", digits='unit', readonly=True,
        help="What was delivered and is neither returned nor announced.")
    quantity = fields.Float(
        "Quantity", digits='unit',
        domain=['OR',
            ('quantity', '=', None),
            [
                ('quantity', '>=', 0),
                ('quantity', '<=', Eval('returnable_quantity', 0)),
                ],
            ],
        help="What the customer returns.")
    reason = fields.Many2One(
        'return.reason', "Reason",
        help="Leave empty for the reason of all lines.")


class EntryProduct(WishMixin, ModelView):
    "Enter Return"
    __name__ = 'return.order.entry.product'

    product = fields.Many2One(
        'product.product', "Product", required=True,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    product_uom_category = fields.Function(
        fields.Many2One('product.uom.category', "Product UoM Category"),
        'on_change_with_product_uom_category')
    unit = fields.Many2One(
        'product.uom', "Unit", required=True,
        domain=[
            If(Bool(Eval('product_uom_category')),
                ('category', '=', Eval('product_uom_category', -1)),
                ()),
            ])
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        domain=[
            ('quantity', '>', 0),
            ],
        help="What the customer returns.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"), 'get_currency')
    unit_price = Monetary(
        "Unit Price", currency='currency', digits=price_digits,
        help="The value per unit, without tax, if it is known.")
    reason = fields.Many2One(
        'return.reason', "Reason",
        help="Leave empty for the reason of all lines.")
    note = fields.Text("Note")

    @classmethod
    def default_currency(cls):
        pool = Pool()
        Company = pool.get('company.company')
        company_id = cls.default_company()
        if company_id is not None and company_id >= 0:
            return Company(company_id).currency.id

    def get_currency(self, name):
        return self.default_currency()

    @fields.depends('product', 'unit')
    def on_change_product(self):
        if self.product and (
                not self.unit
                or self.unit.category != self.product.default_uom.category):
            self.unit = self.product.sale_uom or self.product.default_uom

    @fields.depends('product')
    def on_change_with_product_uom_category(self, name=None):
        return self.product.default_uom_category if self.product else None


class Entry_Lot(metaclass=PoolMeta):
    __name__ = 'return.order.entry'

    def _get_line_domains(self, query):
        pool = Pool()
        Lot = pool.get('stock.lot')
        SaleLine = pool.get('sale.line')
        domains, complete = super()._get_line_domains(query)
        lots = Lot.search([('number', '=', query)], limit=LIMIT_FOUND + 1)
        if not lots:
            lots = Lot.search(
                [('number', 'ilike', '%' + escape_wildcard(query) + '%')],
                limit=LIMIT_FOUND + 1)
        if lots:
            lines = SaleLine.search(
                self._get_lot_domain(lots[:LIMIT_FOUND]), order=[])
            domains.append(('id', 'in', [l.id for l in lines]))
        return domains, complete and len(lots) <= LIMIT_FOUND

    @classmethod
    def _get_lot_domain(cls, lots):
        "Return the domain of the sale lines that delivered the lots"
        return [('moves.lot', 'in', [l.id for l in lots])]
