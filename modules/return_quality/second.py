# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelView, Unique, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.tools import grouped_slice

from .exceptions import InspectionRequiredError, SecondOpinionError


class Inspection(metaclass=PoolMeta):
    __name__ = 'quality.inspection'

    supersedes = fields.Many2One(
        'quality.inspection', "Supersedes", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('supersedes'),
            },
        help="The first opinion about the same goods; it stays as it was and "
        "does not count any more.")
    superseded_by = fields.Function(
        fields.Many2One(
            'quality.inspection', "Superseded by",
            states={
                'invisible': ~Eval('superseded_by'),
                },
            help="The second opinion, which counts."),
        'get_superseded_by')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('supersedes_unique', Unique(t, t.supersedes),
                'return_quality.msg_inspection_superseded_once'),
            ]
        cls._guarded_fields = cls._guarded_fields | {'supersedes'}
        for name in ['pending', 'pass_', 'fail']:
            cls._buttons[name]['invisible'] |= Bool(Eval('superseded_by'))
            cls._buttons[name]['depends'].append('superseded_by')
        cls._buttons.update({
                'ask_second': {
                    'invisible': (
                        ~Eval('state').in_(['passed', 'failed'])
                        | ~Eval('return_line')
                        | Bool(Eval('superseded_by'))),
                    'depends': ['state', 'return_line', 'superseded_by'],
                    },
                })

    @classmethod
    def get_superseded_by(cls, inspections, name):
        superseded = dict.fromkeys(map(int, inspections))
        for sub_inspections in grouped_slice(inspections):
            for second in cls.search([
                        ('supersedes', 'in', list(map(int, sub_inspections))),
                        ]):
                superseded[second.supersedes.id] = second.id
        return superseded

    @classmethod
    def copy(cls, inspections, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('supersedes')
        return super().copy(inspections, default=default)

    @classmethod
    def _check_changeable(cls, inspections):
        for inspection in inspections:
            if inspection.superseded_by:
                raise AccessError(gettext(
                        'return_quality.msg_inspection_superseded',
                        inspection=inspection.rec_name,
                        second=inspection.superseded_by.rec_name))
        super()._check_changeable(inspections)

    @classmethod
    @ModelView.button
    def ask_second(cls, inspections):
        "Let somebody else inspect anew what has not moved yet"
        pool = Pool()
        Disposition = pool.get('return.disposition')
        Order = pool.get('return.order')
        inspections = [
            i for i in cls._get_returns(inspections) if i.state != 'pending']
        Order.lock(sorted({i.origin.order for i in inspections}, key=int))
        cls._check_changeable(inspections)
        to_cancel = [
            d for i in inspections for d in i.dispositions
            if d.state in {'draft', 'decided'}]
        Disposition.cancel(to_cancel)
        seconds = [i._get_second() for i in inspections]
        cls.save(seconds)
        by_first = {s.supersedes.id: s.id for s in seconds}
        Disposition.copy(to_cancel, default={
                'inspection': lambda data: by_first[data['inspection']],
                })
        cls._queue_orders(inspections)

    def _get_second(self):
        second = self.origin._get_inspection(self.control)
        second.inspected_quantity = self.inspected_quantity
        second.moves = self.moves
        second.supersedes = self
        return second

    @classmethod
    def _check_process(cls, inspections):
        pool = Pool()
        Order = pool.get('return.order')
        super()._check_process(inspections)
        for inspection in inspections:
            if (inspection.supersedes
                    and inspection.supersedes.processed_by
                    == Order._get_employee(inspection.company)):
                raise SecondOpinionError(gettext(
                        'return_quality.msg_inspection_second',
                        inspection=inspection.rec_name))


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    def _check_inspection(self):
        super()._check_inspection()
        if self.inspection and self.inspection.superseded_by:
            raise InspectionRequiredError(gettext(
                    'return_quality.msg_disposition_superseded',
                    disposition=self.rec_name,
                    second=self.inspection.superseded_by.rec_name))
