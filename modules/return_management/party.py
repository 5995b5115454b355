# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from sql import Union

from trytond.i18n import gettext
from trytond.model import fields
from trytond.modules.party.exceptions import EraseError
from trytond.pool import Pool, PoolMeta
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, check_access


class Party(metaclass=PoolMeta):
    __name__ = 'party.party'

    return_orders = fields.Function(fields.Many2Many(
            'return.order', None, None, "Return Orders",
            help="What the party has applied to return, "
            "for themselves or for a customer."),
        'get_return_orders')
    return_applications = fields.Function(fields.Integer(
            "Applications",
            help="The number of return orders of the party, "
            "as customer or applicant."),
        'get_return_orders')
    refused_returns = fields.Function(fields.Integer(
            "Refused Returns",
            help="The number of return orders of the party "
            "that are rejected."),
        'get_return_orders')

    return_contacts = fields.Function(fields.Many2Many(
            'return.order.contact', None, None, "Contacts",
            help="What the party was asked and told about return orders, "
            "and what about those of which it is the customer."),
        'get_return_contacts')

    @classmethod
    def get_return_orders(cls, parties, names):
        pool = Pool()
        Order = pool.get('return.order')
        transaction = Transaction()
        cursor = transaction.connection.cursor()
        order = Order.__table__()
        orders = {p.id: [] for p in parties}
        refused = dict.fromkeys(orders, 0)
        # A getter runs without the rules of the user
        with check_access():
            allowed = Order.search([], order=[], query=True)
        for sub_parties in grouped_slice(parties):
            ids = [p.id for p in sub_parties]
            cursor.execute(*Union(*(
                        order.select(
                            column.as_('party'), order.id.as_('order'),
                            order.state.as_('state'),
                            where=column.in_(ids) & order.id.in_(allowed))
                        for column in [order.party, order.applicant])))
            for party, id_, state in sorted(cursor, reverse=True):
                orders[party].append(id_)
                if state == 'rejected':
                    refused[party] += 1
        values = {
            'return_orders': orders,
            'return_applications': {p: len(o) for p, o in orders.items()},
            'refused_returns': refused,
            }
        return {n: values[n] for n in names}


    @classmethod
    def get_return_contacts(cls, parties, name):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        contacts = {p.id: [] for p in parties}
        for sub_parties in grouped_slice(parties):
            ids = [p.id for p in sub_parties]
            # A getter runs without the rules of the user
            with check_access():
                found = Contact.search(['OR',
                        ('party', 'in', ids),
                        ('order.party', 'in', ids),
                        ], order=[('at', 'DESC'), ('id', 'DESC')])
            for contact in found:
                for party in {contact.party, contact.order.party}:
                    if party.id in contacts:
                        contacts[party.id].append(contact.id)
        return contacts


class Replace(metaclass=PoolMeta):
    __name__ = 'party.replace'

    @classmethod
    def fields_to_replace(cls):
        return super().fields_to_replace() + [
            ('return.order', 'party'),
            ('return.order', 'applicant'),
            ('return.order', 'carrier_party'),
            ('return.discrepancy', 'carrier_party'),
            ('return.order.contact', 'party'),
            ('return.handover', 'giver_party'),
            ('return.parcel', 'carrier_party'),
            ('return.policy.line', 'party'),
            ('return.resale', 'channel_party'),
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
                    ('to_tell', '=', True),
                    [
                        ('state', '=', 'rejected'),
                        ('goods_settled', '=', False),
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
        Email = pool.get('ir.email')
        EmailAddress = pool.get('ir.email.address')
        Handover = pool.get('return.handover')
        Order = pool.get('return.order')
        Parcel = pool.get('return.parcel')
        applied = ['OR',
            ('applicant', '=', party_id),
            [('applicant', '=', None), ('party', '=', party_id)],
            ]
        applications = Order.search(applied)
        orders = [str(o) for o in applications]
        handed_over = [('order', 'in', [o.id for o in applications])]
        return super().to_erase(party_id) + [
            (Contact, [('party', '=', party_id)], True,
                ['to', 'text', 'answer'],
                [None, '****', None]),
            (EmailAddress, [('email.resource', 'in', orders)], False,
                ['address'],
                ['****']),
            (Email, [('resource', 'in', orders)], False,
                ['recipients', 'body'],
                [None, None]),
            (Order, applied, False,
                ['description', 'identity_note', 'pickup_note'],
                [None, None, None]),
            (Handover, handed_over, True, ['note'], [None]),
            (Parcel, [('orders', 'in', [o.id for o in applications])], True,
                ['sender', 'note'],
                [None, None]),
            (Handover, [('end', '=', 'customer'), *handed_over], False,
                ['giver', 'signature', 'signature_id'],
                ['****', None, None]),
            ]
