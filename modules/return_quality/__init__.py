# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

from trytond.pool import Pool

from . import (
    alert, analysis, campaign, campaign_goods, campaign_kit, campaign_lot,
    configuration, defect, disposition, inspection_report, line, order,
    quality, quality_report, repair, repair_goods, repair_inspection,
    repair_kit, repair_part, scrap, second, separation, stage, supplier,
    warranty)

__all__ = ['register']


def register():
    Pool.register(
        configuration.Configuration,
        configuration.ConfigurationInspection,
        configuration.ConfigurationLimit,
        defect.Defect,
        defect.InspectionDefect,
        disposition.Disposition,
        line.Line,
        order.Order,
        stage.Order,
        stage.Stage,
        quality.Control,
        quality.Inspection,
        quality.InspectionMove,
        defect.Inspection,
        second.Inspection,
        second.Disposition,
        separation.Inspection,
        separation.AllowReceiverStart,
        repair.Configuration,
        repair.ConfigurationLimit,
        repair.ConfigurationRepair,
        repair_goods.Location,
        repair_goods.Goods,
        repair.Repair,
        repair_part.Part,
        repair_goods.Disposition,
        repair_goods.Line,
        repair_goods.Order,
        repair_goods.Stage,
        repair_part.Move,
        repair_goods.Move,
        repair_inspection.Control,
        repair_inspection.Inspection,
        warranty.Line,
        warranty.SaleLine,
        campaign.Configuration,
        campaign.ConfigurationSequence,
        campaign.Campaign,
        campaign.CampaignProduct,
        campaign.Customer,
        campaign.TellStart,
        campaign.SaleLine,
        campaign.Order,
        campaign.Line,
        campaign_goods.Campaign,
        campaign_goods.Stock,
        campaign_goods.Line,
        campaign_goods.Disposition,
        campaign_goods.Move,
        supplier.Configuration,
        supplier.ConfigurationClaim,
        supplier.Claim,
        supplier.Disposition,
        supplier.Move,
        supplier.PolicyLine,
        supplier.Line,
        supplier.Invoice,
        supplier.Cron,
        analysis.Analysis,
        analysis.Trend,
        analysis.AnalysisContext,
        analysis.TrendContext,
        alert.Configuration,
        alert.Alert,
        alert.Cron,
        scrap.Configuration,
        scrap.ConfigurationScrap,
        scrap.Cause,
        scrap.Scrap,
        scrap.DestroyStart,
        scrap.Disposition,
        scrap.Order,
        module='return_quality', type_='model')
    Pool.register(
        repair_kit.Repair,
        repair_kit.Disposition,
        module='return_quality', type_='model', depends=['product_kit'])
    Pool.register(
        repair.Repair_Lot,
        repair_part.Part_Lot,
        campaign_lot.Campaign,
        campaign_lot.CampaignLot,
        campaign_lot.Lot,
        campaign_lot.Stock,
        campaign_lot.Line,
        campaign_lot.Disposition,
        campaign_lot.Move,
        analysis.Analysis_Lot,
        analysis.AnalysisContext_Lot,
        module='return_quality', type_='model',
        depends=['stock_lot'])
    Pool.register(
        campaign_kit.Campaign,
        campaign_kit.SaleLine,
        campaign_kit.Line,
        module='return_quality', type_='model', depends=['product_kit'])
    Pool.register(
        repair_part.Repair_Production,
        module='return_quality', type_='model', depends=['production'])
    Pool.register(
        repair_part.Move_Continental,
        module='return_quality', type_='model',
        depends=['account_stock_continental'])
    Pool.register(
        separation.AllowReceiver,
        repair.Replace,
        campaign.Tell,
        scrap.Destroy,
        campaign.Replace,
        campaign.Erase,
        supplier.Replace,
        module='return_quality', type_='wizard')
    Pool.register(
        inspection_report.InspectionReport,
        quality_report.QualityReport,
        scrap.Application,
        scrap.Certificate,
        module='return_quality', type_='report')
