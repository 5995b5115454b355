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
            ('return.order', 'party'),
            ('return.order', 'applicant'),
            ('return.order', 'carrier_party'),
            ('return.order.contact', 'party'),
            ('return.policy.line', 'party'),
            ]


class Erase(metaclass=PoolMeta):
    __name__ = 'party.erase'

    def check_erase_company(self, party, company):
        pool = Pool()
        Order = pool.get('return.order')
        super().check_erase_company(party, company)
        orders = Order.search([
                ['OR',
                    ('party', '=', party.id),
                    ('applicant', '=', party.id),
                    ],
                ('company', '=', company.id),
                ['OR',
                    ('state', 'not in', ['done', 'rejected', 'cancelled']),
                    [
                        ('state', '=', 'rejected'),
                        ['OR',
                            ('goods_settled', '=', False),
                            ('told_at', '=', None),
                            ],
                        ],
                    ],
                ], limit=1)
        if orders:
            raise EraseError(gettext(
                    'return_management.msg_erase_party_pending_return',
                    party=party.rec_name,
                    company=company.rec_name))

    def to_erase(self, party_id):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        return super().to_erase(party_id) + [
            (Contact, [('party', '=', party_id)], True,
                ['to', 'text', 'answer'],
                [None, '****', None]),
            ]
