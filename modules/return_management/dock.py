# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.


from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval
from trytond.tools import escape_wildcard
from trytond.transaction import (
    Transaction, check_access, without_check_access)
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import ParcelError
from .parcel import OPEN_STATES, ParcelMixin, get_areas

LIMIT_FOUND = 20
# Those whose goods may come go before those that are settled
FOUND_STATES = [OPEN_STATES, ['rejected', 'done'], ['cancelled']]
PARCEL_FIELDS = [
    'carrier_party', 'tracking_number', 'carrier_weight', 'weight',
    'condition', 'sender', 'note']


def format_quantity(unit, quantity):
    pool = Pool()
    Lang = pool.get('ir.lang')
    return Lang.get().format_number_symbol(
        quantity, unit, digits=unit.digits)


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @property
    def goods_countable(self):
        "Whether goods that come are counted, expected or not"
        return self.state in {'approved', 'rejected', 'done'} or any(
            l.goods_asked for l in self.lines)

    def _get_counted_lines(self):
        "Return the lines of which goods are still missing"
        return [
            l for l in self.lines
            if l.goods_asked and l._get_short_quantity() > 0]


class Dock(Wizard):
    "Receive Returns"
    __name__ = 'return.dock'
    start_state = 'scan'

    scan = StateView(
        'return.dock.scan', 'return_management.dock_scan_view_form', [
            Button("Close", 'end', 'tryton-cancel'),
            Button("Unannounced", 'arrive', 'tryton-question'),
            Button("Find", 'find', 'tryton-search', default=True),
            ])
    find = StateTransition()
    choose = StateView(
        'return.dock.choose', 'return_management.dock_choose_view_form', [
            Button("Back", 'scan', 'tryton-back'),
            Button("Unannounced", 'arrive', 'tryton-question'),
            Button("Go On", 'chosen', 'tryton-forward', default=True),
            ])
    chosen = StateTransition()
    count = StateView(
        'return.dock.count', 'return_management.dock_count_view_form', [
            Button("Back", 'scan', 'tryton-back'),
            Button("Keep for Later", 'later', 'tryton-archive'),
            Button("All as Announced", 'fill', 'tryton-ok', validate=False),
            # A scanner presses the default button
            Button(
                "Count", 'scanned', 'tryton-add', default=True,
                validate=False),
            Button("Receive", 'receive', 'tryton-forward'),
            ])
    later = StateTransition()
    fill = StateTransition()
    scanned = StateTransition()
    receive = StateTransition()
    arrive = StateView(
        'return.dock.arrive', 'return_management.dock_arrive_view_form', [
            Button("Back", 'scan', 'tryton-back'),
            Button("Record", 'record_parcel', 'tryton-ok', default=True),
            ])
    record_parcel = StateTransition()

    @property
    def company_id(self):
        return Transaction().context.get('company', -1)

    def default_scan(self, fields):
        message = getattr(self.scan, 'message', None)
        self._forget()
        return {'message': message}

    def _forget(self):
        pool = Pool()
        for state in ['scan', 'choose', 'count', 'arrive']:
            Model = pool.get(self.states[state].model_name)
            setattr(self, state, Model())

    def transition_find(self):
        pool = Pool()
        DockOrder = pool.get('return.dock.choose.order')
        code = (self.scan.code or '').strip()
        if not code:
            raise ParcelError(gettext('return_management.msg_dock_code'))
        # A wizard runs without the rules of the user
        with check_access():
            parcel, orders, complete = self._find(code)
            self.choose.parcel = parcel
            if parcel and parcel.state == 'received':
                self.choose.parcel = None
                self.choose.message = gettext(
                    'return_management.msg_dock_counted',
                    parcel=parcel.rec_name)
            elif (len(orders) == 1 and complete) or (parcel and orders):
                return self._get_next(orders)
            elif not orders:
                self.choose.message = gettext(
                    'return_management.msg_dock_nothing', code=code)
            else:
                self.choose.message = gettext(
                    'return_management.msg_dock_several', code=code)
            self.choose.orders = [
                DockOrder(
                    chosen=False, order=o, party=o.party,
                    order_state=o.state_string)
                for o in orders]
        return 'choose'

    def _get_next(self, orders):
        "Goods are counted unless all of the orders are still to be approved"
        coming = [o for o in orders if o.state != 'cancelled']
        messages = [m for o in orders if (m := self._get_notice(o))]
        message = '\n'.join(messages) or None
        if any(o.goods_countable for o in coming):
            self.choose.taken = coming
            self.count.message = message
            return 'count'
        self.arrive.orders = coming
        self.arrive.message = message
        parties = {o.party for o in orders}
        if len(parties) == 1:
            self.arrive.party, = parties
        if not coming:
            self.arrive.note = '\n'.join(o.rec_name for o in orders)
        return 'arrive'

    def _get_notice(self, order):
        "Return what to tell who does not expect the state of the order"
        if order.state == 'cancelled':
            message = 'msg_dock_cancelled'
        elif not order.goods_countable:
            message = 'msg_dock_waiting'
        elif not order._get_counted_lines():
            message = 'msg_dock_unexpected'
        else:
            return
        return gettext(
            'return_management.' + message,
            order=order.rec_name,
            party=order.party.rec_name,
            state=order.state_string)

    def _find(self, code):
        "Return the parcel, the returns and whether they are all"
        pool = Pool()
        Parcel = pool.get('return.parcel')
        exact = escape_wildcard(code)
        parcels = Parcel.search([
                ('company', '=', self.company_id),
                ('state', '!=', 'cancelled'),
                ['OR',
                    ('number', 'ilike', exact),
                    ('tracking_number', 'ilike', exact),
                    ],
                ], limit=2)
        if len(parcels) == 1:
            parcel, = parcels
            for states in FOUND_STATES:
                if orders := [o for o in parcel.orders if o.state in states]:
                    break
            return parcel, orders, True
        orders = self._find_numbered(exact)
        sale_lines = self._find_sale_lines(exact)
        for states in FOUND_STATES:
            if found := self._find_related(exact, sale_lines, states):
                orders = list(dict.fromkeys(orders + found))
                break
        if not orders:
            orders = self._find_loosely(code, [
                    ('company', '=', self.company_id),
                    ('state', 'in', OPEN_STATES),
                    ])
        return None, orders[:LIMIT_FOUND], len(orders) <= LIMIT_FOUND

    def _find_numbered(self, exact):
        "Return the returns with the number, whatever their state"
        pool = Pool()
        Order = pool.get('return.order')
        return Order.search([
                ('company', '=', self.company_id),
                ['OR',
                    ('number', 'ilike', exact),
                    ('tracking_number', 'ilike', exact),
                    ],
                ], limit=LIMIT_FOUND + 1)

    def _find_related(self, exact, sale_lines, states):
        "Return the returns in the states that refer to the number"
        pool = Pool()
        Order = pool.get('return.order')
        domain = [
            ('company', '=', self.company_id),
            ('state', 'in', states),
            ]
        orders = Order.search(
            [domain, ('reference', 'ilike', exact)], limit=LIMIT_FOUND + 1)
        if sale_lines:
            orders += Order.search(
                [domain, ('lines.sale_line', 'in', sale_lines)],
                limit=LIMIT_FOUND + 1)
        return orders

    def _find_sale_lines(self, exact):
        "Return the ids of the sale lines that the code stands for"
        pool = Pool()
        Sale = pool.get('sale.sale')
        sales = Sale.search([
                ('company', '=', self.company_id),
                ['OR',
                    ('number', 'ilike', exact),
                    ('reference', 'ilike', exact),
                    ],
                ], limit=LIMIT_FOUND)
        return [l.id for s in sales for l in s.lines]

    def _find_loosely(self, code, open_):
        "Return the open returns of products or customers with the name"
        pool = Pool()
        Order = pool.get('return.order')
        Party = pool.get('party.party')
        Product = pool.get('product.product')
        pattern = '%' + escape_wildcard(code) + '%'
        products = Product.search(['OR',
                ('rec_name', 'ilike', pattern),
                ('identifiers.code', '=', code),
                ], limit=LIMIT_FOUND)
        parties = Party.search(
            [('rec_name', 'ilike', pattern)], limit=LIMIT_FOUND)
        return Order.search([
                open_,
                ('receipt_state', '!=', 'received'),
                ['OR',
                    ('lines.product', 'in', [p.id for p in products]),
                    ('party', 'in', [p.id for p in parties]),
                    ],
                ], limit=LIMIT_FOUND + 1)

    def default_choose(self, fields):
        return {
            'message': getattr(self.choose, 'message', None),
            'orders': [{
                    'chosen': False,
                    'order': o.order.id,
                    'party': o.party.id,
                    'order_state': o.order_state,
                    } for o in getattr(self.choose, 'orders', None) or []],
            }

    def transition_chosen(self):
        self.choose.on_change_code()
        chosen = [o.order for o in self.choose.orders or [] if o.chosen]
        chosen += list(self.choose.others or [])
        if not chosen:
            raise ParcelError(gettext('return_management.msg_dock_order'))
        return self._get_next(self._check_orders(chosen))

    def _check_orders(self, orders):
        "Return those of the orders that the user may receive"
        pool = Pool()
        Order = pool.get('return.order')
        with check_access():
            return Order.search([
                    ('id', 'in', [o.id for o in orders]),
                    ('company', '=', self.company_id),
                    ])

    def _get_coming(self, orders):
        "Return the orders that the parcel belongs to"
        return [
            o for o in self._check_orders(orders) if o.state != 'cancelled']

    def _check_parcel(self, parcel):
        "Return the parcel if the user may receive it, or None"
        pool = Pool()
        Parcel = pool.get('return.parcel')
        with check_access():
            parcels = Parcel.search([
                    ('id', '=', parcel.id if parcel else -1),
                    ('company', '=', self.company_id),
                    ('state', 'in', [
                            'announced', 'unidentified', 'identified']),
                    ])
        return parcels[0] if parcels else None

    def _get_parcel(self, orders):
        "Return the parcel that is expected"
        if parcel := self._check_parcel(getattr(self.choose, 'parcel', None)):
            return parcel
        parcels = {
            p for o in orders for p in o.parcels
            if p.state in {'announced', 'identified'}}
        if len(parcels) == 1:
            return parcels.pop()

    def _get_parcel_defaults(self, orders):
        pool = Pool()
        Location = pool.get('stock.location')
        parcel = self._get_parcel(orders)
        warehouse = Location(Location.get_default_warehouse())
        if parcel:
            warehouse = parcel.warehouse
        elif orders:
            warehouse = orders[0].warehouse or warehouse
        defaults = {
            'company': self.company_id,
            'warehouse': warehouse.id,
            'areas': get_areas(warehouse),
            'orders': [o.id for o in orders],
            'parcel': parcel.id if parcel else None,
            }
        source = parcel or (orders[0] if len(orders) == 1 else None)
        for name in PARCEL_FIELDS:
            value = getattr(source, name, None)
            defaults[name] = getattr(value, 'id', value)
        if parcel and parcel.location:
            defaults['location'] = parcel.location.id
        elif warehouse.return_location:
            defaults['location'] = warehouse.return_location.id
        return defaults

    def default_count(self, fields):
        orders = self._get_coming(self.choose.taken)
        entered = {
            r.line: r for r in getattr(self.count, 'lines', None) or []}
        defaults = self._get_parcel_defaults(orders)
        for name in [
                *PARCEL_FIELDS, 'parcel', 'location', 'message', 'entered']:
            if value := getattr(self.count, name, None):
                defaults[name] = getattr(value, 'id', value)
        defaults['lines'] = [
            self._get_row(l, entered.get(l))
            for o in orders for l in o._get_counted_lines()]
        defaults['extras'] = [{
                'product': e.product.id,
                'unit': e.product.default_uom.id,
                'quantity': e.quantity,
                'description': e.description,
                } for e in getattr(self.count, 'extras', None) or []
            if e.product]
        if witness := getattr(self.count, 'witness', None):
            defaults['witness'] = witness.id
        return defaults

    def _get_row(self, line, entered=None):
        return {
            'line': line.id,
            'order': line.order.id,
            'product': line.product.id,
            'unit': line.unit.id,
            'announced_quantity': line.quantity,
            'missing_quantity': line._get_short_quantity(),
            **{n: getattr(entered, n, None) for n in self._row_fields()},
            }

    @classmethod
    def _row_fields(cls):
        "Return the names of what is entered of each announced product"
        return ['quantity', 'damaged_quantity', 'description']

    def transition_fill(self):
        for row in self.count.lines or []:
            if row.quantity is None:
                row.quantity = row.missing_quantity
        self.count.lines = list(self.count.lines or [])
        return 'count'

    def transition_scanned(self):
        data = self.count
        # Unless the client has counted it when the field was left
        data.on_change_code()
        if data.entered == 'confirmed':
            return 'receive'
        elif data.entered == 'scanned':
            data.entered = None
        else:
            data.entered = 'confirmed'
            data.message = gettext('return_management.msg_dock_scan_confirm')
        return 'count'

    def default_arrive(self, fields):
        orders = self._get_coming(getattr(self.arrive, 'orders', None) or [])
        defaults = self._get_parcel_defaults(orders)
        for name in ['message', 'party', 'tracking_number']:
            if value := getattr(self.arrive, name, None):
                defaults[name] = getattr(value, 'id', value)
        defaults['note'] = '\n'.join(filter(None, [
                    defaults.get('note'),
                    getattr(self.arrive, 'note', None)])) or None
        return defaults

    def transition_record_parcel(self):
        return self._record(
            self.arrive, self.arrive.party, self.arrive.photos or [])

    def transition_later(self):
        return self._record(self.count)

    def _record(self, data, party=None, photos=()):
        "Record the parcel without counting its goods"
        pool = Pool()
        Attachment = pool.get('ir.attachment')
        Order = pool.get('return.order')
        orders = self._get_coming(data.orders or [])
        data.note = '\n'.join(filter(None, [
                    data.note,
                    *(e._get_text() for e in data.extras or [])]))
        parcel = self._save_parcel(data, orders, 'identified')
        Attachment.save([
                Attachment(resource=parcel, name=p.name, data=p.data)
                for p in photos])
        if not orders:
            if party:
                order = parcel._get_unannounced_order(party)
                order.save()
                parcel.orders = [order]
            else:
                parcel.state = 'unidentified'
            parcel.save()
        Order._queue_process(orders)
        message = gettext(
            'return_management.msg_dock_arrived',
            parcel=parcel.rec_name, location=parcel.location.rec_name)
        self._forget()
        self.scan.message = message
        return 'scan'

    def _save_parcel(self, data, orders, state):
        pool = Pool()
        Parcel = pool.get('return.parcel')
        parcel = self._check_parcel(data.parcel) or Parcel(
            company=self.company_id, orders=[])
        for name in [*PARCEL_FIELDS, 'warehouse', 'location']:
            setattr(parcel, name, getattr(data, name, None))
        parcel.orders = list(dict.fromkeys([*parcel.orders, *orders]))
        parcel.state = state
        parcel.arrive()
        parcel.save()
        return parcel

    def transition_receive(self):
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        Line = pool.get('return.order.line')
        Order = pool.get('return.order')
        Shipment = pool.get('stock.shipment.out.return')
        data = self.count
        orders = self._get_coming(data.orders)
        Order.lock(sorted(orders, key=int))
        rows = self._get_rows(orders)
        countable = [o for o in orders if o.goods_countable]
        if not countable:
            raise ParcelError(gettext('return_management.msg_dock_order'))
        if data.condition == 'empty':
            receipts, discrepancies = {}, self._get_empty(rows)
        else:
            receipts, discrepancies = self._divide(
                [r for r in rows if r.quantity])
        discrepancies += self._get_extras(countable)
        if not receipts and not discrepancies:
            raise ParcelError(gettext('return_management.msg_dock_count'))
        parcel = self._save_parcel(
            data, orders,
            'received' if countable == orders else 'identified')
        # What the warehouse had cancelled comes nevertheless
        Line.write(list(receipts), {'cancelled_quantity': 0})
        Order._create_return_shipments(
            Order.browse(list({l.order.id for l in receipts})))
        shipments = self._set_receipts(
            dict(zip(Line.browse(list(receipts)), receipts.values())), parcel)
        Shipment.receive(shipments)
        Shipment.done([s for s in shipments if s.state == 'received'])
        for discrepancy in discrepancies:
            discrepancy.parcel = parcel
            if discrepancy.kind != 'empty':
                discrepancy.location = parcel.location
        Discrepancy.save(discrepancies)
        message = self._get_message(parcel, receipts, discrepancies)
        Order._queue_process(orders)
        self._forget()
        self.scan.message = message
        return 'scan'

    def _get_rows(self, orders):
        "Return the rows whose goods are asked for, as they are now"
        lines = {l.id: l for o in orders for l in o.lines if l.goods_asked}
        rows = []
        for row in self.count.lines or []:
            if row.line.id in lines:
                row.line = line = lines[row.line.id]
                # What is sent twice is not counted twice
                if line.unit.round(
                        (row.missing_quantity or 0)
                        - line._get_short_quantity()) != 0:
                    raise ParcelError(gettext(
                            'return_management.msg_dock_changed',
                            line=line.rec_name))
                rows.append(row)
        return rows

    def _divide(self, rows):
        "Return the receipts by line and the discrepancies of what came"
        receipts, discrepancies = {}, []
        for row in rows:
            if not 0 <= (row.damaged_quantity or 0) <= row.quantity:
                raise ParcelError(gettext(
                        'return_management.msg_dock_damaged',
                        line=row.line.rec_name))
        parts = self._get_parts(rows)
        for row in rows:
            line = row.line
            free = max(line._get_short_quantity(), 0)
            for kind, quantity, values in [
                    *parts[line], ('damaged', row.damaged_quantity or 0, {})]:
                known = line.unit.round(min(quantity, free))
                free -= known
                if known > 0:
                    if kind:
                        discrepancies.append(self._get_discrepancy(
                                row, kind, known, **values))
                    else:
                        receipts.setdefault(line, []).append(
                            {'quantity': known, **values})
                extra = line.unit.round(quantity - known)
                if extra > 0:
                    discrepancies.append(self._get_discrepancy(
                            row, 'extra', extra, damaged=kind == 'damaged',
                            **values))
        return receipts, discrepancies

    def _get_parts(self, rows):
        """Map the lines to the parts of what came sound

        Each the kind of discrepancy or None, the quantity in the unit of the
        line and the values of its move or discrepancy; the good ones first.
        """
        return {
            r.line: [(None, self._get_sound_quantity(r), {})] for r in rows}

    def _get_sound_quantity(self, row):
        return row.line.unit.round(row.quantity - (row.damaged_quantity or 0))

    def _get_discrepancy(self, row, kind, quantity, damaged=False, **values):
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        description = [row.description]
        if damaged:
            description.append(
                gettext('return_management.msg_dock_extra_damaged'))
        return Discrepancy(
            order=row.line.order,
            line=row.line,
            kind=kind,
            product=row.line.product,
            unit=row.line.unit,
            quantity=quantity,
            description='\n'.join(filter(None, description)),
            **values)

    def _get_empty(self, rows):
        "Return the discrepancies of what should have been in the parcel"
        discrepancies = []
        for row in [r for r in rows if r.quantity] or rows:
            free = row.line._get_short_quantity()
            quantity = min(row.quantity or free, free)
            if quantity > 0:
                discrepancies.append(self._get_discrepancy(
                        row, 'empty', quantity,
                        carrier_weight=self.count.carrier_weight,
                        our_weight=self.count.weight,
                        witness=self.count.witness))
        return discrepancies

    def _get_extras(self, orders):
        "Return the discrepancies of what nobody announced"
        pool = Pool()
        Discrepancy = pool.get('return.discrepancy')
        announced = {
            l.product: o for o in reversed(orders) for l in o.lines}
        return [
            Discrepancy(
                order=announced.get(extra.product, orders[0]),
                kind=(
                    'extra' if extra.product in announced
                    else 'wrong_product'),
                product=extra.product,
                unit=extra.product.default_uom,
                quantity=extra.quantity,
                description=extra.description)
            for extra in self.count.extras or []]

    def _set_receipts(self, counted, parcel):
        "Let the draft shipments hold what was counted, and return them"
        pool = Pool()
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.out.return')
        to_save, shipments = [], {}
        for line, values in counted.items():
            drafts = [
                m for m in line.moves
                if m.state == 'draft' and isinstance(m.shipment, Shipment)]
            shipment = drafts[0].shipment
            kept = shipments.setdefault(shipment, set())
            for move in line._get_counted_receipts(drafts, values):
                if move.id:
                    kept.add(move.id)
                move.shipment = shipment
                move.return_parcel = parcel
                to_save.append(move)
        # The rest is asked for again by process
        Move.delete([
                m for s, kept in shipments.items() for m in s.incoming_moves
                if m.state == 'draft' and m.id not in kept
                and m.is_return_receipt])
        Move.save(to_save)
        return Shipment.browse(list(shipments))

    def _get_message(self, parcel, receipts, discrepancies):
        messages = [gettext(
                'return_management.msg_dock_received',
                parcel=parcel.rec_name)]
        for line, values in receipts.items():
            messages.append(gettext(
                    'return_management.msg_dock_put',
                    quantity=format_quantity(
                        line.unit, sum(v['quantity'] for v in values)),
                    product=line.product.rec_name,
                    location=line._get_area().rec_name))
        for discrepancy in discrepancies:
            if discrepancy.location:
                messages.append(gettext(
                        'return_management.msg_dock_disputed',
                        quantity=format_quantity(
                            discrepancy.unit, discrepancy.quantity),
                        product=discrepancy.product.rec_name,
                        location=discrepancy.location.rec_name,
                        number=discrepancy.number))
        return '\n'.join(messages)


