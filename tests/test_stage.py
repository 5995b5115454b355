# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.
"""Working days that pass, and who is told that they have passed."""
import datetime as dt
from functools import partial

import pytest
from proteus import Model

from trytond.modules.company.tests.tools import create_company, get_company
from trytond.modules.return_management.tests.tools import (
    activate, confirm, create_customer, create_product, create_return,
    create_user, deliver, get_reason, mail_server, pass_days, receive,
    revise_policy, stock)
from trytond.tests.tools import set_user

NAMES = {
    'final': "Final Review",
    'pickup': "Pick-up",
    'tell': "Tell Customer",
    'inspection': "Inspection",
    'refund': "Refund",
    }
REFUND = ['return_quality', 'return_refund', 'account_payment_clearing']
GROUPS = [
    'group_return', 'group_return_service', 'group_return_sales',
    'group_return_warehouse', 'group_return_logistics',
    'group_return_quality', 'group_return_production',
    'group_return_finance', 'group_return_supervisor', 'group_return_admin']
ZONES = ['Pacific/Kiritimati', 'Pacific/Pago_Pago', 'UTC']


def transact(database, function, *args):
    "Run the function in a transaction, again when it has to lock"
    from trytond.pool import Pool
    from trytond.transaction import Transaction, TransactionError

    extras = {}
    while True:
        with Transaction().start(database, 1, **extras) as transaction:
            User = Pool().get('res.user')
            try:
                with transaction.set_context(
                        User.get_preferences(context_only=True)):
                    result = function(*args)
            except TransactionError as exception:
                transaction.rollback()
                exception.fix(extras)
                continue
            transaction.commit()
            return result


def restart(ids, moment):
    "Let returns come to their stages at the moment"
    from trytond.pool import Pool
    Order = Pool().get('return.order')
    Stage = Pool().get('return.order.stage')
    Stage.delete(Stage.search([('order', 'in', ids)]))
    Order._update_stages(Order.browse(ids), now=moment)


def open_stages(ids):
    from trytond.pool import Pool
    Stage = Pool().get('return.order.stage')
    return sorted(
        (s.stage, s.role, s.days, s.due_date) for s in Stage.search([
                ('order', 'in', ids),
                ('ended_at', '=', None),
                ]))


def make_returns(number):
    "Submit returns of one sale"
    product = create_product()
    stock(product, number)
    sale = deliver(create_customer(), (product, number))
    return [
        create_return(sale, (0, 1), state='submitted').id
        for _ in range(number)]


@pytest.fixture
def sink():
    "The e-mails that are sent"
    with mail_server() as messages:
        yield messages


@pytest.fixture
def bus(monkeypatch):
    "The notices that are shown in the client"
    from trytond.modules.return_management import stage
    notices, notify = [], stage.notify

    def record(title, body='', user=None, **kwargs):
        from trytond.pool import Pool
        notices.append((Pool().get('res.user')(user).name, title, body))
        notify(title, body, user=user, **kwargs)

    monkeypatch.setattr(stage, 'notify', record)
    return notices


def run_cron():
    Cron = Model.get('ir.cron')
    cron, = Cron.find([
            ('method', '=', 'return.order.stage|notify_overdue'),
            ])
    cron.click('run_once')


def read(messages):
    "Map the receivers of e-mails, one each, to the subject and the text"
    mails = {
        to: (message['Subject'], message.get_content())
        for message in messages for to in message.recipients}
    assert len(mails) == len(messages)
    return mails


def test_due_date(database):
    "Test that two working days are counted in the company's time zone"
    activate('return_management')
    company = get_company()
    ids = make_returns(1)
    for moment, zone, due in [
            # A leap day, already 29 February in the company
            (dt.datetime(2024, 2, 28, 12), None, dt.date(2024, 3, 1)),
            (dt.datetime(2024, 2, 28, 23), 'Asia/Taipei',
                dt.date(2024, 3, 4)),
            (dt.datetime(2024, 3, 1, 3), 'America/New_York',
                dt.date(2024, 3, 4)),
            # The turn of the month and of the year
            (dt.datetime(2024, 4, 30, 12), None, dt.date(2024, 5, 2)),
            (dt.datetime(2024, 12, 31, 23), 'Asia/Taipei',
                dt.date(2025, 1, 3)),
            # A Saturday in the company, still Friday elsewhere
            (dt.datetime(2024, 6, 7, 20), 'Asia/Taipei',
                dt.date(2024, 6, 11)),
            (dt.datetime(2024, 6, 7, 20), None, dt.date(2024, 6, 11)),
            (dt.datetime(2024, 6, 6, 20), 'Asia/Taipei',
                dt.date(2024, 6, 11)),
            (dt.datetime(2024, 6, 6, 20), None, dt.date(2024, 6, 10)),
            (dt.datetime(2024, 6, 5, 20), 'Asia/Taipei',
                dt.date(2024, 6, 10)),
            (dt.datetime(2024, 6, 5, 20), None, dt.date(2024, 6, 7)),
            ]:
        company.timezone = zone
        company.save()

        transact(database, restart, ids, moment)

        assert transact(database, open_stages, ids) == [
            ('initial', 'sales', 2, due)], (moment, zone)


