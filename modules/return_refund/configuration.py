# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.model import ModelSQL, fields
from trytond.modules.company.model import CompanyValueMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, Id


def _account(string, type_, help_):
    return fields.Many2One(
        'account.account', string,
        domain=[
            ('type.%s' % type_, '=', True),
            ('closed', '!=', True),
            ('company', '=', Eval('company', -1)),
            ],
        help=help_)


def _account_value(string, type_, help_):
    return fields.MultiValue(fields.Many2One(
            'account.account', string,
            domain=[
                ('type.%s' % type_, '=', True),
                ('closed', '!=', True),
                ('company', '=', Eval('context', {}).get('company', -1)),
                ],
            help=help_))


_goodwill = (
    "Goodwill Account", 'expense',
    "What is credited for goods without a sale is booked here, untaxed.")
_fee = (
    "Restocking Fee Account", 'revenue',
    "The fees kept from refunds are booked here, untaxed.")
_voucher = (
    "Voucher Income Account", 'revenue',
    "What remains of expired vouchers is booked here when it is written off.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    return_refund_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Refund Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=',
                    Id('return_refund', 'sequence_type_return_refund')),
                ]))
    return_voucher_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Voucher Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=',
                    Id('return_refund', 'sequence_type_return_voucher')),
                ]))
    goodwill_account = _account_value(*_goodwill)
    restocking_fee_account = _account_value(*_fee)
    voucher_income_account = _account_value(*_voucher)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field in {'return_refund_sequence', 'return_voucher_sequence'}:
            return pool.get('return.configuration.sequence')
        elif field in {
                'goodwill_account', 'restocking_fee_account',
                'voucher_income_account'}:
            return pool.get('return.configuration.account')
        return super().multivalue_model(field)

    @classmethod
    def default_return_refund_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_refund_sequence')
            .default_return_refund_sequence())

    @classmethod
    def default_return_voucher_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_voucher_sequence')
            .default_return_voucher_sequence())


class ConfigurationSequence(metaclass=PoolMeta):
    __name__ = 'return.configuration.sequence'

    return_refund_sequence = fields.Many2One(
        'ir.sequence', "Refund Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_refund', 'sequence_type_return_refund')),
            ])
    return_voucher_sequence = fields.Many2One(
        'ir.sequence', "Voucher Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_refund', 'sequence_type_return_voucher')),
            ])

    @classmethod
    def default_return_refund_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_refund', 'sequence_return_refund')
        except KeyError:
            return None

    @classmethod
    def default_return_voucher_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_refund', 'sequence_return_voucher')
        except KeyError:
            return None


class ConfigurationAccount(CompanyValueMixin, ModelSQL):
    "Return Configuration Account"
    __name__ = 'return.configuration.account'

    goodwill_account = _account(*_goodwill)
    restocking_fee_account = _account(*_fee)
    voucher_income_account = _account(*_voucher)
