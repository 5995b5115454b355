# This file is part of Tryton Returns.  The COPYRIGHT file at the top level
# of this repository contains the full copyright notices and license terms.

import re
import zipfile
from io import BytesIO

from lxml import etree

from trytond.i18n import gettext
from trytond.modules.company import CompanyReport
from trytond.pool import Pool, PoolMeta
from trytond.report import Report
from trytond.transaction import Transaction, without_check_access

CONTENT = 'content.xml'
MANIFEST = 'META-INF/manifest.xml'
# What XML does not allow
CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
OFFICE = 'urn:oasis:names:tc:opendocument:xmlns:office:1.0'
TEXT = 'urn:oasis:names:tc:opendocument:xmlns:text:1.0'


class PolicyReport(CompanyReport):
    __name__ = 'return.policy.print'

    @classmethod
    def header_key(cls, record):
        pool = Pool()
        Company = pool.get('company.company')
        # A common policy goes out under the name of the user's company
        company = record.company
        if not company and Transaction().context.get('company'):
            company = Company(Transaction().context['company'])
        return Report.header_key(record) + (('company', company),)

    @classmethod
    def get_context(cls, records, header, data):
        context = super().get_context(records, header, data)
        context['get_remark'] = cls.get_remark
        return context

    @classmethod
    def get_remark(cls, policy):
        "Return the state of a policy that is not in force, or None"
        pool = Pool()
        Policy = pool.get('return.policy')
        if policy.state != 'draft' and not policy.has_ended:
            return
        return dict(
            Policy.fields_get(['state'])['state']['selection'])[policy.state]


class AppendReportMixin:
    """Append paragraphs to each record of a printed document

    Whatever its template is.
    """
    __slots__ = ()

    @classmethod
    def render(cls, report, report_context):
        records = report_context['records']
        if report.template_extension != 'odt' or not records:
            return super().render(report, report_context)
        paragraphs = cls._get_appended(records)
        if not any(paragraphs):
            return super().render(report, report_context)
        # One by one, so that the paragraphs follow their record
        documents = []
        for record, texts in zip(records, paragraphs):
            with Transaction().set_context(Transaction().context):
                document = super().render(report, {
                        **report_context,
                        'records': [record],
                        'record': record,
                        })
            documents.append(cls._append_paragraphs(document, texts))
        return cls._join_documents(documents)

    @classmethod
    def _get_appended(cls, records):
        "Return for each record its paragraphs: the level, or None, and text"
        raise NotImplementedError

    @classmethod
    def _append_paragraphs(cls, document, paragraphs):
        content = cls._read_content(document)
        body, = content.iter('{%s}text' % OFFICE)
        for level, text in paragraphs:
            if level:
                style = 'Heading_20_%s' % level
                paragraph = etree.SubElement(body, '{%s}h' % TEXT)
                paragraph.set('{%s}outline-level' % TEXT, str(level))
            else:
                style = 'Text_20_body'
                paragraph = etree.SubElement(body, '{%s}p' % TEXT)
            paragraph.set('{%s}style-name' % TEXT, style)
            paragraph.text = CONTROL.sub('', text)
        return cls._write_content(document, content)

    @classmethod
    def _join_documents(cls, documents):
        "Return the first document with the texts of the others behind its own"
        document, *others = documents
        if not others:
            return document
        content = cls._read_content(document)
        body, = content.iter('{%s}text' % OFFICE)
        for other in others:
            other_body, = cls._read_content(other).iter('{%s}text' % OFFICE)
            body.extend(
                e for e in other_body if not cls._is_declaration(e))
        return cls._write_content(document, content, others)

    @staticmethod
    def _is_declaration(element):
        name = etree.QName(element).localname
        return name == 'forms' or name.endswith('-decls')

    @staticmethod
    def _read_content(document):
        with zipfile.ZipFile(BytesIO(document)) as archive:
            return etree.fromstring(archive.read(CONTENT))

    @classmethod
    def _write_content(cls, document, content, others=()):
        "Return the document with the content and the pictures of others"
        files = {CONTENT: cls._to_bytes(content)}
        with zipfile.ZipFile(BytesIO(document)) as archive:
            known = set(archive.namelist())
            manifest = etree.fromstring(archive.read(MANIFEST))
        for other in others:
            with zipfile.ZipFile(BytesIO(other)) as archive:
                new = set(archive.namelist()) - known - set(files)
                files.update((name, archive.read(name)) for name in new)
                manifest.extend(
                    e for e in etree.fromstring(archive.read(MANIFEST))
                    if new & set(e.attrib.values()))
        files[MANIFEST] = cls._to_bytes(manifest)
        result = BytesIO()
        with zipfile.ZipFile(BytesIO(document)) as archive, \
                zipfile.ZipFile(result, 'w') as target:
            for info in archive.infolist():
                target.writestr(
                    info, files.pop(info.filename, None)
                    or archive.read(info))
            for name, data in files.items():
                target.writestr(name, data)
        return result.getvalue()

    @staticmethod
    def _to_bytes(element):
        return etree.tostring(element, encoding='UTF-8', xml_declaration=True)


class SaleReport(AppendReportMixin, metaclass=PoolMeta):
    __name__ = 'sale.sale'

    @classmethod
    def _get_appended(cls, records):
        """Return for each sale the paragraphs of its policies

        Each has a level, none for the text itself, and is in the language of
        the customer.
        """
        pool = Pool()
        Sale = pool.get('sale.sale')
        sales = Sale.browse(list(map(int, records)))
        policies = Sale.get_return_policies(sales)
        paragraphs = []
        for sale in sales:
            lang = sale.party.lang
            with Transaction().set_context(
                    language=lang.code if lang else None), \
                    without_check_access():
                paragraphs.append([
                        p for policy in policies[sale]
                        for p in cls._get_paragraphs(policy)])
        return paragraphs

    @classmethod
    def _get_paragraphs(cls, policy):
        policy = policy.__class__(policy.id)
        yield 2, gettext(
            'return_management.msg_policy_print', policy=policy.name)
        for label, text in policy.get_text():
            yield 3, label
            for line in text.splitlines():
                yield None, line
