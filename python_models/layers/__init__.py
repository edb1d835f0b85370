"""Building blocks that the networks share."""
from python_models.layers.blocks import ConvBlock, UpConv
from python_models.layers.network import IRSTDNet
from python_models.layers.normaliser import Normaliser
from python_models.layers.padding import pad_to_multiple

__all__ = ["ConvBlock", "IRSTDNet", "Normaliser", "UpConv", "pad_to_multiple"]
