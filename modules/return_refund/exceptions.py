# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.exceptions import UserError, UserWarning
from trytond.model.exceptions import AccessError, ValidationError


class MethodError(ValidationError):
    pass


class ApproveError(UserError):
    pass


class SeparationError(UserError):
    pass


class CreditedError(UserError):
    pass


class CreditedWarning(UserWarning):
    pass


class ReceivedError(UserError):
    pass


class AccountError(UserError):
    pass


class RefundedError(AccessError):
    pass


class PaymentError(AccessError):
    pass


class GrantError(UserError):
    pass


class UndoError(UserError):
    pass


class VoucherError(UserError):
    pass


class ShareError(UserError):
    pass


class StatementError(UserError):
    pass