class Dock_Lot(metaclass=PoolMeta):
    __name__ = 'return.dock'

    @classmethod
    def _row_fields(cls):
        return [*super()._row_fields(), 'lots']

    def _find_sale_lines(self, exact):
        pool = Pool()
        Move = pool.get('stock.move')
        SaleLine = pool.get('sale.line')
        moves = Move.search([
                ('company', '=', self.company_id),
                ('lot.number', 'ilike', exact),
                ('to_location.type', '=', 'customer'),
                ('origin', 'like', 'sale.line,%'),
                ], limit=LIMIT_FOUND)
        return super()._find_sale_lines(exact) + [
            m.origin.id for m in moves if isinstance(m.origin, SaleLine)]

    def _get_parts(self, rows):
        pool = Pool()
        Move = pool.get('stock.move')
        Uom = pool.get('product.uom')
        parts = super()._get_parts(rows)
        free, known = Move._get_return_lots(
            {r.line.sale_line for r in rows if r.line.sale_line})
        counted = self._get_counted_lots(rows, known)
        lots = self._get_lots(counted, free)
        for line, numbers in counted.items():
            good, wrong = [], []
            for number, quantity in numbers:
                lot = lots[line.product, number]
                left = quantity
                # What was delivered without lots cannot be told apart
                if line.sale_line in known:
                    left = max(0, min(quantity, line.unit.floor(
                                Uom.compute_qty(
                                    line.product.default_uom,
                                    free[line.sale_line, lot], line.unit,
                                    round=False))))
                    free[line.sale_line, lot] -= Uom.compute_qty(
                        line.unit, left, line.product.default_uom)
                if left > 0:
                    good.append((None, left, {'lot': lot}))
                if left < quantity:
                    wrong.append((
                            'wrong_lot', line.unit.round(quantity - left),
                            {'lot': lot}))
            parts[line] = good + wrong
        return parts

    def _get_counted_lots(self, rows, known):
        "Map the lines to the numbers of their lots with the quantity"
        counted = {}
        for row in rows:
            numbers = row._get_numbers()
            quantity = self._get_sound_quantity(row)
            if not numbers and (
                    row.line.sale_line not in known or not quantity):
                continue
            if len(numbers) == 1:
                counted[row.line] = [(numbers[0], quantity)]
            elif len(numbers) == quantity:
                counted[row.line] = [(n, 1) for n in numbers]
            else:
                raise ParcelError(gettext(
                        'return_management.msg_dock_serials',
                        line=row.line.rec_name))
        return counted

    def _get_lots(self, counted, free):
        "Map the products and numbers to the lots, made when there is none"
        pool = Pool()
        Lot = pool.get('stock.lot')
        keys = {
            (l.product, n) for l, numbers in counted.items()
            for n, _ in numbers}
        if not keys:
            return {}
        lots = {
            (l.product, l.number): l for l in Lot.search([
                    ('product', 'in', [p.id for p, _ in keys]),
                    ('number', 'in', [n for _, n in keys]),
                    ], order=[('id', 'DESC')])}
        # That which was delivered when others have its number
        lots.update({(l.product, l.number): l for _, l in list(free)})
        missing = [
            Lot(product=p, number=n) for p, n in sorted(
                keys - lots.keys(), key=lambda k: (k[0].id, k[1]))]
        Lot.save(missing)
        lots.update({(l.product, l.number): l for l in missing})
        return lots


