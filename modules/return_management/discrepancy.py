# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict

from sql import Null

from trytond.i18n import gettext
from trytond.model import Check, Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import AccessError
from trytond.modules.company.model import employee_field
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Date, Eval, If
from trytond.transaction import Transaction
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .calendar import get_local_date
from .exceptions import CancelError, DiscrepancyError
from .model import EvidenceMixin, GuardedMixin
from .order import CHANNELS

RESOLUTIONS = [
    ('wait', "Wait for the Rest"),
    ('arrived', "Rest has Come"),
    ('close', "Close Short"),
    ('accept', "Take in"),
    ('new_return', "Take in as a New Return"),
    ('send_back', "Send Back"),
    ('claim', "Claim on the Carrier"),
    ('shipping_error', "Our Own Shipping Error"),
    ]
# What can be answered to which kind
ANSWERS = {
    'short': ['wait', 'close', 'claim'],
    'extra': ['new_return', 'send_back'],
    'wrong_product': ['new_return', 'send_back', 'shipping_error'],
    'wrong_lot': ['accept', 'send_back', 'shipping_error'],
    'damaged': ['accept', 'send_back', 'claim'],
    'empty': ['close', 'claim'],
    }


class Discrepancy(GuardedMixin, EvidenceMixin, ModelSQL, ModelView):
    "Return Discrepancy"
    __name__ = 'return.discrepancy'
    _rec_name = 'number'

    _states = {
        'readonly': Eval('state') != 'open',
        }

    number = fields.Char("Number", required=True, readonly=True)
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True,
        help="The company of the return order.")
    order = fields.Many2One(
        'return.order', "Order", required=True, ondelete='RESTRICT',
        domain=[
            If(Eval('state') == 'open',
                ('state', 'not in', ['draft', 'cancelled']), ()),
            ],
        states={
            'readonly': Eval('id', -1) >= 0,
            })
    line = fields.Many2One(
        'return.order.line', "Line", ondelete='RESTRICT',
        domain=[
            ('order', '=', Eval('order', -1)),
            ],
        states={
            'readonly': _states['readonly'],
            'required': Eval('kind').in_(['short', 'damaged', 'wrong_lot']),
            },
        help="The announced goods that it is about.")
    kind = fields.Selection([
            ('short', "Short"),
            ('extra', "Extra"),
            ('wrong_product', "Wrong Product"),
            ('wrong_lot', "Wrong Lot"),
            ('damaged', "Damaged"),
            ('empty', "Empty"),
            ], "Kind", required=True, sort=False, states=_states,
        help="In what the goods differ from what was announced.")
    kind_string = kind.translated('kind')
    product = fields.Many2One(
        'product.product', "Product", required=True, ondelete='RESTRICT',
        states=_states,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="What came, or should have come.")
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, ondelete='RESTRICT',
        states=_states,
        help="The unit of the line, where there is one.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, states=_states,
        help="The quantity in dispute, positive.")
    closed_before = fields.Float(
        "Closed Before", digits='unit', readonly=True,
        states={
            'invisible': Eval('kind') != 'short',
            },
        help="What of the line was closed when it was last counted; tells "
        "whether the rest has come or was closed.")
    location = fields.Many2One(
        'stock.location', "Location", ondelete='RESTRICT',
        domain=[
            ('type', '=', 'storage'),
            ],
        states={
            'readonly': _states['readonly'],
            'required': Eval('kind').in_(
                ['extra', 'wrong_product', 'wrong_lot', 'damaged']),
            'invisible': Eval('kind').in_(['short', 'empty']),
            },
        help="The place in the areas for returns where the goods lie. "
        "They stay the customer's and are not in stock.")
    description = fields.Text(
        "Description", states=_states, help="What was found.")
    carrier_weight = fields.Float(
        "Carrier's Weight", digits=(16, 3),
        states={
            'readonly': _states['readonly'],
            'required': Eval('kind') == 'empty',
            'invisible': Eval('kind') != 'empty',
            },
        help="The weight that the carrier noted, in kilograms.")
    our_weight = fields.Float(
        "Our Weight", digits=(16, 3),
        states={
            'readonly': _states['readonly'],
            'required': Eval('kind') == 'empty',
            'invisible': Eval('kind') != 'empty',
            },
        help="The weight that we found, in kilograms.")
    witness = fields.Many2One(
        'company.employee', "Witness", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            ('id', '!=', Eval('found_by', -1)),
            ],
        states={
            'readonly': _states['readonly'],
            'required': Eval('kind') == 'empty',
            'invisible': Eval('kind') != 'empty',
            },
        help="Who else was there when the box was opened.")
    found_by = fields.Many2One(
        'company.employee', "Found by", readonly=True, ondelete='RESTRICT',
        help="Who recorded it; empty when it follows from the receipt.")
    found_at = fields.DateTime("Found at", required=True, readonly=True)
    owner = employee_field("Owner", states=['resolved', 'cancelled'])
    due_date = fields.Date(
        "Due Date", readonly=True,
        help="The day until which it should be resolved, from the limit in "
        "working days when it was found.")
    contact = fields.Many2One(
        'return.order.contact', "Contact", readonly=True,
        ondelete='RESTRICT', help="How the customer was informed.")
    resolution = fields.Selection(
        [(None, "")] + RESOLUTIONS, "Resolution", readonly=True, sort=False)
    resolution_string = resolution.translated('resolution')
    resolution_text = fields.Text(
        "Resolution Text", readonly=True,
        states={
            'required': Bool(Eval('resolved_by')),
            })
    carrier_party = fields.Many2One(
        'party.party', "Carrier", readonly=True, ondelete='RESTRICT',
        states={
            'required': Eval('resolution').in_(['send_back', 'claim']),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who carries the goods back, or pays for them.")
    tracking_number = fields.Char(
        "Tracking Number", readonly=True,
        help="The number of the parcel that went back.")
    claim_reference = fields.Char(
        "Claim Reference", readonly=True, help="The carrier's reference.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    claim_amount = Monetary(
        "Claimed", currency='currency', digits='currency', readonly=True,
        domain=[
            If(Eval('resolution') == 'claim', ('claim_amount', '>', 0), ()),
            ],
        states={
            'required': Eval('resolution') == 'claim',
            },
        help="What the carrier is asked to pay, positive.")
    follow_up = fields.Many2One(
        'return.order', "Follow-up", readonly=True, ondelete='RESTRICT',
        help="The return that goes on with the goods or the money.")
    resolved_by = fields.Many2One(
        'company.employee', "Resolved by", readonly=True,
        ondelete='RESTRICT',
        help="Who signed the resolution; empty when the rest came or was "
        "closed by itself.")
    resolved_at = fields.DateTime("Resolved at", readonly=True)
    state = fields.Selection([
            ('open', "Open"),
            ('resolved', "Resolved"),
            ('cancelled', "Cancelled"),
            ], "State", required=True, readonly=True, sort=False)

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_discrepancy_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.order, Index.Range())),
                Index(
                    t, (t.follow_up, Index.Range()),
                    where=t.follow_up != Null),
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state == 'open'),
                })
        cls._order = [('found_at', 'DESC'), ('id', 'DESC')]
        cls._buttons.update({
                'resolve': {
                    'invisible': Eval('state') != 'open',
                    'depends': ['state'],
                    },
                'inform': {
                    'invisible': Eval('state') == 'cancelled',
                    'depends': ['state'],
                    },
                'cancel': {
                    'invisible': Eval('state') != 'open',
                    'depends': ['state'],
                    },
                })

    _guarded_fields = {
        'closed_before', 'contact', 'resolution', 'resolution_text',
        'carrier_party', 'tracking_number', 'claim_reference',
        'claim_amount', 'follow_up', 'resolved_by', 'resolved_at', 'state'}
    # What create sets, whatever the user says
    _fixed_fields = {
        'number', 'company', 'order', 'found_by', 'found_at', 'due_date'}

    @classmethod
    def default_state(cls):
        return 'open'

    @fields.depends('order', '_parent_order.company')
    def on_change_order(self):
        if self.order:
            self.company = self.order.company

    @fields.depends(
        'line', '_parent_line.product', '_parent_line.unit', 'kind')
    def on_change_line(self):
        if self.line and self.kind not in {'extra', 'wrong_product'}:
            self.product = self.line.product
            self.unit = self.line.unit

    @fields.depends('product', 'unit')
    def on_change_product(self):
        if self.product and (
                not self.unit
                or self.unit.category != self.product.default_uom.category):
            self.unit = self.product.default_uom

    @fields.depends('order', '_parent_order.currency')
    def on_change_with_currency(self, name=None):
        return self.order.currency if self.order else None

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Eval('state') == 'open', 'warning', '')),
            ('/tree/field[@name="due_date"]', 'visual', If(
                    (Eval('state') == 'open')
                    & (Eval('due_date', dt.date.max) < Date()),
                    'danger', '')),
            ('//group[@id="resolution"]', 'states', {
                    'invisible': Eval('state') == 'open',
                    }),
            ]

    @property
    def attachments_kept(self):
        return self.state != 'open'

    @classmethod
    def copy(cls, discrepancies, default=None):
        raise AccessError(gettext('return_management.msg_discrepancy_copy'))

    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Order = pool.get('return.order')
        configuration = Configuration(1)
        vlist = [v.copy() for v in vlist]
        ids = sorted({int(v['order']) for v in vlist if v.get('order')})
        orders = {o.id: o for o in Order.browse(ids)}
        Order.lock(list(orders.values()))
        now = dt.datetime.now().replace(microsecond=0)
        owners = {
            o.id: o._get_discrepancy_owner(get_local_date(o.company, now))
            for o in orders.values()}
        due_dates = {}
        for values in vlist:
            if not values.get('order'):
                continue
            order = orders[int(values['order'])]
            company = order.company
            values['company'] = company.id
            values['number'] = configuration.get_multivalue(
                'return_discrepancy_sequence', company=company.id).get()
            values['found_at'] = now
            # Only what the system opens is found by nobody
            if Transaction().check_access or values.get('kind') != 'short':
                values['found_by'] = Order._get_employee(company).id
            if not values.get('owner'):
                owner = owners[order.id]
                values['owner'] = (
                    owner.id if owner else values.get('found_by'))
            if company not in due_dates:
                due_dates[company] = cls._get_due_date(company, now)
            values['due_date'] = due_dates[company]
        discrepancies = super().create(vlist)
        cls._notify(discrepancies)
        orders = Order.browse(ids)
        Order._update_stages(orders)
        Order._queue_process(orders)
        return discrepancies

    @classmethod
    def _get_due_date(cls, company, now):
        "Return by when what is found now is to be resolved, or None"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Configuration = pool.get('return.configuration')
        days = Configuration(1).get_multivalue(
            'discrepancy_days', company=company.id)
        if days is not None:
            return Calendar.get(company).add_days(
                get_local_date(company, now), days)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for discrepancies, values in zip(args[::2], args[1::2]):
                cls._check_guarded(cls._fixed_fields & set(values))
                for discrepancy in discrepancies:
                    if discrepancy.state != 'open':
                        raise AccessError(gettext(
                                'return_management.msg_discrepancy_modify',
                                discrepancy=discrepancy.rec_name))
        super().write(*args)

    @classmethod
    def delete(cls, discrepancies):
        for discrepancy in discrepancies:
            raise AccessError(gettext(
                    'return_management.msg_discrepancy_modify',
                    discrepancy=discrepancy.rec_name))
        super().delete(discrepancies)

    @classmethod
    def validate_fields(cls, discrepancies, field_names):
        super().validate_fields(discrepancies, field_names)
        if field_names & {
                'line', 'kind', 'unit', 'product', 'quantity', 'state'}:
            cls.check_line(discrepancies)
        if field_names & {'location', 'order'}:
            cls.check_location(discrepancies)

    @classmethod
    def check_line(cls, discrepancies):
        "Check that no more is in dispute than is missing of the lines"
        pool = Pool()
        Line = pool.get('return.order.line')
        lines = set()
        for discrepancy in discrepancies:
            line = discrepancy.line
            if (discrepancy.state != 'open' or not line
                    or discrepancy.kind in {'extra', 'wrong_product'}):
                continue
            lines.add(line.id)
            if (discrepancy.product != line.product
                    or discrepancy.unit != line.unit):
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_product',
                        discrepancy=discrepancy.rec_name,
                        line=line.rec_name))
        for line in Line.browse(list(lines)):
            if line.unit.round(
                    line._get_discrepancy_quantity(short=False)
                    - line.missing_quantity) > 0:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_quantity',
                        line=line.rec_name))

    @classmethod
    def check_location(cls, discrepancies):
        "Check that what is in dispute lies in the areas for returns"
        for discrepancy in discrepancies:
            location = discrepancy.location
            if not location:
                continue
            area, warehouse = location.find_return_area()
            if not area or warehouse != discrepancy.order.warehouse:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_location',
                        location=location.rec_name,
                        warehouse=discrepancy.order.warehouse.rec_name))

    @classmethod
    def _notify(cls, discrepancies):
        "Tell sales at once"
        pool = Pool()
        Stage = pool.get('return.order.stage')
        by_company = defaultdict(list)
        for discrepancy in discrepancies:
            by_company[discrepancy.company].append(discrepancy)
        users = Stage._get_users(set(by_company))
        for company, c_discrepancies in by_company.items():
            for user in users[company, 'sales']:
                language = user.language.code if user.language else None
                with Transaction().set_context(language=language):
                    Stage._send_notice(
                        user,
                        gettext('return_management.msg_discrepancy_notice'),
                        [d._get_text() for d in cls.browse(c_discrepancies)])

    def _get_text(self, message='msg_discrepancy_notice_line'):
        pool = Pool()
        Lang = pool.get('ir.lang')
        return gettext(
            'return_management.' + message,
            number=self.number,
            order=self.order.rec_name,
            kind=self.kind_string,
            product=self.product.rec_name,
            quantity=Lang.get().format_number_symbol(
                self.quantity, self.unit, digits=self.unit.digits))

    @classmethod
    def process(cls, orders):
        "Open what is short and settle what is not short any more"
        to_open, to_write = [], []
        for order in orders:
            for line in order.lines:
                to_open.extend(line._get_shorts())
            for discrepancy in order.discrepancies:
                if (discrepancy.kind == 'short'
                        and discrepancy.state == 'open'):
                    if values := discrepancy._get_settled():
                        to_write.extend(([discrepancy], values))
        if to_write:
            cls.write(*to_write)
        cls.save(to_open)

    def _get_settled(self):
        line = self.line
        missing = line._get_short_quantity()
        closed = line.unit.round(
            line.closed_quantity - (self.closed_before or 0))
        if missing > 0:
            if missing == self.quantity and not closed:
                return
            return {
                'quantity': missing,
                'closed_before': line.closed_quantity,
                }
        return {
            'state': 'resolved',
            'resolution': 'close' if closed >= self.quantity else 'arrived',
            'resolved_at': dt.datetime.now().replace(microsecond=0),
            }

    @classmethod
    @ModelView.button_action(
        'return_management.wizard_discrepancy_resolve')
    def resolve(cls, discrepancies):
        pass

    @classmethod
    @ModelView.button_action('return_management.wizard_discrepancy_inform')
    def inform(cls, discrepancies):
        pass

    @classmethod
    @ModelView.button
    def cancel(cls, discrepancies):
        pool = Pool()
        Order = pool.get('return.order')
        orders = sorted({d.order for d in discrepancies}, key=int)
        Order.lock(orders)
        discrepancies = [
            d for d in cls.browse(discrepancies) if d.state == 'open']
        cls.write(discrepancies, {'state': 'cancelled'})
        Order._queue_process(orders)

    @classmethod
    def answer(cls, discrepancies, resolution, text, **values):
        "Resolve discrepancies, once, and do what the resolution says"
        pool = Pool()
        Order = pool.get('return.order')
        orders = sorted({d.order for d in discrepancies}, key=int)
        Order.lock(orders)
        to_resolve = []
        for discrepancy in cls.browse(discrepancies):
            if discrepancy.state != 'open':
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_modify',
                        discrepancy=discrepancy.rec_name))
            if resolution not in ANSWERS[discrepancy.kind]:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_resolution',
                        discrepancy=discrepancy.rec_name,
                        kind=discrepancy.kind_string))
            if resolution == 'shipping_error' and not discrepancy.line:
                raise DiscrepancyError(gettext(
                        'return_management.msg_discrepancy_line_required',
                        discrepancy=discrepancy.rec_name))
            to_resolve.append(discrepancy)
        now = dt.datetime.now().replace(microsecond=0)
        to_write = []
        for discrepancy in to_resolve:
            employee = Order._get_employee(discrepancy.company)
            to_write.extend(([discrepancy], {
                        **values,
                        'state': 'resolved',
                        'resolution': resolution,
                        'resolution_text': discrepancy._get_resolution_text(
                            resolution, text),
                        'resolved_by': employee.id,
                        'resolved_at': now,
                        }))
        if to_write:
            cls.write(*to_write)
        to_resolve = cls.browse(to_resolve)
        cls._close_short(to_resolve)
        cls._correct_delivery([
                d for d in to_resolve if d.resolution == 'shipping_error'])
        cls._follow_up(to_resolve)
        Order._queue_process(orders)

    def _get_resolution_text(self, resolution, text):
        if resolution == 'shipping_error' and self.kind == 'wrong_product':
            text = '\n'.join([text, gettext(
                        'return_management.msg_discrepancy_shipping_error',
                        product=self.product.rec_name,
                        sold=self.line.product.rec_name)])
        return text

    @classmethod
    def _correct_delivery(cls, discrepancies):
        "Correct in the books what was delivered by mistake"

    @property
    def _accepts(self):
        "Whether the goods of the line are received after all"
        return self.resolution in {'accept', 'shipping_error'}

    @property
    def _closes(self):
        "Whether the quantity of the line will not come any more"
        return bool(self.line) and (
            self.resolution == 'close'
            or (self.resolution == 'claim' and self.kind != 'damaged')
            or (self.resolution == 'send_back' and self.kind == 'damaged'))

    @classmethod
    def _close_short(cls, discrepancies):
        pool = Pool()
        Line = pool.get('return.order.line')
        quantities = defaultdict(float)
        for discrepancy in discrepancies:
            if discrepancy._closes:
                quantities[discrepancy.line] += discrepancy.quantity
        if quantities:
            Line.close_short({
                    l: min(q, l.missing_quantity)
                    for l, q in quantities.items()})

    @classmethod
    def _follow_up(cls, discrepancies):
        "Make the draft returns that go on with the goods or the money"
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        orders = {}
        for discrepancy in discrepancies:
            if (discrepancy.resolution == 'new_return'
                    or (discrepancy.resolution == 'claim'
                        and discrepancy._closes)):
                orders[discrepancy] = discrepancy._get_follow_up()
        Order.save(orders.values())
        to_write = []
        for discrepancy, order in orders.items():
            to_write.extend(([discrepancy], {'follow_up': order.id}))
        if to_write:
            cls.write(*to_write)
        lines = [
            l for o in Order.browse([o.id for o in orders.values()])
            for l in o.lines if not l.sale_line]
        candidates = Line._get_match_candidates(lines) if lines else {}
        matches = Line.get_matches(lines) if lines else {}
        Line.apply_matches({
                line: matches[line] for line, found in candidates.items()
                if len(found) == 1 and matches[line]})

    def _get_follow_up(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        origin = self.line or self.order.lines[0]
        claim = self.resolution == 'claim'
        line = Line(
            product=self.product,
            unit=self.unit,
            quantity=self.quantity,
            goods_expected=not claim,
            reason=origin.reason,
            note=self.description)
        if claim:
            line.sale_line = self.line.sale_line
            line.unit_price = self.line.unit_price
        return Order(
            company=self.company,
            party=self.order.party,
            applicant=self.order.applicant,
            contact_address=self.order.contact_address,
            contact_mechanism=self.order.contact_mechanism,
            channel=self.order.channel,
            requested_at=self.found_at,
            warehouse=self.order.warehouse,
            currency=self.order.currency,
            collection=self.order.collection,
            reference=self.number,
            lines=[line])


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    discrepancies = fields.One2Many(
        'return.discrepancy', 'order', "Discrepancies", readonly=True,
        help="In what the goods differ from what was announced.")
    follows = fields.One2Many(
        'return.discrepancy', 'follow_up', "Follows", readonly=True,
        help="The discrepancies of another return that it goes on with.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'discrepancies', 'follows'}

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('discrepancies')
        default.setdefault('follows')
        return super().copy(orders, default=default)

    def _get_discrepancy_owner(self, date):
        """Return who settles a discrepancy unless another one is entered

        Who signed last for sales, else who took the application in.
        """
        employees = [
            o.employee for o in reversed(self.opinions) if o.role == 'sales']
        employees.append(self.submitted_by)
        return next((
                e for e in employees
                if e and (not e.end_date or e.end_date >= date)), None)

    @property
    def _open_discrepancies(self):
        return [d for d in self.discrepancies if d.state == 'open']

    def _check_undone(self):
        super()._check_undone()
        if self._open_discrepancies:
            raise CancelError(gettext(
                    'return_management.msg_order_discrepancy',
                    order=self.rec_name))

    @classmethod
    def _process(cls, orders):
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        # Before it is found out what is settled
        Discrepancy.process(orders)
        super()._process(cls.browse(orders))

    def _goods_settled(self):
        return super()._goods_settled() and not self._open_discrepancies

    def _get_work_stages(self):
        stages = super()._get_work_stages()
        if self.state not in {'draft', 'cancelled'} and (
                self._open_discrepancies):
            stages.add(('discrepancy', 'sales'))
        return stages


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    discrepancies = fields.One2Many(
        'return.discrepancy', 'line', "Discrepancies", readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'discrepancies'}

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('discrepancies')
        return super().copy(lines, default=default)

    def _is_awaited(self):
        "Test if what is missing is known to be on its way"
        return False

    def _get_disputed_quantity(self):
        # A part of what was short may have come since
        return super()._get_disputed_quantity() + min(
            self._get_discrepancy_quantity(), max(0, self.missing_quantity))

    def _get_discrepancy_quantity(self, short=True):
        "Return the quantity of the open discrepancies about what is missing"
        return sum(
            d.quantity for d in self.discrepancies
            if d.state == 'open'
            and d.kind in {'short', 'wrong_lot', 'damaged', 'empty'}
            and (short or d.kind != 'short'))

    def _get_short_quantity(self):
        "Return what is missing and not in dispute for another reason"
        return self.unit.round(
            self.missing_quantity
            - self._get_discrepancy_quantity(short=False))

    def _get_shorts(self):
        "Return the discrepancies to open of what is missing"
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        if (self.order.state not in {'reviewed', 'approved', 'done'}
                or not self.goods_asked or not self.has_come
                or self._is_awaited()):
            return []
        missing = self._get_short_quantity()
        if missing <= 0 or any(
                d.kind == 'short' and (
                    d.state == 'open'
                    or (d.resolution == 'wait' and d.quantity == missing))
                for d in self.discrepancies):
            return []
        if any(d._accepts and d.quantity >= missing
                for d in self.discrepancies):
            # It is here and will be received
            return []
        return [Discrepancy(
                order=self.order, line=self, kind='short',
                product=self.product, unit=self.unit, quantity=missing,
                description=self._get_short_description(),
                closed_before=self.closed_quantity)]

    def _get_short_description(self):
        "Return what lacks where the quantity does not say it, or None"


class Stage(metaclass=PoolMeta):
    __name__ = 'return.order.stage'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.stage.selection.append(('discrepancy', "Discrepancy"))

    @classmethod
    def _limit_names(cls):
        return {**super()._limit_names(), 'discrepancy': 'discrepancy_days'}

    def _get_previous(self):
        # Each has days of its own
        if self.stage != 'discrepancy':
            return super()._get_previous()


class Contact(metaclass=PoolMeta):
    __name__ = 'return.order.contact'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.kind.selection.append(('discrepancy', "Discrepancy"))
        cls._sent_kinds = cls._sent_kinds | {'discrepancy'}


class Resolve(Wizard):
    "Resolve Return Discrepancy"
    __name__ = 'return.discrepancy.resolve'

    start = StateView(
        'return.discrepancy.resolve.start',
        'return_management.discrepancy_resolve_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Sign", 'resolve', 'tryton-ok', default=True),
            ])
    resolve = StateTransition()

    def default_start(self, fields):
        order = self.record.order
        return {
            'kind': self.record.kind,
            'carrier_party': (
                order.carrier_party.id if order.carrier_party else None),
            'currency': self.record.currency.id,
            }

    def transition_resolve(self):
        self.model.answer(
            [self.record], self.start.resolution, self.start.text,
            **self._get_values())
        return 'end'

    def _get_values(self):
        start, values = self.start, {}
        if start.resolution in {'send_back', 'claim'}:
            values['carrier_party'] = start.carrier_party
        if start.resolution == 'claim':
            values['claim_reference'] = start.claim_reference
            values['claim_amount'] = start.claim_amount
        return values


class ResolveStart(ModelView):
    "Resolve Return Discrepancy"
    __name__ = 'return.discrepancy.resolve.start'

    kind = fields.Char("Kind", readonly=True)
    resolution = fields.Selection(
        'get_resolutions', "Resolution", required=True, sort=False)
    text = fields.Text(
        "Text", required=True, help="Why, and what was found out.")
    carrier_party = fields.Many2One(
        'party.party', "Carrier",
        states={
            'required': Eval('resolution').in_(['send_back', 'claim']),
            'invisible': ~Eval('resolution').in_(['send_back', 'claim']),
            },
        help="Who carries the goods back, or pays for them.")
    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)
    claim_reference = fields.Char(
        "Claim Reference",
        states={
            'invisible': Eval('resolution') != 'claim',
            },
        help="The carrier's reference.")
    claim_amount = Monetary(
        "Claimed", currency='currency', digits='currency',
        domain=[
            If(Eval('resolution') == 'claim', ('claim_amount', '>', 0), ()),
            ],
        states={
            'required': Eval('resolution') == 'claim',
            'invisible': Eval('resolution') != 'claim',
            },
        help="What the carrier is asked to pay, positive.")

    @fields.depends('kind')
    def get_resolutions(self):
        return [
            (value, string) for value, string in RESOLUTIONS
            if value in ANSWERS.get(self.kind, [])]


