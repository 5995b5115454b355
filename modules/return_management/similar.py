# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from sql import Null

from trytond.i18n import gettext
from trytond.pool import Pool, PoolMeta
from trytond.tools import grouped_slice
from trytond.transaction import Transaction

from .exceptions import SimilarWarning


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def check_similar(cls, orders):
        "Warn about what is already applied for with another return"
        pool = Pool()
        Line = pool.get('return.order.line')
        Warning = pool.get('res.user.warning')
        transaction = Transaction()
        if not transaction.user or transaction.context.get('_skip_warnings'):
            return
        similar = cls._get_similar(orders)
        lines = {
            l.id: l for l in Line.browse(list({
                        i for pairs in similar.values() for p in pairs
                        for i in p}))}
        for order in orders:
            if order.id not in similar:
                continue
            key = Warning.format('return_similar', [order, *(
                        lines[other] for _, other in similar[order.id])])
            if Warning.check(key):
                raise SimilarWarning(key, gettext(
                        'return_management.msg_order_similar',
                        order=order.rec_name,
                        lines='\n'.join(
                            '%s: %s' % (
                                lines[other].order.rec_name,
                                lines[line].product.rec_name)
                            for line, other in similar[order.id])))

    @classmethod
    def _get_similar(cls, orders):
        """Map the id of orders to pairs of a line and a similar one, by id

        Of another open return of the same customer: the same product of the
        same sale, the same quantity, the same reason.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        cursor = Transaction().connection.cursor()
        order, other_order = cls.__table__(), cls.__table__()
        line, other = Line.__table__(), Line.__table__()
        similar = defaultdict(list)
        for sub_orders in grouped_slice(orders):
            cursor.execute(*order
                .join(line, condition=line.order == order.id)
                .join(other_order,
                    condition=(other_order.party == order.party)
                    & (other_order.company == order.company)
                    & (other_order.id != order.id))
                .join(other,
                    condition=(other.order == other_order.id)
                    & (other.product == line.product)
                    & (other.unit == line.unit)
                    & (other.quantity == line.quantity)
                    & (other.reason == line.reason)
                    & ((other.sale_line == line.sale_line)
                        | (other.sale_line == Null)
                        | (line.sale_line == Null)))
                .select(
                    order.id, line.id, other.id,
                    where=order.id.in_([o.id for o in sub_orders])
                    # The later one of two drafts is warned of
                    & other_order.state.in_(
                        ['submitted', 'reviewed', 'approved']),
                    order_by=[order.id, line.id, other.id]))
            for order_id, line_id, other_id in cursor:
                similar[order_id].append((line_id, other_id))
        return similar
