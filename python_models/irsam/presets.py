"""Sizes and configurations of IRSAM."""

PRESETS = {
    "paper": {},  # 11,916,268 parameters: the paper's network, with this project's reading of WPMD
    "public": {"wpmd_blocks": 0, "shallow": False, "multi_act": "gelu"},  # 10,578,604: the network the authors released
    # for a CPU: 128x128 crops, no window that has to be padded there
    "tiny": {"dims": (32, 48, 64, 96), "depths": (1, 1, 2, 1), "heads": (2, 3, 4, 6), "windows": (8, 8, 8, 8), "width": 64, "hidden": 256},
}
