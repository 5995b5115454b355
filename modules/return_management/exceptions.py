# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.exceptions import UserError, UserWarning
from trytond.model.exceptions import AccessError, ValidationError


class ReasonError(ValidationError):
    pass


class WishError(ValidationError):
    pass


class SimilarWarning(UserWarning):
    pass


class EntryError(UserError):
    pass


class MatchError(UserError):
    pass


class ReturnableError(UserError):
    pass


class PartyError(ValidationError):
    pass


class RequestedError(ValidationError):
    pass


class UnmatchedError(UserError):
    pass


class SignatureError(UserError):
    pass


class ChecklistError(UserError):
    pass


class ContactError(UserError):
    pass


class EmployeeError(UserError):
    pass


class AreaError(UserError):
    pass


class DeliveredError(ValidationError):
    pass


class ReceiptError(UserError):
    pass


class ParcelError(UserError):
    pass


class DispositionError(ValidationError):
    pass


class DiscrepancyError(ValidationError):
    pass


class LossError(UserError):
    pass


class ApplicationError(UserError):
    pass


class WriteOffError(UserError):
    pass


class ResaleError(ValidationError):
    pass


class CancelError(AccessError):
    pass


class CalendarError(ValidationError):
    pass


class PolicyPublishError(ValidationError):
    pass


class PolicyStartWarning(UserWarning):
    pass


class PolicyFeeError(ValidationError):
    pass


class SimulationError(UserError):
    pass


class SlipError(UserError):
    pass


class EvaluateError(UserError):
    pass


class LabelError(UserError):
    pass


class PickupError(ValidationError):
    pass


class DelayError(ValidationError):
    pass


class HandoverError(ValidationError):
    pass


class ReplenishmentError(ValidationError):
    pass
