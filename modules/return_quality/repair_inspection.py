# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelView, dualmethod, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.transaction import Transaction


class Control(metaclass=PoolMeta):
    __name__ = 'quality.control'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.operations.selection.append(
            ('return.repair:finish', "Returned Goods Repaired"))

    @classmethod
    def create(cls, vlist):
        vlist = [v.copy() for v in vlist]
        for values in vlist:
            if (not values.get('points')
                    and 'return.repair:finish' in (
                        values.get('operations') or [])):
                values['points'] = [
                    ('create', [cls._get_default_point()]),
                    ]
        return super().create(vlist)

    @classmethod
    def match_repairs(cls, repairs):
        """Map repairs to the control that applies to them

        The most specific one; the repairs that none applies to are left out.
        """
        matched = {}
        if repairs:
            controls = sorted(
                cls.search([
                        ('operations', 'in', 'return.repair:finish'),
                        ]), key=cls._specificity)
            for repair in repairs:
                pattern = repair.quality_control_pattern('finish')
                for control in controls:
                    if control.match(pattern) and control.choose(repair):
                        matched[repair] = control
                        break
        return matched


class Inspection(metaclass=PoolMeta):
    __name__ = 'quality.inspection'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.origin.domain['return.repair'] = [
            ('company', '=', Eval('company', -1)),
            ]

    @classmethod
    def _get_origins(cls):
        return super()._get_origins() + ['return.repair']

    @fields.depends('origin')
    def on_change_with_return_order(self, name=None):
        repair = self._get_repair()
        if repair:
            return repair.order
        return super().on_change_with_return_order(name=name)

    @classmethod
    def search_return_order(cls, name, clause):
        nested = clause[0][len(name):]
        if not nested:
            nested = '.rec_name' if isinstance(clause[2], str) else '.id'
        return ['OR',
            super().search_return_order(name, clause),
            ('origin.order' + nested, *clause[1:3],
                'return.repair', *clause[3:]),
            ]

    @fields.depends('origin')
    def on_change_with_return_product(self, name=None):
        repair = self._get_repair()
        if repair:
            return repair.product
        return super().on_change_with_return_product(name=name)

    @fields.depends('origin')
    def _get_repair(self):
        "Return the repair whose goods are inspected, or None"
        pool = Pool()
        Repair = pool.get('return.repair')
        if isinstance(self.origin, Repair) and self.origin.id >= 0:
            return self.origin

    @classmethod
    def _get_repairs(cls, inspections):
        "Return the inspections of repaired goods"
        pool = Pool()
        Repair = pool.get('return.repair')
        return [i for i in inspections if isinstance(i.origin, Repair)]

    @property
    def is_evidence(self):
        return super().is_evidence or bool(self._get_repairs([self]))

    @classmethod
    def create(cls, vlist):
        inspections = super().create(vlist)
        if Transaction().check_access:
            cls._refuse_repairs(inspections)
        return inspections

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for inspections, values in zip(args[::2], args[1::2]):
                repairs = cls._get_repairs(inspections)
                cls._check_inspector(repairs)
                cls._check_guarded(
                    repairs,
                    (cls._guarded_fields | {'company', 'origin', 'control'})
                    & set(values))
                if cls._processed_fields & set(values):
                    cls._check_pending(repairs)
        super().write(*args)
        if Transaction().check_access:
            for inspections, values in zip(args[::2], args[1::2]):
                if 'origin' in values:
                    cls._refuse_repairs(cls.browse(inspections))

    @classmethod
    def delete(cls, inspections):
        cls._refuse_repairs(inspections)
        super().delete(inspections)

    @classmethod
    def _refuse_repairs(cls, inspections):
        for inspection in cls._get_repairs(inspections):
            raise AccessError(gettext(
                    'return_quality.msg_inspection_repair',
                    repair=inspection.origin.rec_name))

    @classmethod
    def _check_changeable(cls, inspections):
        super()._check_changeable(inspections)
        for inspection in cls._get_returns(inspections):
            if any(d.repairs for d in inspection.dispositions):
                raise AccessError(gettext(
                        'return_quality.msg_inspection_moved',
                        inspection=inspection.rec_name))

    @classmethod
    @ModelView.button
    def pending(cls, inspections):
        pool = Pool()
        Repair = pool.get('return.repair')
        repairs = [
            i for i in cls._get_repairs(inspections) if i.state != 'pending']
        cls._check_inspector(repairs)
        Repair.reopen(repairs)
        super().pending(inspections)

    @dualmethod
    @ModelView.button
    def process(cls, inspections):
        pool = Pool()
        Repair = pool.get('return.repair')
        repairs = cls._get_repairs(inspections)
        cls._check_inspector(repairs)
        Repair._check_employee([i.origin for i in repairs])
        processed = {i for i in repairs if i.state != 'pending'}
        super().process([i for i in inspections if i not in processed])
        Repair.conclude(cls.browse(
                [i for i in repairs if i not in processed]))

    @classmethod
    @ModelView.button
    def pass_(cls, inspections):
        cls._check_result(inspections)
        super().pass_(inspections)

    @classmethod
    @ModelView.button
    def fail(cls, inspections):
        cls._check_result(inspections)
        repairs = cls._get_repairs(inspections)
        cls._fail_returns(repairs)
        super().fail([i for i in inspections if i not in set(repairs)])

    @classmethod
    def _check_result(cls, inspections):
        "Check that the result of repaired goods is found by the points"
        if Transaction().context.get('_return_inspection'):
            return
        for inspection in cls._get_repairs(inspections):
            raise AccessError(gettext(
                    'return_quality.msg_inspection_repair_result',
                    inspection=inspection.rec_name))
