# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"Drive returns through the road, each step by the user whose step it is"
from decimal import Decimal
from functools import partial
from itertools import islice

from trytond.pool import Pool
from trytond.transaction import Transaction, without_check_access

from .book import is_goods

__all__ = ['RULE', 'Road', 'get_course', 'is_goodwill']

# Returns that go the road together
BATCH = 20
GOODWILL = Decimal('10.00')
RULE = (
    f"Lines without an earlier order are not matched. Goods of at most "
    f"£{GOODWILL} a line are approved as goodwill at the price of the file; "
    f"all others are refused at the desk.")


def is_goodwill(line):
    "Test if the unmatched line of a plan is approved all the same"
    value = -line.row.quantity * line.row.price
    return (
        not line.pieces and is_goods(line.row.code) and 0 < value <= GOODWILL)


def get_course(line):
    """How it goes on with a line, and a number

    The column Course of the book tells: refuse (at the desk), pass or fail
    (the inspection, the goods go back in both cases), open (nobody decides),
    resale (instead of restock) or short 2 (only two come).
    """
    if not line.pieces:
        return ('goodwill' if is_goodwill(line) else 'refuse'), None
    course, _, number = line.row.extra.get('Course', '').partition(' ')
    return course or 'restock', int(number) if number else None


class Road:
    "The returns of a plan on their road"

    def __init__(self, database, plan, history):
        self.database = database
        self.history = history
        self.plan = plan
        self.returns = {
            number: lines for (number, customer), lines
            in plan.returns.items() if customer}
        self.orders = {}
        # By return order line: the line of the plan
        self.lines = {}
        self.users = database.run(self._get_users)

    def run(self):
        "Go the road batch by batch, yielding how many returns went it"
        returns = iter(self.returns.items())
        while batch := dict(islice(returns, BATCH)):
            self.batch = batch
            self._do('service', self._apply)
            self._do('service', self._refuse)
            self._do('sales', self._review)
            self._do('warehouse', self._receive)
            self._do('quality', self._inspect)
            self._do('sales', self._refuse_inspected)
            for role in ['quality', 'finance', 'sales']:
                self._do(role, partial(self._sign, role))
            self._do('warehouse', self._receive)
            self._do('service', self._close_short)
            self._do('sales', self._decide)
            self._do('warehouse', self._post_internal)
            self._do('warehouse', self._send_back)
            self._do('finance', self._refund)
            self._do('finance', self._pay)
            self._do('service', self._tell)
            yield len(self.orders)

    def _do(self, login, func):
        self.database.run(func, user=self.users[login])

    def _get_users(self):
        User = Pool().get('res.user')
        return {u.login: u.id for u in User.search([])}

    def _get_orders(self, *states):
        Order = Pool().get('return.order')
        orders = Order.browse([self.orders[number] for number in self.batch])
        return [o for o in orders if not states or o.state in states]

    def _get_lines(self, orders):
        "The return order lines of the orders with their course and number"
        for order in orders:
            for line in order.lines:
                yield line, *get_course(self.lines[line.id])

    def _apply(self):
        pool = Pool()
        Order = pool.get('return.order')
        Reason = pool.get('return.reason')

        reasons = {
            r.category: r.id for r in Reason.search([('parent', '=', None)])}

        def get_lines(line):
            row = line.row
            reason = reasons[row.extra.get('Reason') or 'other']
            for piece in line.pieces:
                yield line, {
                    'sale_line': self.history.sale_lines[piece.row.line],
                    'quantity': piece.quantity,
                    'reason': reason,
                    }
            if not line.pieces:
                yield line, {
                    'product': self.history.products[row.code],
                    'unit': unit,
                    'quantity': -row.quantity,
                    'unit_price': max(row.price, Decimal(0)),
                    'reason': reason,
                    }
        unit = pool.get('ir.model.data').get_id('product', 'uom_unit')
        planned = {
            number: [l for line in lines for l in get_lines(line)]
            for number, lines in self.batch.items()}
        orders = Order.create([{
                    'party': self.history.parties[lines[0].row.customer],
                    'reference': number,
                    'channel': 'email',
                    'requested_at': lines[0].row.date,
                    'lines': [('create', [v for _, v in planned[number]])],
                    } for number, lines in self.batch.items()])
        for order, (number, lines) in zip(orders, planned.items()):
            self.orders[number] = order.id
            for order_line, (line, _) in zip(order.lines, lines):
                self.lines[order_line.id] = line
        # Nobody is asked whether what was returned twice is entered twice
        with Transaction().set_context(_skip_warnings=True):
            Order.submit(orders)

    def _refuse(self):
        Order = Pool().get('return.order')

        worn, unknown = {}, {}
        for line, course, _ in self._get_lines(self._get_orders()):
            if course == 'refuse':
                refused = worn if line.sale_line else unknown
                refused[line] = line.quantity
        # As the wizard does, whose access is checked
        with without_check_access():
            for refused, reason, text in [
                    (worn, 'condition', "The goods are worn."),
                    (unknown, 'ineligible',
                        "We find no order for these goods.")]:
                Order.refuse(
                    list(dict.fromkeys(l.order for l in refused)),
                    'intake', reason, text, refused)

    def _review(self):
        Order = Pool().get('return.order')
        Order.review(self._get_orders('submitted'))

    def _receive(self):
        "Receive what has come and put it away"
        pool = Pool()
        Move = pool.get('stock.move')
        Shipment = pool.get('stock.shipment.out.return')

        shipments = [
            s for o in self._get_orders('reviewed', 'approved')
            for s in o.shipments if s.state == 'draft']
        to_save = []
        for shipment in shipments:
            for move in shipment.incoming_moves:
                course, number = get_course(self.lines[move.origin.id])
                if course == 'short':
                    move.quantity = number
                    to_save.append(move)
        Move.save(to_save)
        Shipment.receive(shipments)
        Shipment.done(shipments)

    def _inspect(self):
        pool = Pool()
        Defect = pool.get('return.defect')
        Disposition = pool.get('return.disposition')
        Finding = pool.get('return.inspection.defect')
        Inspection = pool.get('quality.inspection')

        broken, = Defect.search([('code', '=', 'U01')])
        lines = {
            str(line): course for line, course, _ in self._get_lines(
                self._get_orders('reviewed'))}
        inspections = Inspection.search([
                ('state', '=', 'pending'),
                ('origin', 'in', list(lines)),
                ])
        to_process = []
        for inspection in inspections:
            course = lines[str(inspection.origin)]
            inspection.points = {'meets_standard': course == 'pass'}
            if course == 'fail':
                quantity = inspection.inspected_quantity
                inspection.defects = [Finding(
                        inspection=inspection, defect=broken,
                        severity='major', quantity=quantity)]
                inspection.defective_quantity = quantity
                inspection.cause = broken.cause
            if course != 'open':
                # Who the goods speak for is left to the final review
                inspection.dispositions = [Disposition(
                        inspection=inspection, line=inspection.origin,
                        quantity=inspection.inspected_quantity,
                        action='customer', accepted=True)]
                to_process.append(inspection)
        Inspection.save(inspections)
        Inspection.process(to_process)

    def _refuse_inspected(self):
        "Sound goods support no claim, those the customer broke neither"
        Order = Pool().get('return.order')

        with without_check_access():
            Order.refuse([
                    o for o in self._get_orders('reviewed')
                    if {c for _, c, _ in self._get_lines([o])}
                    <= {'pass', 'fail'}],
                'final', 'condition', "The goods do not support the claim.")

    def _sign(self, role):
        Order = Pool().get('return.order')
        Order.approve([
                o for o in self._get_orders('reviewed')
                if 'open' not in {c for _, c, _ in self._get_lines([o])}
                and role in o._missing_roles('final')])

    def _close_short(self):
        Line = Pool().get('return.order.line')

        missing = {
            line: line.missing_quantity
            for line, course, _ in self._get_lines(
                self._get_orders('approved'))
            if course == 'short' and line.missing_quantity}
        # As the wizard does, whose access is checked
        with without_check_access():
            Line.close_short(missing)

    def _decide(self):
        Disposition = Pool().get('return.disposition')

        dispositions = [
            Disposition(
                line=line, quantity=line.undecided_quantity,
                action='resale' if course == 'resale' else 'restock')
            for line, course, _ in self._get_lines(
                self._get_orders('approved', 'done'))
            if line.undecided_quantity > 0]
        Disposition.save(dispositions)
        Disposition.decide(dispositions)

    def _get_disposed(self, model):
        "The waiting shipments of the model, by the dispositions"
        shipments = dict.fromkeys(
            m.shipment for o in self._get_orders() for l in o.lines
            for d in l.dispositions for m in d.moves if m.shipment)
        return Pool().get(model).browse([
                s for s in shipments
                if s.__name__ == model and s.state == 'waiting'])

    def _post_internal(self):
        Shipment = Pool().get('stock.shipment.internal')

        shipments = self._get_disposed(Shipment.__name__)
        Shipment.assign_try(shipments)
        Shipment.done(shipments)

    def _send_back(self):
        Shipment = Pool().get('stock.shipment.out')

        shipments = self._get_disposed(Shipment.__name__)
        Shipment.assign_try(shipments)
        Shipment.pick(shipments)
        Shipment.pack(shipments)
        Shipment.done(shipments)

    def _get_refunds(self, state):
        return [
            r for o in self._get_orders('approved', 'done')
            for r in o.refunds if r.state == state]

    def _refund(self):
        pool = Pool()
        Method = pool.get('return.refund.method')
        Refund = pool.get('return.refund')

        refunds = self._get_refunds('draft')
        card, = Method.search([('kind', '=', 'card')])
        for refund in refunds:
            if not refund.invoice:
                refund.method = card
                refund.method_reason = "Goodwill, no payment to be found"
        Refund.save(refunds)
        Refund.approve(refunds)

    def _pay(self):
        pool = Pool()
        Group = pool.get('account.payment.group')
        Move = pool.get('account.move')
        Payment = pool.get('account.payment')

        payments = [
            r.payment for r in self._get_refunds('posted') if r.payment]
        if not payments:
            return

        def get_group():
            group = Group(
                company=payments[0].company, journal=payments[0].journal,
                kind='payable')
            group.save()
            return group
        Payment.submit(payments)
        Payment.approve(payments)
        Payment.process(payments, get_group)
        Payment.succeed(payments)
        Move.post([
                p.clearing_move for p in Payment.browse(payments)
                if p.clearing_move])

    def _tell(self):
        Order = Pool().get('return.order')

        orders = self._get_orders('rejected')
        Order.write(orders, {'told_channel': 'email'})
        Order.tell(orders)