class Inform(Wizard):
    "Inform Customer of Return Discrepancy"
    __name__ = 'return.discrepancy.inform'

    start = StateView(
        'return.discrepancy.inform.start',
        'return_management.discrepancy_inform_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Record", 'inform', 'tryton-ok', default=True),
            ])
    inform = StateTransition()

    def default_start(self, fields):
        order = self.record.order
        party = order.applicant or order.party
        with Transaction().set_context(
                language=(
                    party.lang.code if party.lang
                    else Transaction().language)):
            text = self.model(self.record.id)._get_text(
                'msg_discrepancy_inform')
        return {
            'channel': order.channel,
            'text': text,
            }

    def transition_inform(self):
        pool = Pool()
        Contact = pool.get('return.order.contact')
        Order = pool.get('return.order')
        Order.lock([self.record.order])
        contact, = Contact.record(
            [self.record.order], 'discrepancy', self.start.text,
            self.start.channel)
        self.model.write([self.record], {'contact': contact.id})
        return 'end'


class InformStart(ModelView):
    "Inform Customer of Return Discrepancy"
    __name__ = 'return.discrepancy.inform.start'

    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="By e-mail the text is sent at once; "
        "otherwise record what was told.")
    text = fields.Text(
        "Text", required=True, help="The e-mail consists of it alone.")
