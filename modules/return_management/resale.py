# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from decimal import Decimal
from itertools import groupby

from sql.aggregate import Sum
from sql.conditionals import Coalesce

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, MatchMixin, ModelSQL, ModelView, Unique, Workflow, fields,
    sequence_ordered)
from trytond.model.exceptions import AccessError
from trytond.modules.company import CompanyReport
from trytond.modules.company.model import employee_field, set_employee
from trytond.modules.currency.fields import Monetary
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, Id, If
from trytond.tools import grouped_slice
from trytond.transaction import Transaction, without_check_access

from .exceptions import ResaleError
from .model import GuardedMixin

GRADES = [
    ('a', "A: as new"),
    ('b', "B: used"),
    ('c', "C: defective"),
    ]


def _employee(string):
    field = employee_field(string)
    field.readonly = True
    return field


def _at(string):
    return fields.DateTime(string, readonly=True)


class Configuration(metaclass=PoolMeta):
    __name__ = 'return.configuration'

    return_resale_sequence = fields.MultiValue(fields.Many2One(
            'ir.sequence', "Resale Sequence", required=True,
            domain=[
                ('company', 'in',
                    [Eval('context', {}).get('company', -1), None]),
                ('sequence_type', '=',
                    Id('return_management', 'sequence_type_return_resale')),
                ]))

    @classmethod
    def multivalue_model(cls, field):
        pool = Pool()
        if field == 'return_resale_sequence':
            return pool.get('return.configuration.sequence')
        return super().multivalue_model(field)

    @classmethod
    def default_return_resale_sequence(cls, **pattern):
        return (
            cls.multivalue_model('return_resale_sequence')
            .default_return_resale_sequence())


class ConfigurationSequence(metaclass=PoolMeta):
    __name__ = 'return.configuration.sequence'

    return_resale_sequence = fields.Many2One(
        'ir.sequence', "Resale Sequence", required=True,
        domain=[
            ('company', 'in', [Eval('company', -1), None]),
            ('sequence_type', '=',
                Id('return_management', 'sequence_type_return_resale')),
            ])

    @classmethod
    def default_return_resale_sequence(cls):
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        try:
            return ModelData.get_id(
                'return_management', 'sequence_return_resale')
        except KeyError:
            return None


class Disclosure(ModelSQL, ModelView):
    "Resale Disclosure"
    __name__ = 'return.resale.disclosure'

    grade = fields.Selection(GRADES, "Grade", required=True, sort=False)
    text = fields.Text(
        "Text", required=True, translate=True,
        help="What buyers of goods of the grade are told, in their "
        "language.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('grade_unique', Unique(t, t.grade),
                'return_management.msg_resale_disclosure_unique'),
            ]

    def get_rec_name(self, name):
        return dict(self.fields_get(['grade'])['grade']['selection'])[
            self.grade]


class Price(sequence_ordered(), MatchMixin, ModelSQL, ModelView):
    "Resale Price"
    __name__ = 'return.resale.price'

    company = fields.Many2One(
        'company.company', "Company", ondelete='CASCADE',
        help="Leave empty for all companies.")
    grade = fields.Selection(
        [(None, ""), *GRADES], "Grade", sort=False,
        help="Leave empty for all grades.")
    category = fields.Many2One(
        'product.category', "Category", ondelete='CASCADE',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Applies also to the categories below; "
        "leave empty for all products.")
    percentage = fields.Numeric(
        "Percentage", digits=(16, 4), required=True,
        domain=[
            ('percentage', '>=', 0),
            ('percentage', '<=', 1),
            ],
        help="The part of the list price for which the goods are offered.")
    floor = fields.Boolean(
        "Floor at Cost",
        help="Check to offer the goods for no less than they cost.")

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    def get_rec_name(self, name):
        pool = Pool()
        Lang = pool.get('ir.lang')
        percentage = Lang.get().format('%.2f', self.percentage * 100)
        return ' '.join(filter(None, [
                    (self.grade or '').upper(),
                    self.category.rec_name if self.category else None,
                    percentage + ' %']))

    def match(self, pattern, match_none=False):
        pattern = pattern.copy()
        categories = pattern.pop('categories')
        if self.category and self.category.id not in categories:
            return False
        return super().match(pattern, match_none=match_none)

    def compute(self, list_price, cost):
        "Return the price for which goods of the price and cost are offered"
        price = list_price * self.percentage
        if self.floor and cost is not None:
            price = max(price, cost)
        return price


