# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import (
    applicant, calendar, check, configuration, contact, delivery,
    discrepancy, disposition, eligibility, entry, explain, ir, line, lot,
    match, opinion, order, party, policy, policy_print, reason, sale,
    similar, simulation, stage, stock, wish, work_order)

__all__ = ['register']


def register():
    Pool.register(
        configuration.Configuration,
        configuration.ConfigurationSequence,
        configuration.ConfigurationLimit,
        configuration.ConfigurationDelivery,
        calendar.Calendar,
        calendar.Day,
        reason.Reason,
        policy.Policy,
        policy.Line,
        policy.Translation,
        order.Order,
        opinion.Order,
        eligibility.Order,
        line.Line,
        eligibility.Line,
        line.CloseShortStart,
        line.CloseShortStartLine,
        eligibility.Product,
        explain.Line,
        explain.ExplainStart,
        explain.ExplainResult,
        explain.ExplainLine,
        simulation.SimulateStart,
        simulation.SimulateResult,
        simulation.SimulateChange,
        opinion.Opinion,
        opinion.OpinionLine,
        opinion.RejectStart,
        opinion.RejectStartLine,
        check.Check,
        check.OrderCheck,
        check.Order,
        check.Line,
        contact.Contact,
        contact.Order,
        work_order.Order,
        contact.AskStart,
        contact.AnswerStart,
        stage.Order,
        stage.Stage,
        ir.Cron,
        disposition.Disposition,
        discrepancy.Discrepancy,
        discrepancy.Order,
        discrepancy.Line,
        discrepancy.Stage,
        discrepancy.Contact,
        discrepancy.ResolveStart,
        discrepancy.InformStart,
        sale.Sale,
        sale.Line,
        sale.Order,
        stock.Location,
        stock.Move,
        stock.ShipmentOutReturn,
        delivery.ShipmentOut,
        delivery.DeliverStart,
        reason.Order,
        reason.Line,
        reason.Disposition,
        applicant.Order,
        wish.Order,
        wish.Line,
        wish.Disposition,
        wish.Sale,
        wish.SaleLine,
        party.Party,
        similar.Order,
        match.Order,
        match.Line,
        match.MatchStart,
        match.MatchStartLine,
        entry.EntryStart,
        entry.EntrySelect,
        entry.EntryLine,
        entry.EntryProduct,
        module='return_management', type_='model')
    Pool.register(
        stock.Move_Continental,
        module='return_management', type_='model',
        depends=['account_stock_continental'])
    Pool.register(
        lot.Order,
        lot.Line,
        discrepancy.Discrepancy_Lot,
        discrepancy.Move_Lot,
        module='return_management', type_='model',
        depends=['stock_lot'])
    Pool.register(
        delivery.ShipmentOut_Carrier,
        delivery.Carrier,
        module='return_management', type_='model',
        depends=['stock_shipment_cost'])
    Pool.register(
        delivery.Deliver,
        entry.Entry,
        match.Match,
        line.CloseShort,
        opinion.Reject,
        eligibility.Reject,
        simulation.Simulate,
        explain.Explain,
        contact.Ask,
        contact.Answer,
        discrepancy.Resolve,
        discrepancy.Inform,
        party.Replace,
        party.Erase,
        module='return_management', type_='wizard')
    Pool.register(
        entry.Entry_Lot,
        module='return_management', type_='wizard',
        depends=['stock_lot'])
    Pool.register(
        work_order.WorkOrder,
        policy_print.PolicyReport,
        policy_print.SaleReport,
        module='return_management', type_='report')
