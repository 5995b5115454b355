# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from dateutil.relativedelta import relativedelta
from sql import Literal, Null, Union, Window
from sql.aggregate import Count, Max, Min, Sum
from sql.conditionals import Case, Coalesce, NullIf
from sql.functions import CurrentTimestamp, DateTrunc
from sql.operators import Concat, Or

from trytond.model import ModelSQL, ModelView, fields
from trytond.modules.return_management.reason import CATEGORIES
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.transaction import Transaction

from .defect import CAUSES


class AnalysisMixin:
    """Give the queries of what was returned and delivered

    In the company, from and to the dates and for the product and category of
    reasons of the context.  Quantities are in the default unit of the
    product.
    """
    __slots__ = ()

    @classmethod
    def _moves(cls, kind):
        """Return the query of the receipts or the deliveries

        One row for each move: product, quantity, date and what the dimensions
        need; its document is the return or the sale line.
        """
        pool = Pool()
        Line = pool.get('return.order.line')
        Location = pool.get('stock.location')
        Move = pool.get('stock.move')
        Reason = pool.get('return.reason')
        SaleLine = pool.get('sale.line')
        context = Transaction().context
        move = Move.__table__()
        location = Location.__table__()
        where = (
            (move.state == 'done')
            & (move.company == context.get('company'))
            & (location.type == 'customer'))
        if context.get('from_date'):
            where &= move.effective_date >= context['from_date']
        if context.get('to_date'):
            where &= move.effective_date <= context['to_date']
        if context.get('product'):
            where &= move.product == context['product']
        if kind == 'deliveries':
            query = (move
                .join(location, condition=move.to_location == location.id))
            delivered = [
                (move.origin.like(name + ',%'), line)
                for name, line in Move.sql_delivered_lines(move).items()]
            where &= Or([origin for origin, _ in delivered])
            sale_line = Case(*delivered)
            reason, document = Literal(None), sale_line
        else:
            return_line = Line.__table__()
            return_reason = Reason.__table__()
            query = (move
                .join(location, condition=move.from_location == location.id)
                .join(return_line,
                    condition=(
                        Move.origin.sql_id(move.origin, Move)
                        == return_line.id))
                .join(return_reason,
                    condition=return_line.reason == return_reason.id))
            where &= move.origin.like(Line.__name__ + ',%')
            if context.get('reason_category'):
                where &= return_reason.category == context['reason_category']
            sale_line = return_line.sale_line
            reason, document = return_line.reason, return_line.order
        return query.select(
            move.id.as_('id'),
            move.product.as_('product'),
            move.internal_quantity.as_('quantity'),
            move.effective_date.as_('date'),
            SaleLine.id.sql_cast(sale_line).as_('sale_line'),
            SaleLine.id.sql_cast(reason).as_('reason'),
            SaleLine.id.sql_cast(document).as_('document'),
            *cls._move_columns(move),
            where=where)

    @classmethod
    def _move_columns(cls, move):
        return []


