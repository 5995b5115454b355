# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt

from trytond.model import ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If
from trytond.tools import timezone
from trytond.transaction import Transaction
from trytond.wizard import Button, StateView, Wizard

from .eligibility import ANSWERS
from .order import CHANNELS
from .policy import FREIGHTS
from .reason import CATEGORIES, FREIGHT_PAYERS


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    def _get_last_date(self, calendar):
        "Return the last day to apply by the rules that apply, or None"
        starts = {
            'order': self.ordered_on,
            'invoice': self.invoiced_on,
            'delivery': self.delivered_on,
            }
        return max((
                r.last_date(starts[r.period_from], calendar)
                for r in self._get_rules() if starts[r.period_from]),
            default=None)

    def _get_fee_text(self):
        "Return in words what is kept from the refund"
        pool = Pool()
        Lang = pool.get('ir.lang')
        _, rule = self._get_fee(self.amount, self.order.currency)
        lang = Lang.get()
        texts = []
        if rule and rule.fee_rate:
            rate = (rule.fee_rate * 100).normalize()
            texts.append(lang.format_number(
                    rate, digits=max(0, -rate.as_tuple().exponent)) + '%')
        if rule and rule.fee_amount:
            texts.append(lang.currency(
                    rule.fee_amount, self.order.company.currency))
        return ' + '.join(texts)


class Explain(Wizard):
    "Explain Return Conditions"
    __name__ = 'return.policy.explain'

    start = StateView(
        'return.policy.explain.start',
        'return_management.policy_explain_start_view_form', [
            Button("Cancel", 'end', 'tryton-cancel'),
            Button("Explain", 'result', 'tryton-ok', default=True),
            ])
    result = StateView(
        'return.policy.explain.result',
        'return_management.policy_explain_result_view_form', [
            Button("Back", 'start', 'tryton-back'),
            Button("Close", 'end', 'tryton-ok', default=True),
            ])

    def default_start(self, fields):
        pool = Pool()
        Date = pool.get('ir.date')
        Order = pool.get('return.order')
        start = self.start
        if getattr(start, 'requested_on', None):
            # What was asked before going back
            return {
                'reason': start.reason.id if start.reason else None,
                'channel': start.channel,
                'requested_on': start.requested_on,
                'unopened': start.unopened,
                'complete': start.complete,
                }
        sales = self._get_sales()
        with Transaction().set_context(
                company=sales[0].company.id if sales
                else Transaction().context.get('company')):
            today = Date.today()
        return {
            'channel': Order.default_channel(),
            'requested_on': today,
            }

    def _get_sales(self):
        if self.model.__name__ == 'sale.line':
            return list(dict.fromkeys(l.sale for l in self.records))
        return list(self.records)

    def _get_sale_lines(self):
        "Return the lines with goods that may come back"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        lines = self.records
        if self.model.__name__ != 'sale.line':
            lines = [l for s in self.records for l in s.lines]
        return [
            l for l in SaleLine.browse(lines)
            if l.type == 'line' and l.product and (l.quantity or 0) > 0]

    def _get_reasons(self):
        "Return the reason asked about or one of each category"
        pool = Pool()
        Reason = pool.get('return.reason')
        if self.start.reason:
            return [self.start.reason]
        reasons = {}
        for reason in Reason.search([('parent', '=', None)]):
            reasons.setdefault(reason.category, reason)
        return [reasons[c] for c, _ in CATEGORIES if c in reasons]

    def _get_requested_at(self, company):
        "Return noon of the day of the application, in UTC"
        zone = (
            timezone.get_tzinfo(company.timezone)
            if company.timezone else timezone.UTC)
        noon = dt.datetime.combine(self.start.requested_on, dt.time(12))
        return noon.replace(
            tzinfo=zone).astimezone(timezone.UTC).replace(tzinfo=None)

    def _get_order(self, sale):
        "Return a return order of the sale that is never saved"
        pool = Pool()
        Order = pool.get('return.order')
        return Order(
            company=sale.company,
            party=sale.party,
            currency=sale.currency,
            channel=self.start.channel,
            requested_at=self._get_requested_at(sale.company),
            state='draft')

    def _get_lines(self):
        "Return the lines of returns that are never saved"
        pool = Pool()
        Line = pool.get('return.order.line')
        reasons = self._get_reasons()
        orders, lines = {}, []
        for sale_line in self._get_sale_lines():
            if sale_line.sale not in orders:
                orders[sale_line.sale] = self._get_order(sale_line.sale)
            for reason in reasons:
                line = Line(
                    order=orders[sale_line.sale],
                    sale_line=sale_line,
                    # What can not come back yet is explained too
                    quantity=(
                        sale_line.returnable_quantity or sale_line.quantity),
                    reason=reason,
                    wish=Line.default_wish(),
                    unopened=self.start.unopened,
                    complete=self.start.complete,
                    **Line._get_sale_values(sale_line))
                lines.append(line)
        for line in lines:
            line.currency = line.order.currency
            line.amount = line.on_change_with_amount()
        Line.judge(lines)
        return lines

    def default_result(self, fields):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        lines = self._get_lines()
        calendars = {
            c: Calendar.get(c) for c in {l.order.company for l in lines}}
        return {
            'channel': self.start.channel,
            'requested_on': self.start.requested_on,
            'lines': [
                self._get_result(l, calendars[l.order.company])
                for l in lines],
            }

    def _get_result(self, line, calendar):
        rule = line.policy_line
        return {
            'sale_line': line.sale_line.id,
            'product': line.product.id,
            'unit': line.unit.id,
            'returnable_quantity': line.sale_line.returnable_quantity,
            'reason': line.reason.id,
            'policy': rule.policy.id if rule else None,
            'policy_line': rule.id if rule else None,
            'goodwill_line': (
                line.goodwill_line.id if line.goodwill_line else None),
            'basis': rule.basis if rule else None,
            'last_date': line._get_last_date(calendar),
            'eligible': line.eligible,
            'fee': line._get_fee_text(),
            'freight_payer': line.reason.freight_payer,
            'freight_refund': line._get_freight_refund(),
            'explanation': line.eligibility,
            }


