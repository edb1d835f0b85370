"""IRSAM (ECCV 2024, arXiv 2407.07520): MobileSAM's encoder with diffusion blocks, and SAM's decoder with an edge token that gates the mask."""
from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from python_models.irsam.decoder import ACTIVATIONS, MaskDecoder
from python_models.irsam.encoder import TinyViT
from python_models.irsam.presets import PRESETS
from python_models.irsam.prompt import PromptEncoder
from python_models.layers import IRSTDNet, pad_to_multiple
from python_models.losses import DiceEdgeLoss

_STAGES = 4
_STRIDE = 8  # of the deepest maps, at the size of the input; the network doubles it inside


class IRSAM(IRSTDNet):
    """x (B, 1 or 3, H, W) -> {"logits": (B, 1, H, W), "edge": (B, 1, H, W)}: mask logits, and the probability of an edge, for any H and W.

    Inside, the image is doubled (nearest) as the released network does it at 512x512; zero-padded at the bottom and right to a multiple of
    8, and cropped at the end; the position encoding is that of the actual grid [ours]. Masks and edge come at half the size and go up
    bilinearly, the edge after its sigmoid [code].

    dims, depths, heads, windows: of the encoder's four stages (stage 0 is convolutional: its head and window are unused). width, hidden: of
    neck and decoder, and of the decoder's MLPs. wpmd_blocks: diffusion blocks at the inputs of the first so many stages [ours], 0 to 4, each
    with `steps` steps, of all three bands with `all_high`. shallow, deep: branches of X_multi (Eq. 7), with the activation `multi_act`,
    "relu" [paper] or "gelu" [code]. edge=False: no edge token, no gate, no "edge" in the result. mask_loss ("dice" or "iou"), edge_weight
    and edge_target ("morph" or "inner"): see `DiceEdgeLoss`. rewrites: quicker forms of the same function; None: with backend "ext".

    State-dict keys are those of the released network, whatever the options say of what runs, and `image_encoder.wpmd` beside them.
    Raises ValueError for options out of range.

    >>> import torch
    >>> net = IRSAM(**PRESETS["tiny"], backend="reference").eval()
    >>> {name: tuple(y.shape) for name, y in net(torch.zeros(1, 1, 20, 33)).items()}
    {'logits': (1, 1, 20, 33), 'edge': (1, 1, 20, 33)}
    """

    name = "irsam"
    presets = PRESETS
    default_preset = "paper"
    stride = _STRIDE

    def __init__(self, dims: Sequence[int] = (64, 128, 160, 320), depths: Sequence[int] = (2, 2, 6, 2), heads: Sequence[int] = (2, 4, 5, 10),
                 windows: Sequence[int] = (7, 7, 14, 7), width: int = 256, hidden: int = 2048, wpmd_blocks: int = 4, steps: int = 3,
                 all_high: bool = False, shallow: bool = True, deep: bool = True, edge: bool = True, multi_act: str = "relu",
                 mask_loss: str = "dice", edge_weight: float = 10.0, edge_target: str = "morph", rewrites: bool | None = None,
                 backend: str = "ext") -> None:
        sizes = {"dims": dims, "depths": depths, "heads": heads, "windows": windows}
        sizes = {option: _counts(option, values) for option, values in sizes.items()}
        _check(width, "width", "be a multiple of 16, > 0", _is_count(width) and width % 16 == 0)
        _check(hidden, "hidden", "be an integer > 0", _is_count(hidden))
        _check(wpmd_blocks, "wpmd_blocks", f"be an integer in 0..{_STAGES}", _is_count(wpmd_blocks, 0) and wpmd_blocks <= _STAGES)
        _check(steps, "steps", "be an integer > 0", _is_count(steps))
        _check(multi_act, "multi_act", f"be one of {', '.join(map(repr, ACTIVATIONS))}", isinstance(multi_act, str) and multi_act in ACTIVATIONS)
        _check(rewrites, "rewrites", "be true, false or None", rewrites is None or isinstance(rewrites, bool))
        for stage in range(1, _STAGES):
            _check(sizes["heads"][stage], f"heads[{stage}]", f"divide dims[{stage}] = {sizes['dims'][stage]}",
                   sizes["dims"][stage] % sizes["heads"][stage] == 0)
        options = {**{k: list(v) for k, v in sizes.items()}, "width": width, "hidden": hidden, "wpmd_blocks": wpmd_blocks, "steps": steps,
                   "all_high": all_high, "shallow": shallow, "deep": deep, "edge": edge, "multi_act": multi_act, "mask_loss": mask_loss,
                   "edge_weight": edge_weight, "edge_target": edge_target, "rewrites": rewrites}
        super().__init__(options)
        self._criterion = {"edge_weight": edge_weight if edge else 0.0, "mask": mask_loss, "edge": edge_target}
        self.criterion()  # a wrong option is an error here, not when training begins

        quick = backend != "reference" if rewrites is None else rewrites
        self.image_encoder = TinyViT(**sizes, neck=width, wpmd_blocks=wpmd_blocks, steps=steps, all_high=all_high, rewrites=quick, backend=backend)
        self.prompt_encoder = PromptEncoder(width, keep=quick)
        self.mask_decoder = MaskDecoder(width, sizes["dims"][2], hidden, shallow, deep, edge, multi_act, quick)
        self.needs_tap = edge and shallow
        self._freeze_unused()

    def forward_maps(self, x: Tensor) -> dict[str, Tensor]:
        height, width = x.shape[-2:]
        features, tap = self.image_encoder(pad_to_multiple(x, _STRIDE), self.needs_tap)
        positions, no_mask_embed = self.prompt_encoder(*features.shape[-2:])
        maps = dict(zip(("logits", "edge"), self.mask_decoder(features, tap, positions, no_mask_embed)))
        return {name: F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
                for name, y in maps.items() if y is not None}

    def criterion(self) -> nn.Module:
        """Dice of the mask plus `edge_weight` times the cross-entropy of the edge, over the whole batch."""
        return DiceEdgeLoss(**self._criterion)

    def _freeze_unused(self) -> None:
        """What never takes part takes no gradient either: processes that train together then wait for none [ours]."""
        parts = [getattr(self.prompt_encoder, name) for name in PromptEncoder.unused] + self.mask_decoder.unused()
        parts += self.image_encoder.unused()
        for part in parts:
            part.requires_grad_(False)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(value: object, option: str, rule: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"irsam: {option} must {rule}, got {value!r}")


def _counts(option: str, values: Sequence[int]) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != _STAGES or not all(map(_is_count, values)):
        raise ValueError(f"irsam: {option} must be four integers > 0, got {values!r}")
    return tuple(values)
