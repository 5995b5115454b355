# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import PoolMeta


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    def _get_decision_stages(self):
        stages = super()._get_decision_stages()
        if any(l.reason.inspect and l.expects_goods for l in self.lines):
            stages.append('inspection')
        return stages

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if (self.state in {'reviewed', 'approved', 'done'}
                and any(l.quality_inspections_pending() for l in self.lines)):
            # The final review waits for the inspection
            stages = {(s, r) for s, r in stages if s != 'final'}
            stages.add(('inspection', 'quality'))
        return stages


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('inspection', "Inspection"))

    @classmethod
    def _limit_names(cls):
        return {**super()._limit_names(), 'inspection': 'inspection_days'}

    def _get_previous(self):
        previous = super()._get_previous()
        if (previous and self.stage == 'inspection'
                and not previous._is_interrupted()):
            # Other goods have come: they get days of their own
            return
        return previous
