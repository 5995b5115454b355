# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.modules.party.exceptions import EraseError
from trytond.pool import Pool, PoolMeta


class Replace(metaclass=PoolMeta):
    __name__ = 'party.replace'

    @classmethod
    def fields_to_replace(cls):
        return super().fields_to_replace() + [
            ('return.refund', 'party'),
            ('return.voucher', 'party'),
            ]


class Erase(metaclass=PoolMeta):
    __name__ = 'party.erase'

    def check_erase_company(self, party, company):
        pool = Pool()
        Refund = pool.get('return.refund')
        Voucher = pool.get('return.voucher')
        super().check_erase_company(party, company)
        refunds = Refund.search([
                ('party', '=', party.id),
                ('company', '=', company.id),
                ('state', 'not in', ['paid', 'settled', 'cancelled']),
                ], limit=1)
        if refunds:
            raise EraseError(gettext(
                    'return_refund.msg_erase_party_pending_refund',
                    party=party.rec_name,
                    company=company.rec_name))
        vouchers = Voucher.search([
                ('party', '=', party.id),
                ('company', '=', company.id),
                ('remaining', '!=', 0),
                ], limit=1)
        if vouchers:
            raise EraseError(gettext(
                    'return_refund.msg_erase_party_voucher',
                    party=party.rec_name,
                    company=company.rec_name))