class DockLine_Lot(metaclass=PoolMeta):
    __name__ = 'return.dock.line'

    lots = fields.Text(
        "Lots",
        help="The serial numbers of the sound pieces, one a line, or the lot "
        "of all.")

    def _get_numbers(self):
        return [n.strip() for n in (self.lots or '').splitlines() if n.strip()]

    @classmethod
    def _get_free_quantities(cls, rows, number):
        """Map the sale lines of the rows to what the customer has of the lot

        In the default unit, only for those whose lots are known.
        """
        pool = Pool()
        Move = pool.get('stock.move')
        quantities = {}
        with without_check_access():
            free, known = Move._get_return_lots(
                {r.line.sale_line for r in rows if r.line.sale_line})
            for (sale_line, lot), quantity in free.items():
                quantities.setdefault(sale_line, 0)
                if lot.number == number:
                    quantities[sale_line] += quantity
        return {l: q for l, q in quantities.items() if l in known}

    def _can_count(self, number):
        "Test that it is no number that was scanned already"
        pool = Pool()
        Uom = pool.get('product.uom')
        numbers = self._get_numbers()
        if number not in numbers:
            return True
        free = self._get_free_quantities([self], number)
        if self.line.sale_line not in free:
            return True
        return numbers.count(number) < Uom.compute_qty(
            self.product.default_uom, free[self.line.sale_line], self.unit)

    def _count(self, number):
        if number:
            self.lots = '\n'.join([*self._get_numbers(), number])
            sound = (self.quantity or 0) - (self.damaged_quantity or 0)
            if len(self._get_numbers()) <= sound:
                # It is the number of one that was counted already
                return
        super()._count(number)


