# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import fields
from trytond.pool import Pool, PoolMeta
from trytond.transaction import without_check_access


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    expected_refund_date = fields.Function(fields.Date(
            "Expected Refund",
            help="The date by which the customer can expect all money: the "
            "due date of the refunds or, before they are approved, the "
            "working days of their method from today.\n"
            "As long as there is no refund the working days of the slowest "
            "method from the expected decision, without the time that the "
            "goods travel."),
        'get_expected_refund_date')

    @classmethod
    def _expected_dates(cls):
        return super()._expected_dates() + ['expected_refund_date']

    @classmethod
    def get_expected_refund_date(cls, orders, name):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Method = pool.get('return.refund.method')
        dates = dict.fromkeys(map(int, orders))
        with without_check_access():
            orders = cls.browse(orders)
            companies = {o.company for o in orders}
            today = {c: Calendar.get_today(c) for c in companies}
            slowest = Method.get_slowest(companies)
            for order in orders:
                if order._is_refund_ahead() and order.company in slowest:
                    dates[order.id] = slowest[order.company].get_due_date(max(
                            today[order.company],
                            order.expected_decision_date
                            or today[order.company]))
                for refund in order._get_open_refunds():
                    date = refund.due_date
                    if not date and refund.method:
                        date = refund.get_due_date(today[order.company])
                    if date and (
                            not dates[order.id] or date > dates[order.id]):
                        dates[order.id] = date
        return dates

    def _is_refund_ahead(self):
        "Test if money is to go back and no refund says yet by when"
        return (
            self.state in {'submitted', 'reviewed', 'approved'}
            and not self.refunds
            and any(l.expects_refund and l.open_quantity for l in self.lines))

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if (self.state in {'approved', 'done'}
                and self._get_open_refunds()):
            stages.add(('refund', 'finance'))
        return stages

    def _get_open_refunds(self):
        "Return the refunds whose money has not gone back yet"
        return [
            r for r in self.refunds
            if r.state in {'draft', 'approved', 'posted', 'failed'}]

    @classmethod
    def _update_stages(cls, orders, now=None):
        pool = Pool()
        Stage = pool.get('return.order.stage')
        super()._update_stages(orders, now=now)
        with without_check_access():
            to_save = []
            for order in cls.browse(orders):
                for stage in order.stages:
                    if (stage.stage == 'refund' and not stage.ended_at
                            and stage.set_refund_due_date()):
                        to_save.append(stage)
            Stage.save(to_save)


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('refund', "Refund"))

    def _get_previous(self):
        # Each refund has the days of its method
        return super()._get_previous() if self.stage != 'refund' else None

    def set_refund_due_date(self):
        """Set the due date from the refund that is due first

        Return whether it changes.
        """
        refunds = [
            r for r in self.order._get_open_refunds() if r.due_date]
        if refunds:
            refund = min(refunds, key=lambda r: (r.due_date, r.id))
            due_date = refund.due_date
            days = refund.method.days if refund.method else 0
        else:
            due_date = days = None
        if self.due_date == due_date:
            return False
        self.due_date = due_date
        self.days = days
        self.notified_at = None
        return True
