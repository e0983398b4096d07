"""The report: every figure in it comes from the JSON files beside it."""

from buckler.assess.report.facts import Evidence
from buckler.assess.report.page import write_report

__all__ = ["Evidence", "write_report"]
