"""Judging scorers and predictions on data sets."""

from .assessment import Assessment, Rules, Source, assess
from .folder import check_folder, replacing, slug
from .judge import HEADLINE, evaluate, table
from .notes import about_figures, about_run, notes_on_run
from .predictions import PredictionFiles, open_predictions
from .results import as_json, draw_results, write_results
from .seeds import EVAL_SEEDS, judge_seeds, known_summaries, seed_runs, seeds_tables, write_summary
from .text import headlines, tables

__all__ = [
    "Assessment", "EVAL_SEEDS", "HEADLINE", "PredictionFiles", "Rules", "Source", "about_figures", "about_run", "as_json", "assess", "check_folder",
    "draw_results", "evaluate", "headlines", "judge_seeds", "known_summaries", "notes_on_run", "open_predictions", "replacing", "seed_runs",
    "seeds_tables", "slug", "table", "tables", "write_results", "write_summary",
]
