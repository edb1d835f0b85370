"""IRSAM: "IRSAM: Advancing Segment Anything Model for Infrared Small Target Detection", ECCV 2024, arXiv 2407.07520.
Start with `model.py`; the encoder is in `encoder.py`, its diffusion blocks, this project's reading of WPMD, in `wpmd.py`, the decoder with its
edge head in `decoder.py` and `two_way.py`. `convert.py` takes over the weights of MobileSAM and of the released network."""
