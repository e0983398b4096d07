"""The report: every figure in it comes from the JSON files beside it."""

from buckler.assess.report.page import Evidence, write_report

__all__ = ["Evidence", "write_report"]
