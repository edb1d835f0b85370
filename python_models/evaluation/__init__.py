"""Judging scorers and predictions on data sets."""

from .assessment import Assessment, Rules, Source, assess
from .folder import check_folder, replacing, slug
from .judge import HEADLINE, evaluate, table
from .predictions import PredictionFiles, open_predictions
from .results import as_json, draw_results, write_results
from .text import headlines, tables

__all__ = [
    "Assessment", "HEADLINE", "PredictionFiles", "Rules", "Source", "as_json", "assess", "check_folder", "draw_results", "evaluate", "headlines",
    "open_predictions", "replacing", "slug", "table", "tables", "write_results",
]
