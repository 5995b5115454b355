# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from collections import defaultdict
from email.header import Header
from email.mime.text import MIMEText
from email.utils import formataddr

from sql import Null
from sql.aggregate import Min

from trytond.bus import notify
from trytond.config import config
from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, fields
from trytond.model.exceptions import AccessError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.sendmail import sendmail_transactional
from trytond.tools import grouped_slice
from trytond.tools.email_ import convert_ascii_email
from trytond.transaction import Transaction, without_check_access

from .calendar import get_local_date


def _search_flag(clause, domain, inverse):
    "Return the domain for the clause on a Boolean"
    _, operator, value = clause
    values = set(value) if operator in {'in', 'not in'} else {value}
    yes, no = True in values, bool(values & {False, None})
    if operator in {'!=', 'not in'}:
        yes, no = not yes, not no
    if yes and no:
        return []
    elif yes:
        return domain
    elif no:
        return inverse
    return [('id', '=', None)]


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    stages = fields.One2Many(
        'return.order.stage', 'order', "Stages", readonly=True,
        help="How long the return stayed where, and who was to act.")
    expected_decision_date = fields.Date(
        "Expected Decision", readonly=True,
        states={
            'invisible': Eval('state') == 'draft',
            },
        help="The date by which the customer can expect the decision, "
        "without the time that the goods travel or the customer is asked.\n"
        "Set from the limits in working days when the return is submitted.")
    due_date = fields.Function(fields.Date(
            "Due Date",
            help="The earliest date by which somebody must act."),
        'get_due_date', searcher='search_due_date')
    overdue = fields.Function(fields.Boolean(
            "Overdue",
            help="Checked when somebody should have acted before today."),
        'get_stage_flag', searcher='search_overdue')
    to_review = fields.Function(fields.Boolean(
            "To Review",
            help="Checked when the initial review waits for one of your "
            "roles."),
        'get_stage_flag', searcher='search_to_sign')
    to_sign = fields.Function(fields.Boolean(
            "To Sign",
            help="Checked when the final review waits for one of your "
            "roles."),
        'get_stage_flag', searcher='search_to_sign')

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'stages', 'expected_decision_date'}
        for button, flag in [('review', 'to_review'), ('approve', 'to_sign')]:
            cls._buttons[button]['readonly'] = ~Eval(flag)
            cls._buttons[button]['depends'] += [flag]

    @classmethod
    def get_due_date(cls, orders, name):
        pool = Pool()
        Stage = pool.get('return.order.stage')
        cursor = Transaction().connection.cursor()
        dates = dict.fromkeys(map(int, orders))
        due = Stage._get_due_query()
        for sub_orders in grouped_slice(orders):
            cursor.execute(*due.select(
                    due.order, due.due_date,
                    where=due.order.in_(list(map(int, sub_orders)))))
            for order_id, date in cursor:
                # SQLite does not convert the date of an expression
                if isinstance(date, str):
                    date = dt.date.fromisoformat(date)
                dates[order_id] = date
        return dates

    @classmethod
    def search_due_date(cls, name, clause):
        pool = Pool()
        Stage = pool.get('return.order.stage')
        _, operator, value = clause
        Operator = fields.SQL_OPERATORS[operator]
        field = cls.due_date._field
        order = cls.__table__()
        due = Stage._get_due_query()
        expression = Operator(
            due.due_date, field._domain_value(operator, value))
        expression = field._domain_add_null(
            due.due_date, operator, value, expression)
        return [('id', 'in', order
                .join(due, 'LEFT', condition=due.order == order.id)
                .select(order.id, where=expression))]

    @staticmethod
    def order_due_date(tables):
        pool = Pool()
        Stage = pool.get('return.order.stage')
        table, _ = tables[None]
        if 'stage_due' not in tables:
            due = Stage._get_due_query()
            tables['stage_due'] = {
                None: (due, due.order == table.id),
                }
        due, _ = tables['stage_due'][None]
        return [due.due_date]

    @classmethod
    def get_stage_flag(cls, orders, name):
        flags = dict.fromkeys(map(int, orders), False)
        for sub_orders in grouped_slice(orders):
            flags.update((o.id, True) for o in cls.search([
                        ('id', 'in', list(map(int, sub_orders))),
                        (name, '=', True),
                        ]))
        return flags

    @classmethod
    def search_overdue(cls, name, clause):
        domain = [('overdue', '=', True)]
        return _search_flag(
            clause,
            [('stages', 'where', domain)], [('stages', 'not where', domain)])

    @classmethod
    def search_to_sign(cls, name, clause):
        pool = Pool()
        User = pool.get('res.user')
        employee = User(Transaction().user).employee
        domain = [
            ('ended_at', '=', None),
            ('stage', '=', 'initial' if name == 'to_review' else 'final'),
            ['OR', ('id', '=', None)] + [[
                    ('role', '=', role),
                    # Nobody signs for two roles
                    ('order.opinions', 'not where', [
                            ('employee.party', '=',
                                employee.party.id if employee else None),
                            ('role', '!=', role),
                            ]),
                    ] for role in cls._get_user_roles()],
            ]
        return _search_flag(
            clause,
            [('stages', 'where', domain)], [('stages', 'not where', domain)])

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree/field[@name="due_date"]', 'visual',
                If(Eval('overdue', False), 'danger', '')),
            ]

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('stages')
        default.setdefault('expected_decision_date')
        return super().copy(orders, default=default)

    @classmethod
    @ModelView.button
    def submit(cls, orders):
        submitted = [o for o in orders if o.state == 'draft']
        super().submit(orders)
        cls._set_expected_dates(submitted)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def review(cls, orders):
        super().review(orders)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def approve(cls, orders):
        super().approve(orders)
        cls._update_stages(orders)

    @classmethod
    def refuse(cls, orders, stage, reason, text, quantities=None):
        super().refuse(orders, stage, reason, text, quantities=quantities)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def tell(cls, orders):
        super().tell(orders)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def cancel(cls, orders):
        super().cancel(orders)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def draft(cls, orders):
        super().draft(orders)
        cls._update_stages(orders)

    @classmethod
    @ModelView.button
    def process(cls, orders):
        super().process(orders)
        cls._update_stages(orders)

    @classmethod
    def _set_expected_dates(cls, orders):
        "Set by when the customer can expect a decision"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Stage = pool.get('return.order.stage')
        orders = cls.browse(orders)
        stages = {o: o._get_decision_stages() for o in orders}
        limits = Stage._get_limits(
            {o.company for o in orders},
            {s for o in orders for s in stages[o]})
        calendars = {c: Calendar.get(c) for c in limits}
        dates = defaultdict(list)
        for order in orders:
            days = [limits[order.company].get(s) for s in stages[order]]
            date = None
            if any(d is not None for d in days):
                date = calendars[order.company].add_days(
                    get_local_date(order.company, order.submitted_at),
                    sum(d or 0 for d in days))
            dates[date].append(order)
        for date, d_orders in dates.items():
            cls.write(d_orders, {'expected_decision_date': date})

    @classmethod
    def _expected_dates(cls):
        "Return the names of the fields with what the customer can expect"
        return ['expected_decision_date']

    def _get_decision_stages(self):
        "Return the stages with a limit that the decision goes through"
        return ['initial', 'final']

    def _get_open_stages(self):
        "Return the set of (stage, role) at which the return stands now"
        if self._is_waiting_customer():
            stages = {('customer', None)}
        else:
            stages = self._get_work_stages()
        if self.to_tell:
            stages.add(('tell', 'sales'))
        return stages

    def _get_work_stages(self):
        "Return the set of (stage, role) that wait for work or for goods"
        stages = set()
        if self.state == 'submitted':
            stages.update(
                ('initial', r) for r in self._missing_roles('initial'))
        elif self.state in {'reviewed', 'approved'}:
            if any(l.goods_asked and l.missing_quantity for l in self.lines):
                if self.collection == 'pickup':
                    stages.add(('pickup', 'logistics'))
                else:
                    stages.add(('goods', None))
            elif self.state == 'reviewed':
                stages.update(
                    ('final', r) for r in self._missing_roles('final'))
        return stages

    @classmethod
    def _update_stages(cls, orders, now=None):
        """Close the stages that orders have left and open where they stand

        now is the moment, in UTC, at which it happens.
        """
        pool = Pool()
        Stage = pool.get('return.order.stage')
        if now is None:
            now = dt.datetime.now().replace(microsecond=0)
        with without_check_access():
            to_close, to_open = [], []
            for order in cls.browse(orders):
                stages = set(order._get_open_stages())
                for row in order.stages:
                    key = (row.stage, row.role)
                    if row.ended_at:
                        continue
                    elif key in stages and row.round == order.round:
                        stages.remove(key)
                    else:
                        to_close.append(row)
                to_open.extend(
                    Stage(
                        order=order, stage=stage, role=role,
                        round=order.round, started_at=now)
                    for stage, role in sorted(
                        stages, key=lambda s: (s[0], s[1] or '')))
            Stage.write(to_close, {'ended_at': now})
            Stage.set_due_date(to_open)
            Stage.save(to_open)


