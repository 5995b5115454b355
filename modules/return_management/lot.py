# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import fields
from trytond.pool import Pool, PoolMeta


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Lots",
            help="The lots and serial numbers of the goods: "
            "those that came back, else those that were delivered."),
        'get_lots', searcher='search_lots')

    def get_lots(self, name):
        return list(dict.fromkeys(
                lot.id for line in self.lines for lot in line.lots))

    @classmethod
    def search_lots(cls, name, clause):
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = Line.search(Line.search_lots(name, clause), query=True)
        return [('lines', 'in', lines)]


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    lots = fields.Function(fields.Many2Many(
            'stock.lot', None, None, "Lots",
            help="The lots and serial numbers of the goods: "
            "those that came back, else those that were delivered."),
        'get_lots', searcher='search_lots')

    @classmethod
    def get_lots(cls, lines, name):
        lots = {}
        for line in lines:
            for moves in [
                    line.moves,
                    line.sale_line.moves if line.sale_line else []]:
                lots[line.id] = list(dict.fromkeys(
                        m.lot.id for m in moves
                        if m.lot and m.state != 'cancelled'))
                if lots[line.id]:
                    break
        return lots

    @classmethod
    def search_lots(cls, name, clause):
        _, operator, value, *extra = clause
        nested = clause[0][len(name):]
        if operator.startswith('!') or operator.startswith('not '):
            bool_op = 'AND'
        else:
            bool_op = 'OR'
        return [bool_op,
            ('moves.lot' + nested, operator, value, *extra),
            ('sale_line.moves.lot' + nested, operator, value, *extra),
            ]
