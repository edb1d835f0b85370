"""IRMamba: "IRMamba: Pixel Difference Mamba with Layer Restoration for Infrared Small Target Detection", AAAI 2025.
Start with `model.py`; the selective scan with pixel differences is in `ss2d.py`, layer restoration in `lrm.py`, the other blocks in `blocks.py`."""
