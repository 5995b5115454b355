# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import datetime as dt
from functools import lru_cache

import holidays

from trytond.cache import Cache
from trytond.i18n import gettext
from trytond.model import Index, ModelSQL, ModelView, Unique, fields
from trytond.pool import Pool
from trytond.pyson import Eval
from trytond.tools import timezone
from trytond.transaction import Transaction, without_check_access

from .exceptions import CalendarError

WEEKDAYS = [
    ('0', "Monday"),
    ('1', "Tuesday"),
    ('2', "Wednesday"),
    ('3', "Thursday"),
    ('4', "Friday"),
    ('5', "Saturday"),
    ('6', "Sunday"),
    ]


def get_zone(company):
    "Return the time zone of the company"
    return (
        timezone.get_tzinfo(company.timezone)
        if company.timezone else timezone.UTC)


def get_local_date(company, moment, zone=None):
    """Return the date of the moment, in UTC, in the company's time zone

    zone is that of the company, read once for many moments.
    """
    zone = zone or get_zone(company)
    return moment.replace(tzinfo=timezone.UTC).astimezone(zone).date()


@lru_cache(maxsize=1024)
def _get_public_days(country, subdivision, year):
    """Return the public holidays of the year and its make-up working days

    country and subdivision are ISO codes; both sets are empty for a country
    without known holidays.
    """
    # What replaces a day may lie in the year before
    years = [year, year + 1]
    try:
        try:
            days = holidays.country_holidays(
                country, subdiv=subdivision, years=years)
        except NotImplementedError:
            days = holidays.country_holidays(country, years=years)
    except NotImplementedError:
        return frozenset(), frozenset()
    workdays = getattr(days, 'weekend_workdays', None) or set()
    return (
        frozenset(d for d in days if d.year == year),
        frozenset(d for d in workdays if d.year == year))


class Calendar(ModelSQL, ModelView):
    "Working Calendar"
    __name__ = 'return.calendar'

    company = fields.Many2One(
        'company.company', "Company", required=True, ondelete='CASCADE')
    weekdays = fields.MultiSelection(
        WEEKDAYS, "Working Week", required=True, sort=False,
        help="The days of the week on which the company works.")
    country = fields.Many2One(
        'country.country', "Country", ondelete='RESTRICT',
        help="Nobody works on the public holidays of this country; "
        "make-up working days are kept.\n"
        "Leave empty to use the country of the company's address.")
    subdivision = fields.Many2One(
        'country.subdivision', "Subdivision", ondelete='RESTRICT',
        domain=[
            ('country', '=', Eval('country', -1)),
            ],
        states={
            'invisible': ~Eval('country'),
            },
        help="The part of the country whose public holidays are added.")
    days = fields.One2Many(
        'return.calendar.day', 'calendar', "Own Days",
        help="The days on which the company differs from its working week "
        "and from the public holidays.")

    _company_cache = Cache('return.calendar.company', context=False)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ('company_unique', Unique(t, t.company),
                'return_management.msg_calendar_company_unique'),
            ]
        cls._order.insert(0, ('company', 'ASC'))

    @classmethod
    def default_company(cls):
        return Transaction().context.get('company')

    @classmethod
    def default_weekdays(cls):
        return ['0', '1', '2', '3', '4']

    @fields.depends('country', 'subdivision')
    def on_change_country(self):
        if (self.subdivision and self.subdivision.country != self.country):
            self.subdivision = None

    def get_rec_name(self, name):
        return self.company.rec_name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('company.rec_name', *clause[1:])]

    @classmethod
    def create(cls, vlist):
        cls._company_cache.clear()
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        cls._company_cache.clear()
        super().write(*args)

    @classmethod
    def delete(cls, calendars):
        cls._company_cache.clear()
        super().delete(calendars)

    @classmethod
    def get(cls, company):
        "Return the calendar of the company, an unsaved one when it has none"
        calendar_id = cls._company_cache.get(company.id, default=-1)
        if calendar_id == -1:
            # What is kept must not depend on who asks first
            with without_check_access():
                calendars = cls.search([
                        ('company', '=', company.id),
                        ], limit=1)
            calendar_id = calendars[0].id if calendars else None
            cls._company_cache.set(company.id, calendar_id)
        if calendar_id is not None:
            return cls(calendar_id)
        return cls(
            company=company, weekdays=cls.default_weekdays(),
            country=None, subdivision=None, days=[])

    def _get_codes(self):
        "Return the ISO codes of the country and of its subdivision"
        country, subdivision = self.country, self.subdivision
        if not country:
            address = self.company.party.address_get()
            if address:
                country, subdivision = address.country, address.subdivision
        code = None
        if subdivision and subdivision.code:
            code = subdivision.code.split('-', 1)[-1]
        return (country.code if country else None), code

    def _get_test(self):
        "Return the function that tests if a date is a working day"
        own = {d.date: d.kind == 'working' for d in self.days}
        weekdays = {int(d) for d in self.weekdays}
        if not weekdays:
            raise CalendarError(gettext(
                    'return_management.msg_calendar_weekdays',
                    company=self.company.rec_name))
        country, subdivision = self._get_codes()

        def is_working(date):
            if date in own:
                return own[date]
            if country:
                off, working = _get_public_days(
                    country, subdivision, date.year)
                if date in working:
                    return True
                if date in off:
                    return False
            return date.weekday() in weekdays

        return is_working

    def is_working(self, date):
        "Test if the company works on the date"
        return self._get_test()(date)

    def add_days(self, date, days):
        """Return the date of the working day that many after date

        With no days it is date itself or, when nobody works then, the next
        working day.
        """
        is_working = self._get_test()
        if not days:
            while not is_working(date):
                date += dt.timedelta(days=1)
        while days > 0:
            date += dt.timedelta(days=1)
            if is_working(date):
                days -= 1
        return date

    def count_days(self, start, end):
        "Return the number of working days after start up to end"
        is_working = self._get_test()
        return sum(
            is_working(start + dt.timedelta(days=i + 1))
            for i in range((end - start).days))

    @classmethod
    def get_today(cls, company):
        "Return the current date of the company"
        pool = Pool()
        Date = pool.get('ir.date')
        with Transaction().set_context(company=company.id):
            return Date.today()


class Day(ModelSQL, ModelView):
    "Working Calendar Day"
    __name__ = 'return.calendar.day'

    calendar = fields.Many2One(
        'return.calendar', "Calendar", required=True, ondelete='CASCADE')
    date = fields.Date("Date", required=True)
    name = fields.Char(
        "Name", required=True,
        help="Why the day is special.")
    kind = fields.Selection([
            ('off', "Day off"),
            ('working', "Working Day"),
            ], "Kind", required=True, sort=False,
        help="Whether the company works on the day, whatever the working "
        "week and the public holidays say.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__access__.add('calendar')
        t = cls.__table__()
        cls._sql_constraints += [
            ('date_unique', Unique(t, t.calendar, t.date),
                'return_management.msg_calendar_day_unique'),
            ]
        cls._sql_indexes.add(
            Index(t, (t.calendar, Index.Range()), (t.date, Index.Range())))
        cls._order.insert(0, ('date', 'DESC'))

    @classmethod
    def default_kind(cls):
        return 'off'

    def get_rec_name(self, name):
        return self.name

    @classmethod
    def search_rec_name(cls, name, clause):
        return [('name', *clause[1:])]