class Analysis(AnalysisMixin, ModelSQL, ModelView):
    "Return Quality Analysis"
    __name__ = 'return.quality.analysis'

    company = fields.Many2One('company.company', "Company")
    subject = fields.Reference(
        "Subject", 'get_subjects', help="What the returns are counted by.")
    cause = fields.Selection([(None, "")] + CAUSES, "Cause", sort=False)
    cause_string = cause.translated('cause')
    label = fields.Function(fields.Char("Name"), 'get_label')
    returns = fields.Integer(
        "Returns", help="The number of returns that came in.")
    returned_quantity = fields.Float(
        "Returned",
        help="What came in, in the default unit of each product.\n"
        "By defect and cause what inspections have found defective.")
    delivered_quantity = fields.Float(
        "Delivered",
        help="What was delivered in the same period, in the default unit of "
        "each product.\n"
        "All of it where deliveries cannot be told apart: by reason, defect "
        "and cause.")
    rate = fields.Float(
        "Rate", digits=(16, 4),
        help="Returned divided by delivered; empty when nothing was "
        "delivered.")
    share = fields.Float(
        "Share", digits=(16, 4), help="The part of all that was returned.")
    cumulative_share = fields.Float(
        "Cumulative", digits=(16, 4),
        help="The part of this and of all that were returned more.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('returned_quantity', 'DESC'), ('id', 'ASC')]

    @classmethod
    def _subject_models(cls):
        "Map the dimensions whose subject is a record to its model"
        return {
            'product': 'product.product',
            'category': 'product.category',
            'reason': 'return.reason',
            'defect': 'return.defect',
            'supplier': 'party.party',
            'employee': 'company.employee',
            }

    @classmethod
    def get_subjects(cls):
        pool = Pool()
        Model = pool.get('ir.model')
        return [(None, '')] + [
            (m.model, m.name) for m in Model.search([
                    ('model', 'in', list(cls._subject_models().values())),
                    ])]

    def get_label(self, name):
        return self.subject.rec_name if self.subject else self.cause_string

    def get_rec_name(self, name):
        return self.label

    @classmethod
    def table_query(cls):
        dimension = Transaction().context.get('dimension') or 'product'
        returned = cls._grouped('receipts', dimension)
        delivered = cls._grouped('deliveries', dimension)
        if delivered:
            query = returned.join(
                delivered, 'LEFT', condition=returned.key == delivered.key)
        else:
            moves = cls._moves('deliveries')
            delivered = moves.select(Sum(moves.quantity).as_('quantity'))
            query = returned.join(delivered, condition=Literal(True))
        total = Sum(returned.quantity, window=Window([]))
        model = cls._subject_models().get(dimension)
        if model:
            id_, cause = returned.key, Literal(None)
            subject = Concat(model + ',', returned.key)
        else:
            cause, subject = returned.key, Literal(None)
            id_ = Case(*[
                    (returned.key == cause, Literal(i))
                    for i, (cause, _) in enumerate(CAUSES, 1)])
        return query.select(
            id_.as_('id'),
            Literal(0).as_('create_uid'),
            CurrentTimestamp().as_('create_date'),
            cls.write_uid.sql_cast(Literal(Null)).as_('write_uid'),
            cls.write_date.sql_cast(Literal(Null)).as_('write_date'),
            cls.company.sql_cast(
                Literal(Transaction().context.get('company'))).as_('company'),
            cls.subject.sql_cast(subject).as_('subject'),
            cls.cause.sql_cast(cause).as_('cause'),
            returned.documents.as_('returns'),
            returned.quantity.as_('returned_quantity'),
            Coalesce(delivered.quantity, 0).as_('delivered_quantity'),
            (returned.quantity / NullIf(delivered.quantity, 0)).as_('rate'),
            (returned.quantity / total).as_('share'),
            (Sum(returned.quantity, window=Window(
                        [],
                        order_by=[returned.quantity.desc, returned.key]))
                / total).as_('cumulative_share'))

    @classmethod
    def count(cls, dimension, **context):
        """Count the returns and the delivered sale lines by subject

        In the context that the analysis needs.  Where deliveries cannot be
        told apart each subject has all of them.
        """
        pool = Pool()
        Subject = pool.get(cls._subject_models()[dimension])
        cursor = Transaction().connection.cursor()
        counts = []
        with Transaction().set_context(**context):
            for kind in ['receipts', 'deliveries']:
                grouped = cls._grouped(kind, dimension)
                if grouped:
                    cursor.execute(*grouped.select(
                            grouped.key, grouped.documents))
                    found = dict(cursor)
                    counts.append(defaultdict(int, {
                                s: found[s.id] for s in Subject.browse(
                                    list(found))}))
                else:
                    moves = cls._moves(kind)
                    cursor.execute(*moves.select(
                            Count(moves.document, distinct=True)))
                    total, = cursor.fetchone()
                    counts.append(defaultdict(lambda total=total: total))
        return counts

    @classmethod
    def _grouped(cls, kind, dimension):
        """Return the query of the quantities by the key of the dimension

        None when the moves cannot be told apart by it.
        """
        found = getattr(cls, '_by_' + dimension)(kind)
        if not found:
            return
        query, key, quantity, document = found
        return query.select(
            key.as_('key'),
            Sum(quantity).as_('quantity'),
            Count(document, distinct=True).as_('documents'),
            where=key != Null,
            group_by=[key],
            having=Sum(quantity) > 0)

    @classmethod
    def _by_product(cls, kind):
        moves = cls._moves(kind)
        return moves, moves.product, moves.quantity, moves.document

    @classmethod
    def _by_category(cls, kind):
        pool = Pool()
        Product = pool.get('product.product')
        Category = pool.get('product.template-product.category.all')
        moves = cls._moves(kind)
        product = Product.__table__()
        category = Category.__table__()
        query = (moves
            .join(product, condition=moves.product == product.id)
            .join(category, condition=product.template == category.template))
        return query, category.category, moves.quantity, moves.document

    @classmethod
    def _by_reason(cls, kind):
        if kind == 'receipts':
            moves = cls._moves(kind)
            return moves, moves.reason, moves.quantity, moves.document

    @classmethod
    def _by_supplier(cls, kind):
        "By the last supplier of the product"
        pool = Pool()
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.in')
        moves = cls._moves(kind)
        move = Move.__table__()
        last = Move.__table__()
        shipment = Shipment.__table__()
        last = last.select(
            Max(last.id).as_('id'),
            where=(last.state == 'done')
            & (last.company == Transaction().context.get('company'))
            & last.shipment.like(Shipment.__name__ + ',%'),
            group_by=[last.product])
        query = (moves
            .join(move, condition=move.product == moves.product)
            .join(last, condition=move.id == last.id)
            .join(shipment, condition=(
                    Move.shipment.sql_id(move.shipment, Move)
                    == shipment.id)))
        return query, shipment.supplier, moves.quantity, moves.document

    @classmethod
    def _by_employee(cls, kind):
        "By who confirmed the sale"
        pool = Pool()
        Sale = pool.get('sale.sale')
        SaleLine = pool.get('sale.line')
        moves = cls._moves(kind)
        line = SaleLine.__table__()
        sale = Sale.__table__()
        query = (moves
            .join(line, condition=moves.sale_line == line.id)
            .join(sale, condition=line.sale == sale.id))
        return query, sale.confirmed_by, moves.quantity, moves.document

    @classmethod
    def _by_defect(cls, kind):
        pool = Pool()
        Defect = pool.get('return.inspection.defect')
        if kind == 'receipts':
            findings = cls._findings()
            defect = Defect.__table__()
            query = findings.join(
                defect, condition=defect.inspection == findings.id)
            return (
                query, defect.defect, defect.quantity * findings.factor,
                findings.document)

    @classmethod
    def _by_cause(cls, kind):
        if kind == 'receipts':
            findings = cls._findings()
            return (
                findings, findings.cause,
                findings.defective_quantity * findings.factor,
                findings.document)

    @classmethod
    def _findings(cls):
        """Return the query of the inspections that count

        By the day they were processed, with the factor from their unit to
        the default one; those that another one supersedes are left out.
        """
        pool = Pool()
        Inspection = pool.get('quality.inspection')
        Line = pool.get('return.order.line')
        Product = pool.get('product.product')
        Reason = pool.get('return.reason')
        Template = pool.get('product.template')
        Uom = pool.get('product.uom')
        context = Transaction().context
        inspection = Inspection.__table__()
        second = Inspection.__table__()
        line = Line.__table__()
        product = Product.__table__()
        reason = Reason.__table__()
        template = Template.__table__()
        unit, default_unit = Uom.__table__(), Uom.__table__()
        where = (
            inspection.state.in_(['passed', 'failed'])
            & (inspection.company == context.get('company'))
            & inspection.origin.like(Line.__name__ + ',%')
            & (second.id == Null))
        if context.get('from_date'):
            where &= inspection.processed_at >= dt.datetime.combine(
                context['from_date'], dt.time.min)
        if context.get('to_date'):
            where &= inspection.processed_at < dt.datetime.combine(
                context['to_date'] + dt.timedelta(days=1), dt.time.min)
        if context.get('product'):
            where &= line.product == context['product']
        if context.get('reason_category'):
            where &= reason.category == context['reason_category']
        return (inspection
            .join(line, condition=(
                    Inspection.origin.sql_id(inspection.origin, Inspection)
                    == line.id))
            .join(second, 'LEFT',
                condition=second.supersedes == inspection.id)
            .join(reason, condition=line.reason == reason.id)
            .join(product, condition=line.product == product.id)
            .join(template, condition=product.template == template.id)
            .join(unit, condition=line.unit == unit.id)
            .join(default_unit,
                condition=template.default_uom == default_unit.id)
            .select(
                inspection.id, inspection.cause,
                inspection.defective_quantity,
                line.order.as_('document'),
                (unit.factor / default_unit.factor).as_('factor'),
                where=where))


class Analysis_Lot(metaclass=PoolMeta):
    __name__ = 'return.quality.analysis'

    @classmethod
    def _subject_models(cls):
        return {**super()._subject_models(), 'lot': 'stock.lot'}

    @classmethod
    def _move_columns(cls, move):
        return super()._move_columns(move) + [move.lot.as_('lot')]

    @classmethod
    def _by_lot(cls, kind):
        moves = cls._moves(kind)
        return moves, moves.lot, moves.quantity, moves.document


class Trend(AnalysisMixin, ModelSQL, ModelView):
    "Return Quality Trend"
    __name__ = 'return.quality.trend'

    company = fields.Many2One('company.company', "Company")
    date = fields.Date("Date", help="The first day of the period.")
    returned_quantity = fields.Float(
        "Returned", help="What came in, in the default unit of each product.")
    delivered_quantity = fields.Float(
        "Delivered",
        help="What was delivered, in the default unit of each product.")
    rate = fields.Float(
        "Rate", digits=(16, 4),
        help="Returned divided by delivered; empty when nothing was "
        "delivered.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [('date', 'ASC')]

    def get_rec_name(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        return Lang.get().strftime(self.date)

    @classmethod
    def table_query(cls):
        context = Transaction().context
        moves = Union(*[
                cls._signed(kind, returned)
                for kind, returned in [('receipts', 1), ('deliveries', 0)]],
            all_=True)
        date = cls.date.sql_cast(DateTrunc(
                context.get('period') or 'month', moves.date))
        returned, delivered = Sum(moves.returned), Sum(moves.delivered)
        return moves.select(
            Min(moves.id).as_('id'),
            Literal(0).as_('create_uid'),
            CurrentTimestamp().as_('create_date'),
            cls.write_uid.sql_cast(Literal(Null)).as_('write_uid'),
            cls.write_date.sql_cast(Literal(Null)).as_('write_date'),
            cls.company.sql_cast(
                Literal(context.get('company'))).as_('company'),
            date.as_('date'),
            returned.as_('returned_quantity'),
            delivered.as_('delivered_quantity'),
            (returned / NullIf(delivered, 0)).as_('rate'),
            group_by=[date])

    @classmethod
    def _signed(cls, kind, returned):
        "Return the query of the moves as returned or delivered"
        moves = cls._moves(kind)
        return moves.select(
            moves.id, moves.date,
            (moves.quantity * returned).as_('returned'),
            (moves.quantity * (1 - returned)).as_('delivered'))


class ContextMixin(ModelView):
    __slots__ = ()

    company = fields.Many2One('company.company', "Company", required=True)
    from_date = fields.Date(
        "From Date",
        domain=[
            If(Eval('to_date') & Eval('from_date'),
                ('from_date', '<=', Eval('to_date')),
                ()),
            ])
    to_date = fields.Date(
        "To Date",
        domain=[
            If(Eval('from_date') & Eval('to_date'),
                ('to_date', '>=', Eval('from_date')),
                ()),
            ])
    product = fields.Many2One(
        'product.product', "Product",
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Leave empty for all products.")
    reason_category = fields.Selection(
        [(None, "")] + CATEGORIES, "Reason Category", sort=False,
        help="Leave empty for all reasons.")

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_from_date(cls):
        pool = Pool()
        Date = pool.get('ir.date')
        return Transaction().context.get(
            'from_date', Date.today() - relativedelta(years=1))

    @classmethod
    def default_to_date(cls):
        pool = Pool()
        Date = pool.get('ir.date')
        return Transaction().context.get('to_date', Date.today())

    @classmethod
    def default_reason_category(cls):
        return Transaction().context.get('reason_category', 'quality')


class AnalysisContext(ContextMixin):
    "Return Quality Analysis Context"
    __name__ = 'return.quality.analysis.context'

    dimension = fields.Selection([
            ('product', "Product"),
            ('category', "Category"),
            ('reason', "Reason"),
            ('defect', "Defect"),
            ('cause', "Cause"),
            ('supplier', "Supplier"),
            ('employee', "Sales Person"),
            ], "By", required=True, sort=False,
        help="What the returns are counted by.\n"
        "Supplier: the last one of the product.  Sales person: who confirmed "
        "the sale.")

    @classmethod
    def default_dimension(cls):
        return Transaction().context.get('dimension', 'product')


class AnalysisContext_Lot(metaclass=PoolMeta):
    __name__ = 'return.quality.analysis.context'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.dimension.selection.append(('lot', "Lot"))


class TrendContext(ContextMixin):
    "Return Quality Trend Context"
    __name__ = 'return.quality.trend.context'

    period = fields.Selection([
            ('year', "Year"),
            ('month', "Month"),
            ('day', "Day"),
            ], "Period", required=True, sort=False)

    @classmethod
    def default_period(cls):
        return Transaction().context.get('period', 'month')
