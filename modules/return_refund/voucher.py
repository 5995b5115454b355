# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from collections import defaultdict
from decimal import Decimal

from dateutil.relativedelta import relativedelta
from sql.aggregate import Sum
from sql.functions import CharLength

from trytond.i18n import gettext
from trytond.model import (
    Check, Index, ModelSQL, ModelView, dualmethod, fields)
from trytond.model.exceptions import AccessError
from trytond.modules.company import CompanyReport
from trytond.modules.currency.fields import Monetary
from trytond.modules.return_management.model import GuardedMixin
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Bool, Eval, If
from trytond.tools import grouped_slice, reduce_ids
from trytond.transaction import (
    Transaction, inactive_records, without_check_access)

from .exceptions import MethodError, VoucherError


class Voucher(GuardedMixin, ModelSQL, ModelView):
    "Return Voucher"
    __name__ = 'return.voucher'
    _rec_name = 'number'

    number = fields.Char(
        "Number", required=True, readonly=True,
        help="Set from the sequence when the voucher is issued.")
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    party = fields.Many2One(
        'party.party', "Customer", required=True, readonly=True,
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="Whose invoices the voucher pays.")
    refund = fields.Many2One(
        'return.refund', "Refund", required=True, readonly=True,
        ondelete='RESTRICT', help="What the voucher was issued for.")
    method = fields.Many2One(
        'return.refund.method', "Method", required=True, readonly=True,
        ondelete='RESTRICT')
    account = fields.Many2One(
        'account.account', "Account", required=True, readonly=True,
        help="The liability account that owes the voucher.")
    currency = fields.Function(
        fields.Many2One('currency.currency', "Currency"),
        'on_change_with_currency')
    amount = Monetary(
        "Amount", currency='currency', digits='currency', required=True,
        readonly=True,
        help="What the voucher was worth when it was issued, positive.")
    used = fields.Function(Monetary(
            "Used", currency='currency', digits='currency',
            help="What was redeemed or written off."),
        'get_used')
    remaining = Monetary(
        "Remaining", currency='currency', digits='currency', required=True,
        readonly=True,
        help="What the voucher is still worth: the posted lines of the "
        "voucher on its account.")
    expiry_date = fields.Date(
        "Valid until",
        states={
            'readonly': Eval('state') == 'used',
            },
        help="The last day on which the voucher can be redeemed; finance may "
        "put it off.\nLeave empty for no limit.")
    lines = fields.One2Many(
        'account.move.line', 'return_voucher', "Account Move Lines",
        readonly=True)
    state = fields.Function(fields.Selection([
                ('valid', "Valid"),
                ('expired', "Expired"),
                ('used', "Used"),
                ], "State", sort=False,
            help="Expired: not used up in time; it is still owed until it is "
            "written off.\n"
            "Used: nothing remains."),
        'get_state', searcher='search_state')

    @classmethod
    def __setup__(cls):
        cls.number.search_unaccented = False
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('remaining_range', Check(
                    t, (t.remaining >= 0) & (t.remaining <= t.amount)),
                'return_refund.msg_voucher_remaining_range'),
            ]
        cls._sql_indexes.update({
                Index(t, (t.refund, Index.Range())),
                Index(t, (t.party, Index.Range())),
                Index(t, (t.account, Index.Range())),
                Index(t, (t.number, Index.Similarity())),
                Index(
                    t, (t.expiry_date, Index.Range()),
                    where=t.remaining != 0),
                })
        cls._order = [('number', 'DESC'), ('id', 'DESC')]
        cls._guarded_fields = {
            'number', 'company', 'party', 'refund', 'method', 'account',
            'amount', 'remaining', 'lines'}
        cls._buttons.update({
                'write_off': {
                    'invisible': Eval('state') != 'expired',
                    'depends': ['state'],
                    },
                })

    @classmethod
    def order_number(cls, tables):
        table, _ = tables[None]
        return [CharLength(table.number), table.number]

    @fields.depends('company')
    def on_change_with_currency(self, name=None):
        return self.company.currency if self.company else None

    def get_used(self, name):
        return self.amount - self.remaining

    @classmethod
    def _get_today(cls, company):
        pool = Pool()
        Date = pool.get('ir.date')
        with Transaction().set_context(company=company.id):
            return Date.today()

    def get_state(self, name):
        if not self.remaining:
            return 'used'
        elif (self.expiry_date
                and self.expiry_date < self._get_today(self.company)):
            return 'expired'
        return 'valid'

    @classmethod
    def search_state(cls, name, clause):
        pool = Pool()
        Date = pool.get('ir.date')
        _, operator, states = clause
        if operator in {'=', '!='}:
            states = [states]
        today = Date.today()
        domains = {
            'used': [('remaining', '=', 0)],
            'expired': [
                ('remaining', '!=', 0),
                ('expiry_date', '<', today),
                ],
            'valid': [
                ('remaining', '!=', 0),
                ['OR',
                    ('expiry_date', '=', None),
                    ('expiry_date', '>=', today),
                    ],
                ],
            }
        negative = operator in {'!=', 'not in'}
        return ['OR', ('id', '<', 0)] + [
            d for s, d in domains.items() if (s in states) != negative]

    @classmethod
    def view_attributes(cls):
        return super().view_attributes() + [
            ('/tree', 'visual',
                If(Eval('state') == 'used', 'muted',
                    If(Eval('state') == 'expired', 'warning', ''))),
            ]

    @classmethod
    def copy(cls, vouchers, default=None):
        raise AccessError(gettext('return_refund.msg_voucher_issued'))

    @classmethod
    def delete(cls, vouchers):
        if vouchers:
            raise AccessError(gettext('return_refund.msg_voucher_issued'))
        super().delete(vouchers)

    @classmethod
    def issue(cls, part):
        "Return a new voucher for the part of a refund"
        pool = Pool()
        Configuration = pool.get('return.configuration')
        refund, method = part.refund, part.method
        config = Configuration(1)
        voucher = cls(
            number=config.get_multivalue(
                'return_voucher_sequence', company=refund.company.id).get(),
            company=refund.company,
            party=refund.party,
            refund=refund,
            method=method,
            account=method.payment_method.credit_account.current(
                cls._get_today(refund.company)),
            amount=part.amount,
            remaining=Decimal(0))
        if method.validity:
            voucher.expiry_date = (
                cls._get_today(refund.company)
                + relativedelta(months=method.validity))
        voucher.save()
        return voucher

    def check_redeem(self, invoice, amount):
        "Check that the voucher can pay the amount of the invoice"
        pool = Pool()
        Lang = pool.get('ir.lang')
        lang = Lang.get()
        if (self.company != invoice.company or self.party != invoice.party
                or self.currency != invoice.currency):
            raise VoucherError(gettext(
                    'return_refund.msg_voucher_invoice',
                    voucher=self.rec_name,
                    invoice=invoice.rec_name,
                    party=self.party.rec_name,
                    currency=self.currency.rec_name))
        if self.state == 'expired':
            raise VoucherError(gettext(
                    'return_refund.msg_voucher_expired',
                    voucher=self.rec_name,
                    date=lang.strftime(self.expiry_date)))
        if not 0 < amount <= min(self.remaining, invoice.amount_to_pay):
            raise VoucherError(gettext(
                    'return_refund.msg_voucher_amount',
                    voucher=self.rec_name,
                    invoice=invoice.rec_name,
                    remaining=lang.currency(self.remaining, self.currency)))

    def check_remaining(self, amount):
        "Check that what was booked on the account leaves the amount"
        if self.remaining != amount:
            raise VoucherError(gettext(
                    'return_refund.msg_voucher_booked',
                    voucher=self.rec_name,
                    account=self.account.rec_name))

    @classmethod
    @ModelView.button
    def write_off(cls, vouchers):
        "Book what remains of expired vouchers as income"
        pool = Pool()
        Move = pool.get('account.move')
        vouchers = [v for v in vouchers if v.state == 'expired']
        if not vouchers:
            return
        cls.lock(vouchers)
        moves = [v._get_write_off_move() for v in cls.browse(vouchers)]
        Move.save(moves)
        Move.post(moves)

    def _get_write_off_move(self):
        pool = Pool()
        Configuration = pool.get('return.configuration')
        Line = pool.get('account.move.line')
        Move = pool.get('account.move')
        Period = pool.get('account.period')
        config = Configuration(1)
        account = config.get_multivalue(
            'voucher_income_account', company=self.company.id)
        if not account:
            raise VoucherError(gettext(
                    'return_refund.msg_voucher_account_missing',
                    voucher=self.rec_name,
                    **config.__names__('voucher_income_account')))
        today = self._get_today(self.company)
        debit = Line(
            account=self.account, debit=self.remaining, credit=Decimal(0),
            return_voucher=self)
        credit = Line(
            account=account, debit=Decimal(0), credit=self.remaining)
        for line in [debit, credit]:
            if line.account.party_required:
                line.party = self.party
        return Move(
            journal=self.method.payment_method.journal,
            period=Period.find(self.company, date=today),
            date=today,
            company=self.company,
            description=self.rec_name,
            lines=[debit, credit])

    @classmethod
    def update_remaining(cls, vouchers):
        "Set what remains by the posted lines"
        pool = Pool()
        Lang = pool.get('ir.lang')
        Line = pool.get('account.move.line')
        Move = pool.get('account.move')
        line = Line.__table__()
        move = Move.__table__()
        cursor = Transaction().connection.cursor()
        remaining = defaultdict(Decimal)
        for sub_vouchers in grouped_slice(vouchers):
            cursor.execute(*line.join(move, condition=line.move == move.id)
                .select(
                    line.return_voucher, Sum(line.credit - line.debit),
                    where=reduce_ids(
                        line.return_voucher, list(map(int, sub_vouchers)))
                    & (move.state == 'posted'),
                    group_by=[line.return_voucher]))
            for id_, amount in cursor:
                remaining[id_] = amount
        to_save = []
        for voucher in vouchers:
            amount = voucher.currency.round(Decimal(remaining[voucher.id]))
            if not 0 <= amount <= voucher.amount:
                raise VoucherError(gettext(
                        'return_refund.msg_voucher_exceeded',
                        voucher=voucher.rec_name,
                        remaining=Lang.get().currency(
                            voucher.remaining, voucher.currency)))
            if voucher.remaining != amount:
                voucher.remaining = amount
                to_save.append(voucher)
        cls.save(to_save)