def test_clock(database):
    "Test that the days that the customer takes to answer are not counted"
    activate('return_management')
    ids = make_returns(1)

    def ask(moment):
        from trytond.pool import Pool
        Contact = Pool().get('return.order.contact')
        Order = Pool().get('return.order')
        orders = Order.browse(ids)
        Contact.record(orders, 'question', "Which one?", 'phone')
        Order._update_stages(orders, now=moment)

    def answer(moment):
        from trytond.pool import Pool
        Contact = Pool().get('return.order.contact')
        Order = Pool().get('return.order')
        Contact.record_answer(Contact.search([
                    ('order', 'in', ids),
                    ('answered_at', '=', None),
                    ]), "That one")
        Order._update_stages(Order.browse(ids), now=moment)

    def times():
        from trytond.pool import Pool
        Stage = Pool().get('return.order.stage')
        durations = {}
        for stage in Stage.search([('ended_at', '!=', None)]):
            durations.setdefault(stage.stage, dt.timedelta())
            durations[stage.stage] += stage.duration
        return durations

    monday, tuesday, friday, wednesday, saturday, first, second = [
        dt.datetime(2024, 6, 3, 10), dt.datetime(2024, 6, 4, 9),
        dt.datetime(2024, 6, 7, 15), dt.datetime(2024, 6, 12, 9),
        dt.datetime(2024, 6, 15, 9), dt.datetime(2024, 6, 17, 9),
        dt.datetime(2024, 6, 17, 10)]
    transact(database, restart, ids, monday)
    assert transact(database, open_stages, ids) == [
        ('initial', 'sales', 2, dt.date(2024, 6, 5))]
    transact(database, ask, tuesday)
    assert transact(database, open_stages, ids) == [
        ('customer', None, None, None)]
    transact(database, answer, friday)
    # One day is left
    assert transact(database, open_stages, ids) == [
        ('initial', 'sales', 1, dt.date(2024, 6, 10))]
    # After the due date nothing is left
    transact(database, ask, wednesday)
    transact(database, answer, saturday)
    assert transact(database, open_stages, ids) == [
        ('initial', 'sales', 0, dt.date(2024, 6, 17))]
    # Nothing either when it is asked again
    transact(database, ask, first)
    transact(database, answer, second)
    assert transact(database, open_stages, ids) == [
        ('initial', 'sales', 0, dt.date(2024, 6, 17))]
    assert transact(database, times) == {
        'initial': (
            (tuesday - monday) + (wednesday - friday) + (first - saturday)),
        'customer': (
            (friday - tuesday) + (saturday - wednesday) + (second - first)),
        }


@pytest.mark.parametrize('zone', ZONES)
def test_overdue_zone(database, zone):
    "Test that a day ends where the company is"
    from trytond.tools import timezone
    activate('return_management')
    company = get_company()
    company.timezone = zone
    company.save()
    calendar = Model.get('return.calendar')()
    calendar.weekdays = list('0123456')
    calendar.save()
    ids = make_returns(3)
    now = dt.datetime.now().replace(microsecond=0)
    for id_, days in zip(ids, [1, 2, 3]):
        transact(database, restart, [id_], now - dt.timedelta(days=days))
    today = (
        now.replace(tzinfo=timezone.UTC)
        .astimezone(timezone.get_tzinfo(zone)).date())

    Order = Model.get('return.order')
    Stage = Model.get('return.order.stage')
    orders = [Order(i) for i in ids]
    assert [o.due_date for o in orders] == [
        today + dt.timedelta(days=i) for i in [1, 0, -1]]
    assert [o.overdue for o in orders] == [False, False, True]
    assert Order.find([('overdue', '=', True)]) == orders[2:]
    assert set(Order.find([('overdue', '=', False)])) == set(orders[:2])
    assert [s.order.id for s in Stage.find([('overdue', '=', True)])] == [
        ids[2]]
    assert {s.order.id for s in Stage.find([('overdue', '=', False)])} == set(
        ids[:2])


