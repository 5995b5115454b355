# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.model import ModelSQL, ModelView, fields
from trytond.modules.company.tests import (
    CompanyTestMixin, PartyCompanyCheckEraseMixin)
from trytond.pool import Pool, isregisteredby
from trytond.tests.test_tryton import ModuleTestCase, with_transaction


class PartyCheckReplaceMixin:
    "Test that a party is replaced wherever the module refers to it"

    @with_transaction()
    def test_party_replace_fields(self):
        "Test the fields of the module to replace"
        pool = Pool()
        Replace = pool.get('party.replace', type='wizard')
        replaced = set(Replace.fields_to_replace())
        for _, Model in pool.iterobject():
            if (not isregisteredby(Model, self.module)
                    or not issubclass(Model, ModelSQL)
                    or callable(Model.table_query)):
                continue
            for name, field in Model._fields.items():
                if (isinstance(field, fields.Many2One)
                        and field.model_name == 'party.party'
                        and Model.__name__.startswith('return.')):
                    with self.subTest(model=Model.__name__, field=name):
                        self.assertIn((Model.__name__, name), replaced)


class ReturnAccessTestMixin:
    "Test that nothing of the module is open to everybody"

    @with_transaction()
    def test_return_model_access(self):
        "Test that the models have an access of their own or of their parent"
        pool = Pool()
        Access = pool.get('ir.model.access')
        for name, Model in pool.iterobject():
            if (not isregisteredby(Model, self.module)
                    or not issubclass(Model, ModelSQL)
                    or not issubclass(Model, ModelView)
                    or not name.startswith('return.')):
                continue
            with self.subTest(model=name):
                accesses = Access.search([
                        ('model.model', '=', name),
                        ('group', '=', None),
                        ])
                self.assertTrue(accesses or Model.__access__)
                for access in accesses:
                    self.assertFalse(
                        access.perm_write or access.perm_create
                        or access.perm_delete)

    @with_transaction()
    def test_return_button_groups(self):
        "Test that the buttons belong to groups"
        pool = Pool()
        Button = pool.get('ir.model.button')
        for name, Model in pool.iterobject():
            if (not isregisteredby(Model, self.module)
                    or not issubclass(Model, ModelView)
                    or not name.startswith('return.')):
                continue
            for button in Model._buttons:
                with self.subTest(model=name, button=button):
                    self.assertTrue(Button.get_groups(name, button))


class ReturnManagementTestCase(
        PartyCompanyCheckEraseMixin, PartyCheckReplaceMixin,
        ReturnAccessTestMixin, CompanyTestMixin, ModuleTestCase):
    "Test Return Management module"
    module = 'return_management'

    @with_transaction()
    def test_policy_last_date(self):
        "Test the last date of the period of a policy line"
        pool = Pool()
        Line = pool.get('return.policy.line')

        for period, start, last in [
                (0, dt.date(2024, 1, 1), dt.date(2024, 1, 1)),
                (7, dt.date(2024, 1, 3), dt.date(2024, 1, 10)),
                (7, dt.date(2024, 2, 23), dt.date(2024, 3, 1)),
                (7, dt.date(2023, 2, 23), dt.date(2023, 3, 2)),
                (15, dt.date(2024, 12, 20), dt.date(2025, 1, 4)),
                ]:
            with self.subTest(period=period, start=start):
                self.assertEqual(Line(period=period).last_date(start), last)

    @with_transaction()
    def test_policy_in_force(self):
        "Test the version of the policy in force"
        pool = Pool()
        Policy = pool.get('return.policy')
        Policy.delete(Policy.search([]))
        first, second = Policy.create([
                {
                    'name': "First",
                    'company': None,
                    'start_date': dt.date(2024, 1, 1),
                    },
                {
                    'name': "Second",
                    'company': None,
                    'start_date': dt.date(2024, 7, 1),
                    },
                ])
        in_force = {
            (1, dt.date(2023, 12, 31)): None,
            (1, dt.date(2024, 1, 1)): first,
            (1, dt.date(2024, 6, 30)): first,
            (1, dt.date(2024, 7, 1)): second,
            }
        self.assertEqual(Policy.in_force(in_force.keys()), in_force)

    @with_transaction()
    def test_default_policy(self):
        "Test the periods of the policy that ships"
        pool = Pool()
        Policy = pool.get('return.policy')
        policy, = Policy.search([])
        self.assertEqual(
            {l.reason_category: l.period for l in policy.lines}, {
                'quality': 15,
                'logistics': 15,
                'sales': 15,
                'demand': 7,
                'other': 7,
                })


del ModuleTestCase