class VoucherReport(CompanyReport):
    __name__ = 'return.voucher'


class Method(metaclass=PoolMeta):
    __name__ = 'return.refund.method'

    validity = fields.Integer(
        "Validity",
        domain=[
            ('validity', '>', 0),
            ],
        states={
            'invisible': Eval('kind') != 'voucher',
            },
        help="The number of months from its issue within which a voucher can "
        "be redeemed.\nLeave empty for no limit.")

    @classmethod
    def write(cls, *args):
        actions = iter(args)
        for methods, values in zip(actions, actions):
            if {'kind', 'payment_method'} & set(values):
                cls._check_vouchers(methods)
        super().write(*args)

    @classmethod
    @without_check_access
    def _check_vouchers(cls, methods):
        "Check that no voucher is owed by the methods"
        pool = Pool()
        Voucher = pool.get('return.voucher')
        vouchers = Voucher.search([
                ('method', 'in', [m.id for m in methods]),
                ], limit=1)
        if vouchers:
            voucher, = vouchers
            raise MethodError(gettext(
                    'return_refund.msg_method_vouchers',
                    method=voucher.method.rec_name))

    @classmethod
    def validate_fields(cls, methods, field_names):
        super().validate_fields(methods, field_names)
        if field_names & {'kind', 'payment_method'}:
            for method in methods:
                if method.kind == 'voucher':
                    method.check_voucher_account()

    def check_voucher_account(self):
        "Check that the account is one of the balance for vouchers only"
        pool = Pool()
        MoveLine = pool.get('account.move.line')
        account = self.payment_method.credit_account
        if (account != self.payment_method.debit_account
                or account.type.statement != 'balance'
                or account.type.receivable or account.type.payable
                or account.second_currency
                or MoveLine.search([
                        ('account', '=', account.id),
                        ('return_voucher', '=', None),
                        ], limit=1)):
            raise MethodError(gettext(
                    'return_refund.msg_method_voucher_account',
                    method=self.rec_name,
                    payment_method=self.payment_method.rec_name))

    def check_currency(self, refund):
        super().check_currency(refund)
        if (self.kind == 'voucher'
                and refund.currency != refund.company.currency):
            raise MethodError(gettext(
                    'return_refund.msg_method_currency',
                    method=self.rec_name,
                    refund=refund.rec_name,
                    currency=refund.currency.rec_name))


