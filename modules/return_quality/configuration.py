# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import fields
from trytond.modules.return_management.configuration import (
    default_limit, limit_field)
from trytond.pool import Pool, PoolMeta

inspection_days = limit_field(
    'inspection_days', "Inspection",
    "The number of working days that quality has to inspect what was "
    "received.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    inspection_days = fields.MultiValue(inspection_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'inspection_days':
            return pool.get('return.configuration.limit')
        return super().multivalue_model(field)

    default_inspection_days = default_limit('inspection_days')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    inspection_days = inspection_days

    @classmethod
    def default_inspection_days(cls):
        return 5
