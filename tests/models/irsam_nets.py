"""Small IRSAM parts whose weights are all random: at its start a network has zeros that hide mistakes (norms of MBConv, bias tables, WPMD)."""
import torch
from torch import nn

SMALL = {"dims": (8, 16, 16, 32), "depths": (1, 1, 2, 1), "heads": (1, 2, 2, 4), "windows": (3, 3, 4, 2), "neck": 12}


def randomise(net, seed=0):
    """Every parameter and statistic of net drawn anew, the same for the same seed and the same shapes; returns net."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            norm = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) or type(module).__name__ == "LayerNorm2d"
            for name, p in module.named_parameters(recurse=False):
                if norm:
                    p.copy_(0.5 + torch.rand(p.shape, generator=draw) if name == "weight" else 0.3 * torch.randn(p.shape, generator=draw))
                elif name == "attention_biases":
                    p.copy_(torch.randn(p.shape, generator=draw))
                else:
                    fan = p[0].numel() if p.dim() > 1 else 4
                    p.copy_(torch.randn(p.shape, generator=draw) * fan**-0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=draw))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=draw))
    return net
