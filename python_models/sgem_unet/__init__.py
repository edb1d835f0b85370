"""SGEM U-Net: "High-Precision and Fast Inference for Infrared Small Target Detection through Semantic Gap Reduction", ACSS 2025 9(1):15,
doi 10.23977/acss.2025.090115. Start with `model.py`; the two semantic-gap modules are in `sgem.py`."""
