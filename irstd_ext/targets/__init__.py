"""Targets of binary masks: labelling, regions, matching and the exact Pd-Fa curve.

Masks are 2-D ``[H, W]`` NumPy arrays or torch tensors (any device), boolean or numeric, non-zero =
foreground; a float mask may hold 0 and 1 only, so that a score map is never taken for a mask.
Components are 8-connected and numbered by the raster order of their first pixel. Counts are exact
integers. The compiled module ``irstd_ext._targets`` does the work with the GIL released; where it is
absent a NumPy form gives the same results and says so in one warning.
"""
from .inputs import as_array, backend
from .matching import PROTOCOLS, Match, Region, label, match, regions
from .pd_fa import Curve, CurveBuilder, curve

__all__ = ["Curve", "CurveBuilder", "Match", "Region", "PROTOCOLS", "as_array", "backend", "curve", "label", "match", "regions"]