class DockExtra_Lot(metaclass=PoolMeta):
    __name__ = 'return.dock.extra'

    def _get_numbers(self):
        return (self.description or '').split()

    def _can_count(self, number):
        return number not in self._get_numbers()

    def _count(self, number):
        if number:
            self.description = ' '.join([*self._get_numbers(), number])
        super()._count(number)


class DockCount_Lot(metaclass=PoolMeta):
    __name__ = 'return.dock.count'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.code.help += (
            "\nOr its serial number or lot, which is noted.")

    def _sort_rows(self, rows, number):
        pool = Pool()
        Line = pool.get('return.dock.line')
        rows = super()._sort_rows(rows, number)
        if number:
            free = Line._get_free_quantities(rows, number)
            rows.sort(key=lambda r: (
                    number not in r._get_numbers(),
                    not free.get(r.line.sale_line)))
        return rows

    def _find_goods(self, code):
        pool = Pool()
        Lot = pool.get('stock.lot')
        return super()._find_goods(code) or [
            (l.product, l.number) for l in Lot.search([
                    ('number', 'ilike', escape_wildcard(code)),
                    ], limit=LIMIT_FOUND)]


class DockScan(ModelView):
    "Receive Returns"
    __name__ = 'return.dock.scan'

    message = fields.Text(
        "Message", readonly=True,
        states={
            'invisible': ~Eval('message'),
            })
    code = fields.Char(
        "Scan or Type",
        help="The number of the return or the parcel, the tracking number, "
        "the number or reference of the order, a serial number, a product "
        "or a customer.")


