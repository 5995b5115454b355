# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from functools import partial

from trytond.i18n import gettext
from trytond.modules.company import CompanyReport
from trytond.pool import Pool

from .exceptions import InspectionReportError


class InspectionReport(CompanyReport):
    __name__ = 'return.inspection.report'

    @classmethod
    def execute(cls, ids, data):
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        # Other inspections have no return to report about
        ids = [i.id for i in Inspection.browse(ids) if cls.get_line(i)]
        if not ids:
            raise InspectionReportError(gettext(
                    'return_quality.msg_inspection_report'))
        return super().execute(ids, data)

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        company = context['company']
        context['format_time'] = partial(
            cls.format_time, timezone=company.timezone if company else None)
        context['format_quantity'] = cls.format_quantity
        context['get_inspector'] = cls.get_inspector
        context['get_line'] = cls.get_line
        context['get_lots'] = cls.get_lots
        context['get_photos'] = cls.get_photos
        context['get_points'] = cls.get_points
        context['get_quantity'] = cls.get_quantity
        context['get_receivers'] = cls.get_receivers
        context['get_repair'] = cls.get_repair
        return context

    @classmethod
    def format_time(cls, value, timezone=None):
        pool = Pool()
        Lang = pool.get('ir.lang')
        if not value:
            return ''
        return cls.format_datetime(
            value, format=Lang.get().date + ' %H:%M', timezone=timezone)

    @classmethod
    def format_quantity(cls, record, quantity):
        if quantity is None:
            return ''
        return cls.format_number_symbol(
            quantity, None, record.unit, digits=record.unit.digits)

    @classmethod
    def get_line(cls, inspection):
        "Return the return line whose goods were inspected, or None"
        repair = cls.get_repair(inspection)
        return repair.line if repair else inspection.return_line

    @classmethod
    def get_repair(cls, inspection):
        return inspection._get_repair()

    @classmethod
    def get_quantity(cls, inspection):
        repair = cls.get_repair(inspection)
        return repair.quantity if repair else inspection.inspected_quantity

    @classmethod
    def get_inspector(cls, inspection):
        employee = (
            inspection.processed_by or inspection.passed_by
            or inspection.failed_by)
        return employee.rec_name if employee else ''

    @classmethod
    def get_lots(cls, inspection):
        lots = (getattr(m, 'lot', None) for m in inspection.moves)
        return ', '.join(dict.fromkeys(l.rec_name for l in lots if l))

    @classmethod
    def get_photos(cls, inspection):
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        return [
            a.name for a in Attachment.search([
                    ('resource', '=', str(inspection)),
                    ])]

    @classmethod
    def get_points(cls, inspection):
        "Return the points with what was found and what is allowed"
        values = inspection.points or {}
        for point in inspection.control.points:
            value = values.get(point.name)
            tolerance = ''
            if point.type_ == 'boolean':
                value = gettext(
                    'return_quality.msg_inspection_' + (
                        'yes' if value else 'no'))
            else:
                value = '' if value is None else str(value)
                bounds = [point.tolerance_lower, point.tolerance_upper]
                if bounds != [None, None]:
                    tolerance = ' – '.join(
                        '' if b is None else str(b) for b in bounds)
            if inspection.state == 'pending':
                # To be filled in by hand
                value = ''
            yield point, value, tolerance

    @classmethod
    def get_receivers(cls, inspection):
        if cls.get_repair(inspection):
            return ''
        return ', '.join(sorted(
                e.rec_name for e in inspection._get_receivers()))
