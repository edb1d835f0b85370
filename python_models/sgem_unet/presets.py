"""Sizes of SGEM U-Net. Figures: parameters and multiply-accumulates at 256x256 with attention="bilinear"."""

PRESETS = {
    "paper": {},  # 8.65 M, 15.85 G
    "small": {"widths": (16, 32, 64, 128, 256)},  # 2.29 M, 4.00 G
    # 0.46 M, 0.88 G. Small targets live in the full-resolution levels, so the deepest ones are slimmed
    "tiny": {"widths": (8, 16, 32, 56, 64), "in_channels": 1},
}