class DockChoose(ModelView):
    "Receive Returns"
    __name__ = 'return.dock.choose'

    message = fields.Text("Message", readonly=True)
    code = fields.Char(
        "Return", help="The number of a return that is in the parcel.")
    parcel = fields.Many2One('return.parcel', "Parcel", readonly=True)
    orders = fields.One2Many(
        'return.dock.choose.order', None, "Return Orders",
        help="Check the returns whose goods are in the parcel.")
    taken = fields.Many2Many(
        'return.order', None, None, "Return Orders Taken",
        help="Those that are counted, whatever the client sends back before "
        "it has shown them.")
    others = fields.Many2Many(
        'return.order', None, None, "Other Return Orders",
        domain=[
            ('state', '!=', 'cancelled'),
            ],
        help="Returns whose goods are in the parcel too.")

    @fields.depends('code', 'message', 'orders')
    def on_change_code(self):
        code, self.code = (self.code or '').strip(), None
        if not code:
            return
        orders = list(self.orders or [])
        found = [r for r in orders if r.order.number == code]
        for row in found:
            row.chosen = True
        self.orders = orders
        if not found:
            self.message = gettext(
                'return_management.msg_dock_choose_nothing', code=code)


class DockChooseOrder(ModelView):
    "Receive Returns"
    __name__ = 'return.dock.choose.order'

    chosen = fields.Boolean("In the Parcel")
    order = fields.Many2One('return.order', "Order", readonly=True)
    party = fields.Many2One('party.party', "Customer", readonly=True)
    order_state = fields.Char("State", readonly=True)


