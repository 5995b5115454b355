# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.exceptions import UserError
from trytond.model.exceptions import ValidationError


class InspectionRequiredError(UserError):
    pass


class InspectionDispositionError(UserError):
    pass


class InspectionQuantityError(ValidationError):
    pass


class DefectError(UserError):
    pass


class SeparationError(UserError):
    pass


class SecondOpinionError(UserError):
    pass


class InspectionReportError(UserError):
    pass


class RepairError(UserError):
    pass


class RepairDispositionError(ValidationError):
    pass


class CampaignError(UserError):
    pass


class ClaimError(UserError):
    pass


class AlertError(UserError):
    pass


class ScrapError(UserError):
    pass
