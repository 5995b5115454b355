# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from functools import partial

from trytond.model.fields.selection import TranslatedSelection
from trytond.modules.company import CompanyReport
from trytond.pool import Pool, PoolMeta


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    channel_string = TranslatedSelection('channel')
    collection_string = TranslatedSelection('collection')
    state_string = TranslatedSelection('state')

    def _get_signature_boxes(self):
        "Return the stages with the roles that still have to sign"
        stages = {
            'draft': ['initial', 'final'],
            'submitted': ['initial', 'final'],
            'reviewed': ['final'],
            }.get(self.state, [])
        return [
            (stage, role) for stage in stages
            for role in sorted(self._missing_roles(stage))]


class WorkOrder(CompanyReport):
    __name__ = 'return.order.work_order'

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        company = context['company']
        context['getattr'] = getattr
        context['format_time'] = partial(
            cls.format_time, timezone=company.timezone if company else None)
        context['format_day'] = cls.format_day
        context['format_quantity'] = cls.format_quantity
        context['get_checks'] = cls.get_checks
        context['get_contact'] = cls.get_contact
        context['get_expected'] = cls.get_expected
        context['get_contacts'] = cls.get_contacts
        context['get_signatures'] = cls.get_signatures
        return context

    @classmethod
    def format_time(cls, value, timezone=None):
        pool = Pool()
        Lang = pool.get('ir.lang')
        if not value:
            return ''
        return cls.format_datetime(
            value, format=Lang.get().date + ' %H:%M', timezone=timezone)

    @classmethod
    def format_day(cls, value):
        return cls.format_date(value) if value else ''

    @classmethod
    def format_quantity(cls, line, quantity):
        return cls.format_number_symbol(
            quantity, None, line.unit, digits=line.unit.digits)

    @classmethod
    def get_checks(cls, order):
        "Return the checklist of the current round"
        return [c for c in order.checks if c.round == order.round]

    @classmethod
    def get_contact(cls, order):
        party = order.applicant or order.party
        mechanism = order.contact_mechanism
        values = [mechanism.value if mechanism else None]
        if not mechanism or mechanism.party == party:
            values.extend([party.mobile or party.phone, party.email])
        return ', '.join(dict.fromkeys(filter(None, values)))

    @classmethod
    def get_expected(cls, order):
        "Return the label and the date of what the customer can expect"
        return [
            (order.__names__(name)['field'], getattr(order, name))
            for name in order._expected_dates() if getattr(order, name)]

    @classmethod
    def get_contacts(cls, order):
        return order.contacts[::-1]

    @classmethod
    def get_signatures(cls, order):
        "Return the names of the stages and roles that still have to sign"
        pool = Pool()
        Opinion = pool.get('return.order.opinion')
        definition = Opinion.fields_get(['stage', 'role'])
        stages = dict(definition['stage']['selection'])
        roles = dict(definition['role']['selection'])
        return [
            (stages[s], roles[r]) for s, r in order._get_signature_boxes()]