class DockParcelMixin(ParcelMixin):
    "The parcel that came"
    __slots__ = ()

    message = fields.Text(
        "Message", readonly=True,
        states={
            'invisible': ~Eval('message'),
            })
    company = fields.Many2One('company.company', "Company", readonly=True)
    warehouse = fields.Many2One('stock.location', "Warehouse", readonly=True)
    areas = fields.Many2Many('stock.location', None, None, "Areas")
    orders = fields.Many2Many(
        'return.order', None, None, "Return Orders", readonly=True)
    parcel = fields.Many2One(
        'return.parcel', "Parcel",
        domain=[
            ('company', '=', Eval('company', -1)),
            ('state', 'in', ['announced', 'unidentified', 'identified']),
            ],
        help="Leave empty when nobody announced the parcel.")
    location = fields.Many2One(
        'stock.location', "Location", required=True,
        domain=[
            ('type', '=', 'storage'),
            ('parent', 'child_of', Eval('areas', [])),
            ],
        help="The shelf where the parcel and what is in dispute lie, "
        "in an area for returned goods.")


class DockCount(DockParcelMixin, ModelView):
    "Receive Returns"
    __name__ = 'return.dock.count'

    code = fields.Char(
        "Scan",
        help="The code of a product: it counts one more of it.")
    entered = fields.Selection([
            (None, ""),
            ('scanned', "Scanned"),
            ('confirmed', "Confirmed"),
            ], "Entered",
        help="What was entered last: Enter without a code receives the second "
        "time.")
    lines = fields.One2Many(
        'return.dock.line', None, "Announced",
        help="Count what is in the parcel.")
    extras = fields.One2Many(
        'return.dock.extra', None, "Not Announced",
        help="What else is in the parcel.")
    witness = fields.Many2One(
        'company.employee', "Witness",
        domain=[
            ('company', '=', Eval('company', -1)),
            ],
        states={
            'required': Eval('condition') == 'empty',
            'invisible': Eval('condition') != 'empty',
            },
        help="Who else was there when the parcel was opened.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        for name in ['carrier_weight', 'weight']:
            getattr(cls, name).states = {
                'required': Eval('condition') == 'empty',
                }

    @fields.depends('code', 'entered', 'message', 'orders', 'lines', 'extras')
    def on_change_code(self):
        code, self.code = (self.code or '').strip(), None
        if code:
            self.entered = 'scanned'
        if code and not self.orders:
            # It was scanned before the rows were shown
            self.message = gettext(
                'return_management.msg_dock_scan_early', code=code)
        elif code:
            self.message = self._scan(code)

    def _scan(self, code):
        "Count one of what has the code and return what to tell"
        pool = Pool()
        Extra = pool.get('return.dock.extra')
        lines, extras = list(self.lines or []), list(self.extras or [])
        known = {r.product for r in [*lines, *extras]}
        found = self._find_goods(code)
        found = [f for f in found if f[0] in known] or found
        if len(found) != 1:
            return gettext(
                'return_management.msg_dock_scan_%s' % (
                    'several' if found else 'nothing'),
                code=code)
        (product, number), = found
        rows = [r for r in lines if r.product == product]
        if rows:
            row = self._sort_rows(rows, number)[0]
            message = 'msg_dock_scan_line'
        else:
            row = next((e for e in extras if e.product == product), None)
            if not row:
                row = Extra(
                    product=product, unit=product.default_uom, quantity=0,
                    description=None)
                extras.append(row)
            message = 'msg_dock_scan_extra'
        if not row._can_count(number):
            return gettext(
                'return_management.msg_dock_scan_twice', code=code)
        row._count(number)
        self.lines, self.extras = lines, extras
        return gettext(
            'return_management.' + message,
            product=product.rec_name,
            quantity=format_quantity(row.unit, row.quantity),
            missing=format_quantity(
                row.unit, getattr(row, 'missing_quantity', 0)))

    def _sort_rows(self, rows, number):
        "Return the rows of a product, the one that fits best first"
        return sorted(
            rows, key=lambda r: (r.quantity or 0) >= r.missing_quantity)

    def _find_goods(self, code):
        "Return the products that have the code, with the number of the lot"
        pool = Pool()
        Product = pool.get('product.product')
        return [(p, None) for p in Product.search(['OR',
                    ('code', 'ilike', escape_wildcard(code)),
                    ('identifiers.code', 'ilike', escape_wildcard(code)),
                    ], limit=LIMIT_FOUND)]


class DockCountedMixin:
    "What is counted by its code"
    __slots__ = ()

    def _can_count(self, number):
        return True

    def _count(self, number):
        self.quantity = self.unit.round((self.quantity or 0) + 1)


class DockLine(DockCountedMixin, ModelView):
    "Receive Returns"
    __name__ = 'return.dock.line'

    line = fields.Many2One('return.order.line', "Line", readonly=True)
    order = fields.Many2One('return.order', "Order", readonly=True)
    product = fields.Many2One('product.product', "Product", readonly=True)
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    announced_quantity = fields.Float(
        "Announced", digits='unit', readonly=True)
    missing_quantity = fields.Float(
        "Missing", digits='unit', readonly=True,
        help="Announced, neither received, closed nor in dispute.")
    quantity = fields.Float(
        "Counted", digits='unit',
        domain=['OR', ('quantity', '=', None), ('quantity', '>=', 0)],
        help="All that is in this parcel, the damaged included.\n"
        "Leave empty when there is none.\n"
        "Of an empty parcel: what should have been in it; when nothing is "
        "entered, all that is missing.")
    damaged_quantity = fields.Float(
        "Damaged", digits='unit',
        domain=['OR',
            ('damaged_quantity', '=', None),
            ('damaged_quantity', '>=', 0),
            ],
        help="How many of the counted are damaged: they are not received "
        "into stock.")
    description = fields.Char(
        "Description", help="What was found of those that differ.")


class DockExtra(DockCountedMixin, ModelView):
    "Receive Returns"
    __name__ = 'return.dock.extra'

    product = fields.Many2One('product.product', "Product", required=True)
    unit = fields.Function(
        fields.Many2One('product.uom', "Unit"), 'on_change_with_unit')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        domain=[('quantity', '>', 0)],
        help="What came, in the unit of the product.")
    description = fields.Char("Description", help="What was found.")

    @fields.depends('product')
    def on_change_with_unit(self, name=None):
        return self.product.default_uom if self.product else None

    def _get_text(self):
        return ' '.join(filter(None, [
                    format_quantity(self.product.default_uom, self.quantity),
                    self.product.rec_name,
                    self.description]))


class DockArrive(DockParcelMixin, ModelView):
    "Receive Returns"
    __name__ = 'return.dock.arrive'

    party = fields.Many2One(
        'party.party', "Customer",
        states={
            'readonly': Bool(Eval('orders', [0])),
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who sent the goods: a draft return is made.\n"
        "Leave empty when it is not known.")
    extras = fields.One2Many(
        'return.dock.extra', None, "Goods",
        help="What is in the parcel, when it was opened; "
        "it is added to the note.")
    photos = fields.One2Many(
        'return.dock.photo', None, "Photos",
        help="They are attached to the parcel.")


class DockPhoto(ModelView):
    "Receive Returns"
    __name__ = 'return.dock.photo'

    name = fields.Char("Name", required=True)
    data = fields.Binary("Photo", filename='name', required=True)
