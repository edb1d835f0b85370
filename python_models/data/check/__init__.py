"""Looking over a data-set folder: lists, pairs, pixels, duplicates and known counts (`irstd data check`)."""

from .checker import check
from .result import CheckResult, Finding, PartSummary

__all__ = ["CheckResult", "Finding", "PartSummary", "check"]
