# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from sql import Null
from sql.aggregate import Max, Min
from sql.operators import Concat

from trytond.i18n import gettext
from trytond.model import fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.tools import grouped_slice
from trytond.transaction import Transaction


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    repair_days = fields.Integer(
        "Days in Repair", readonly=True,
        states={
            'invisible': ~Eval('repair_days'),
            },
        help="The calendar days on which goods of the sale line were with "
        "us for a repair in favour of the customer; they are added to the "
        "period.\n"
        "Set when the return is submitted.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'repair_days'}

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('repair_days')
        return super().copy(lines, default=default)

    @classmethod
    def _get_facts(cls, lines):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        SaleLine = pool.get('sale.line')
        config = Configuration(1)
        facts = super()._get_facts(lines)
        repairs = SaleLine.get_repairs(list(dict.fromkeys(
                    l.sale_line for l in lines if l.sale_line)))
        limits = {
            c: config.get_multivalue('repair_limit', company=c.id)
            for c in {l.order.company for l in lines}}
        for line in lines:
            periods = repairs.get(line.sale_line, [])
            facts[line].update({
                    'repairs': len(periods),
                    'repair_days': cls._count_days(periods),
                    'repair_limit': limits[line.order.company],
                    })
        return facts

    @classmethod
    def _count_days(cls, periods):
        "Return the days that the periods cover, each once"
        days, last = 0, dt.date.min
        for start, end in sorted(periods):
            start = max(start, last)
            if end > start:
                days += (end - start).days
                last = end
        return days

    @classmethod
    def _get_period_end(cls, rule, facts):
        return (
            super()._get_period_end(rule, facts)
            + dt.timedelta(days=facts.get('repair_days', 0)))

    def _get_last_date(self, calendar):
        date = super()._get_last_date(calendar)
        if date:
            date += dt.timedelta(days=self.repair_days or 0)
        return date

    def _judge(self, rules, facts):
        super()._judge(rules, facts)
        self.repair_days = facts['repair_days']

    def explain(self, rules, pattern, facts):
        texts = [super().explain(rules, pattern, facts)]
        days, repairs = facts.get('repair_days'), facts.get('repairs')
        if days:
            texts.append(gettext(
                    'return_quality.msg_eligibility_repair_days', days=days))
        if repairs and facts['repair_limit'] and (
                repairs >= facts['repair_limit']):
            texts.append(gettext(
                    'return_quality.msg_eligibility_repairs',
                    repairs=repairs))
        return '\n'.join(texts)


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    @classmethod
    def get_repairs(cls, lines):
        """Map lines to the periods in which goods were repaired

        From the receipt to the day on which they went back, one for each
        return that was decided in favour of the customer.
        """
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        ReturnLine = pool.get('return.order.line')
        cursor = Transaction().connection.cursor()
        disposition = Disposition.__table__()
        from_location = Location.__table__()
        to_location = Location.__table__()
        receipt = Move.__table__()
        move = Move.__table__()
        return_line = ReturnLine.__table__()
        periods = defaultdict(list)
        by_id = {l.id: l for l in lines}
        for sub_lines in grouped_slice(lines):
            cursor.execute(*return_line
                .join(disposition,
                    condition=disposition.line == return_line.id)
                .join(move, condition=move.origin == Concat(
                        Disposition.__name__ + ',', disposition.id))
                .join(to_location,
                    condition=move.to_location == to_location.id)
                .join(receipt, condition=receipt.origin == Concat(
                        ReturnLine.__name__ + ',', return_line.id))
                .join(from_location,
                    condition=receipt.from_location == from_location.id)
                .select(
                    return_line.sale_line,
                    Min(receipt.effective_date).as_('start'),
                    Max(move.effective_date).as_('end'),
                    where=return_line.sale_line.in_(
                        [l.id for l in sub_lines])
                    & (disposition.repair != Null)
                    & disposition.accepted
                    & (move.state == 'done')
                    & (to_location.type == 'customer')
                    & (receipt.state == 'done')
                    & (from_location.type == 'customer'),
                    group_by=[return_line.id, return_line.sale_line]))
            for id_, start, end in cursor:
                # SQLite does not convert the date of an expression
                if isinstance(start, str):
                    start = dt.date.fromisoformat(start)
                    end = dt.date.fromisoformat(end)
                periods[by_id[id_]].append((start, end))
        return periods