class Stage(ModelSQL, ModelView):
    "Return Order Stage"
    __name__ = 'return.order.stage'

    order = fields.Many2One(
        'return.order', "Order", required=True, readonly=True,
        ondelete='CASCADE')
    company = fields.Function(
        fields.Many2One('company.company', "Company"),
        'on_change_with_company', searcher='search_order_field')
    party = fields.Function(
        fields.Many2One(
            'party.party', "Customer",
            context={
                'company': Eval('company', -1),
                },
            depends={'company'}),
        'on_change_with_party', searcher='search_order_field')
    stage = fields.Selection([
            ('initial', "Initial Review"),
            ('customer', "Waiting for Customer"),
            ('goods', "Waiting for Goods"),
            ('pickup', "Pick-up"),
            ('final', "Final Review"),
            ('tell', "Tell Customer"),
            ], "Stage", required=True, readonly=True, sort=False,
        help="Where the return stands.")
    stage_string = stage.translated('stage')
    role = fields.Selection([
            (None, ""),
            ('service', "Service"),
            ('sales', "Sales"),
            ('logistics', "Logistics"),
            ('quality', "Quality"),
            ('finance', "Finance"),
            ], "Role", readonly=True, sort=False,
        help="Who must act; empty when the customer must.")
    role_string = role.translated('role')
    round = fields.Integer(
        "Round", required=True, readonly=True,
        help="The submission of the return to which the stage belongs.")
    started_at = fields.DateTime(
        "Since", required=True, readonly=True,
        help="When the return came to the stage.")
    ended_at = fields.DateTime(
        "Until", readonly=True,
        help="When the return left the stage; empty while it is there.")
    duration = fields.Function(fields.TimeDelta(
            "Duration",
            help="The time spent at the stage, up to now while it is open."),
        'on_change_with_duration')
    days = fields.Integer(
        "Days", readonly=True,
        help="The number of working days allowed, from the limits in force "
        "when the stage began; of a stage that goes on, what was left.\n"
        "Empty for no limit.")
    due_date = fields.Date(
        "Due Date", readonly=True,
        help="The last day in time, in the company's time zone.")
    overdue = fields.Function(fields.Boolean(
            "Overdue",
            help="Checked when the stage is open after its due date."),
        'get_overdue', searcher='search_overdue')
    notified_at = fields.DateTime(
        "Notified at", readonly=True,
        help="When the role was told that the stage is overdue.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('order')
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(
                    t, (t.order, Index.Range()), (t.round, Index.Range())),
                Index(
                    t, (t.due_date, Index.Range()),
                    where=t.ended_at == Null),
                Index(
                    t,
                    (t.stage, Index.Equality()), (t.role, Index.Equality()),
                    where=t.ended_at == Null),
                })
        cls._order = [('started_at', 'DESC'), ('id', 'DESC')]

    @fields.depends('order', '_parent_order.company')
    def on_change_with_company(self, name=None):
        return self.order.company if self.order else None

    @fields.depends('order', '_parent_order.party')
    def on_change_with_party(self, name=None):
        return self.order.party if self.order else None

    @classmethod
    def search_order_field(cls, name, clause):
        return [('order.' + clause[0], *clause[1:])]

    @fields.depends('started_at', 'ended_at')
    def on_change_with_duration(self, name=None):
        if self.started_at:
            end = self.ended_at or dt.datetime.now().replace(microsecond=0)
            return end - self.started_at

    @classmethod
    def get_overdue(cls, stages, name):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        today = {
            c: Calendar.get_today(c) for c in {s.company for s in stages}}
        return {
            s.id: bool(
                not s.ended_at and s.due_date
                and s.due_date < today[s.company])
            for s in stages}

    @classmethod
    def search_overdue(cls, name, clause):
        pool = Pool()
        Calendar = pool.get('return.calendar')
        Company = pool.get('company.company')
        companies = defaultdict(list)
        for company in Company.search([]):
            companies[Calendar.get_today(company)].append(company.id)
        domain = ['OR'] + [[
                ('ended_at', '=', None),
                ('due_date', '<', today),
                ('company', 'in', ids),
                ] for today, ids in companies.items()]
        inverse = ['OR',
            ('ended_at', '!=', None),
            ('due_date', '=', None),
            ] + [[
                ('due_date', '>=', today),
                ('company', 'in', ids),
                ] for today, ids in companies.items()]
        return _search_flag(clause, domain, inverse)

    def get_rec_name(self, name):
        return ' @ '.join([self.stage_string, self.order.rec_name])

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('order.rec_name', *clause[1:])]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual', If(Bool(Eval('ended_at')), 'muted', '')),
            ('/tree/field[@name="due_date"]', 'visual',
                If(Eval('overdue', False), 'danger', '')),
            ]

    @classmethod
    def create(cls, vlist):
        cls._check_system()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        cls._check_system()
        super().write(*args)

    @classmethod
    def delete(cls, stages):
        cls._check_system()
        super().delete(stages)

    @classmethod
    def _check_system(cls):
        if Transaction().check_access:
            raise AccessError(gettext('return_management.msg_stage_modify'))

    @classmethod
    def _get_due_query(cls):
        "Return the query for the earliest due date of orders"
        table = cls.__table__()
        return table.select(
            table.order, Min(table.due_date).as_('due_date'),
            where=table.ended_at == Null,
            group_by=table.order)

    @classmethod
    def _limit_names(cls):
        "Map stages to the field of the configuration with their limit"
        return {
            'initial': 'initial_review_days',
            'pickup': 'pickup_days',
            'final': 'final_review_days',
            'tell': 'tell_days',
            }

    @classmethod
    def _get_limits(cls, companies, stages):
        "Map companies to the limits in working days of the stages"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        configuration = Configuration(1)
        return {
            company: {
                stage: configuration.get_multivalue(name, company=company.id)
                for stage, name in cls._limit_names().items()
                if stage in stages}
            for company in companies}

    @classmethod
    def set_due_date(cls, stages):
        "Set the days allowed and the due date of stages that begin"
        pool = Pool()
        Calendar = pool.get('return.calendar')
        limits = cls._get_limits(
            {s.order.company for s in stages}, {s.stage for s in stages})
        calendars = {c: Calendar.get(c) for c in limits}
        for stage in stages:
            company = stage.order.company
            calendar = calendars[company]
            days = limits[company].get(stage.stage)
            previous = stage._get_previous()
            if previous:
                days = previous._get_left_days(calendar)
            stage.days = days
            if days is not None:
                stage.due_date = calendar.add_days(
                    get_local_date(company, stage.started_at), days)

    def _get_previous(self):
        "Return the last stage that this one goes on with"
        previous = [
            s for s in self.order.stages
            if s.stage == self.stage and s.role == self.role
            and s.round == self.round and s.ended_at]
        return max(
            previous, key=lambda s: (s.ended_at, s.id), default=None)

    def _is_interrupted(self):
        "Test if the stage ended only because the customer was asked"
        return any(
            s.stage == 'customer' and s.started_at == self.ended_at
            for s in self.order.stages)

    def _get_left_days(self, calendar):
        "Return how many of the working days allowed were not used"
        if self.days is None:
            return
        company = calendar.company
        return max(0, self.days - calendar.count_days(
                get_local_date(company, self.started_at),
                get_local_date(company, self.ended_at)))

    @classmethod
    def _role_groups(cls):
        "Return the XML id of the group for each role"
        pool = Pool()
        Order = pool.get('return.order')
        return {
            **Order._role_groups(),
            'logistics': 'return_management.group_return_logistics',
            }

    @classmethod
    def notify_overdue(cls):
        "Notify the users of the responsible roles once for each breach"
        pool = Pool()
        Company = pool.get('company.company')
        Order = pool.get('return.order')
        now = dt.datetime.now().replace(microsecond=0)
        domain = []
        company_id = Transaction().context.get('company')
        if company_id is not None and company_id >= 0:
            domain.append(('id', '=', company_id))
        companies = Company.search(domain)
        # Returns that were submitted before there were stages
        Order._update_stages(Order.search([
                    ('company', 'in', [c.id for c in companies]),
                    ('state', 'in', ['submitted', 'reviewed']),
                    ('stages', 'not where', [('ended_at', '=', None)]),
                    ]))
        stages = cls.search([
                ('overdue', '=', True),
                ('notified_at', '=', None),
                ('role', '!=', None),
                ('company', 'in', [c.id for c in companies]),
                ],
            order=[('due_date', 'ASC'), ('id', 'ASC')])
        users = cls._get_users(companies)
        to_notify, notified = defaultdict(list), []
        for stage in stages:
            for user in users[stage.company, stage.role]:
                to_notify[user].append(stage)
            if users[stage.company, stage.role]:
                notified.append(stage)
        for user, stages in to_notify.items():
            cls._notify(user, stages)
        cls.write(notified, {'notified_at': now})

    @classmethod
    def _get_users(cls, companies):
        "Map each company and role to the active users to notify"
        pool = Pool()
        ModelData = pool.get('ir.model.data')
        User = pool.get('res.user')
        UserGroup = pool.get('res.user-res.group')
        cursor = Transaction().connection.cursor()
        roles = {
            ModelData.get_id(xml_id): role
            for role, xml_id in cls._role_groups().items()}
        companies = set(companies)
        # With the groups that others inherit
        user_group = UserGroup.user_group_all_table()
        cursor.execute(*user_group.select(
                user_group.user, user_group.group,
                where=user_group.group.in_(list(roles))))
        user_roles = defaultdict(set)
        for user_id, group_id in cursor:
            user_roles[user_id].add(roles[group_id])
        users = defaultdict(list)
        for user in User.search([('id', 'in', list(user_roles))]):
            for company in companies.intersection(user.companies):
                for role in user_roles[user.id]:
                    users[company, role].append(user)
        return users

    @classmethod
    def _notify(cls, user, stages):
        language = user.language.code if user.language else None
        with Transaction().set_context(language=language):
            title, lines = cls._get_notification(cls.browse(stages))
        cls._send_notice(user, title, lines)

    @classmethod
    def _send_notice(cls, user, title, lines):
        # The bus of the database takes 8,000 bytes at most
        body = lines[:10] + ['…'] * (len(lines) > 10)
        notify(title, '\n'.join(body), user=user.id)
        if user.email:
            message = MIMEText('\n'.join(lines) + '\n', 'plain', 'utf-8')
            message['From'] = from_ = config.get('email', 'from')
            message['To'] = formataddr(
                (user.name, convert_ascii_email(user.email)))
            message['Subject'] = Header(title, 'utf-8')
            sendmail_transactional(from_, [user.email], message)

    @classmethod
    def _get_notification(cls, stages):
        "Return the title and the lines that tell which stages are overdue"
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        return gettext('return_management.msg_stage_overdue'), [
            gettext(
                'return_management.msg_stage_overdue_line',
                order=s.order.rec_name,
                stage=s.stage_string,
                role=s.role_string,
                date=lang.strftime(s.due_date))
            for s in stages]
