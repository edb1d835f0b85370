"""Judging scorers and predictions on data sets."""

from .judge import HEADLINE, evaluate, table

__all__ = ["HEADLINE", "evaluate", "table"]
