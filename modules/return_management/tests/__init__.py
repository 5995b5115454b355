# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from .test_module import PartyCheckReplaceMixin, ReturnAccessTestMixin

__all__ = ['PartyCheckReplaceMixin', 'ReturnAccessTestMixin']
