# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import without_check_access

from .exceptions import CampaignError


class Campaign(metaclass=PoolMeta):
    __name__ = 'return.campaign'

    lots = fields.Many2Many(
        'return.campaign-stock.lot', 'campaign', 'lot', "Lots",
        domain=[
            ('product', 'in', Eval('products', [])),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            },
        help="The lots that are called back and may not leave our stock.\n"
        "Leave empty to call back all deliveries of the products.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._started_fields = cls._started_fields | {'lots'}

    def calls_delivery(self, move):
        return super().calls_delivery(move) and (
            not self.lots or move.lot in self.lots)

    def _get_delivery_clause(self, move):
        clause = super()._get_delivery_clause(move)
        if self.lots:
            clause &= move.lot.in_([l.id for l in self.lots])
        return clause

    def _get_quantities(self):
        pool = Pool()
        Move = pool.get('stock.move')
        by_sale_line, by_party = super()._get_quantities()
        if not self.lots:
            return by_sale_line, by_party
        # What was returned of these lots is not with the customer any more
        left, _ = Move._get_return_lots(set(by_sale_line))
        quantities = defaultdict(lambda: defaultdict(float))
        for (line, lot), quantity in left.items():
            if lot in self.lots:
                quantities[line][lot.product.id] += quantity
        for line in list(by_sale_line):
            quantity = min(
                by_sale_line[line],
                line._get_recall_quantity(quantities[line]))
            if quantity > 0:
                by_sale_line[line] = quantity
            else:
                del by_sale_line[line]
        return by_sale_line, by_party


class CampaignLot(ModelSQL):
    "Return Campaign - Lot"
    __name__ = 'return.campaign-stock.lot'

    campaign = fields.Many2One(
        'return.campaign', "Campaign", required=True, ondelete='CASCADE')
    lot = fields.Many2One(
        'stock.lot', "Lot", required=True, ondelete='RESTRICT')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.campaign, Index.Range())),
                Index(t, (t.lot, Index.Range())),
                })


class Lot(metaclass=PoolMeta):
    __name__ = 'stock.lot'

    return_campaigns = fields.Many2Many(
        'return.campaign-stock.lot', 'lot', 'campaign', "Recalls",
        readonly=True,
        help="The campaigns that call the lot back: "
        "it may not leave to customers nor be used in production.")

    @property
    def is_called_back(self):
        return any(c.is_called for c in self.return_campaigns)

    def check_called_back(self):
        "Check that no campaign calls the lot back"
        for campaign in self.return_campaigns:
            if campaign.is_called:
                raise CampaignError(gettext(
                        'return_quality.msg_campaign_lot',
                        lot=self.rec_name,
                        campaign=campaign.rec_name))


class Stock(metaclass=PoolMeta):
    __name__ = 'return.campaign.stock'

    lot = fields.Many2One('stock.lot', "Lot")

    @classmethod
    def _get_grouping(cls):
        return (*super()._get_grouping(), 'lot')

    @classmethod
    def _get_clause(cls, stock, campaign):
        pool = Pool()
        CampaignLot = pool.get('return.campaign-stock.lot')
        link = CampaignLot.__table__()
        other = CampaignLot.__table__()
        return super()._get_clause(stock, campaign) & (
            stock.lot.in_(link.select(
                    link.lot, where=link.campaign == campaign.id))
            | ~campaign.id.in_(other.select(other.campaign)))


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _is_delivery_of(self, campaign):
        # What came in tells it better than what was delivered
        if campaign.lots:
            return any(
                m.state == 'done' and m.lot in campaign.lots
                for m in self.moves)
        return super()._is_delivery_of(campaign)


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if 'lot' in field_names:
            cls.check_action(dispositions)

    def _is_called_by(self, campaign):
        return super()._is_called_by(campaign) and not (
            self.lot and campaign.lots and self.lot not in campaign.lots)


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    @without_check_access
    def _get_called_back(cls, moves):
        called = super()._get_called_back(moves)
        for move in moves:
            lot = move.lot
            if lot and lot.is_called_back and move._reaches_market:
                called[move] = gettext(
                    'return_quality.msg_campaign_lot',
                    lot=lot.rec_name,
                    campaign=next(
                        c.rec_name for c in lot.return_campaigns
                        if c.is_called))
        return called