class Part(metaclass=PoolMeta):
    __name__ = 'return.refund.part'

    def _pay_at_once(self):
        pool = Pool()
        Voucher = pool.get('return.voucher')
        if self.method.kind != 'voucher':
            return super()._pay_at_once()
        voucher = Voucher.issue(self)
        with Transaction().set_context(_return_voucher=voucher.id):
            super()._pay_at_once()
        Voucher(voucher.id).check_remaining(self.amount)


class Refund(metaclass=PoolMeta):
    __name__ = 'return.refund'

    vouchers = fields.One2Many(
        'return.voucher', 'refund', "Vouchers", readonly=True,
        states={
            'invisible': ~Eval('vouchers'),
            })


class Move(metaclass=PoolMeta):
    __name__ = 'account.move'

    @dualmethod
    @ModelView.button
    def post(cls, moves):
        pool = Pool()
        Voucher = pool.get('return.voucher')
        with without_check_access():
            vouchers = cls._get_return_vouchers(moves)
            if vouchers:
                Voucher.lock(vouchers)
        super().post(moves)
        if vouchers:
            with without_check_access():
                Voucher.update_remaining(Voucher.browse(vouchers))

    @classmethod
    def _get_return_vouchers(cls, moves):
        "Return the vouchers of the moves, whose accounts hold nothing else"
        pool = Pool()
        Line = pool.get('account.move.line')
        Method = pool.get('return.refund.method')
        vouchers, accounts = set(), set()
        for sub_moves in grouped_slice(moves):
            for line in Line.search([
                        ('move', 'in', [m.id for m in sub_moves]),
                        ('move.state', '!=', 'posted'),
                        ]):
                if line.return_voucher:
                    vouchers.add(line.return_voucher)
                else:
                    accounts.add(line.account)
        for sub_accounts in grouped_slice(accounts):
            ids = [a.id for a in sub_accounts]
            with Transaction().set_context(active_test=False):
                methods = Method.search([
                        ('kind', '=', 'voucher'),
                        ('payment_method.credit_account', 'in', ids),
                        ], limit=1)
            if methods:
                method, = methods
                raise VoucherError(gettext(
                        'return_refund.msg_voucher_required',
                        account=method.payment_method.credit_account.rec_name))
        return sorted(vouchers, key=int)


