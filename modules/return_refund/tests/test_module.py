# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.modules.company.tests import (
    CompanyTestMixin, PartyCompanyCheckEraseMixin)
from trytond.modules.return_management.tests import (
    PartyCheckReplaceMixin, ReturnAccessTestMixin)
from trytond.tests.test_tryton import ModuleTestCase


class ReturnRefundTestCase(
        PartyCompanyCheckEraseMixin, PartyCheckReplaceMixin,
        ReturnAccessTestMixin, CompanyTestMixin, ModuleTestCase):
    "Test Return Refund module"
    module = 'return_refund'
    extras = [
        'account_payment_clearing', 'account_statement',
        'account_stock_anglo_saxon', 'return_quality', 'sale_complaint']


del ModuleTestCase
