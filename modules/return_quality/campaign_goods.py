# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Keep goods that are called back off the market, wherever they are."""

from sql import Column, Literal, Window
from sql.functions import Abs, CurrentTimestamp, RowNumber

from trytond.i18n import gettext
from trytond.model import ModelSQL, ModelView, Workflow, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import employee_field, set_employee
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.transaction import (
    Transaction, inactive_records, without_check_access)

from .exceptions import CampaignError


class Campaign(metaclass=PoolMeta):
    __name__ = 'return.campaign'

    block_products = fields.Boolean(
        "Block Products",
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="Check to keep all our stock of the products: it may neither "
        "leave to customers nor be used in production until it is released.\n"
        "Without lots nobody can tell which of it is concerned.")
    release_reason = fields.Text(
        "Release Reason",
        states={
            'readonly': ~Eval('stock_blocked'),
            'invisible': ~Eval('block_products') | (Eval('state') == 'draft'),
            },
        help="Why our stock of the products may leave: how it was checked "
        "and where what is concerned was put.")
    released_by = employee_field(
        "Released by",
        states={
            'invisible': ~Eval('released_by'),
            })
    stock_blocked = fields.Function(
        fields.Boolean(
            "Stock Blocked",
            help="Whether our stock of the products may not leave."),
        'on_change_with_stock_blocked')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.released_by.readonly = True
        cls._guarded_fields = cls._guarded_fields | {'released_by'}
        cls._started_fields = cls._started_fields | {'block_products'}
        cls._buttons.update({
                'release': {
                    'invisible': ~Eval('stock_blocked'),
                    'readonly': ~Bool(Eval('release_reason')),
                    'depends': ['stock_blocked', 'release_reason'],
                    },
                })

    @fields.depends('state', 'block_products', 'released_by')
    def on_change_with_stock_blocked(self, name=None):
        return bool(
            self.state in {'running', 'closed'}
            and self.block_products
            and not self.released_by)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for campaigns, values in zip(args[::2], args[1::2]):
                if 'release_reason' in values:
                    cls._check_blocked(campaigns)
        super().write(*args)

    @classmethod
    def _check_blocked(cls, campaigns):
        for campaign in campaigns:
            if not campaign.stock_blocked:
                raise AccessError(gettext(
                        'return_quality.msg_campaign_release_modify',
                        campaign=campaign.rec_name))

    @classmethod
    def copy(cls, campaigns, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('release_reason')
        default.setdefault('released_by')
        return super().copy(campaigns, default=default)

    @classmethod
    @ModelView.button
    @set_employee('released_by')
    def release(cls, campaigns):
        "Let the stock of the products leave"
        pool = Pool()
        Order = pool.get('return.order')
        cls._check_blocked(campaigns)
        for campaign in campaigns:
            Order._get_employee(campaign.company)
            if not campaign.release_reason:
                raise CampaignError(gettext(
                        'return_quality.msg_campaign_release',
                        campaign=campaign.rec_name))

    @classmethod
    @without_check_access
    def find_called(cls, companies, products, *domain):
        "Return the campaigns that call the products back"
        return cls.search([
                ('state', 'in', ['running', 'closed']),
                ('company', 'in', [c.id for c in companies]),
                ('products', 'in', [p.id for p in products]),
                *domain])

    def calls_delivery(self, move):
        "Test if the campaign calls back what the move has delivered"
        date = move.effective_date
        return (
            move.state == 'done'
            and move.to_location.type == 'customer'
            and move.product in self.products
            and (not self.from_date or self.from_date <= date)
            and (not self.to_date or date <= self.to_date))


class Stock(ModelSQL, ModelView):
    "Return Campaign Stock"
    __name__ = 'return.campaign.stock'

    campaign = fields.Many2One('return.campaign', "Campaign")
    company = fields.Many2One('company.company', "Company")
    location = fields.Many2One(
        'stock.location', "Location", help="Where the goods lie.")
    product = fields.Many2One(
        'product.product', "Product",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    quantity = fields.Float(
        "Quantity", digits='unit',
        help="What lies there of the product, whether it is concerned or "
        "not, in its default unit.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('location', 'ASC'), ('id', 'ASC')]

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    @classmethod
    def table_query(cls):
        pool = Pool()
        Campaign = pool.get('return.campaign')
        CampaignProduct = pool.get('return.campaign-product.product')
        Product = pool.get('product.product')
        Template = pool.get('product.template')
        Uom = pool.get('product.uom')
        User = pool.get('res.user')
        campaign = Campaign.__table__()
        link = CampaignProduct.__table__()
        product = Product.__table__()
        template = Template.__table__()
        uom = Uom.__table__()
        stock = cls._get_stock()
        names = cls._get_grouping()
        where = cls._get_clause(stock, campaign) & (
            Abs(stock.quantity) > uom.rounding / 2)
        # The stock is that of the company of the user
        if company := User(Transaction().user).company:
            where &= campaign.company == company.id
        return (stock
            .join(link, condition=link.product == stock.product)
            .join(campaign, condition=link.campaign == campaign.id)
            .join(product, condition=stock.product == product.id)
            .join(template, condition=product.template == template.id)
            .join(uom, condition=template.default_uom == uom.id)
            .select(
                RowNumber(window=Window([], order_by=[
                            link.id, stock.location,
                            *(Column(stock, n) for n in names)])).as_('id'),
                Literal(0).as_('create_uid'),
                CurrentTimestamp().as_('create_date'),
                Literal(None).as_('write_uid'),
                Literal(None).as_('write_date'),
                campaign.id.as_('campaign'),
                campaign.company,
                stock.location,
                *(Column(stock, n) for n in names),
                stock.quantity,
                where=where))

    @classmethod
    @without_check_access
    def _get_stock(cls):
        "Return the query of the stock of all products that are called back"
        pool = Pool()
        CampaignProduct = pool.get('return.campaign-product.product')
        Date = pool.get('ir.date')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        with inactive_records():
            locations = Location.search([('type', '=', 'storage')], order=[])
        products = {
            l.product.id for l in CampaignProduct.search([
                    ('campaign.state', '!=', 'cancelled'),
                    ])}
        # What lies there, not what is expected
        with Transaction().set_context(
                stock_date_start=None, stock_date_end=Date.today(),
                stock_assign=False, forecast=False):
            return Move.compute_quantities_query(
                [l.id for l in locations], grouping=cls._get_grouping(),
                grouping_filter=(sorted(products),))

    @classmethod
    def _get_grouping(cls):
        "Return the fields of the moves that tell goods apart"
        return ('product',)

    @classmethod
    def _get_clause(cls, stock, campaign):
        "Return the SQL clause of the stock that concerns the campaign"
        return campaign.state != 'cancelled'


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    campaign = fields.Function(
        fields.Many2One(
            'return.campaign', "Recall",
            states={
                'invisible': ~Eval('campaign'),
                },
            help="The campaign that calls the goods back, whichever way they "
            "come: they go neither back to stock nor to resale."),
        'get_campaign')

    @classmethod
    def get_campaign(cls, lines, name):
        return {
            l.id: campaigns[0].id if campaigns else None
            for l, campaigns in cls.find_campaigns(lines).items()}

    @classmethod
    @without_check_access
    def find_campaigns(cls, lines):
        "Map the lines to the campaigns that call their goods back"
        pool = Pool()
        Campaign = pool.get('return.campaign')
        if not lines:
            return {}
        products = {l: l._get_recall_products() for l in cls.browse(lines)}
        campaigns = Campaign.find_called(
            {l.order.company for l in products},
            set().union(*products.values()))
        return {
            line: [
                c for c in campaigns if c.company == line.order.company
                and l_products & set(c.products)
                and (c == line.order.campaign or line._is_delivery_of(c))]
            for line, l_products in products.items()}

    def _is_delivery_of(self, campaign):
        """Test if goods of the line are among those the campaign calls back

        What is of no sale may be.
        """
        return not self.sale_line or any(
            campaign.calls_delivery(m)
            for m in self.sale_line._get_delivery_moves())


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @classmethod
    def check_action(cls, dispositions):
        super().check_action(dispositions)
        # Whatever reason the line has been given since
        for disposition, campaign in cls.find_campaigns(dispositions).items():
            raise CampaignError(gettext(
                    'return_quality.msg_campaign_disposition',
                    disposition=disposition.rec_name,
                    campaign=campaign.rec_name))

    @classmethod
    def find_campaigns(cls, dispositions):
        "Map the dispositions that a campaign forbids to the campaign"
        pool = Pool()
        Line = pool.get('return.order.line')
        dispositions = [
            d for d in dispositions
            if d.action in {'restock', 'resale'} and d.state != 'cancelled']
        campaigns = Line.find_campaigns(
            list(dict.fromkeys(d.line for d in dispositions)))
        found = {}
        for disposition in dispositions:
            for campaign in campaigns[disposition.line]:
                if disposition._is_called_by(campaign):
                    found[disposition] = campaign
                    break
        return found

    def _is_called_by(self, campaign):
        "Test if the campaign of the line concerns these goods"
        return (
            self.product == self.line.product
            or self.product in campaign.products)

    @classmethod
    @ModelView.button
    @Workflow.transition('decided')
    def decide(cls, dispositions):
        # A campaign may have started since they were drafted
        cls.check_action(dispositions)
        super().decide(dispositions)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @property
    def _reaches_market(self):
        "Whether it would use or deliver the goods"
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        return (
            self.to_location.type in {'customer', 'production'}
            or isinstance(self.shipment, Shipment))

    @classmethod
    @without_check_access
    def _get_called_back(cls, moves):
        "Map the moves that a recall forbids to what the user is told"
        pool = Pool()
        Campaign = pool.get('return.campaign')
        Disposition = pool.get('return.disposition')
        called = {}
        to_market = [m for m in moves if m._reaches_market]
        if to_market:
            campaigns = Campaign.find_called(
                {m.company for m in to_market},
                {m.product for m in to_market},
                ('block_products', '=', True),
                ('released_by', '=', None))
            for move in to_market:
                for campaign in campaigns:
                    if (campaign.company == move.company
                            and move.product in campaign.products):
                        called[move] = gettext(
                            'return_quality.msg_campaign_product',
                            product=move.product.rec_name,
                            campaign=campaign.rec_name)
        decided = {
            m: m.resale_line.resale.disposition if m.resale_line
            else m.return_disposition
            for m in moves}
        campaigns = Disposition.find_campaigns(
            list(dict.fromkeys(filter(None, decided.values()))))
        for move, disposition in decided.items():
            if disposition in campaigns:
                called[move] = gettext(
                    'return_quality.msg_campaign_disposition',
                    disposition=disposition.rec_name,
                    campaign=campaigns[disposition].rec_name)
        return called

    @classmethod
    def assign_try(cls, moves, with_childs=True, grouping=('product',)):
        called = cls._get_called_back(moves)
        success = super().assign_try(
            [m for m in moves if m not in called],
            with_childs=with_childs, grouping=grouping)
        return success and not called

    @classmethod
    @ModelView.button
    def assign(cls, moves):
        cls._check_called_back(moves)
        super().assign(moves)

    @classmethod
    @ModelView.button
    def do(cls, moves):
        cls._check_called_back(moves)
        super().do(moves)

    @classmethod
    def _check_called_back(cls, moves):
        for message in cls._get_called_back(moves).values():
            raise CampaignError(message)
