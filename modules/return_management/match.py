# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict

from trytond.i18n import gettext
from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.wizard import Button, StateTransition, StateView, Wizard

from .exceptions import MatchError


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    unmatched = fields.Function(
        fields.Boolean("Unmatched"), 'on_change_with_unmatched')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._buttons.update({
                'match': {
                    'invisible': (
                        (Eval('state') != 'draft') | ~Eval('unmatched')),
                    'depends': ['state', 'unmatched'],
                    },
                })

    @fields.depends('lines')
    def on_change_with_unmatched(self, name=None):
        return any(
            not getattr(l, 'sale_line', None) for l in self.lines or [])

    def _get_matched_payer(self):
        "Return who has paid what is matched and in which currency, or None"
        pool = Pool()
        Line = pool.get('return.order.line')
        for line in self.lines:
            if line.sale_line:
                return Line._get_payer(line.sale_line.sale)

    @classmethod
    @ModelView.button_action('return_management.wizard_order_match')
    def match(cls, orders):
        pass


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    @classmethod
    def get_matches(cls, lines):
        """Map each unmatched line to sale lines and quantities in their unit

        Of the deliveries on or before the application the nearest come
        first.  What one line takes is not left for the next.
        """
        pool = Pool()
        Uom = pool.get('product.uom')
        left = {}
        for order in dict.fromkeys(l.order for l in lines):
            for line in order.lines:
                sale_line = line.sale_line
                if sale_line:
                    left.setdefault(sale_line, sale_line.returnable_quantity)
                    left[sale_line] = sale_line.unit.round(
                        left[sale_line] - line.quantity)
        candidates = cls._get_match_candidates(lines)
        matches = {}
        payers = {o: o._get_matched_payer() for o in {l.order for l in lines}}
        for line in lines:
            matches[line] = []
            quantity = line.quantity
            for sale_line in candidates[line]:
                if quantity <= 0:
                    break
                # One return has one payer
                payer = cls._get_payer(sale_line.sale)
                if payers[line.order] not in {None, payer}:
                    continue
                rest = left.setdefault(
                    sale_line, sale_line.returnable_quantity)
                part = min(rest, Uom.compute_qty(
                        line.unit, quantity, sale_line.unit))
                if part <= 0:
                    continue
                matches[line].append((sale_line, part))
                payers[line.order] = payer
                left[sale_line] = sale_line.unit.round(rest - part)
                quantity = line.unit.round(quantity - Uom.compute_qty(
                        sale_line.unit, part, line.unit))
        return matches

    @classmethod
    def _get_payer(cls, sale):
        return sale.invoice_party or sale.party, sale.currency

    @classmethod
    def _get_match_candidates(cls, lines):
        "Map each line to the sale lines it may be of, the nearest first"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        orders = {l.order for l in lines}
        sale_lines = SaleLine.search([
                ('type', '=', 'line'),
                ('quantity', '>', 0),
                ('product', 'in', list({l.product.id for l in lines})),
                ('sale.party', 'in', list({o.party.id for o in orders})),
                ('sale.company', 'in', list({o.company.id for o in orders})),
                ('sale.state', 'in', ['confirmed', 'processing', 'done']),
                ], order=[])
        dates = SaleLine.get_return_dates(sale_lines)
        by_product = defaultdict(list)
        for sale_line in sale_lines:
            delivery = dates[sale_line]['delivery']
            if delivery and sale_line.unit:
                sale = sale_line.sale
                by_product[
                    sale.company, sale.party, sale_line.product].append(
                    (delivery, sale_line))
        candidates = {}
        for line in lines:
            order = line.order
            found = [
                (delivery, sale_line) for delivery, sale_line in by_product[
                    order.company, order.party, line.product]
                if delivery <= order.requested_on
                and sale_line.unit.category == line.unit.category]
            found.sort(key=lambda f: (f[0], f[1].id), reverse=True)
            candidates[line] = [s for _, s in found]
        return candidates

    @classmethod
    def apply_matches(cls, matches):
        """Replace unmatched lines by those of sale lines

        matches maps each line to a list of sale lines and quantities in
        their unit.  What is left of a line stays unmatched.
        """
        to_write, to_copy = [], defaultdict(dict)
        for line, pieces in matches.items():
            pieces = [(s, q) for s, q in pieces if q]
            if not pieces:
                continue
            cls._check_matches(line, pieces)
            rest = line._get_unmatched_quantity(pieces)
            if rest > 0:
                to_write.extend(([line], {'quantity': rest}))
            else:
                (sale_line, quantity), *pieces = pieces
                to_write.extend((
                        [line], cls._get_match_values(sale_line, quantity)))
            for i, piece in enumerate(pieces):
                to_copy[i][line] = {
                    **{n: getattr(line, n) for n in cls._answered_fields},
                    **cls._get_match_values(*piece)}
        if to_write:
            cls.write(*to_write)
        # Each line at most once, as a copy tells them apart by their ids
        for values in to_copy.values():
            cls._copy_matches(values)
        orders = dict.fromkeys(l.order for l in cls.browse(list(matches)))
        cls.check_returnable([l for o in orders for l in o.lines])

    @classmethod
    def _copy_matches(cls, values):
        "Copy lines; values maps each of them to the values of its copy"
        by_id = {line.id: v for line, v in values.items()}
        names = {n for v in values.values() for n in v}
        cls.copy(list(values), default={
                n: lambda data, name=n: by_id[data['id']][name]
                for n in names})

    @classmethod
    def _check_matches(cls, line, pieces):
        for sale_line, _ in pieces:
            if (sale_line.product != line.product
                    or sale_line.sale.party != line.order.party):
                raise MatchError(gettext(
                        'return_management.msg_match_sale_line',
                        line=line.rec_name,
                        sale_line=sale_line.rec_name))
        if line._get_unmatched_quantity(pieces) < 0:
            raise MatchError(gettext(
                    'return_management.msg_match_quantity',
                    line=line.rec_name))

    def _get_unmatched_quantity(self, pieces):
        pool = Pool()
        Uom = pool.get('product.uom')
        return self.unit.round(self.quantity - sum(
                Uom.compute_qty(s.unit, q, self.unit, round=False)
                for s, q in pieces))

    @classmethod
    def _get_match_values(cls, sale_line, quantity):
        values = {
            n: getattr(v, 'id', v)
            for n, v in cls._get_sale_values(sale_line).items()}
        values['sale_line'] = sale_line.id
        values['quantity'] = quantity
        return values


