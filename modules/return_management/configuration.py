# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import ModelSingleton, ModelSQL, ModelView, fields
from trytond.modules.company.model import (
    CompanyMultiValueMixin, CompanyValueMixin)
from trytond.pool import Pool
from trytond.pyson import Eval, Id


def limit_field(name, string, help_):
    "Return the field for a limit in working days"
    return fields.Integer(
        string,
        domain=['OR',
            (name, '=', None),
            [(name, '>=', 0), (name, '<=', 365)],
            ],
        help="\n".join([help_, "Leave empty for no limit."]))


def default_limit(name):
    @classmethod
    def default(cls, **pattern):
        return getattr(cls.multivalue_model(name), 'default_' + name)()
    return default


initial_review_days = limit_field(
    'initial_review_days', "Initial Review",
    "The number of working days that sales has for the initial review of a "
    "submitted return.")
final_review_days = limit_field(
    'final_review_days', "Final Review",
    "The number of working days that each role has to sign the final "
    "review.")
pickup_days = limit_field(
    'pickup_days', "Pick-up",
    "The number of working days that logistics has to pick up the goods.")
tell_days = limit_field(
    'tell_days', "Tell Customer",
    "The number of working days that sales has to tell the customer that "
    "the return is refused.")
discrepancy_days = limit_field(
    'discrepancy_days', "Discrepancy",
    "The number of working days that sales has to settle in what the goods "
    "differ from what was announced.")

transit_days = fields.Integer(
    "Transit Days",
    domain=['OR',
        ('transit_days', '=', None),
        [('transit_days', '>=', 0), ('transit_days', '<=', 365)],
        ],
    help="The number of calendar days that goods travel to the customer; "
    "the period to return them counts from then when there is no proof of "
    "delivery.\n"
    "Leave empty to count from the dispatch.")


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
    return_discrepancy_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Return Discrepancy Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=', Id(
                        'return_management',
                        'sequence_type_return_discrepancy')),
                ]))
    initial_review_days = fields.MultiValue(initial_review_days)
    final_review_days = fields.MultiValue(final_review_days)
    pickup_days = fields.MultiValue(pickup_days)
    tell_days = fields.MultiValue(tell_days)
    discrepancy_days = fields.MultiValue(discrepancy_days)
    transit_days = fields.MultiValue(transit_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in {
                'return_order_sequence', 'return_discrepancy_sequence'}:
            return pool.get('return.configuration.sequence')
        elif field in {
                'initial_review_days', 'final_review_days', 'pickup_days',
                'tell_days', 'discrepancy_days'}:
            return pool.get('return.configuration.limit')
        elif field == 'transit_days':
            return pool.get('return.configuration.delivery')
        return super().multivalue_model(field)

    default_initial_review_days = default_limit('initial_review_days')
    default_final_review_days = default_limit('final_review_days')
    default_pickup_days = default_limit('pickup_days')
    default_tell_days = default_limit('tell_days')
    default_discrepancy_days = default_limit('discrepancy_days')
    default_transit_days = default_limit('transit_days')

    @classmethod
    def default_return_order_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_order_sequence')
            .default_return_order_sequence())

    @classmethod
    def default_return_discrepancy_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_discrepancy_sequence')
            .default_return_discrepancy_sequence())


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
    return_discrepancy_sequence = fields.Many2One(
        'ir.sequence', "Return Discrepancy Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_management', 'sequence_type_return_discrepancy')),
            ])

    @classmethod
    def default_return_discrepancy_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_return_discrepancy')
        except KeyError:
            return None

    @classmethod
    def default_return_order_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_return_order')
        except KeyError:
            return None


class ConfigurationLimit(CompanyValueMixin, ModelSQL):
    "Return Configuration Limit"
    __name__ = 'return.configuration.limit'

    initial_review_days = initial_review_days
    final_review_days = final_review_days
    pickup_days = pickup_days
    tell_days = tell_days
    discrepancy_days = discrepancy_days

    @classmethod
    def default_initial_review_days(cls):
        return 2

    @classmethod
    def default_final_review_days(cls):
        return 3

    @classmethod
    def default_pickup_days(cls):
        return 3

    @classmethod
    def default_tell_days(cls):
        return 1

    @classmethod
    def default_discrepancy_days(cls):
        return 3


class ConfigurationDelivery(CompanyValueMixin, ModelSQL):
    "Return Configuration Delivery"
    __name__ = 'return.configuration.delivery'

    transit_days = transit_days

    @classmethod
    def default_transit_days(cls):
        return 0
