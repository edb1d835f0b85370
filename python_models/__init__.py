"""Networks for infrared small target detection on the ops of `irstd_ext`.

    from python_models import build_model
    net = build_model("sgem_unet", preset="tiny")
    out = net(net.preprocess(image))          # {"logits": (B, 1, H, W)}
    loss = net.criterion()(out, mask)
"""
from python_models.registry import build_model, list_models, list_presets, list_recipes

__all__ = ["build_model", "list_models", "list_presets", "list_recipes"]
