# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import ModelSingleton, ModelSQL, ModelView, fields
from trytond.modules.company.model import (
    CompanyMultiValueMixin, CompanyValueMixin)
from trytond.pool import Pool
from trytond.pyson import Eval, Id


class Configuration(
        ModelSingleton, CompanyMultiValueMixin, ModelSQL, ModelView):
    "Return Configuration"
    __name__ = 'return.configuration'

    return_order_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Return Order Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=',
                    Id('return_management', 'sequence_type_return_order')),
                ]))

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'return_order_sequence':
            return pool.get('return.configuration.sequence')
        return super().multivalue_model(field)

    @classmethod
    def default_return_order_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_order_sequence')
            .default_return_order_sequence())


class ConfigurationSequence(CompanyValueMixin, ModelSQL):
    "Return Configuration Sequence"
    __name__ = 'return.configuration.sequence'

    return_order_sequence = fields.Many2One(
        'ir.sequence', "Return Order Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_management', 'sequence_type_return_order')),
            ])

    @classmethod
    def default_return_order_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_return_order')
        except KeyError:
            return None
