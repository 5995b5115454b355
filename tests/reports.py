# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Print each of our reports of the demo's database into a folder."""
import datetime as dt
import sys
from pathlib import Path

from dateutil.relativedelta import relativedelta

from demo.database import NAME
from trytond.config import config
from trytond.exceptions import UserError
from trytond.pool import Pool
from trytond.transaction import Transaction


def print_reports(target):
    "Print for each report the first record that it can be printed for"
    pool = Pool()
    Action = pool.get('ir.action.report')
    for action in Action.search([('report', 'like', 'return_%')]):
        Model = pool.get(action.model)
        Report = pool.get(action.report_name, type='report')
        for record in Model.search([]):
            try:
                type_, content, _, _ = Report.execute(
                    [record.id], {'model': Model.__name__})
            except UserError:
                continue
            (target / f'{action.report_name}.{type_}').write_bytes(content)
            break
        else:
            (target / f'{action.report_name}.missing').touch()


def issue_voucher():
    "Issue a voucher, as the demo refunds by none"
    pool = Pool()
    Account = pool.get('account.account')
    Refund = pool.get('return.refund')
    Voucher = pool.get('return.voucher')
    refund, = Refund.search([('state', '=', 'paid')], limit=1)
    account, = Account.search([('type.receivable', '=', True)], limit=1)
    Voucher(
        number='1', company=refund.company, party=refund.party, refund=refund,
        method=refund.method, account=account, amount=refund.amount,
        remaining=refund.amount).save()


def main(folder, target):
    config.update_etc(str(Path(folder) / 'trytond.conf'))
    Pool.start()
    Pool(NAME).init()
    today = dt.date.today()
    with Transaction().start(NAME, 0) as transaction:
        company, = Pool().get('company.company').search([])
        with Transaction().set_context(
                company=company.id, dimension='product', period='month',
                from_date=today - relativedelta(years=1), to_date=today):
            issue_voucher()
            print_reports(Path(target))
        transaction.rollback()


if __name__ == '__main__':
    main(*sys.argv[1:])
