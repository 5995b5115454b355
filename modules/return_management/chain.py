# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from decimal import Decimal

from trytond.model import ModelView, fields
from trytond.modules.currency.fields import Monetary
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.wizard import Button, StateView, Wizard

from .calendar import get_local_date


class Chain(ModelView):
    "Chain of Goods"
    __name__ = 'return.chain'

    steps = fields.One2Many(
        'return.chain.step', None, "Steps", readonly=True,
        help="From the first sales on, each step after the one that it "
        "follows.")
    totals = fields.One2Many(
        'return.chain.total', None, "Totals", readonly=True,
        help="What the goods brought in all.")

    @classmethod
    def get(cls, records):
        "Return the values of the chains that the records are part of"
        steps = cls._get_steps(cls._get_first(records))
        totals = defaultdict(Decimal)
        for step in steps:
            if step['amount'] is not None:
                totals[step['currency']] += step['amount']
        return {
            'steps': steps,
            'totals': [
                {'currency': c, 'amount': a}
                for c, a in sorted(totals.items())],
            }

    @classmethod
    def _get_first(cls, records):
        "Return the records that nothing comes before, level by level"
        first = []
        while records := cls._browse(records):
            previous = []
            for record in records:
                if step := record._get_previous_step():
                    previous.append(step)
                else:
                    first.append(record)
            records = previous
        return cls._browse(first)

    @classmethod
    def _get_steps(cls, first):
        "Return the values of the steps from the first records on"
        values, following = {}, {}
        records = first
        while records:
            for record in records:
                values[record] = record._get_step()
                following[record] = record._get_next_steps()
            records = cls._browse(
                n for r in records for n in following[r])
        steps = []
        stack = [(first, 0)]
        while stack:
            records, level = stack.pop()
            records = sorted(
                records, key=lambda r: (
                    values[r]['date'] or dt.date.max, r.id))
            if records:
                record, *rest = records
                steps.append({**values[record], 'level': level})
                stack.append((rest, level))
                stack.append((following[record], level + 1))
        return steps

    @classmethod
    def _browse(cls, records):
        "Return each record once, those of a model read together"
        pool = Pool()
        ids = defaultdict(list)
        for record in dict.fromkeys(records):
            ids[record.__name__].append(record.id)
        return [
            r for name, m_ids in ids.items()
            for r in pool.get(name).browse(m_ids)]


class ChainStep(ModelView):
    "Step of a Chain of Goods"
    __name__ = 'return.chain.step'

    level = fields.Integer(
        "Level", readonly=True,
        help="How many steps come before.")
    kind = fields.Selection([
            ('sale', "Sale"),
            ('return', "Return"),
            ('replacement', "Replacement"),
            ('offer', "Offer for Resale"),
            ('resale', "Resale"),
            ], "Kind", readonly=True, sort=False)
    date = fields.Date(
        "Date", readonly=True,
        help="The day of the sale, of the application or of the offer.")
    document = fields.Char("Document", readonly=True)
    state = fields.Char("State", readonly=True)
    party = fields.Many2One('party.party', "Party", readonly=True)
    product = fields.Many2One('product.product', "Product", readonly=True)
    quantity = fields.Float(
        "Quantity", digits='unit', readonly=True,
        help="What was sold, announced and not closed, or offered.")
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    amount = Monetary(
        "Amount", currency='currency', digits='currency', readonly=True,
        help="Without tax: what was sold by confirmed sales, positive, and "
        "what was refunded by posted credit notes, negative.\n"
        "Empty as long as there is none.")
    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="amount"]', 'visual',
                If(Eval('amount', 0) < 0, 'danger', '')),
            ]


class ChainTotal(ModelView):
    "Total of a Chain of Goods"
    __name__ = 'return.chain.total'

    currency = fields.Many2One(
        'currency.currency', "Currency", readonly=True)
    amount = Monetary(
        "Amount", currency='currency', digits='currency', readonly=True,
        help="The sum of the amounts of the steps in the currency.")


class ShowChain(Wizard):
    "Show Chain of Goods"
    __name__ = 'return.chain.show'
    start_state = 'chain'

    chain = StateView(
        'return.chain', 'return_management.chain_view_form', [
            Button("Close", 'end', 'tryton-close', default=True),
            ])

    def _get_records(self):
        records = self.records
        if self.model.__name__ in {'sale.sale', 'return.order'}:
            records = [l for r in records for l in r.lines]
        return records

    def default_chain(self, fields):
        pool = Pool()
        Chain = pool.get('return.chain')
        # What comes before and after belongs to the company of the record
        # that the user may read
        return Chain.get([
                r for r in self._get_records()
                if r.__name__ != 'sale.line' or r._is_step()])


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def _is_step(self):
        "Test if the line is part of a chain of goods"
        return bool(
            self.type == 'line' and self.product
            and (self.quantity or 0) > 0
            and self.sale.state != 'cancelled')

    def _get_previous_step(self):
        return self.resale or self.return_line

    def _get_next_steps(self):
        return [
            l for l in self.return_lines
            if l.order.state not in {'draft', 'cancelled'}]

    def _get_step(self):
        sale = self.sale
        if self.resale:
            kind = 'resale'
        elif self.return_line:
            kind = 'replacement'
        else:
            kind = 'sale'
        return {
            'kind': kind,
            'date': sale.sale_date,
            'document': sale.rec_name,
            'state': sale.state_string,
            'party': sale.party.id,
            'product': self.product.id,
            'quantity': self.quantity,
            'unit': self.unit.id,
            'amount': (
                self.amount
                if sale.state in {'confirmed', 'processing', 'done'}
                else None),
            'currency': sale.currency.id,
            }


class ReturnLine(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_previous_step(self):
        return self.sale_line

    def _get_next_steps(self):
        return [l for l in self.replacement_lines if l._is_step()] + [
            r for d in self.dispositions for r in d.resales]

    def _get_step(self):
        order = self.order
        return {
            'kind': 'return',
            'date': order.requested_on,
            'document': order.rec_name,
            'state': order.state_string,
            'party': order.party.id,
            'product': self.product.id,
            'quantity': self.unit.round(self.quantity - self.closed_quantity),
            'unit': self.unit.id,
            'amount': self._get_step_amount(),
            'currency': order.currency.id,
            }

    def _get_step_amount(self):
        "Return what was refunded, negative and without tax, or None"


class Resale(metaclass=PoolMeta):
    __name__ = 'return.resale'

    def _get_previous_step(self):
        return self.disposition.line

    def _get_next_steps(self):
        return [l for l in self.sale_lines if l._is_step()]

    def _get_step(self):
        return {
            'kind': 'offer',
            'date': get_local_date(
                self.company, self.offered_at or self.create_date),
            'document': self.number,
            'state': self.state_string,
            'product': self.product.id,
            'quantity': self.quantity,
            'unit': self.unit.id,
            'amount': None,
            'currency': self.currency.id,
            }
