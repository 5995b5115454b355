# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.modules.account.exceptions import PeriodNotFoundError
from trytond.pool import Pool, PoolMeta
from trytond.transaction import Transaction

from .exceptions import ReceiptError


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def check_return_receipt(cls, moves):
        super().check_return_receipt(moves)
        dates = defaultdict(set)
        for move in moves:
            dates[move.company].add(
                move.effective_date
                or getattr(move.shipment, 'effective_date', None))
        for company, company_dates in dates.items():
            cls._check_return_period(company, company_dates)

    @classmethod
    def _check_return_period(cls, company, dates):
        "Check that receipts on the dates are entered in the books"
        pool = Pool()
        Date = pool.get('ir.date')
        FiscalYear = pool.get('account.fiscalyear')
        Lang = pool.get('ir.lang')
        Period = pool.get('account.period')
        with Transaction().set_context(company=company.id):
            today = Date.today()
        if not FiscalYear.search([
                    ('company', '=', company.id),
                    ('account_stock_method', '!=', None),
                    ], limit=1):
            return
        for date in {d or today for d in dates}:
            try:
                period = Period.find(company, date=date, test_state=False)
                if not period.fiscalyear.account_stock_method:
                    continue
                if period.state != 'open':
                    # The entry is made today
                    date = today
                    Period.find(company, date=today)
            except PeriodNotFoundError as exception:
                raise ReceiptError(gettext(
                        'return_management.msg_move_period',
                        date=Lang.get().strftime(date),
                        company=company.rec_name)) from exception
