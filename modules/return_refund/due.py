# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.model import fields
from trytond.pool import PoolMeta
from trytond.pyson import Eval


class PolicyLine(metaclass=PoolMeta):
    __name__ = 'return.policy.line'

    refund_days = fields.Integer(
        "Refund Days",
        domain=['OR',
            ('refund_days', '=', None),
            ('refund_days', '>', 0),
            ],
        states={
            'readonly': Eval('policy_state', 'draft') != 'draft',
            },
        help="The number of calendar days after the application within which "
        "the customer must have the money, whatever the method.\n"
        "Leave empty to leave it to the method.")


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    def get_due_date(self, today):
        """Return the date by which the customer must have the money

        The earliest of those of the method and of the rules.
        """
        days = [
            r.refund_days for l in self.lines
            for r in l.return_line._get_rules() if r.refund_days]
        dates = []
        if days:
            dates.append(
                self.return_order.requested_on + dt.timedelta(days=min(days)))
        if self.method:
            dates.append(self.method.get_due_date(today))
        return min(dates, default=today)
