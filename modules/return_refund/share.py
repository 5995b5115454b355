# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If

from .exceptions import ShareError


def format_share(share):
    pool = Pool()
    Lang = pool.get('ir.lang')
    return Lang.get().format('%.2f%%', share * 100)


class Policy(metaclass=PoolMeta):
    __name__ = 'return.policy'

    def get_text(self):
        texts = super().get_text()
        shares = {l.least_share for l in self.lines} - {None, Decimal(1)}
        if shares:
            texts.append((
                    gettext('return_refund.msg_policy_share_title'),
                    gettext(
                        'return_refund.msg_policy_share',
                        least=format_share(min(shares)))))
        return texts


class PolicyLine(metaclass=PoolMeta):
    __name__ = 'return.policy.line'

    least_share = fields.Numeric(
        "Least Share", digits=(5, 4),
        domain=['OR',
            ('least_share', '=', None),
            If(Eval('basis') == 'statutory',
                ('least_share', '=', 1),
                [
                    ('least_share', '>', 0),
                    ('least_share', '<=', 1),
                    ]),
            ],
        states={
            'invisible': Eval('basis') == 'statutory',
            },
        help="The least share of the price that may be given back for goods "
        "that are accepted but not as they were delivered; who decides about "
        "them chooses it.\n"
        "Leave empty to give back the whole price of what is accepted.")


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def split_by_share(self, quantity):
        """Yield the shares of the price and the quantities they are for

        Of a quantity to refund, in the unit of the line.
        """
        left = defaultdict(int)
        for disposition in self.dispositions:
            if (disposition.is_shared
                    and disposition.state in {'decided', 'waiting', 'done'}):
                left[disposition.refund_share] += disposition.line_quantity
        for refund_line in self.refund_lines:
            if (refund_line.kind == 'goods'
                    and refund_line.refund.state != 'draft'
                    and refund_line.share in left):
                left[refund_line.share] -= refund_line.get_return_quantity()
        for share in sorted(left):
            part = self.unit.round(min(left[share], quantity))
            if part > 0:
                yield share, part
                quantity = self.unit.round(quantity - part)
        if quantity > 0:
            yield Decimal(1), quantity


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    refund_share = fields.Numeric(
        "Refund Share", digits=(5, 4),
        domain=['OR',
            ('refund_share', '=', None),
            [('refund_share', '>', 0), ('refund_share', '<=', 1)],
            ],
        states={
            'readonly': Eval('state') != 'draft',
            'invisible': ~Eval('accepted') | (Eval('action') == 'customer'),
            },
        help="The share of the price that is given back for the accepted "
        "goods, within what the policy allows.\n"
        "Leave empty for the whole price.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._decided_fields = cls._decided_fields | {'refund_share'}

    @property
    def is_shared(self):
        "Whether only a part of the price is given back"
        return (
            self.accepted
            and self.action != 'customer'
            and self.refund_share is not None
            and self.refund_share < 1)

    def _is_favour_decided(self):
        # A share is checked when it is decided
        return super()._is_favour_decided() and not (
            self.state == 'draft' and self.is_shared)

    def _get_new_decision(self, quantity):
        disposition = super()._get_new_decision(quantity)
        disposition.refund_share = self.refund_share
        return disposition

    def _check_decide(self):
        super()._check_decide()
        if self.is_shared:
            self._check_share()

    def _check_share(self):
        rule = self.line.policy_line
        least = rule.least_share if rule else None
        if least is None:
            raise ShareError(gettext(
                    'return_refund.msg_disposition_share_none',
                    disposition=self.rec_name))
        elif self.refund_share < least:
            raise ShareError(gettext(
                    'return_refund.msg_disposition_share',
                    disposition=self.rec_name,
                    least=format_share(least)))


class Explain(metaclass=PoolMeta):
    __name__ = 'return.policy.explain'

    def _get_result(self, line, calendar):
        result = super()._get_result(line, calendar)
        result['least_share'] = (
            line.policy_line.least_share if line.policy_line else None)
        return result


class ExplainLine(metaclass=PoolMeta):
    __name__ = 'return.policy.explain.line'

    least_share = fields.Numeric(
        "Least Share", digits=(5, 4), readonly=True,
        help="The least share of the price that is given back for goods that "
        "are accepted but not as they were delivered.\n"
        "Empty when the whole price of what is accepted is given back.")
