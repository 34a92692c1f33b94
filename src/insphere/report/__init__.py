"""One self-contained HTML file about a fitted detector and the rows that it judged."""

from insphere.report.page import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
