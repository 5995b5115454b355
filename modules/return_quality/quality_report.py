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
        context['filters'] = cls.get_filters()
        context['format_month'] = cls.format_month
        context['format_quantity'] = cls.format_quantity
        context['format_rate'] = cls.format_rate
        return context

    @classmethod
    def get_filters(cls):
        "Return the names and values of what the analysis counts"
        pool = Pool()
        Context = pool.get('return.quality.analysis.context')
        fields = Context.fields_get(
            ['dimension', 'product', 'reason_category'])
        filters = []
        for name, field in fields.items():
            value = Transaction().context.get(name)
            if value:
                if field['type'] == 'many2one':
                    value = pool.get(field['relation'])(value).rec_name
                else:
                    value = dict(field['selection'])[value]
                filters.append((field['string'], value))
        return filters

    @classmethod
    def format_month(cls, date):
        return cls.format_date(date, format='%B %Y')

    @classmethod
    def format_quantity(cls, quantity):
        "Return the quantity, which has the units of several products"
        return cls.format_number(
            quantity, None, digits=2 if quantity % 1 else 0)

    @classmethod
    def format_rate(cls, rate):
        "Return the rate in per cent, empty when there is none"
        if rate is None:
            return ''
        return cls.format_number(rate * 100, None, digits=2) + ' %'
