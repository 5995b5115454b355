# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .configuration import default_limit, limit_field
from .exceptions import DiscrepancyError

send_back_days = limit_field(
    'send_back_days', "Send Back",
    "The number of working days that logistics has to hand goods in dispute "
    "to the carrier that brings them back to the customer.")


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    send_back_days = fields.MultiValue(send_back_days)

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'send_back_days':
            return pool.get('return.configuration.limit')
        return super().multivalue_model(field)

    default_send_back_days = default_limit('send_back_days')


class ConfigurationLimit(metaclass=PoolMeta):
    __name__ = 'return.configuration.limit'

    send_back_days = send_back_days

    @classmethod
    def default_send_back_days(cls):
        return 3


class Discrepancy(metaclass=PoolMeta):
    __name__ = 'return.discrepancy'

    handover = fields.Many2One(
        'return.handover', "Hand-over", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': Eval('resolution') != 'send_back',
            },
        help="By which the goods were given to the carrier that brings them "
        "back; empty while they are still here.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'handover'}
        cls.location.states['required'] &= ~Bool(Eval('handover'))
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(
                    t, (t.resolution, Index.Equality()),
                    where=(t.resolution == 'send_back')
                    & (t.handover == Null)),
                Index(
                    t, (t.handover, Index.Range()),
                    where=t.handover != Null),
                })
        cls._buttons.update({
                'send': {
                    'invisible': (
                        (Eval('resolution') != 'send_back')
                        | Eval('handover')),
                    'depends': ['resolution', 'handover'],
                    },
                })

    @property
    def to_send_back(self):
        "Whether the goods wait for the carrier that brings them back"
        return self.resolution == 'send_back' and not self.handover

    @classmethod
    @ModelView.button_action('return_management.wizard_discrepancy_send')
    def send(cls, discrepancies):
        pass

    @classmethod
    def hand_over(cls, discrepancies, tracking_number, **values):
        """Give the goods to the carrier, once, and free their place

        values are those of the hand-over, of which each return has one.
        """
        pool = Pool()
        Handover = pool.get('return.handover')
        Order = pool.get('return.order')
        orders = sorted({d.order for d in discrepancies}, key=int)
        Order.lock(orders)
        discrepancies = cls.browse(discrepancies)
        handovers = {}
        for discrepancy in discrepancies:
            if not discrepancy.to_send_back:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_send',
                        discrepancy=discrepancy.rec_name))
            order = discrepancy.order
            if order not in handovers:
                employee = Order._get_employee(order.company)
                handovers[order] = Handover(
                    order=order,
                    end='back',
                    giver=employee.rec_name,
                    at=dt.datetime.now().replace(microsecond=0),
                    **values)
        Handover.save(handovers.values())
        Handover.confirm(list(handovers.values()))
        to_write = []
        for discrepancy in discrepancies:
            to_write.extend(([discrepancy], {
                        'handover': handovers[discrepancy.order].id,
                        'tracking_number': tracking_number,
                        'location': None,
                        }))
        if to_write:
            cls.write(*to_write)
        Order._queue_process(orders)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @property
    def _is_sending_back(self):
        return any(d.to_send_back for d in self.discrepancies)

    def _goods_settled(self):
        return super()._goods_settled() and not self._is_sending_back

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if (self.state not in {'draft', 'cancelled'}
                and self._is_sending_back):
            stages.add(('send_back', 'logistics'))
        return stages


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('send_back', "Send Back"))

    @classmethod
    def _limit_names(cls):
        return {**super()._limit_names(), 'send_back': 'send_back_days'}

    def _get_previous(self):
        # Each has days of its own
        if self.stage != 'send_back':
            return super()._get_previous()


class Send(Wizard):
    "Send Goods in Dispute Back"
    __name__ = 'return.discrepancy.send'

    start = StateView(
        'return.discrepancy.send.start',
        'return_management.discrepancy_send_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Sent", 'send', 'tryton-ok', default=True),
            ])
    send = StateTransition()

    def default_start(self, fields):
        carriers = {r.carrier_party for r in self.records}
        names = [c.rec_name for c in carriers if c]
        return {
            'taker': names[0] if len(names) == 1 else None,
            }

    def transition_send(self):
        start = self.start
        self.model.hand_over(
            self.records, start.tracking_number,
            taker=start.taker,
            packages=start.packages,
            condition=start.condition,
            signature=start.signature)
        return 'end'


class SendStart(ModelView):
    "Send Goods in Dispute Back"
    __name__ = 'return.discrepancy.send.start'

    taker = fields.Char(
        "Taken by", required=True,
        help="The name of who took the goods for the carrier.")
    tracking_number = fields.Char(
        "Tracking Number", help="The number of the parcel that goes back.")
    packages = fields.Integer(
        "Packages", required=True,
        domain=[('packages', '>', 0)],
        help="The number of packages handed over.")
    condition = fields.Selection(
        'get_conditions', "Condition", required=True, sort=False,
        help="How the packages looked from outside.")
    signature = fields.Binary(
        "Signature",
        help="The signature as a picture or a scan of the protocol.")

    @classmethod
    def default_packages(cls):
        return 1

    @classmethod
    def default_condition(cls):
        return 'good'

    @classmethod
    def get_conditions(cls):
        pool = Pool()
        Handover = pool.get('return.handover')
        return Handover.fields_get(['condition'])['condition']['selection']
