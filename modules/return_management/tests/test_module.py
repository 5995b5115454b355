# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from lxml import etree

from trytond.model import ModelSQL, ModelView, fields
from trytond.model.exceptions import RequiredValidationError
from trytond.modules.company.tests import (
    CompanyTestMixin, PartyCompanyCheckEraseMixin, create_company)
from trytond.modules.return_management.calendar import get_local_date
from trytond.modules.return_management.exceptions import CalendarError
from trytond.pool import Pool, isregisteredby
from trytond.tests.test_tryton import ModuleTestCase, with_transaction
from trytond.transaction import Transaction


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


    @with_transaction()
    def test_return_list_widgets(self):
        "Test that the lists have no column that the web client cannot show"
        pool = Pool()
        View = pool.get('ir.ui.view')
        for view in View.search([
                    ('module', '=', self.module),
                    ('type', '=', 'tree'),
                    ]):
            Model = pool.get(view.model)
            for element in etree.fromstring(view.arch.encode()).iter('field'):
                field = Model._fields[element.attrib['name']]
                with self.subTest(view=view.name, field=field.name):
                    self.assertNotEqual(
                        element.attrib.get('widget', field._type), 'datetime')


class ReturnManagementTestCase(
        PartyCompanyCheckEraseMixin, PartyCheckReplaceMixin,
        ReturnAccessTestMixin, CompanyTestMixin, ModuleTestCase):
    "Test Return Management module"
    module = 'return_management'
    extras = [
        'product_kit', 'purchase_request', 'stock_lot',
        'stock_package_shipping', 'stock_shipment_cost']

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
                self.assertEqual(
                    Line(period=period, period_unit='calendar')
                    .last_date(start), last)

    @with_transaction()
    def test_kit_count(self):
        "Test what kits need and how many kits it makes"
        pool = Pool()
        Component = pool.get('sale.line.component')
        Product = pool.get('product.product')
        SaleLine = pool.get('sale.line')
        Template = pool.get('product.template')
        Uom = pool.get('product.uom')

        piece, = Uom.search([('name', '=', "Unit")])
        metre, = Uom.search([('name', '=', "Meter")])
        centimetre, = Uom.search([('name', '=', "Centimeter")])

        def create(name, unit):
            template = Template(name=name, default_uom=unit, products=[])
            template.save()
            product = Product(template=template)
            product.save()
            return product

        part, cable, manual = (
            create("Part", piece), create("Cable", metre),
            create("Manual", piece))
        line = SaleLine(
            unit=piece, quantity=7, product=create("Kit", piece),
            components=[
                Component(product=part, unit=piece, quantity=14),
                Component(product=part, unit=piece, quantity=7),
                Component(product=cable, unit=centimetre, quantity=245),
                Component(product=manual, unit=piece, quantity=1),
                ])

        def count(parts, **less):
            quantities = defaultdict(float)
            for product, (unit, quantity) in parts.items():
                quantities[product.id] = Uom.compute_qty(
                    unit, quantity - less.get(product.template.name, 0),
                    product.default_uom, round=False)
            return line._count_goods(quantities)

        for kits in range(8):
            with self.subTest(kits=kits):
                parts = line.get_return_parts(kits)
                self.assertEqual(parts, {
                        part: (piece, 3 * kits),
                        cable: (centimetre, 35 * kits),
                        manual: (piece, kits // 7),
                        })
                self.assertEqual(count(parts), kits)
                if kits:
                    self.assertEqual(count(parts, Part=1), kits - 1)
                    self.assertEqual(count(parts, Cable=1), kits - 1)
        self.assertEqual(count(line.get_return_parts(7), Manual=1), 6)

    @with_transaction()
    def test_policy_in_force(self):
        "Test the version of the policy in force"
        pool = Pool()
        Policy = pool.get('return.policy')
        standard, = Policy.search([])

        def create(name, start_date):
            policy, = Policy.create([{
                        'name': name,
                        'company': None,
                        'start_date': start_date,
                        **dict.fromkeys(Policy._text_fields(), "Text"),
                        'lines': [('create', [{'period': 7}])],
                        }])
            return policy

        first = create("First", dt.date(2024, 1, 1))
        second = create("Second", dt.date(2024, 7, 1))
        create("Draft", dt.date(2024, 3, 1))
        with Transaction().set_context(_skip_warnings=True):
            Policy.publish([second, first])
        self.assertEqual(
            [p.state for p in [standard, first, second]],
            ['retired', 'retired', 'published'])
        self.assertEqual(standard.end_date, dt.date(2023, 12, 31))
        self.assertEqual(first.end_date, dt.date(2024, 6, 30))
        Policy.retire([second])
        today = second.end_date
        in_force = {
            (1, dt.date(1999, 12, 31)): None,
            (1, dt.date(2000, 1, 1)): standard,
            (1, dt.date(2023, 12, 31)): standard,
            (1, dt.date(2024, 1, 1)): first,
            (1, dt.date(2024, 6, 30)): first,
            (1, dt.date(2024, 7, 1)): second,
            (1, today): second,
            (1, today + dt.timedelta(days=1)): None,
            }
        self.assertEqual(Policy.in_force(in_force.keys()), in_force)

    @with_transaction()
    def test_policy_in_force_company(self):
        "Test that a company's own policy goes before a later common one"
        pool = Pool()
        Policy = pool.get('return.policy')
        company = create_company()
        own, common = Policy.create([{
                    'name': "Policy",
                    'company': company_id,
                    'start_date': start_date,
                    **dict.fromkeys(Policy._text_fields(), "Text"),
                    'lines': [('create', [{'period': 7}])],
                    } for company_id, start_date in [
                    (company.id, dt.date(2024, 1, 1)),
                    (None, dt.date(2024, 2, 1))]])
        with Transaction().set_context(_skip_warnings=True):
            Policy.publish([own, common])
        date = dt.date(2024, 3, 1)
        keys = [(company.id, date), (company.id + 1, date)]
        self.assertEqual(
            Policy.in_force(keys), dict(zip(keys, [own, common])))
        Policy.write([own], {'end_date': dt.date(2024, 2, 15)})
        self.assertEqual(Policy.in_force(keys), dict.fromkeys(keys, common))

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
        for line in policy.lines:
            self.assertEqual(
                set(line.roles), {'sales', 'quality', 'finance'})
        self.assertEqual(policy.state, 'published')
        for name in Policy._text_fields():
            self.assertTrue(getattr(policy, name))

    def create_calendar(self, country=None, days=(), **values):
        """Create the calendar of a company

        country is an ISO code, days are (date, kind).
        """
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Country = pool.get('country.country')
        if country:
            values['country'], = Country.create([{
                        'name': country,
                        'code': country,
                        }])
        company = create_company(name="Company %s" % country)
        calendar = Calendar(
            company=company, weekdays=Calendar.default_weekdays(),
            **values)
        calendar.days = [
            {'date': date, 'kind': kind, 'name': kind}
            for date, kind in days]
        calendar.save()
        return calendar

    @with_transaction()
    def test_calendar_edges(self):
        "Test the ends of weeks, months and years in working days"
        calendar = self.create_calendar()

        for start, days, result in [
                # A Wednesday before a leap day
                (dt.date(2024, 2, 28), 1, dt.date(2024, 2, 29)),
                (dt.date(2024, 2, 28), 2, dt.date(2024, 3, 1)),
                (dt.date(2024, 2, 29), 1, dt.date(2024, 3, 1)),
                # The end of February of a common year
                (dt.date(2023, 2, 28), 1, dt.date(2023, 3, 1)),
                # The end of a month is a Sunday
                (dt.date(2024, 3, 29), 1, dt.date(2024, 4, 1)),
                # The end of the year
                (dt.date(2024, 12, 31), 1, dt.date(2025, 1, 1)),
                (dt.date(2024, 12, 30), 5, dt.date(2025, 1, 6)),
                # From a weekend
                (dt.date(2024, 6, 1), 1, dt.date(2024, 6, 3)),
                (dt.date(2024, 6, 2), 1, dt.date(2024, 6, 3)),
                # Over a weekend
                (dt.date(2024, 5, 31), 1, dt.date(2024, 6, 3)),
                (dt.date(2024, 5, 31), 6, dt.date(2024, 6, 10)),
                # No days
                (dt.date(2024, 5, 31), 0, dt.date(2024, 5, 31)),
                (dt.date(2024, 6, 1), 0, dt.date(2024, 6, 3)),
                (dt.date(2024, 2, 29), 0, dt.date(2024, 2, 29)),
                ]:
            with self.subTest(start=start, days=days):
                self.assertEqual(calendar.add_days(start, days), result)
                self.assertTrue(calendar.is_working(result))
                if days:
                    self.assertEqual(
                        calendar.count_days(start, result), days)
        self.assertEqual(
            calendar.count_days(dt.date(2024, 6, 1), dt.date(2024, 6, 2)), 0)
        self.assertEqual(
            calendar.count_days(dt.date(2024, 6, 3), dt.date(2024, 6, 3)), 0)

    @with_transaction()
    def test_calendar_public_holidays(self):
        "Test public holidays and the working days that make up for them"
        calendar = self.create_calendar('CN')

        # The spring festival of 2024 goes from Saturday 10 to Saturday 17
        # February; Sundays 4 and 18 February are worked
        for date, working in [
                (dt.date(2024, 2, 4), True),
                (dt.date(2024, 2, 9), True),
                (dt.date(2024, 2, 12), False),
                (dt.date(2024, 2, 16), False),
                (dt.date(2024, 2, 17), False),
                (dt.date(2024, 2, 18), True),
                (dt.date(2024, 2, 19), True),
                (dt.date(2024, 2, 25), False),
                ]:
            with self.subTest(date=date):
                self.assertEqual(calendar.is_working(date), working)
        self.assertEqual(
            calendar.add_days(dt.date(2024, 2, 9), 2), dt.date(2024, 2, 19))
        self.assertEqual(
            calendar.count_days(dt.date(2024, 2, 9), dt.date(2024, 2, 19)), 2)
        # A holiday at the turn of the year
        self.assertEqual(
            calendar.add_days(dt.date(2024, 12, 31), 1), dt.date(2025, 1, 2))

    @with_transaction()
    def test_calendar_own_days(self):
        "Test that own days prevail over week and public holidays"
        calendar = self.create_calendar('CN', [
                (dt.date(2024, 2, 4), 'off'),
                (dt.date(2024, 2, 12), 'working'),
                (dt.date(2024, 3, 1), 'off'),
                (dt.date(2024, 3, 2), 'working'),
                ])

        for date, working in [
                (dt.date(2024, 2, 4), False),
                (dt.date(2024, 2, 12), True),
                (dt.date(2024, 3, 1), False),
                (dt.date(2024, 3, 2), True),
                ]:
            with self.subTest(date=date):
                self.assertEqual(calendar.is_working(date), working)
        self.assertEqual(
            calendar.add_days(dt.date(2024, 2, 29), 1), dt.date(2024, 3, 2))

    @with_transaction()
    def test_calendar_subdivision(self):
        "Test the public holidays of a part of the country"
        pool = Pool()
        Subdivision = pool.get('country.subdivision')
        calendar = self.create_calendar('DE')
        bavaria, unknown = Subdivision.create([{
                    'country': calendar.country.id,
                    'name': name,
                    'code': code,
                    'type': 'land',
                    } for name, code in [
                        ("Bavaria", 'DE-BY'), ("Unknown", 'DE-XX')]])
        epiphany, new_year = dt.date(2025, 1, 6), dt.date(2025, 1, 1)
        self.assertTrue(calendar.is_working(epiphany))
        self.assertFalse(calendar.is_working(new_year))

        calendar.subdivision = bavaria
        self.assertFalse(calendar.is_working(epiphany))

        calendar.subdivision = unknown
        self.assertTrue(calendar.is_working(epiphany))
        self.assertFalse(calendar.is_working(new_year))

    @with_transaction()
    def test_calendar_unknown_country(self):
        "Test that a country without known holidays has none"
        calendar = self.create_calendar('XX')
        self.assertTrue(calendar.is_working(dt.date(2025, 1, 1)))

    @with_transaction()
    def test_calendar_get(self):
        "Test the calendar of a company"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Country = pool.get('country.country')
        company = create_company()
        new_year = dt.date(2025, 1, 1)

        calendar = Calendar.get(company)
        self.assertIsNone(calendar.id)
        self.assertTrue(calendar.is_working(new_year))
        self.assertFalse(calendar.is_working(dt.date(2025, 1, 4)))

        country, = Country.create([{'name': "Germany", 'code': 'DE'}])
        company.party.addresses = [{'country': country.id}]
        company.party.save()
        company = type(company)(company.id)
        self.assertFalse(Calendar.get(company).is_working(new_year))

        saved = Calendar(company=company, weekdays=['5', '6'])
        saved.save()
        self.assertEqual(Calendar.get(company), saved)
        self.assertTrue(Calendar.get(company).is_working(
                dt.date(2025, 1, 4)))

        Calendar.delete([saved])
        self.assertIsNone(Calendar.get(company).id)

    @with_transaction()
    def test_calendar_weekdays_required(self):
        "Test that a company works on one day of the week at least"
        calendar = self.create_calendar()
        calendar.weekdays = []
        with self.assertRaises(RequiredValidationError):
            calendar.save()
        with self.assertRaises(CalendarError):
            calendar.add_days(dt.date(2024, 1, 1), 1)

    @with_transaction()
    def test_local_date(self):
        "Test the date in the time zone of the company"
        company = create_company()
        moment = dt.datetime(2024, 2, 28, 23, 30)
        for zone, date in [
                (None, dt.date(2024, 2, 28)),
                ('Asia/Taipei', dt.date(2024, 2, 29)),
                ('America/New_York', dt.date(2024, 2, 28)),
                ]:
            with self.subTest(zone=zone):
                company.timezone = zone
                self.assertEqual(get_local_date(company, moment), date)

    @with_transaction()
    def test_eligibility_check_added(self):
        "Test that another module adds a check to the eligibility"
        pool = Pool()
        Line = pool.get('return.order.line')
        Rule = pool.get('return.policy.line')

        class Extended(Line):
            @classmethod
            def _eligibility_checks(cls):
                return super()._eligibility_checks() + ['recalled']

            @classmethod
            def _check_eligible_recalled(cls, rule, facts):
                return not facts['recalled']

            @classmethod
            def _explain_eligible_recalled(cls, rule, facts):
                return "Recalled." if facts['recalled'] else None

        rule = Rule(
            period=7, period_unit='calendar', period_from='delivery',
            unopened=False, accessories=False, evidence=False)
        facts = {
            'sale': True,
            'delivery': dt.date(2024, 2, 23),
            'requested': dt.date(2024, 3, 1),
            'unopened': None,
            'complete': None,
            'evidence': False,
            'calendar': None,
            }
        self.assertTrue(Line.is_eligible(rule, facts))
        for recalled in [False, True]:
            facts['recalled'] = recalled
            with self.subTest(recalled=recalled):
                self.assertEqual(
                    Extended.is_eligible(rule, facts), not recalled)
                self.assertEqual(
                    Extended._explain_checks(rule, facts).endswith(
                        "Recalled."), recalled)
        facts['requested'] = dt.date(2024, 3, 2)
        self.assertFalse(Line.is_eligible(rule, facts))


del ModuleTestCase
