# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool, PoolMeta


class Line(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def _get_posted_invoice_lines(self):
        "Return the lines that charge the customer, oldest first"
        lines = [
            l for l in self.invoice_lines
            if l.type == 'line' and l.quantity > 0
            and l.invoice and l.invoice.type == 'out'
            and l.invoice.state in {'posted', 'paid'}]
        return sorted(lines, key=lambda l: (l.invoice.invoice_date, l.id))

    def _get_returned_invoice_lines(self):
        "Return the lines that the line of a return sale may give back"
        sale = self._get_returned_sale()
        if not sale:
            return []
        lines = []
        for line in sale.lines:
            if (line.type == 'line' and line.quantity > 0
                    and line.product == self.product
                    and line.unit and self.unit
                    and line.unit.category == self.unit.category):
                lines.extend(line._get_posted_invoice_lines())
        return sorted(lines, key=lambda l: (l.invoice.invoice_date, l.id))

    def _get_returned_sale(self):
        pool = Pool()
        Sale = pool.get('sale.sale')
        if isinstance(self.sale.origin, Sale):
            return self.sale.origin


class Line_Complaint(metaclass=PoolMeta):
    __name__ = 'sale.line'

    def _get_returned_sale(self):
        pool = Pool()
        Complaint = pool.get('sale.complaint')
        Sale = pool.get('sale.sale')
        sale = super()._get_returned_sale()
        if not sale and isinstance(self.sale.origin, Complaint):
            origin = self.sale.origin.origin
            if isinstance(origin, Sale):
                sale = origin
            elif isinstance(origin, self.__class__):
                sale = origin.sale
        return sale
