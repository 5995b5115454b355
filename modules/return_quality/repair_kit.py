# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import fields
from trytond.pool import Pool, PoolMeta


class Repair(metaclass=PoolMeta):
    __name__ = 'return.repair'

    def _get_disposition(self):
        disposition = super()._get_disposition()
        disposition.component = self.disposition.component
        return disposition


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @fields.depends('component')
    def on_change_with_ended_repairs(self, name=None):
        pool = Pool()
        Repair = pool.get('return.repair')
        return [
            r.id for r in Repair.browse(
                super().on_change_with_ended_repairs(name=name))
            if r.disposition.component == self.component]

    def _get_alike(self):
        return [
            d for d in super()._get_alike() if d.component == self.component]

    def _get_received_quantity(self):
        if not self.component:
            return super()._get_received_quantity()
        _, quantity = self.line._get_received_loose().get(
            self.component, (self.unit, 0))
        return quantity

    def _get_moves_in(self):
        if not self.repair:
            return super()._get_moves_in()
        return [
            m for m in self.repair.disposition.moves if m.state == 'done']

    def _get_takers(self):
        if self.repair:
            return self.repair.dispositions
        return [d for d in super()._get_takers() if not d.repair]