def test_notify(database, sink, bus):
    "Test that each role is told once for each breach"
    cfg = activate('return_management')
    admin = cfg.user
    Company = Model.get('company.company')
    company = get_company()
    ids = make_returns(3)
    party = Model.get('party.party')(name="Other Company")
    party.save()
    create_company(party)
    other_company, = Company.find([('id', '!=', company.id)])
    Lang = Model.get('ir.lang')
    User = Model.get('res.user')
    users = {}
    for name, group, own in [
            ("Anna", 'group_return_sales', company),
            ("Ben", 'group_return_sales', company),
            ("Carl", 'group_return_sales', company),
            ("Dora", 'group_return_sales', other_company),
            ("Emma", 'group_return_finance', company),
            ("Fred", 'group_return_sales', company)]:
        user = create_user(name, group, company=Company(own.id))
        User.write([user.id], {
                'companies': [(
                        'remove', [c.id for c in user.companies
                            if c.id != own.id])],
                }, cfg.context)
        user = User(user.id)
        if name != "Ben":
            user.email = name.lower() + '@example.com'
        if name == "Carl":
            user.active = False
        if name == "Fred":
            german, = Lang.find([('code', '=', 'de')])
            Lang.write([german.id], {'translatable': True}, cfg.context)
            user.language = Lang(german.id)
        user.save()
        users[name] = user
    root = User(admin)
    root.email = None
    root.save()

    past = dt.datetime.now() - dt.timedelta(days=30)
    transact(database, restart, ids[:2], past.replace(microsecond=0))
    Order = Model.get('return.order')
    late = [Order(i) for i in ids[:2]]
    Stage = Model.get('return.order.stage')
    assert len(Stage.find([('overdue', '=', True)])) == 2

    run_cron()

    mails = read(sink)
    assert set(mails) == {'anna@example.com', 'fred@example.com'}
    subject, text = mails['anna@example.com']
    assert subject == "Overdue returns"
    assert text.splitlines() == [
        "%s: Initial Review (Sales) was due on %s" % (
            o.number, o.due_date.strftime('%m/%d/%Y'))
        for o in late]
    assert late[0].due_date.strftime('%d.%m.%Y') in mails[
        'fred@example.com'][1]
    # Neither price nor customer leaves the house
    amount = late[0].lines[0].amount
    for _, text in mails.values():
        assert str(amount) not in text
        assert late[0].party.name not in text
    # In the client also who has no e-mail
    notices = {name: (title, body) for name, title, body in bus}
    assert len(notices) == len(bus)
    assert set(notices) == {"Anna", "Ben", "Fred", "Administrator"}
    title, body = notices["Ben"]
    assert title == subject
    assert body.splitlines() == mails['anna@example.com'][1].splitlines()
    assert late[0].due_date.strftime('%d.%m.%Y') in notices["Fred"][1]

    # Once
    assert all(
        s.notified_at for s in Stage.find([('overdue', '=', True)]))
    assert not Stage.find([
            ('overdue', '=', False), ('notified_at', '!=', None)])
    sink.clear()
    bus.clear()
    run_cron()
    assert not sink and not bus

    # Another breach
    order = late[0]
    order.click('draft')
    confirm(order, 'submit')
    transact(database, restart, [order.id], past.replace(microsecond=0))
    run_cron()
    assert set(read(sink)) == {'anna@example.com', 'fred@example.com'}
    for _, text in read(sink).values():
        line, = text.splitlines()
        assert line.startswith(order.number + ': ')
    set_user(admin)


def test_notify_inherited(database, sink):
    "Test that who has the role by another group is told too"
    activate('return_management')
    ids = make_returns(1)
    past = dt.datetime.now() - dt.timedelta(days=30)
    transact(database, restart, ids, past.replace(microsecond=0))
    user = create_user("Tina")
    user.email = 'tina@example.com'
    user.save()
    Group = Model.get('res.group')
    sales, = Group.find([('name', '=', "Returns: Sales")])
    team = Group(name="Team", parent=sales)
    team.users.append(user)
    team.save()

    run_cron()

    assert 'tina@example.com' in read(sink)


def sell():
    product = create_product()
    stock(product, 1)
    return deliver(create_customer(), (product, 1))


def sign(role):
    revise_policy(roles=[role])
    return create_return(sell(), state='reviewed')


def pick_up():
    return create_return(sell(), collection='pickup')


def refuse():
    order = create_return(sell(), state='submitted')
    reject = order.click('reject')
    reject.form.reason = 'other'
    reject.form.text = "Worn"
    reject.execute('reject')
    return order


def inspect():
    order = create_return(
        sell(), reason=get_reason('quality'), state='reviewed')
    receive(order.shipments[0])
    return order


def refund():
    from trytond.modules.return_refund.tests.tools import (
        approve, create_accountant, create_payment_journal,
        create_refund_method, get_refund, pay_by_payment, return_goods)

    journal = create_payment_journal()
    create_refund_method(payment_journal=journal)
    sale = sell()
    pay_by_payment(sale.invoices[0], journal)
    order = return_goods(sale)
    approve(get_refund(order), create_accountant())
    return order


