# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from decimal import Decimal
from operator import itemgetter

from trytond.i18n import gettext
from trytond.model import Index, fields
from trytond.model.fields.selection import TranslatedSelection
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.transaction import Transaction

from .policy import FREIGHTS, TIMINGS
from .reason import CATEGORIES, FREIGHT_PAYERS

ANSWERS = [
    (None, ""),
    ('yes', "Yes"),
    ('no', "No"),
    ]


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    @classmethod
    def _review(cls, orders):
        pool = Pool()
        Line = pool.get('return.order.line')
        super()._review(orders)
        Line.pass_on([l for o in orders for l in o.lines])


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    _states_answer = {
        'readonly': Eval('order_state') != 'draft',
        }
    _states_judged = {
        'invisible': Eval('order_state') == 'draft',
        }

    unopened = fields.Selection(
        ANSWERS, "Unopened", sort=False, states=_states_answer,
        help="Whether the goods were not opened, as the customer says.\n"
        "Leave empty when it was not asked.")
    complete = fields.Selection(
        ANSWERS, "Complete", sort=False, states=_states_answer,
        help="Whether the goods come back with all accessories, "
        "as the customer says.\n"
        "Leave empty when it was not asked.")
    policy_line = fields.Many2One(
        'return.policy.line', "Policy Line", readonly=True,
        ondelete='RESTRICT', states=_states_judged,
        help="The rule of the policy that applies; "
        "found when the return is submitted.")
    goodwill_line = fields.Many2One(
        'return.policy.line', "Goodwill Line", readonly=True,
        ondelete='RESTRICT',
        states={
            'invisible': ~Eval('goodwill_line'),
            },
        help="The goodwill rule that gives the right too and extends it; "
        "found when the return is submitted.")
    eligible = fields.Boolean(
        "Eligible", readonly=True, states=_states_judged,
        help="Checked if the policy gives the customer the right to return; "
        "set when the return is submitted.")
    eligibility = fields.Text(
        "Eligibility", readonly=True,
        states={
            'invisible': ~Bool(Eval('eligibility')),
            },
        help="Which rule applies, from which date, and why.")
    goodwill = fields.Boolean(
        "Goodwill", readonly=True,
        states={
            'invisible': ~Eval('goodwill'),
            },
        help="Checked if the line is not eligible and the initial review "
        "passed it on.")
    freight_payer = fields.Function(
        fields.Selection(
            FREIGHT_PAYERS, "Freight Borne by",
            help="Who bears the cost of sending the goods back, "
            "by the reason."),
        'on_change_with_freight_payer')
    freight_payer_string = TranslatedSelection('freight_payer')
    freight_refund = fields.Function(
        fields.Selection(
            FREIGHTS, "Freight Refund", sort=False, states=_states_judged,
            help="How much the customer gets back of the freight paid with "
            "the sale, by the rules that apply."),
        'on_change_with_freight_refund')
    ordered_on = fields.Date(
        "Ordered on", readonly=True, states=_states_judged,
        help="The date of the sale on which the eligibility was judged.")
    invoiced_on = fields.Date(
        "Invoiced on", readonly=True, states=_states_judged,
        help="The date of the invoice on which the eligibility was judged.")
    delivered_on = fields.Date(
        "Delivered on", readonly=True, states=_states_judged,
        help="The date of the delivery on which the eligibility was judged.")

    _judged_fields = {
        'policy_line', 'goodwill_line', 'eligible', 'eligibility',
        'goodwill', 'ordered_on', 'invoiced_on', 'delivered_on'}
    _answered_fields = {'unopened', 'complete'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.policy_line, Index.Range())))
        cls._guarded_fields = cls._guarded_fields | cls._judged_fields
        cls._signed_fields = cls._signed_fields | cls._answered_fields

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="eligible"]', 'visual',
                If((Eval('order_state') != 'draft') & ~Eval('eligible', True),
                    'danger', '')),
            ('/tree/field[@name="goodwill"]', 'visual',
                If(Eval('goodwill', False), 'warning', '')),
            ]

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        for name in cls._judged_fields | cls._answered_fields:
            default.setdefault(name)
        return super().copy(lines, default=default)

    @classmethod
    def reset(cls, lines):
        super().reset(lines)
        cls.write(lines, dict.fromkeys(cls._judged_fields))

    @classmethod
    def pass_on(cls, lines):
        "Mark what is not eligible and goes on as goodwill"
        lines = [l for l in lines if not l.eligible and l.open_quantity]
        if lines:
            cls.write(lines, {'goodwill': True})

    @classmethod
    def set_policy(cls, lines):
        "Set what follows from the sale, the rules and the eligibility"
        for line in lines:
            if line.sale_line:
                for name, value in line._get_sale_values(
                        line.sale_line).items():
                    setattr(line, name, value)
            line.goods_expected = line.expects_goods
        cls.judge(lines)
        cls.save(lines)

    @classmethod
    def judge(cls, lines):
        "Find the rules and the eligibility of lines, saved or not"
        policies = cls._get_policies(lines)
        rules = {p: p.get_rules() for p in set(policies.values()) if p}
        facts = cls._get_facts(lines)
        for line in lines:
            line._judge(rules.get(policies[line]), facts[line])

    @classmethod
    def _get_policies(cls, lines):
        "Map each line to the policy in force when its goods were sold"
        pool = Pool()
        Policy = pool.get('return.policy')
        policies, keys = {}, {}
        for line in lines:
            if line.sale_line and line.sale_line.return_policy:
                policies[line] = line.sale_line.return_policy
            else:
                date = line.order.requested_on
                if line.sale_line:
                    date = line.sale_line.sale.sale_date or date
                keys[line] = (line.order.company.id, date)
        in_force = Policy.in_force(set(keys.values()))
        for line, key in keys.items():
            policies[line] = in_force[key]
        return policies

    @classmethod
    def _get_facts(cls, lines):
        """Map each line to the facts on which its eligibility is judged

        Whether there is a sale, the dates from which a period may count, the
        day of the application, what the customer answered, whether evidence
        is attached (None when it is not applied for yet) and the calendar.
        """
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Order = pool.get('return.order')
        SaleLine = pool.get('sale.line')
        # The order keeps what is read for the next ones in the cache
        dates = SaleLine.get_return_dates(list(dict.fromkeys(
                    l.sale_line for l in lines if l.sale_line)))
        orders = list({l.order for l in lines})
        proved = Order._get_attachments([o for o in orders if o.id])
        calendars = {
            c: Calendar.get(c) for c in {o.company for o in orders}}
        facts = {}
        for line in lines:
            order = line.order
            facts[line] = {
                'sale': bool(line.sale_line),
                'delivery': None,
                'invoice': None,
                'order': None,
                **dates.get(line.sale_line, {}),
                'requested': order.requested_on,
                'unopened': line.unopened,
                'complete': line.complete,
                'evidence': order in proved if order.id else None,
                'calendar': calendars[order.company],
                }
        return facts

    def _get_policy_pattern(self, rules):
        pattern = {
            'product': self.product.id,
            'product_categories': self.product.get_return_categories(),
            'reason_category': self.reason.category,
            'party': self.order.party.id,
            'channel': self.order.channel,
            }
        if rules.by_amount:
            pattern['amount'] = self._get_policy_amount()
        return pattern

    def _get_policy_amount(self):
        "Return the untaxed amount of the goods in the company's currency"
        pool = Pool()
        Currency = pool.get('currency.currency')
        order = self.order
        amount = order.currency.round(
            Decimal(str(self.quantity or 0)) * (self.unit_price or Decimal(0)))
        with Transaction().set_context(date=order.requested_on):
            return Currency.compute(
                order.currency, amount, order.company.currency)

    def _judge(self, rules, facts):
        "Set the rules that apply and what follows from the facts"
        self.ordered_on = facts['order']
        self.invoiced_on = facts['invoice']
        self.delivered_on = facts['delivery']
        pattern = self._get_policy_pattern(rules) if rules else {}
        found = self._find_rules(rules, pattern)
        holding = [r for r in found if self.is_eligible(r, facts)]
        # What is passed on all the same is goodwill
        self.policy_line, *extending = holding or found[-1:] or [None]
        self.goodwill_line = extending[0] if holding and extending else None
        self.eligible = bool(holding)
        self.eligibility = self.explain(rules, pattern, facts)

    @classmethod
    def _find_rules(cls, rules, pattern):
        "Return the statutory and the goodwill rule that match, if any"
        return [r for r in rules.find(pattern) if r] if rules else []

    def explain(self, rules, pattern, facts):
        """Return what each of the rules says of the facts, and why

        The rules that match the pattern of the line.
        """
        found = self._find_rules(rules, pattern)
        texts = [
            self._explain_rule(r, facts) for r in sorted(
                found, key=lambda r: not self.is_eligible(r, facts))]
        if not found or not facts['sale']:
            texts = [self._explain_checks(None, facts)]
        elif not any(self.is_eligible(r, facts) for r in found):
            texts.extend(
                self._explain_open_rules(rules, pattern, found, facts))
        return '\n'.join(dict.fromkeys(texts))

    @classmethod
    def _eligibility_checks(cls):
        """Return the names of the checks that a rule must pass, in order

        For each name there are two class methods, with the rule, which may be
        None, and the facts: _check_eligible_<name> tests if the check is
        passed, _explain_eligible_<name> returns the text for the customer or
        None.  The first check that fails is the last one.
        """
        return [
            'sale', 'rule', 'period', 'unopened', 'accessories', 'evidence']

    @classmethod
    def is_eligible(cls, rule, facts):
        "Test if the rule gives the right to return"
        return all(
            getattr(cls, '_check_eligible_' + name)(rule, facts)
            for name in cls._eligibility_checks())

    def _explain_rule(self, rule, facts):
        texts = [self._explain_checks(rule, facts)]
        if rule.conditions:
            texts.append(gettext(
                    'return_management.msg_eligibility_conditions',
                    conditions=rule.conditions))
        return gettext(
            'return_management.msg_eligibility_rule',
            policy=rule.policy.name,
            reason=self.reason.rec_name,
            basis=rule.basis_string,
            text=' '.join(texts))

    @classmethod
    def _explain_checks(cls, rule, facts):
        "Return the text of the checks, without rule up to the first failure"
        texts = []
        for name in cls._eligibility_checks():
            text = getattr(cls, '_explain_eligible_' + name)(rule, facts)
            if text:
                texts.append(text)
            if not rule and not getattr(
                    cls, '_check_eligible_' + name)(rule, facts):
                break
        return ' '.join(texts)

    @classmethod
    def _check_eligible_sale(cls, rule, facts):
        return facts['sale']

    @classmethod
    def _explain_eligible_sale(cls, rule, facts):
        if not facts['sale']:
            return gettext('return_management.msg_eligibility_no_sale')

    @classmethod
    def _check_eligible_rule(cls, rule, facts):
        return bool(rule)

    @classmethod
    def _explain_eligible_rule(cls, rule, facts):
        if not rule:
            return gettext('return_management.msg_eligibility_no_rule')

    @classmethod
    def _check_eligible_period(cls, rule, facts):
        start = facts[rule.period_from]
        return bool(start) and (
            facts['requested'] <= cls._get_period_end(rule, facts))

    @classmethod
    def _get_period_end(cls, rule, facts):
        "Return the last day of the period, whose start is known"
        return rule.last_date(facts[rule.period_from], facts['calendar'])

    @classmethod
    def _explain_eligible_period(cls, rule, facts):
        pool = Pool()
        Lang = pool.get('ir.lang')
        start = facts[rule.period_from]
        if not start:
            return gettext(
                'return_management.msg_eligibility_no_date',
                start=rule.period_from_string)
        lang = Lang.get()
        return gettext(
            'return_management.msg_eligibility_in_time'
            if cls._check_eligible_period(rule, facts)
            else 'return_management.msg_eligibility_late',
            start=rule.period_from_string,
            date=lang.strftime(start),
            days=rule.period_string,
            last=lang.strftime(cls._get_period_end(rule, facts)),
            requested=lang.strftime(facts['requested']))

    @classmethod
    def _check_eligible_unopened(cls, rule, facts):
        return not rule.unopened or facts['unopened'] != 'no'

    @classmethod
    def _explain_eligible_unopened(cls, rule, facts):
        if rule.unopened and facts['unopened'] != 'yes':
            return gettext(
                'return_management.msg_eligibility_opened'
                if facts['unopened']
                else 'return_management.msg_eligibility_verify_unopened')

    @classmethod
    def _check_eligible_accessories(cls, rule, facts):
        return not rule.accessories or facts['complete'] != 'no'

    @classmethod
    def _explain_eligible_accessories(cls, rule, facts):
        if rule.accessories and facts['complete'] != 'yes':
            return gettext(
                'return_management.msg_eligibility_incomplete'
                if facts['complete']
                else 'return_management.msg_eligibility_verify_complete')

    @classmethod
    def _check_eligible_evidence(cls, rule, facts):
        return not rule.evidence or facts['evidence'] is not False

    @classmethod
    def _explain_eligible_evidence(cls, rule, facts):
        if rule.evidence and not facts['evidence']:
            return gettext('return_management.msg_eligibility_evidence')

    def _explain_open_rules(self, rules, pattern, found, facts):
        "Yield the texts of what is still possible for other reasons"
        pool = Pool()
        Lang = pool.get('ir.lang')
        Reason = pool.get('return.reason')
        lang = Lang.get()
        for category, _ in CATEGORIES:
            if category == self.reason.category:
                continue
            lasts = {
                self._get_period_end(rule, facts): rule
                for rule in rules.find(
                    {**pattern, 'reason_category': category})
                if rule and rule not in found
                and self.is_eligible(rule, facts)}
            last = max(lasts, default=None)
            if last:
                rule = lasts[last]
                yield gettext(
                    'return_management.msg_eligibility_other',
                    category=Reason(category=category).category_string,
                    days=rule.period_string,
                    start=rule.period_from_string,
                    last=lang.strftime(last))

    def _get_rules(self):
        """Return the rules whose terms apply

        Of several terms the customer has the best.
        """
        return [r for r in [self.policy_line, self.goodwill_line] if r]

    def _get_refund_timing(self):
        "Return which quantity is refunded"
        timings = [timing for timing, _ in TIMINGS]
        return min(
            (r.refund_timing for r in self._get_rules()),
            key=timings.index, default='inspection')

    @fields.depends('reason')
    def on_change_with_freight_payer(self, name=None):
        return self.reason.freight_payer if self.reason else None

    @fields.depends(methods=['_get_freight_refund'])
    def on_change_with_freight_refund(self, name=None):
        return self._get_freight_refund()

    @fields.depends('policy_line', 'goodwill_line')
    def _get_freight_refund(self):
        "Return how much of the freight of the sale goes back"
        freights = [freight for freight, _ in FREIGHTS]
        return max(
            (r.freight_refund for r in self._get_rules()),
            key=freights.index, default='none')

    @classmethod
    def get_automatic_limit(cls, rules, facts):
        """Return the highest limit of the automatic approval, None for never

        rules are those that give the right; one that has to be verified
        first does not count.
        """
        return max(
            (r.automatic_amount for r in rules
                if r.automatic_amount is not None
                and not cls._is_unverified(r, facts)), default=None)

    @classmethod
    def _is_unverified(cls, rule, facts):
        "Test if the rule has a condition that nobody has asked about"
        return (
            (rule.unopened and not facts['unopened'])
            or (rule.accessories and not facts['complete']))

    def _get_automatic_amount(self):
        "Return the limit of the automatic approval, None for never"
        if not self.eligible:
            return None
        return self.get_automatic_limit(self._get_rules(), {
                'unopened': self.unopened,
                'complete': self.complete,
                })

    def _get_fee_rules(self):
        "Return the rules of which the lowest fee is kept"
        if not self.sale_line or self.reason.category == 'quality':
            return []
        return self._get_rules()

    def _get_fee(self, amount, currency):
        """Return the fee to keep and the rule that says so

        amount is what is refunded for the goods, tax included, in the
        currency.
        """
        order = self.order
        return min((
                (r.get_fee(
                        amount, currency, order.company, order.requested_on),
                    r)
                for r in self._get_fee_rules()),
            key=itemgetter(0), default=(Decimal(0), None))


class Product(metaclass=PoolMeta):
    __name__ = 'product.product'

    def get_return_categories(self):
        "Return the ids of the categories by which policy lines match"
        ids = set()
        for category in self.categories_all:
            while category and category.id not in ids:
                ids.add(category.id)
                category = category.parent
        return ids


class Reject(metaclass=PoolMeta):
    __name__ = 'return.order.reject'

    def default_start(self, fields):
        values = super().default_start(fields)
        texts = [
            l.eligibility for l in self.record.lines
            if l.open_quantity and not l.eligible and not l.goodwill
            and l.eligibility]
        if texts:
            values['reason'] = 'ineligible'
            values['text'] = '\n'.join(dict.fromkeys(texts))
        return values
