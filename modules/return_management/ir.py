# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model.exceptions import AccessError
from trytond.pool import PoolMeta
from trytond.transaction import Transaction, without_check_access

from .model import EvidenceMixin


class Cron(metaclass=PoolMeta):
    __name__ = 'ir.cron'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.method.selection.append((
                'return.order.stage|notify_overdue',
                "Notify Overdue Returns"))


class Attachment(metaclass=PoolMeta):
    __name__ = 'ir.attachment'

    @classmethod
    def create(cls, vlist):
        attachments = super().create(vlist)
        cls._check_closed(attachments)
        return attachments

    @classmethod
    def write(cls, *args):
        cls._check_evidence([a for s in args[::2] for a in s])
        super().write(*args)
        for attachments, values in zip(args[::2], args[1::2]):
            if 'resource' in values:
                cls._check_closed(attachments)

    @classmethod
    def delete(cls, attachments):
        cls._check_evidence(attachments)
        super().delete(attachments)

    @classmethod
    def _check_evidence(cls, attachments):
        if not Transaction().check_access:
            return
        with without_check_access():
            for attachment in cls.browse(attachments):
                resource = attachment.resource
                if (isinstance(resource, EvidenceMixin)
                        and resource.attachments_kept):
                    raise AccessError(gettext(
                            'return_management.msg_attachment_evidence',
                            attachment=attachment.rec_name,
                            record=resource.rec_name))

    @classmethod
    def _check_closed(cls, attachments):
        if not Transaction().check_access:
            return
        with without_check_access():
            for attachment in cls.browse(attachments):
                resource = attachment.resource
                if (isinstance(resource, EvidenceMixin)
                        and resource.attachments_closed):
                    raise AccessError(gettext(
                            'return_management.msg_attachment_closed',
                            attachment=attachment.rec_name,
                            record=resource.rec_name))
