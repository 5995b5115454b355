# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.modules.company import CompanyReport
from trytond.pool import Pool
from trytond.transaction import Transaction


class QualityReport(CompanyReport):
    __name__ = 'return.quality.report'

    @classmethod
    def get_context(cls, records, header, data):
        pool = Pool()
        Alert = pool.get('quality.alert')
        Trend = pool.get('return.quality.trend')
        context = super().get_context(records, header, data)
        analysis = Transaction().context
        context['from_date'] = analysis.get('from_date')
        context['to_date'] = analysis.get('to_date')
        with Transaction().set_context(period='month'):
            context['trend'] = Trend.search([])
        context['alerts'] = Alert.search([
                ('company', '=', analysis.get('company')),
                ('return_month', '!=', None),
                ('state', '!=', 'resolved'),
                ], order=[('return_month', 'ASC')])
        context['format_rate'] = cls.format_rate
        return context

    @classmethod
    def format_rate(cls, rate):
        "Return the rate in per cent, empty when there is none"
        if rate is None:
            return ''
        return cls.format_number(rate * 100, None, digits=2) + ' %'
