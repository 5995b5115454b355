# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.i18n import gettext
from trytond.model import ModelStorage
from trytond.model.exceptions import AccessError
from trytond.transaction import Transaction


class GuardedMixin(ModelStorage):
    """Keep fields that only buttons and processes set from the users

    A readonly field is a promise of the client only.
    """
    __slots__ = ()
    _guarded_fields = {'state'}

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            defaults = cls.default_get(
                list(cls._guarded_fields), with_rec_name=False)
            for values in vlist:
                cls._check_guarded({
                        name for name in cls._guarded_fields
                        if values.get(name)
                        and values[name] != defaults.get(name)})
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for values in args[1::2]:
                cls._check_guarded(cls._guarded_fields & set(values))
        super().write(*args)

    @classmethod
    def _check_guarded(cls, names):
        for name in names:
            raise AccessError(gettext(
                    'return_management.msg_field_guarded',
                    **cls.__names__(name)))


class EvidenceMixin(ModelStorage):
    """Keep the attachments once the record is settled

    More can be added at any time unless it is closed.
    """
    __slots__ = ()

    @property
    def attachments_kept(self):
        "Whether no attachment can be changed or removed any more"
        raise NotImplementedError

    @property
    def attachments_closed(self):
        "Whether no attachment can be added any more"
        return False


class ImmutableMixin(ModelStorage):
    """Keep records that only the system creates and nothing changes

    A user has no rights on them; neither has a script.
    """
    __slots__ = ()
    _message_create = 'return_management.msg_opinion_create'
    _message_modify = 'return_management.msg_opinion_modify'

    @classmethod
    def create(cls, vlist):
        if Transaction().check_access:
            raise AccessError(gettext(cls._message_create))
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        cls._check_write(*args)
        super().write(*args)

    @classmethod
    def _check_write(cls, *args):
        raise AccessError(gettext(cls._message_modify))

    @classmethod
    def delete(cls, records):
        raise AccessError(gettext(cls._message_modify))