STAGES = {
    ('final', 'quality'): (['return_management'], partial(sign, 'quality')),
    ('final', 'finance'): (['return_management'], partial(sign, 'finance')),
    ('pickup', 'logistics'): (['return_management'], pick_up),
    ('tell', 'sales'): (['return_management'], refuse),
    ('inspection', 'quality'): (['return_quality'], inspect),
    ('refund', 'finance'): (REFUND, refund),
    }


@pytest.mark.parametrize('stage, role', STAGES)
def test_notify_role(database, sink, stage, role):
    "Test that the users of the role that must act are told, no others"
    modules, make = STAGES[stage, role]
    cfg = activate(*modules)
    order = make()
    order.reload()
    row, = [s for s in order.stages if not s.ended_at]
    assert (row.stage, row.role) == (stage, role)
    User = Model.get('res.user')
    for group in GROUPS:
        user = create_user(group, group)
        user.email = group + '@example.com'
        user.save()
    User.write([cfg.user], {'email': None}, cfg.context)

    run_cron()
    assert not sink
    pass_days([order])
    run_cron()

    mails = read(sink)
    assert set(mails) == {f'group_return_{role}@example.com'}
    (_, text), = mails.values()
    row.reload()
    assert text.splitlines() == ["%s: %s (%s) was due on %s" % (
            order.number, NAMES[stage], role.title(),
            row.due_date.strftime('%m/%d/%Y'))]
    assert row.notified_at
    sink.clear()
    run_cron()
    assert not sink


def test_notify_nobody(database, sink):
    "Test that a breach that nobody could be told of is told later"
    activate('return_management')
    ids = make_returns(1)
    past = dt.datetime.now() - dt.timedelta(days=30)
    transact(database, restart, ids, past.replace(microsecond=0))

    def notify(values):
        from trytond.pool import Pool
        from trytond.transaction import Transaction
        Stage = Pool().get('return.order.stage')
        User = Pool().get('res.user')
        User.write([User(Transaction().user)], values)
        Stage.notify_overdue()
        return [
            bool(s.notified_at)
            for s in Stage.search([('overdue', '=', True)])]

    assert transact(database, notify, {
            'email': 'admin@example.com',
            'active': False,
            }) == [False]
    assert not sink
    assert transact(database, notify, {'active': True}) == [True]
    assert set(read(sink)) == {'admin@example.com'}


def test_notify_many(database, sink, bus):
    "Test that a long list does not break the notice"
    activate('return_management')
    ids = make_returns(1)

    def delay():
        from trytond.pool import Pool
        Stage = Pool().get('return.order.stage')
        User = Pool().get('res.user')
        User.write([User(1)], {'email': 'admin@example.com'})
        Stage.create([{
                    'order': ids[0],
                    'stage': 'initial',
                    'role': 'sales',
                    'round': 1,
                    'started_at': dt.datetime(2024, 1, 1),
                    'due_date': dt.date(2024, 1, 2),
                    }] * 500)

    transact(database, delay)
    run_cron()
    _, text = read(sink)['admin@example.com']
    lines = text.splitlines()
    assert len(lines) == 500
    (_, _, body), = bus
    assert body.splitlines() == lines[:10] + ['…']
    assert not Model.get('return.order.stage').find([
            ('overdue', '=', True), ('notified_at', '=', None)])


def test_submitted_before(database):
    "Test that returns without stages come to theirs"
    activate('return_management')
    ids = make_returns(1)

    def forget():
        from trytond.pool import Pool
        Stage = Pool().get('return.order.stage')
        Stage.delete(Stage.search([]))

    transact(database, forget)
    order = Model.get('return.order')(ids[0])
    assert not order.stages and not order.due_date and not order.overdue
    run_cron()
    order.reload()
    assert [(s.stage, s.role) for s in order.stages] == [('initial', 'sales')]
    transact(database, forget)
    order.reload()
    order.click('review')
    assert [(s.stage, s.role) for s in order.stages] == [('final', 'sales')]


def test_discrepancy(database, sink):
    "Test that sales is told at once what differs, and has three days"
    activate('return_management')
    user = create_user("Anna", 'group_return_sales')
    user.email = 'anna@example.com'
    user.save()
    product = create_product()
    stock(product, 5)
    order = create_return(deliver(create_customer(), (product, 5)))
    order.reload()
    shipment, = order.shipments
    move, = shipment.incoming_moves
    move.quantity = 3
    shipment.save()
    assert not sink

    receive(shipment)

    order.reload()
    discrepancy, = order.discrepancies
    (_, text), = [
        m for to, m in read(sink).items() if to == 'anna@example.com']
    assert discrepancy.number in text
    stage, = [
        s for s in order.stages
        if s.stage == 'discrepancy' and not s.ended_at]
    assert (stage.role, stage.days) == ('sales', 3)
    pass_days([order])
    assert order.id in [
        s.order.id for s in Model.get('return.order.stage').find([
                ('overdue', '=', True), ('stage', '=', 'discrepancy')])]
