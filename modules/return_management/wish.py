# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from decimal import Decimal

from sql import Null

from trytond.i18n import gettext
from trytond.model import Index, ModelView, Workflow, fields
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval, If

from .exceptions import WishError

WISHES = [
    ('refund', "Refund"),
    ('exchange', "Exchange"),
    ('replacement', "Replacement"),
    ('repair', "Repair"),
    ('price_reduction', "Price Reduction"),
    ]
# A right to return is no right to get something else
AUTOMATIC_WISHES = {'refund', 'exchange'}


class Order(metaclass=PoolMeta):
    __name__ = 'return.order'

    replacement_sales = fields.One2Many(
        'sale.sale', 'origin', "Replacement Sales", readonly=True,
        help="The sales that were made instead of what comes back.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'replacement_sales'}

    @classmethod
    def copy(cls, orders, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('replacement_sales')
        return super().copy(orders, default=default)

    def check_submit(self):
        super().check_submit()
        for line in self.lines:
            line.check_wish()

    def _is_automatic(self):
        return super()._is_automatic() and all(
            l.wish in AUTOMATIC_WISHES for l in self.lines)

    def _check_approved(self):
        super()._check_approved()
        # What could be sold at the application may not be sold any more
        for line in self.lines:
            line.check_wish()

    @classmethod
    def _process(cls, orders):
        super()._process(orders)
        to_replace = [
            o for o in cls.browse(orders)
            if o.state in {'approved', 'done'}
            and any(l._get_quantity_to_replace() > 0 for l in o.lines)]
        if to_replace:
            # A sale that cannot be made must not keep the goods waiting
            cls.__queue__.create_replacement_sales(to_replace)

    @classmethod
    @ModelView.button
    @Workflow.transition('cancelled')
    def cancel(cls, orders):
        pool = Pool()
        Sale = pool.get('sale.sale')
        super().cancel(orders)
        Sale.cancel([
                s for o in cls.browse(orders) for s in o.replacement_sales
                if s.is_untouched_replacement])

    @classmethod
    def create_replacement_sales(cls, orders):
        "Make the sales, once, that the approved wishes ask for"
        pool = Pool()
        Line = pool.get('return.order.line')
        Sale = pool.get('sale.sale')
        cls.lock(orders)
        sales, replaced = [], []
        for order in cls.browse(orders):
            if order.state not in {'approved', 'done'}:
                continue
            lines = []
            for line in order.lines:
                quantity = line._get_quantity_to_replace()
                if quantity > 0:
                    lines.append((line, quantity))
            if lines:
                sales.append(order._get_replacement_sale(lines))
            for line, quantity in lines:
                line.replaced_quantity = line.unit.round(
                    line.replaced_quantity + quantity)
                replaced.append(line)
        Sale.save(sales)
        Line.save(replaced)

    def _get_replacement_sale(self, lines):
        "Return the draft sale of the quantities of return lines"
        pool = Pool()
        Sale = pool.get('sale.sale')
        sale = Sale(
            company=self.company,
            party=self.party,
            origin=self,
            reference=self.reference)
        original = next(
            (l.sale_line.sale for l, _ in lines if l.sale_line), None)
        sale.warehouse = original.warehouse if original else self.warehouse
        sale.on_change_party()
        sale.currency = self.currency
        if original:
            for name in [
                    'invoice_party', 'invoice_address', 'shipment_party',
                    'shipment_address', 'contact', 'payment_term']:
                setattr(sale, name, getattr(original, name))
        sale.lines = [
            l._get_replacement_line(sale, quantity) for l, quantity in lines]
        return sale


class Line(metaclass=PoolMeta):
    __name__ = 'return.order.line'

    wish = fields.Selection(
        WISHES, "Wish", required=True, sort=False,
        states={
            'readonly': Eval('order_state') != 'draft',
            },
        help="What the customer wants for the goods.")
    wish_string = wish.translated('wish')
    wished_product = fields.Many2One(
        'product.product', "Wished Product", ondelete='RESTRICT',
        domain=[
            If(Eval('order_state') == 'draft',
                ('salable', '=', True),
                ()),
            ],
        states={
            'readonly': Eval('order_state') != 'draft',
            'required': Eval('wish') == 'exchange',
            'invisible': Eval('wish') != 'exchange',
            },
        context={
            'company': Eval('company', -1),
            },
        depends={'company'},
        help="What the customer wants instead; "
        "sold at the price of the day.")
    price_reduction = fields.Numeric(
        "Price Reduction", digits=(5, 4),
        domain=['OR',
            ('price_reduction', '=', None),
            [
                ('price_reduction', '>', 0),
                ('price_reduction', '<=', 1),
                ],
            ],
        states={
            'readonly': Eval('order_state') != 'draft',
            'required': Eval('wish') == 'price_reduction',
            'invisible': Eval('wish') != 'price_reduction',
            },
        help="The share of the price that is given back "
        "for goods that the customer keeps.")
    replaced_quantity = fields.Float(
        "Replaced", digits='unit', required=True, readonly=True,
        states={
            'invisible': ~Eval('wish').in_(['exchange', 'replacement']),
            },
        help="The quantity for which a sale was made.")
    replacement_lines = fields.One2Many(
        'sale.line', 'return_line', "Replacement Lines", readonly=True,
        states={
            'invisible': ~Eval('replacement_lines', []),
            })

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {
            'replaced_quantity', 'replacement_lines'}
        cls._signed_fields = cls._signed_fields | {
            'wish', 'wished_product', 'price_reduction'}

    @classmethod
    def default_wish(cls):
        return 'refund'

    @classmethod
    def default_replaced_quantity(cls):
        return 0

    @fields.depends('wish', 'product', 'price_reduction', 'wished_product')
    def on_change_wish(self):
        if self.product:
            self.goods_expected = self.expects_wished(self.product, self.wish)
        if self.wish != 'price_reduction':
            self.price_reduction = None
        if self.wish != 'exchange':
            self.wished_product = None

    @fields.depends('wish', 'product')
    def on_change_product(self):
        super().on_change_product()
        if self.product:
            self.goods_expected = self.expects_wished(self.product, self.wish)

    @classmethod
    def expects_wished(cls, product, wish):
        "Test if goods of the product are to come back for the wish"
        return wish != 'price_reduction' and cls._is_goods(product)

    @property
    def expects_goods(self):
        return super().expects_goods and self.wish != 'price_reduction'

    @classmethod
    def create(cls, vlist):
        vlist = [v.copy() for v in vlist]
        for values in vlist:
            if values.get('wish') == 'price_reduction':
                values['goods_expected'] = False
        return super().create(vlist)

    @classmethod
    def write(cls, *args):
        actions, to_write = iter(args), []
        for lines, values in zip(actions, actions):
            if values.get('wish') == 'price_reduction':
                values = {**values, 'goods_expected': False}
            to_write.extend((lines, values))
            if values.get('wish') and 'goods_expected' not in values:
                kept = [l for l in lines if l.wish == 'price_reduction']
                if kept:
                    to_write.extend((kept, {'goods_expected': True}))
        super().write(*to_write)

    @classmethod
    def validate_fields(cls, lines, field_names):
        super().validate_fields(lines, field_names)
        if field_names & {'wish', 'goods_expected'}:
            for line in lines:
                if line.wish == 'price_reduction' and line.goods_expected:
                    raise WishError(gettext(
                            'return_management.msg_line_reduction_goods',
                            line=line.rec_name))

    def check_wish(self):
        "Check that the road can do what the customer wishes"
        if self.wish == 'price_reduction' and not self.sale_line:
            raise WishError(gettext(
                    'return_management.msg_line_reduction_sale',
                    line=self.rec_name,
                    order=self.order.rec_name))
        product = self._get_replacing_product()
        if product and not product.salable:
            raise WishError(gettext(
                    'return_management.msg_line_wish_salable',
                    line=self.rec_name,
                    product=product.rec_name))
        if product and product.sale_uom.category != self.unit.category:
            raise WishError(gettext(
                    'return_management.msg_line_wish_unit',
                    line=self.rec_name,
                    product=product.rec_name,
                    unit=self.unit.rec_name))

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('replaced_quantity', 0)
        default.setdefault('replacement_lines')
        return super().copy(lines, default=default)

    @classmethod
    def reset(cls, lines):
        super().reset(lines)
        to_save = []
        for line in lines:
            # What sales has taken on is not made a second time
            replaced = line.get_replaced_quantity()
            if line.replaced_quantity != replaced:
                line.replaced_quantity = replaced
                to_save.append(line)
        cls.save(to_save)

    def get_replaced_quantity(self):
        "Return the quantity for which there is a sale"
        if any(l.sale.state != 'cancelled' for l in self.replacement_lines):
            return self.replaced_quantity
        return 0

    def _get_quantity_to_replace(self):
        if self.wish not in {'exchange', 'replacement'}:
            return 0
        return self.unit.round(
            (self.approved_quantity or 0) - self.replaced_quantity)

    def _get_replacing_product(self):
        "Return the product that the customer gets instead, or None"
        if self.wish == 'exchange':
            return self.wished_product
        elif self.wish == 'replacement':
            return self.product

    def _get_replacement_line(self, sale, quantity):
        "Return the sale line of what the customer gets instead"
        pool = Pool()
        SaleLine = pool.get('sale.line')
        line = SaleLine(
            sale=sale,
            type='line',
            return_line=self,
            product=self._get_replacing_product(),
            unit=self.unit,
            quantity=quantity)
        line.on_change_product()
        if self.wish == 'replacement':
            line.unit_price = Decimal(0)
        return line

    def _get_fee_rules(self):
        if self.wish == 'price_reduction':
            return []
        return super()._get_fee_rules()

    @property
    def expects_refund(self):
        "Whether money is to go back for the line"
        return self.wish not in {'replacement', 'repair'}

    def _get_refundable_quantity(self, disputed=True):
        if not self.expects_refund:
            return 0
        return super()._get_refundable_quantity(disputed=disputed)

    def _get_default_action(self):
        if (self.wish == 'repair'
                and 'customer' not in self.reason.all_forbidden_actions):
            return 'customer'
        return super()._get_default_action()


class Disposition(metaclass=PoolMeta):
    __name__ = 'return.disposition'

    @fields.depends('line', '_parent_line.wish')
    def on_change_action(self):
        super().on_change_action()
        if self.line and self.line.wish == 'repair':
            # What was repaired goes back in favour of the customer
            self.accepted = True

    @classmethod
    def _get_default_accepted(cls, line, action):
        return (
            super()._get_default_accepted(line, action)
            or line.wish == 'repair')


class Sale(metaclass=PoolMeta):
    __name__ = 'sale.sale'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['return.order']

    @property
    def is_untouched_replacement(self):
        "Whether the sale of a return is as it was made"
        return self.state == 'draft' and bool(self.lines) and all(
            l.return_line and l.quantity == l.return_line.replaced_quantity
            for l in self.lines)


class SaleLine(metaclass=PoolMeta):
    __name__ = 'sale.line'

    return_line = fields.Many2One(
        'return.order.line', "Replaces", readonly=True, ondelete='RESTRICT',
        states={
            'invisible': ~Eval('return_line'),
            },
        help="The line of a return whose goods the customer gets replaced.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._guarded_fields = cls._guarded_fields | {'return_line'}
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(
                t, (t.return_line, Index.Range()),
                where=t.return_line != Null))

    @classmethod
    def copy(cls, lines, default=None):
        default = default.copy() if default is not None else {}
        default.setdefault('return_line')
        return super().copy(lines, default=default)
