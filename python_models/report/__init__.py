"""The report of a run, or of several side by side, as one HTML page that needs nothing else.

read.py (run folders -> typed values), plots.py (curves as inline SVG), gallery.py (crops of misses and false alarms),
tables.py (values -> rows), page.py (the page), page.html.j2 and style.css (its look).
"""

from .page import write_report

__all__ = ["write_report"]