class Resale(GuardedMixin, Workflow, ModelSQL, ModelView):
    "Resale"
    __name__ = 'return.resale'
    _rec_name = 'number'

    _evaluation = {
        'readonly': Eval('state') != 'draft',
        }
    _plan = {
        'readonly': ~Eval('state').in_(['draft', 'evaluated']),
        }

    number = fields.Char("Number", readonly=True)
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    disposition = fields.Many2One(
        'return.disposition', "Disposition", required=True, readonly=True,
        ondelete='RESTRICT',
        help="The decision that brought the goods here.")
    product = fields.Many2One(
        'product.product', "Product", required=True, readonly=True,
        ondelete='RESTRICT',
        context={
            'company': Eval('company', -1),
            },
        depends={'company'})
    unit = fields.Many2One(
        'product.uom', "Unit", required=True, readonly=True,
        ondelete='RESTRICT')
    quantity = fields.Float(
        "Quantity", digits='unit', required=True, readonly=True,
        help="What is offered and was sold, in the unit.")
    warehouse = fields.Many2One(
        'stock.location', "Warehouse", required=True, readonly=True,
        ondelete='RESTRICT', domain=[('type', '=', 'warehouse')])
    location = fields.Function(
        fields.Many2One('stock.location', "Location"), 'get_location')
    grade = fields.Selection(
        [(None, ""), *GRADES], "Grade", sort=False, states=_evaluation,
        help="The condition of the goods.")
    grade_string = grade.translated('grade')
    condition = fields.Text(
        "Condition", states=_evaluation,
        help="What is to be seen on the goods; the buyer is told.")
    sound = fields.Selection([
            (None, ""),
            ('yes', "Yes"),
            ('no', "No"),
            ], "Sound", sort=False, states=_evaluation,
        help="Whether the goods are sound in quality and function; "
        "others are not sold.")
    findings = fields.Text(
        "Findings", states=_evaluation,
        help="What the evaluation found; for the company only.")
    evaluated_by = _employee("Evaluated by")
    evaluated_at = _at("Evaluated at")
    channel = fields.Selection([
            (None, ""),
            ('internal', "Internal Channel"),
            ('other', "Other Channel"),
            ], "Channel", sort=False, states=_plan,
        help="Internal: sold by us to anybody.\n"
        "Other: sold to who sells them on, a marketplace or a clearance "
        "house.")
    channel_party = fields.Many2One(
        'party.party', "Sold to", ondelete='RESTRICT',
        states={
            'readonly': _plan['readonly'],
            'invisible': Eval('channel') != 'other',
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Who takes the goods on the other channel; only a sale to this "
        "party can name them.")
    planned_from = fields.Date("Planned from", states=_plan)
    planned_until = fields.Date(
        "Planned until", states=_plan,
        domain=[
            If(Eval('planned_from') & Eval('planned_until'),
                ('planned_until', '>=', Eval('planned_from', None)),
                ()),
            ])
    plan_text = fields.Text("Plan", states=_plan)
    planned_by = _employee("Planned by")
    planned_at = _at("Planned at")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    unit_price = Monetary(
        "Unit Price", currency='currency', digits=price_digits, states=_plan,
        domain=['OR',
            ('unit_price', '=', None),
            ('unit_price', '>=', 0),
            ],
        help="In the currency of the company, for one unit, without taxes.\n"
        "Set from the price rules by the evaluation if left empty.")
    rule_price = Monetary(
        "Price by Rule", currency='currency', digits=price_digits,
        readonly=True,
        help="What the price rule gave at the evaluation, rounded by the "
        "currency.")
    price_rule = fields.Many2One(
        'return.resale.price', "Price Rule", readonly=True,
        ondelete='SET NULL')
    price_reason = fields.Text(
        "Price Reason", states=_plan,
        help="Why another price than that of the rule; required then.")
    disclosure = fields.Text(
        "Disclosure", translate=True,
        states={
            'readonly': ~Eval('state').in_(
                ['draft', 'evaluated', 'planned', 'ready']),
            },
        help="What the buyer is told; set from the text of the grade by the "
        "evaluation if left empty.")
    repacked_by = _employee("Repacked by")
    repacked_at = _at("Repacked at")
    relabelled_by = _employee("Relabelled by")
    relabelled_at = _at("Relabelled at")
    offered_at = _at("Offered at")
    withdrawn_by = _employee("Withdrawn by")
    sale_lines = fields.One2Many(
        'sale.line', 'resale', "Sale Lines", readonly=True)
    moves = fields.One2Many(
        'stock.move', 'origin', "Moves", readonly=True,
        help="What brings goods that are not sold back to be decided anew.")
    sold_quantity = fields.Function(fields.Float(
            "Sold", digits='unit',
            help="On confirmed sales, in the unit."),
        'get_quantities')
    left_quantity = fields.Function(fields.Float(
            "Left", digits='unit',
            help="What is offered and not sold, in the unit."),
        'get_quantities')
    to_bring_back = fields.Function(fields.Float(
            "To Bring Back", digits='unit',
            states={
                'invisible': ~Eval('state').in_(['refused', 'withdrawn']),
                },
            help="What still lies in the resale location without a shipment "
            "that brings it back, in the unit."),
        'get_to_bring_back')
    state = fields.Selection([
            ('draft', "To Evaluate"),
            ('evaluated', "To Plan"),
            ('planned', "To Prepare"),
            ('ready', "Ready"),
            ('offered', "Offered"),
            ('sold', "Sold"),
            ('withdrawn', "Withdrawn"),
            ('refused', "Refused"),
            ], "State", required=True, readonly=True, sort=False,
        help="To Prepare: the warehouse repacks and relabels.\n"
        "Refused: the goods are not sound; they are decided anew.")
    state_string = state.translated('state')

    _guarded_fields = {
        'state', 'number', 'company', 'disposition', 'product', 'unit',
        'quantity', 'warehouse', 'evaluated_by', 'evaluated_at',
        'planned_by', 'planned_at', 'rule_price', 'price_rule',
        'repacked_by', 'repacked_at', 'relabelled_by', 'relabelled_at',
        'offered_at', 'withdrawn_by', 'moves', 'sale_lines'}
    _evaluated_fields = {'grade', 'condition', 'sound', 'findings'}
    _planned_fields = {
        'channel', 'channel_party', 'planned_from', 'planned_until',
        'plan_text', 'unit_price', 'price_reason'}

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('quantity_positive', Check(t, t.quantity > 0),
                'return_management.msg_disposition_quantity_positive'),
            ]
        cls._sql_indexes.update({
                Index(
                    t, (t.state, Index.Equality()),
                    where=t.state.in_([
                            'draft', 'evaluated', 'planned', 'ready',
                            'offered'])),
                Index(t, (t.disposition, Index.Range())),
                Index(t, (t.product, Index.Range())),
                Index(t, (t.number, Index.Equality())),
                })
        cls._order = [('id', 'DESC')]
        cls._transitions |= {
            ('draft', 'evaluated'),
            ('draft', 'refused'),
            ('evaluated', 'planned'),
            ('planned', 'ready'),
            ('ready', 'offered'),
            ('offered', 'sold'),
            ('evaluated', 'withdrawn'),
            ('planned', 'withdrawn'),
            ('ready', 'withdrawn'),
            ('offered', 'withdrawn'),
            }
        cls._buttons.update({
                'evaluate': {
                    'invisible': Eval('state') != 'draft',
                    'depends': ['state'],
                    },
                'plan': {
                    'invisible': Eval('state') != 'evaluated',
                    'depends': ['state'],
                    },
                'repack': {
                    'invisible': (
                        (Eval('state') != 'planned') | Eval('repacked_by')),
                    'depends': ['state', 'repacked_by'],
                    },
                'relabel': {
                    'invisible': (
                        (Eval('state') != 'planned') | Eval('relabelled_by')),
                    'depends': ['state', 'relabelled_by'],
                    },
                'offer': {
                    'invisible': Eval('state') != 'ready',
                    'depends': ['state'],
                    },
                'withdraw': {
                    'invisible': ~Eval('state').in_(
                        ['evaluated', 'planned', 'ready', 'offered'])
                    & ~(Eval('to_bring_back', 0) > 0),
                    'depends': ['state', 'to_bring_back'],
                    },
                })

    @classmethod
    def default_state(cls):
        return 'draft'

    def get_location(self, name):
        location = self.warehouse.resale_location
        return location.id if location else None

    @classmethod
    def get_to_bring_back(cls, resales, name):
        return {
            r.id: r._get_rest_to_bring_back(
                [m for m in r.moves if m.state != 'cancelled'])
            for r in resales}

    def _get_rest_to_bring_back(self, moves):
        "Return what the moves do not bring back"
        pool = Pool()
        Uom = pool.get('product.uom')
        if self.state not in {'refused', 'withdrawn'}:
            return 0
        return self.unit.round(self.quantity - sum(
                Uom.compute_qty(m.unit, m.quantity, self.unit)
                for m in moves))

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    def get_rec_name(self, name):
        return '[%s] %s' % (self.number, self.product.rec_name)

    @classmethod
    def search_rec_name(cls, name, clause):
        operator = 'AND' if clause[1].startswith(('!', 'not')) else 'OR'
        return [operator,
            ('number', *clause[1:]),
            ('product.rec_name', *clause[1:]),
            ]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(
                    Eval('state').in_(['withdrawn', 'refused']),
                    'muted', '')),
            ]

    @classmethod
    def get_quantities(cls, resales, names):
        sold = cls._get_sold(resales)
        left = {
            r.id: r.unit.round(r.quantity - sold[r.id]) for r in resales}
        quantities = {'sold_quantity': sold, 'left_quantity': left}
        return {name: quantities[name] for name in names}

    @classmethod
    def _get_sold(cls, resales):
        "Map the id of resales to what confirmed sales take, in their unit"
        pool = Pool()
        Line = pool.get('sale.line')
        Sale = pool.get('sale.sale')
        Uom = pool.get('product.uom')
        cursor = Transaction().connection.cursor()
        line = Line.__table__()
        sale = Sale.__table__()
        rows = []
        for sub_resales in grouped_slice(resales):
            cursor.execute(*line
                .join(sale, condition=line.sale == sale.id)
                .select(
                    line.resale, line.unit,
                    Sum(Coalesce(line.actual_quantity, line.quantity)),
                    where=line.resale.in_(list(map(int, sub_resales)))
                    & sale.state.in_(['confirmed', 'processing', 'done']),
                    group_by=[line.resale, line.unit]))
            rows.extend(cursor)
        units = {u.id: u for u in Uom.browse(list({r[1] for r in rows}))}
        resale_units = {r.id: r.unit for r in resales}
        sold = defaultdict(float)
        for resale, unit, quantity in rows:
            sold[resale] += Uom.compute_qty(
                units[unit], quantity, resale_units[resale])
        return {r.id: sold[r.id] for r in resales}

    @classmethod
    def copy(cls, resales, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('number')
        default.setdefault('sale_lines')
        default.setdefault('moves')
        return super().copy(resales, default=default)

    @classmethod
    def write(cls, *args):
        if Transaction().check_access:
            for resales, values in zip(args[::2], args[1::2]):
                for names, states in [
                        (cls._evaluated_fields, {'draft'}),
                        (cls._planned_fields, {'draft', 'evaluated'}),
                        ({'disclosure'}, {
                                'draft', 'evaluated', 'planned', 'ready'})]:
                    if names & set(values):
                        for resale in resales:
                            if resale.state not in states:
                                cls._refuse_modification(resale)
        super().write(*args)

    @classmethod
    def _refuse_modification(cls, resale):
        raise AccessError(gettext(
                'return_management.msg_resale_modify',
                resale=resale.rec_name))

    @classmethod
    def delete(cls, resales):
        for resale in resales:
            cls._refuse_modification(resale)
        super().delete(resales)

    @classmethod
    def set_number(cls, resales):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        config = Configuration(1)
        for company, c_resales in groupby(resales, key=lambda r: r.company):
            sequence = config.get_multivalue(
                'return_resale_sequence', company=company.id)
            for resale in c_resales:
                if not resale.number:
                    resale.number = sequence.get()
        cls.save(resales)

    @classmethod
    def _check_employee(cls, resales):
        pool = Pool()
        Order = pool.get('return.order')
        for company in {r.company for r in resales}:
            Order._get_employee(company)

    @classmethod
    @ModelView.button
    def evaluate(cls, resales):
        "Keep the evaluation; what is not sound is refused"
        resales = [r for r in resales if r.state == 'draft']
        cls._check_employee(resales)
        for resale in resales:
            if not resale.sound or not resale.grade:
                raise ResaleError(gettext(
                        'return_management.msg_resale_evaluation',
                        resale=resale.rec_name))
        sound = [r for r in resales if r.sound == 'yes']
        cls._set_disclosure(sound)
        cls._set_price(sound)
        cls._evaluate(sound)
        refused = [r for r in resales if r.sound == 'no']
        cls._refuse(refused)
        cls._bring_back(refused)

    @classmethod
    @Workflow.transition('evaluated')
    @set_employee('evaluated_by')
    def _evaluate(cls, resales):
        cls.write(resales, {'evaluated_at': dt.datetime.now()})

    @classmethod
    @Workflow.transition('refused')
    @set_employee('evaluated_by')
    def _refuse(cls, resales):
        cls.write(resales, {'evaluated_at': dt.datetime.now()})

    @classmethod
    def _set_disclosure(cls, resales):
        "Fill the text of the grade in, in each language"
        pool = Pool()
        Disclosure = pool.get('return.resale.disclosure')
        Lang = pool.get('ir.lang')
        grades = defaultdict(list)
        for resale in resales:
            if not resale.disclosure:
                grades[resale.grade].append(resale)
        if not grades:
            return
        languages = Lang.search([('translatable', '=', True)])
        for code in ['en', *(l.code for l in languages if l.code != 'en')]:
            with Transaction().set_context(language=code):
                args = []
                for disclosure in Disclosure.search([
                            ('grade', 'in', list(grades))]):
                    args.extend([
                            grades[disclosure.grade],
                            {'disclosure': disclosure.text}])
                if args:
                    cls.write(*args)

    @classmethod
    @without_check_access
    def _set_price(cls, resales):
        "Find the price by the rules"
        pool = Pool()
        Price = pool.get('return.resale.price')
        Product = pool.get('product.product')
        Uom = pool.get('product.uom')
        rules = Price.search([])
        resales = sorted(resales, key=lambda r: r.company.id)
        for company, c_resales in groupby(resales, key=lambda r: r.company):
            c_resales = list(c_resales)
            with Transaction().set_context(company=company.id):
                products = {
                    p.id: p for p in Product.browse(
                        [r.product.id for r in c_resales])}
            for resale in c_resales:
                product = products[resale.product.id]
                pattern = resale._get_price_pattern()
                rule = next((r for r in rules if r.match(pattern)), None)
                if not rule:
                    continue
                cost = resale.disposition.line.get_received_cost(
                    resale.disposition.product)
                if cost is None:
                    cost = product.cost_price
                price = rule.compute(product.list_price or Decimal(0), cost)
                resale.rule_price = company.currency.round(
                    Uom.compute_price(
                        product.default_uom, price, resale.unit))
                resale.price_rule = rule
                if resale.unit_price is None:
                    resale.unit_price = resale.rule_price
        cls.save(resales)

    def _get_price_pattern(self):
        return {
            'company': self.company.id,
            'grade': self.grade,
            'categories': self.product.get_category_ids(),
            }

    @classmethod
    @ModelView.button
    @Workflow.transition('planned')
    @set_employee('planned_by')
    def plan(cls, resales):
        "Sign the plan"
        cls._check_employee(resales)
        for resale in resales:
            if (not resale.channel or resale.unit_price is None
                    or (resale.channel == 'other'
                        and not resale.channel_party)):
                raise ResaleError(gettext(
                        'return_management.msg_resale_plan',
                        resale=resale.rec_name))
            if (resale.unit_price != resale.rule_price
                    and not resale.price_reason):
                raise ResaleError(gettext(
                        'return_management.msg_resale_price_reason',
                        resale=resale.rec_name))
        cls.write(resales, {'planned_at': dt.datetime.now()})

    @classmethod
    @ModelView.button
    def repack(cls, resales):
        cls._prepare(resales, 'repacked')

    @classmethod
    @ModelView.button
    def relabel(cls, resales):
        cls._prepare(resales, 'relabelled')

    @classmethod
    def _prepare(cls, resales, name):
        resales = [
            r for r in resales
            if r.state == 'planned' and not getattr(r, name + '_by')]
        cls._check_employee(resales)
        pool = Pool()
        Order = pool.get('return.order')
        for resale in resales:
            setattr(
                resale, name + '_by', Order._get_employee(resale.company))
            setattr(resale, name + '_at', dt.datetime.now())
        cls.save(resales)
        cls._ready([
                r for r in resales if r.repacked_by and r.relabelled_by])

    @classmethod
    @Workflow.transition('ready')
    def _ready(cls, resales):
        pass

    @classmethod
    @ModelView.button
    @Workflow.transition('offered')
    def offer(cls, resales):
        "Publish the goods"
        cls._check_employee(resales)
        for resale in resales:
            if not resale.disclosure:
                raise ResaleError(gettext(
                        'return_management.msg_resale_disclosure',
                        resale=resale.rec_name))
        cls.write(resales, {'offered_at': dt.datetime.now()})

    @classmethod
    @ModelView.button
    def withdraw(cls, resales):
        "Take what is not sold back to be decided anew"
        cls.lock(resales)
        cls._check_employee(resales)
        # The warehouse may have cancelled what was to bring them back
        again = [r for r in resales if r.to_bring_back > 0]
        resales = [
            r for r in resales
            if r.state in {'evaluated', 'planned', 'ready', 'offered'}]
        withdrawn = cls._split(resales)
        cls._withdraw(withdrawn)
        cls._bring_back(withdrawn + again)

    @classmethod
    def _split(cls, resales):
        "Keep what is sold apart and return what is not"
        split, rests = [], {}
        for resale in resales:
            if resale.sold_quantity:
                split.append(resale)
                rests[resale.id] = resale.left_quantity
        if not split:
            return resales
        copies = cls.copy(split, default={
                'quantity': lambda data: rests[data['id']],
                'state': lambda data: data['state'],
                })
        cls.set_number(copies)
        for resale in split:
            resale.quantity = resale.unit.round(
                resale.quantity - rests[resale.id])
        cls.save(split)
        cls._sell(split)
        return [r for r in resales if r.id not in rests] + copies

    @classmethod
    @Workflow.transition('withdrawn')
    @set_employee('withdrawn_by')
    def _withdraw(cls, resales):
        pass

    @classmethod
    def _bring_back(cls, resales):
        "Ship the goods to where they can be decided anew"
        pool = Pool()
        Date = pool.get('ir.date')
        Order = pool.get('return.order')
        Shipment = pool.get('stock.shipment.internal')
        groups = defaultdict(list)
        resales = cls.browse(resales)
        for resale in resales:
            groups[
                resale.company, resale.location,
                resale.disposition.line._get_area()].append(resale)
        shipments = []
        for (company, from_location, to_location), grouped in groups.items():
            with Transaction().set_context(company=company.id):
                today = Date.today()
            shipments.append(Shipment(
                    company=company,
                    from_location=from_location,
                    to_location=to_location,
                    planned_date=today,
                    planned_start_date=today,
                    state='draft',
                    moves=[
                        r._get_move_back(r.to_bring_back) for r in grouped]))
        Shipment.save(shipments)
        Shipment.wait(shipments)
        Order._queue_process(list(dict.fromkeys(
                    r.disposition.order for r in resales)))

    def _get_move_back(self, quantity):
        pool = Pool()
        Move = pool.get('stock.move')
        return Move(
            origin=self,
            product=self.product,
            unit=self.unit,
            quantity=quantity,
            company=self.company,
            from_location=self.location,
            to_location=self.disposition.line._get_area(),
            state='draft')

    @classmethod
    @Workflow.transition('sold')
    def _sell(cls, resales):
        pass

    @classmethod
    def _offer_again(cls, resales):
        # No button may offer what is sold
        cls.write(resales, {'state': 'offered'})

    @classmethod
    def update_sold(cls, resales):
        "Let the state follow what is left"
        resales = cls.browse(list(map(int, resales)))
        cls._sell([
                r for r in resales
                if r.state == 'offered' and r.left_quantity <= 0])
        cls._offer_again([
                r for r in resales
                if r.state == 'sold' and r.left_quantity > 0])

    def get_sale_description(self):
        "Return what a buyer is told, in the language of the context"
        return '\n'.join(filter(None, [
                    gettext('return_management.msg_resale_description',
                        resale=self.number,
                        grade=self.grade_string),
                    self.disclosure,
                    self.condition]))


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    def _goods_settled(self):
        return super()._goods_settled() and not any(
            r._get_rest_to_bring_back(
                [m for m in r.moves if m.state == 'done']) > 0
            for l in self.lines for d in l.dispositions for r in d.resales)


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    resales = fields.One2Many(
        'return.resale', 'disposition', "Resales", readonly=True)

    @classmethod
    def copy(cls, dispositions, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('resales')
        return super().copy(dispositions, default=default)

    def _get_moves_back(self):
        "Return the moves that brought back what was not resold"
        return [
            m for r in self.resales for m in r.moves if m.state == 'done']

    @classmethod
    def _do(cls, dispositions):
        super()._do(dispositions)
        cls._create_resales([
                d for d in dispositions
                if d.action == 'resale' and not d.resales])

    @classmethod
    @without_check_access
    def _create_resales(cls, dispositions):
        pool = Pool()
        Resale = pool.get('return.resale')
        resales = [r for d in dispositions for r in d._get_resales()]
        Resale.save(resales)
        Resale.set_number(resales)

    def _get_resales(self):
        return [self._get_resale(self.quantity)]

    def _get_resale(self, quantity):
        pool = Pool()
        Resale = pool.get('return.resale')
        return Resale(
            company=self.company,
            disposition=self,
            product=self.product,
            unit=self.unit,
            quantity=quantity,
            warehouse=self.line.order.warehouse,
            grade=self.grade)

    @classmethod
    @without_check_access
    def decide_anew(cls, quantities):
        """Replace what was decided by a draft

        quantities maps dispositions to what came back.  In whose favour the
        return was decided stays.
        """
        drafts, whole, to_write = [], [], []
        for disposition, quantity in quantities.items():
            drafts.append(disposition._get_new_decision(quantity))
            rest = disposition.unit.round(disposition.quantity - quantity)
            if rest > 0:
                to_write.extend(([disposition], {'quantity': rest}))
            else:
                whole.append(disposition)
        if to_write:
            cls.write(*to_write)
        # No button may cancel what is done
        cls.write(whole, {'state': 'cancelled'})
        cls.save(drafts)

    def _get_new_decision(self, quantity):
        forbidden = {'resale', *self.line.reason.all_forbidden_actions}
        actions = [
            self.line._get_default_action(),
            *(a for a, _ in self.fields_get(
                    ['action'])['action']['selection'])]
        return self.__class__(
            line=self.line,
            action=next(a for a in actions if a and a not in forbidden),
            accepted=self.accepted,
            quantity=quantity,
            grade=self.grade)


class Label(CompanyReport):
    __name__ = 'return.resale.label'

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        # The lot exists only with stock_lot
        context['getattr'] = getattr
        return context
