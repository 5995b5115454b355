# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.modules.company.tests import CompanyTestMixin
from trytond.modules.return_management.tests import (
    PartyCheckReplaceMixin, ReturnAccessTestMixin)
from trytond.pool import Pool
from trytond.tests.test_tryton import ModuleTestCase, with_transaction


class ReturnQualityTestCase(
        PartyCheckReplaceMixin, ReturnAccessTestMixin, CompanyTestMixin,
        ModuleTestCase):
    "Test Return Quality module"
    module = 'return_quality'
    extras = [
        'account_stock_continental', 'product_kit', 'production', 'stock_lot']

    @with_transaction()
    def test_disposition_accepted(self):
        "Test in whose favour goods are decided by default"
        pool = Pool()
        Line = pool.get('return.order.line')
        Reason = pool.get('return.reason')

        for category, passed, accepted in [
                ('quality', True, False),
                ('quality', False, True),
                ('demand', True, True),
                ('demand', False, False),
                ]:
            with self.subTest(category=category, passed=passed):
                line = Line(reason=Reason(category=category))
                self.assertEqual(
                    line.get_disposition_accepted(passed), accepted)

    @with_transaction()
    def test_default_control(self):
        "Test the control that ships"
        pool = Pool()
        Control = pool.get('quality.control')

        control, = Control.search([
                ('operations', 'in', 'return.order.line:receive'),
                ])
        self.assertEqual(
            list(control.operations), ['return.order.line:receive'])
        point, = control.points
        self.assertEqual(point.type_, 'boolean')
        self.assertIsNone(control.company)


del ModuleTestCase
