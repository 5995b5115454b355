# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model.fields.selection import TranslatedSelection
from trytond.modules.company import CompanyReport
from trytond.pool import Pool, PoolMeta

from .calendar import get_local_date
from .exceptions import LabelError


class Goods(metaclass=PoolMeta):
    __name__ = 'return.area.goods'

    @property
    def statuses(self):
        "The names of what the goods wait for"
        if self.area == 'resale_location':
            return [self.area_string]
        statuses = []
        if self.line._get_inspecting_quantity():
            statuses.append(gettext('return_management.msg_label_inspect'))
        if self.line.to_decide:
            statuses.append(gettext('return_management.msg_label_decide'))
        return statuses + list(dict.fromkeys(
                d.action_string for d in self.line.dispositions
                if d.state in {'decided', 'waiting'}))


class Discrepancy(metaclass=PoolMeta):
    __name__ = 'return.discrepancy'

    @property
    def reason(self):
        "The reason of the line that it is about, or None"
        return self.line.reason if self.line else None

    @property
    def category(self):
        return self.reason.category if self.reason else None

    @property
    def since(self):
        return get_local_date(self.company, self.found_at)

    @property
    def statuses(self):
        return [gettext(
                'return_management.msg_label_dispute',
                discrepancy=self.number,
                kind=self.kind_string)]


class Parcel(metaclass=PoolMeta):
    __name__ = 'return.parcel'

    state_string = TranslatedSelection('state')

    @property
    def since(self):
        return get_local_date(self.company, self.arrived_at)


class LineLabel(CompanyReport):
    __name__ = 'return.order.line.label'

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        context['labels'] = cls.get_labels(records)
        context['format_quantity'] = cls.format_quantity
        return context

    @classmethod
    def get_labels(cls, lines):
        "Return the goods of the lines to label, where they lie"
        pool = Pool()
        Goods = pool.get('return.area.goods')
        ids = list(map(int, lines))
        goods = Goods.search([
                ('line', 'in', ids),
                ('quantity', '>', 0),
                ])
        if not goods:
            raise LabelError(gettext('return_management.msg_label_goods'))
        return sorted(goods, key=lambda g: ids.index(g.line.id))

    @classmethod
    def format_quantity(cls, goods):
        return cls.format_number_symbol(
            goods.quantity, None, goods.unit, digits=goods.unit.digits)


class OrderLabel(LineLabel):
    __name__ = 'return.order.label'

    @classmethod
    def get_labels(cls, orders):
        return super().get_labels([l for o in orders for l in o.lines])


class DiscrepancyLabel(LineLabel):
    __name__ = 'return.discrepancy.label'

    @classmethod
    def get_labels(cls, discrepancies):
        labels = [
            d for d in discrepancies
            if d.location and (d.state == 'open' or d.to_send_back)]
        if not labels:
            raise LabelError(gettext('return_management.msg_label_goods'))
        return labels


class ParcelLabel(CompanyReport):
    __name__ = 'return.parcel.label'

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        context['labels'] = cls.get_labels(records)
        return context

    @classmethod
    def get_labels(cls, parcels):
        "Return the parcels that have come and wait on a shelf"
        labels = [
            p for p in parcels if p.state in {'unidentified', 'identified'}]
        if not labels:
            raise LabelError(gettext('return_management.msg_label_parcels'))
        return labels
