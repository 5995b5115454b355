# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import ModelSQL, fields
from trytond.modules.company.model import CompanyValueMixin
from trytond.modules.return_management.configuration import (
    default_limit, limit_field)
from trytond.pool import Pool, PoolMeta

inspection_days = limit_field(
    'inspection_days', "Inspection",
    "The number of working days that quality has to inspect what was "
    "received.")
separate_inspector = fields.Boolean(
    "Inspector other than Receiver",
    help="Check to let nobody inspect the goods that they have received.\n"
    "An exception needs the permission of the administration.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    inspection_days = fields.MultiValue(inspection_days)
    separate_inspector = fields.MultiValue(separate_inspector)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'inspection_days':
            return pool.get('return.configuration.limit')
        elif field == 'separate_inspector':
            return pool.get('return.configuration.inspection')
        return super().multivalue_model(field)

    default_inspection_days = default_limit('inspection_days')
    default_separate_inspector = default_limit('separate_inspector')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    inspection_days = inspection_days

    @classmethod
    def default_inspection_days(cls):
        return 5


class ConfigurationInspection(CompanyValueMixin, ModelSQL):
    "Return Configuration Inspection"
    __name__ = 'return.configuration.inspection'

    separate_inspector = separate_inspector

    @classmethod
    def default_separate_inspector(cls):
        return True
