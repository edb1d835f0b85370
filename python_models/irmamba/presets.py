"""Sizes of IRMamba. Figures: parameters and multiply-accumulates of all layers at 256x256, without the scan."""

PRESETS = {
    "paper": {},  # 10.50 M, 41.6 G
    "small": {"widths": (16, 32, 64, 128, 128)},
    "tiny": {"widths": (8, 16, 32, 32, 32), "d_state": 4, "lrm_stages": (1, 1, 1, 1)},
}