class ExplainStart(ModelView):
    "Explain Return Conditions"
    __name__ = 'return.policy.explain.start'

    reason = fields.Many2One(
        'return.reason', "Reason",
        help="Why the customer would return the goods.\n"
        "Leave empty to be told for each kind of reason.")
    channel = fields.Selection(
        CHANNELS, "Channel", required=True, sort=False,
        help="How the customer would apply.")
    requested_on = fields.Date(
        "Requested on", required=True,
        help="The day on which the customer would apply.")
    unopened = fields.Selection(
        ANSWERS, "Unopened", sort=False,
        help="Whether the goods were not opened, as the customer says.\n"
        "Leave empty when it was not asked.")
    complete = fields.Selection(
        ANSWERS, "Complete", sort=False,
        help="Whether the goods come back with all accessories, "
        "as the customer says.\n"
        "Leave empty when it was not asked.")


class ExplainResult(ModelView):
    "Explain Return Conditions"
    __name__ = 'return.policy.explain.result'

    channel = fields.Selection(
        CHANNELS, "Channel", readonly=True, sort=False,
        help="How the customer would apply.")
    requested_on = fields.Date(
        "Requested on", readonly=True,
        help="The day on which the customer would apply.")
    lines = fields.One2Many(
        'return.policy.explain.line', None, "Conditions", readonly=True,
        help="What the policy says of each line of the sales.")


class ExplainLine(ModelView):
    "Explain Return Conditions"
    __name__ = 'return.policy.explain.line'

    sale_line = fields.Many2One('sale.line', "Sale Line", readonly=True)
    product = fields.Many2One('product.product', "Product", readonly=True)
    unit = fields.Many2One('product.uom', "Unit", readonly=True)
    returnable_quantity = fields.Float(
        "Returnable", digits='unit', readonly=True,
        help="What was delivered and is neither returned nor announced "
        "on a return order, in the unit of the line.")
    reason = fields.Many2One('return.reason', "Reason", readonly=True)
    policy = fields.Many2One(
        'return.policy', "Policy", readonly=True,
        help="The policy under which the goods were sold, "
        "else the one in force.")
    policy_line = fields.Many2One(
        'return.policy.line', "Rule", readonly=True,
        help="The rule of the policy that applies.")
    goodwill_line = fields.Many2One(
        'return.policy.line', "Goodwill Rule", readonly=True,
        states={
            'invisible': ~Eval('goodwill_line'),
            },
        help="The goodwill rule that gives the right too and extends it.")
    basis = fields.Selection([
            (None, ""),
            ('statutory', "Statutory"),
            ('goodwill', "Goodwill"),
            ], "Basis", readonly=True, sort=False,
        help="Whether the law or the company gives the right.")
    last_date = fields.Date(
        "Last Day", readonly=True,
        help="The last day on which the customer may apply; empty as long as "
        "the period has not begun.")
    eligible = fields.Boolean(
        "Eligible", readonly=True,
        help="Checked if the policy gives the customer the right to return "
        "on that day.")
    fee = fields.Char(
        "Fee", readonly=True,
        help="What is kept from the refund: a share of the goods' amount, "
        "tax included, and a fixed amount in the currency of the company.")
    freight_payer = fields.Selection(
        FREIGHT_PAYERS, "Freight Borne by", readonly=True,
        help="Who bears the cost of sending the goods back.")
    freight_refund = fields.Selection(
        FREIGHTS, "Freight Refund", readonly=True, sort=False,
        help="How much the customer gets back of the freight paid with the "
        "sale.")
    explanation = fields.Text(
        "Explanation", readonly=True,
        help="Which rule applies, from which date, and why.")

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="eligible"]', 'visual',
                If(Eval('eligible', True), '', 'danger')),
            ]