class MoveLine(metaclass=PoolMeta):
    __name__ = 'account.move.line'

    return_voucher = fields.Many2One(
        'return.voucher', "Voucher", ondelete='RESTRICT',
        domain=[
            ('company', '=', Eval('company', -1)),
            ('account', '=', Eval('account', -1)),
            ],
        states={
            'invisible': ~Eval('return_voucher'),
            'readonly': Eval('move_state') == 'posted',
            },
        depends={'company'},
        help="The voucher that the line issues, redeems or writes off.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
    @classmethod
    def create(cls, vlist):
        pool = Pool()
        Voucher = pool.get('return.voucher')
        voucher = Transaction().context.get('_return_voucher')
        if voucher:
            account = Voucher(voucher).account.id
            vlist = [
                {**v, 'return_voucher': voucher}
                if v.get('account') == account else v for v in vlist]
        return super().create(vlist)


class PayStart(metaclass=PoolMeta):
    __name__ = 'account.invoice.pay.start'

    voucher_account = fields.Function(
        fields.Many2One('account.account', "Voucher Account"),
        'on_change_with_voucher_account')
    return_voucher = fields.Many2One(
        'return.voucher', "Voucher",
        domain=[
            ('company', '=', Eval('company', -1)),
            ('party', '=', Eval('payee', -1)),
            ('account', '=', Eval('voucher_account', -1)),
            ('state', '=', 'valid'),
            ],
        states={
            'invisible': ~Eval('voucher_account'),
            'required': Bool(Eval('voucher_account')),
            },
        help="The voucher that the customer redeems.")

    @fields.depends('payment_method', 'date')
    @without_check_access
    def on_change_with_voucher_account(self, name=None):
        pool = Pool()
        Method = pool.get('return.refund.method')
        # What was issued is owed, also when nothing is issued any more
        with inactive_records():
            if self.payment_method and Method.search([
                        ('kind', '=', 'voucher'),
                        ('payment_method', '=', self.payment_method.id),
                        ], limit=1):
                return self.payment_method.credit_account.current(self.date)

    @fields.depends('return_voucher', 'amount')
    def on_change_return_voucher(self):
        if self.return_voucher and self.amount:
            self.amount = min(self.amount, self.return_voucher.remaining)


class Pay(metaclass=PoolMeta):
    __name__ = 'account.invoice.pay'

    def transition_choice(self):
        voucher = self.start.return_voucher
        if voucher and self.start.voucher_account:
            voucher.check_redeem(self.record, self.start.amount)
        return super().transition_choice()

    def transition_pay(self):
        pool = Pool()
        Voucher = pool.get('return.voucher')
        voucher = None
        if self.start.voucher_account:
            voucher = self.start.return_voucher
        if not voucher:
            return super().transition_pay()
        Voucher.lock([voucher])
        voucher = Voucher(voucher.id)
        voucher.check_redeem(self.record, self.start.amount)
        remaining = voucher.remaining - self.start.amount
        with Transaction().set_context(_return_voucher=voucher.id):
            transition = super().transition_pay()
        Voucher(voucher.id).check_remaining(remaining)
        return transition
