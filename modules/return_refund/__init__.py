# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import (
    account, approval, configuration, due, grant, ir, line, method, order,
    part, party, payment, reconcile, refund, sale, share, stage, statement,
    stock, total, undo, voucher)

__all__ = ['register']


def register():
    Pool.register(
        configuration.Configuration,
        configuration.ConfigurationSequence,
        configuration.ConfigurationAccount,
        ir.Cron,
        method.Method,
        refund.Refund,
        line.Line,
        line.LineTax,
        part.Part,
        voucher.Voucher,
        voucher.Method,
        voucher.Part,
        voucher.Refund,
        voucher.Move,
        voucher.MoveLine,
        voucher.PayStart,
        due.PolicyLine,
        due.Refund,
        order.Order,
        order.Line,
        order.Disposition,
        approval.Configuration,
        approval.ConfigurationRefund,
        approval.Refund,
        approval.Method,
        approval.Signature,
        approval.AllowHandlerStart,
        grant.Configuration,
        grant.ConfigurationRefund,
        grant.Order,
        grant.Line,
        undo.Refund,
        undo.Signature,
        undo.UndoStart,
        share.Policy,
        share.PolicyLine,
        share.Line,
        share.Disposition,
        share.ExplainLine,
        stage.Order,
        stage.Stage,
        sale.Line,
        statement.Refund,
        statement.Line,
        reconcile.Refund,
        reconcile.MoveLine,
        total.MethodTotal,
        total.TaxTotal,
        total.TotalContext,
        stock.ShipmentOutReturn,
        account.Invoice,
        account.InvoiceReturnOrigin,
        account.InvoiceLine,
        account.MoveLine,
        account.Reconciliation,
        payment.Payment,
        payment.Move,
        module='return_refund', type_='model')
    Pool.register(
        refund.Refund_Clearing,
        module='return_refund', type_='model',
        depends=['account_payment_clearing'])
    Pool.register(
        reconcile.Refund_Statement,
        module='return_refund', type_='model',
        depends=['account_statement'])
    Pool.register(
        refund.Refund_Quality,
        module='return_refund', type_='model',
        depends=['return_quality'])
    Pool.register(
        account.InvoiceLine_AngloSaxon,
        refund.Refund_AngloSaxon,
        undo.Refund_AngloSaxon,
        module='return_refund', type_='model',
        depends=['account_stock_anglo_saxon'])
    Pool.register(
        account.InvoiceLine_Complaint,
        sale.Line_Complaint,
        module='return_refund', type_='model',
        depends=['sale_complaint'])
    Pool.register(
        share.Explain,
        approval.AllowHandler,
        undo.Undo,
        party.Replace,
        party.Erase,
        voucher.Pay,
        module='return_refund', type_='wizard')
    Pool.register(
        voucher.VoucherReport,
        statement.Statement,
        module='return_refund', type_='report')
