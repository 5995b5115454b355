# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.modules.return_management.exceptions import AreaError
from trytond.modules.return_management.stock import _area
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.transaction import without_check_access

from .exceptions import RepairDispositionError
from .repair import ENDED_STATES, OPEN_STATES


class Location(metaclass=PoolMeta):
    __name__ = 'stock.location'

    repair_location = _area(
        "Repair",
        "Where returned goods are repaired; outside the storage zone.")

    @classmethod
    def _return_areas(cls):
        return super()._return_areas() + ['repair_location']


class Goods(metaclass=PoolMeta):
    __name__ = 'return.area.goods'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.area.selection.append(('repair_location', "Repair"))

    @property
    def statuses(self):
        statuses = []
        if self.area == 'repair_location' and self.line:
            statuses.extend(
                r.state_string for d in self.line.dispositions
                for r in d.repairs if r.state in OPEN_STATES)
        return statuses or super().statuses


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    repair = fields.Many2One(
        'return.repair', "After Repair", ondelete='RESTRICT',
        domain=[
            If(Eval('state') == 'draft',
                ('id', 'in', Eval('ended_repairs', [])),
                ()),
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': ~Eval('ended_repairs', []),
            },
        help="The repair that the goods come from; found when nothing else "
        "of the line is left to decide.")
    ended_repairs = fields.Function(
        fields.Many2Many('return.repair', None, None, "Ended Repairs"),
        'on_change_with_ended_repairs')
    repairs = fields.One2Many(
        'return.repair', 'disposition', "Repairs", readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.action.selection += [('repair', "Repair")]
        cls._guarded_fields = cls._guarded_fields | {'repairs'}
        cls._decided_fields = cls._decided_fields | {'repair'}
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.repair, Index.Range())))

    @fields.depends('line', '_parent_line.id')
    def on_change_with_ended_repairs(self, name=None):
        pool = Pool()
        Line = pool.get('return.order.line')
        if not self.line or (self.line.id or -1) < 0:
            return []
        return [r.id for r in Line(self.line.id).ended_repairs]

    @classmethod
    def create(cls, vlist):
        dispositions = super().create(vlist)
        cls._set_repair([
                d for d in dispositions
                if not d.repair and d.state != 'cancelled'])
        return dispositions

    @classmethod
    @without_check_access
    def _set_repair(cls, dispositions):
        "Set the repair that the goods come from when no others are left"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = {
            l.id for l in Line.browse(list({d.line.id for d in dispositions}))
            if l.ended_repairs}
        for disposition in dispositions:
            if disposition.line.id not in lines:
                continue
            disposition = cls(disposition.id)
            if disposition._get_unrepaired_quantity() >= 0:
                continue
            for repair in disposition._get_ended_repairs():
                left = repair.quantity - repair._get_outgoing()[0]
                if repair.unit.round(left - disposition.quantity) >= 0:
                    disposition.repair = repair
                    disposition.save()
                    break

    def _get_alike(self):
        "Return the dispositions of the line about the same goods"
        return self.line.dispositions

    def _get_ended_repairs(self):
        return [
            r for d in sorted(self._get_alike(), key=int) for r in d.repairs
            if r.state in ENDED_STATES]

    def _get_received_quantity(self):
        "Return how much came in of what is decided about"
        return self.line.received_quantity

    def _get_unrepaired_quantity(self):
        """Return what can still be decided of what comes from no repair

        Below zero when more is decided than lies there.
        """
        elsewhere = 0
        for repair in self._get_ended_repairs():
            _, back = repair._get_outgoing()
            elsewhere += repair.quantity - back
        return self.unit.round(
            self._get_received_quantity() - elsewhere - sum(
                d.quantity for d in self._get_alike()
                if not d.repair and d.state != 'cancelled'))

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('repairs')
        return super().copy(dispositions, default=default)

    @classmethod
    def validate_fields(cls, dispositions, field_names):
        super().validate_fields(dispositions, field_names)
        if 'repair' in field_names:
            cls.check_action(dispositions)

    @classmethod
    def check_action(cls, dispositions):
        super().check_action(dispositions)
        for disposition in dispositions:
            repair = disposition.repair
            if (repair and disposition.state != 'cancelled'
                    and disposition.action
                    in repair._get_forbidden_actions()):
                raise RepairDispositionError(gettext(
                        'return_quality.msg_disposition_repair_action',
                        disposition=disposition.rec_name,
                        repair=repair.rec_name))

    def _check_decide(self):
        super()._check_decide()
        if self.action == 'repair':
            # A missing area is an error before anything moves
            self._get_to_location()
        if self.repair:
            left = self.unit.round(
                self.repair.quantity - self.repair._get_outgoing()[0])
        else:
            left = self._get_unrepaired_quantity()
        if left < 0:
            raise RepairDispositionError(gettext(
                    'return_quality.msg_disposition_repair_quantity',
                    disposition=self.rec_name))

    @property
    def is_inspected_after_repair(self):
        return bool(self.repair) and self.repair.state != 'cancelled'

    def _check_inspection(self):
        if not self.is_inspected_after_repair:
            super()._check_inspection()

    def _check_resale(self):
        if not self.is_inspected_after_repair:
            super()._check_resale()

    def _get_from_location(self):
        if self.repair:
            return self.repair.location
        return super()._get_from_location()

    def _get_to_location(self):
        if self.action == 'repair':
            return self.line.order.warehouse.get_return_area(
                'repair_location')
        return super()._get_to_location()

    @classmethod
    def _do(cls, dispositions):
        super()._do(dispositions)
        cls._create_repairs([
                d for d in dispositions
                if d.action == 'repair' and not d.repairs])

    @classmethod
    @without_check_access
    def _create_repairs(cls, dispositions):
        pool = Pool()
        Repair = pool.get('return.repair')
        repairs = [d._get_repair() for d in cls.browse(dispositions)]
        Repair.set_due_date(repairs)
        Repair.set_number(repairs)

    def _get_repair(self):
        pool = Pool()
        Repair = pool.get('return.repair')
        return Repair(
            company=self.company,
            disposition=self,
            product=self.product,
            unit=self.unit,
            quantity=self.quantity,
            location=self._get_to_location())


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    @property
    def ended_repairs(self):
        return [
            r for d in sorted(self.dispositions, key=int) for r in d.repairs
            if r.state in ENDED_STATES]

    def _get_left_quantity(self):
        # What is repaired is still in our hands
        return super()._get_left_quantity() - sum(
            d.line_quantity for d in self.dispositions
            if d.state == 'done' and d.action == 'repair')

    def _get_default_action(self):
        if (self.wish == 'repair'
                and 'repair' not in self.reason.all_forbidden_actions):
            return 'repair'
        return super()._get_default_action()


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    def _get_open_repairs(self):
        return [
            r for l in self.lines for d in l.dispositions for r in d.repairs
            if r.state in OPEN_STATES]

    def _goods_settled(self):
        return super()._goods_settled() and not self._get_open_repairs()

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        for repair in self._get_open_repairs():
            if repair.state == 'repaired':
                stages.add(('inspection', 'quality'))
            else:
                stages.add(('repair', 'production'))
        return stages


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('repair', "Repair"))
        cls.role.selection.append(('production', "Production"))

    @classmethod
    def _limit_names(cls):
        return {**super()._limit_names(), 'repair': 'repair_days'}

    @classmethod
    def _role_groups(cls):
        return {
            **super()._role_groups(),
            'production': 'return_management.group_return_production',
            }

    def _get_previous(self):
        # What did not pass has days of its own
        if self.stage != 'repair':
            return super()._get_previous()


class Move(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def check_return_disposition(cls, moves):
        super().check_return_disposition(moves)
        with without_check_access():
            for move in cls.browse(moves):
                move._check_repair()

    def _check_repair(self):
        "Check that what was not repaired does not go on as if it were"
        disposition = self.return_disposition
        if not disposition or not self._leaves_return_area():
            return
        area, warehouse = self.from_location.find_return_area()
        if bool(disposition.repair) != (area == warehouse.repair_location):
            raise AreaError(gettext(
                    'return_quality.msg_move_repair',
                    move=self.rec_name,
                    disposition=disposition.rec_name))