class Match(Wizard):
    "Find Order"
    __name__ = 'return.order.match'

    start = StateView(
        'return.order.match.start',
        'return_management.order_match_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Match", 'match', 'tryton-ok', default=True),
            ])
    match = StateTransition()

    def _get_lines(self):
        if self.record.state != 'draft':
            return []
        return [l for l in self.record.lines if not l.sale_line]

    def default_start(self, fields):
        pool = Pool()
        Line = pool.get('return.order.line')
        SaleLine = pool.get('sale.line')
        lines = self._get_lines()
        matches = Line.get_matches(lines)
        dates = SaleLine.get_return_dates(
            list({s for m in matches.values() for s, _ in m}))
        rows = [{
                'line': line.id,
                'product': line.product.id,
                'announced_quantity': line.quantity,
                'line_unit': line.unit.id,
                'sale_line': sale_line.id,
                'delivered_on': dates[sale_line]['delivery'],
                'unit': sale_line.unit.id,
                'returnable_quantity': sale_line.returnable_quantity,
                'quantity': quantity,
                } for line in lines for sale_line, quantity in matches[line]]
        return {
            'party': self.record.party.id,
            'lines': rows,
            'message': None if rows else gettext(
                'return_management.msg_match_nothing',
                order=self.record.rec_name,
                party=self.record.party.rec_name),
            }

    def transition_match(self):
        pool = Pool()
        Line = pool.get('return.order.line')
        matches = defaultdict(list)
        lines = self._get_lines()
        for row in self.start.lines:
            if row.line in lines and row.sale_line:
                matches[row.line].append((row.sale_line, row.quantity or 0))
        Line.apply_matches(matches)
        return 'end'


class MatchStart(ModelView):
    "Find Order"
    __name__ = 'return.order.match.start'

    party = fields.Many2One('party.party', "Customer", readonly=True)
    message = fields.Text(
        "Message", readonly=True,
        states={
            'invisible': ~Eval('message'),
            })
    lines = fields.One2Many(
        'return.order.match.start.line', None, "Lines",
        states={
            'invisible': ~Eval('lines', []),
            },
        help="Change the quantity of what does not belong to the sale line; "
        "what is left stays unmatched.")


class MatchStartLine(ModelView):
    "Find Order"
    __name__ = 'return.order.match.start.line'

    line = fields.Many2One(
        'return.order.line', "Return Line", readonly=True, required=True)
    product = fields.Many2One('product.product', "Product", readonly=True)
    line_unit = fields.Many2One(
        'product.uom', "Announced Unit", readonly=True)
    announced_quantity = fields.Float(
        "Announced", digits='line_unit', readonly=True,
        help="The quantity of the unmatched line.")
    sale_line = fields.Many2One(
        'sale.line', "Sale Line", readonly=True, required=True)
    delivered_on = fields.Date(
        "Delivered on", readonly=True,
        help="When the last of the goods were delivered.")
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    returnable_quantity = fields.Float(
        "Returnable", digits='unit', readonly=True,
        help="What was delivered and is neither returned nor announced.")
    quantity = fields.Float(
        "Quantity", digits='unit', required=True,
        domain=[
            ('quantity', '>=', 0),
            ('quantity', '<=', Eval('returnable_quantity', 0)),
            ],
        help="What belongs to the sale line, in its unit.")
