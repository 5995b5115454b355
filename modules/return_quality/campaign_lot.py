# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval

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

    def _get_delivery_clause(self, move):
        clause = super()._get_delivery_clause(move)
        if self.lots:
            clause &= move.lot.in_([l.id for l in self.lots])
        return clause

    def _get_quantities(self):
        pool = Pool()
        Move = pool.get('stock.move')
        Uom = pool.get('product.uom')
        by_sale_line, by_party = super()._get_quantities()
        if not self.lots:
            return by_sale_line, by_party
        # What was returned of these lots is not with the customer any more
        left, _ = Move._get_return_lots(set(by_sale_line))
        quantities = defaultdict(float)
        for (line, lot), quantity in left.items():
            if lot in self.lots:
                quantities[line] += quantity
        for line in list(by_sale_line):
            quantity = min(
                by_sale_line[line],
                Uom.compute_qty(
                    line.product.default_uom, quantities[line], line.unit))
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


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @property
    def _is_called_back(self):
        "Whether it would use or deliver what is called back"
        pool = Pool()
        Shipment = pool.get('stock.shipment.out')
        return (
            bool(self.lot) and self.lot.is_called_back
            and (self.to_location.type in {'customer', 'production'}
                or isinstance(self.shipment, Shipment)))

    @classmethod
    def assign_try(cls, moves, with_childs=True, grouping=('product',)):
        called = [m for m in moves if m._is_called_back]
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
        for move in moves:
            if move._is_called_back:
                move.lot.check_called_back()
