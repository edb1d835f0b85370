"""Sizes of IRMamba. Figures: parameters and multiply-accumulates of all layers at 256x256, without the scan."""

PRESETS = {
    "paper": {},  # 10.50 M, 41.6 G
    "small": {"widths": (16, 32, 64, 128, 128)},  # 2.79 M, 11.0 G
    # 0.16 M, 0.45 G. A pixel costs more than its channels at this width: the finest level is slim, a scan keeps one state, and no level has several stages
    "tiny": {"widths": (4, 8, 16, 32, 32), "d_state": 1, "lrm_stages": (1, 1, 1, 1)},
}
