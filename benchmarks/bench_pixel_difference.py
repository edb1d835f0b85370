import torch
from irstd_ext.specs.pixel_difference import SPEC

from harness import OpBench


def composition(u, W, gamma=1.0):
    """Two filters per channel and average pools. The deviation is E[x^2] - E[x]^2 of what is left without the image's mean: good enough to time, but in
    float32 some pixels near the threshold take the other branch."""
    n, (height, width) = W.shape[1], u.shape[2:]
    u = u - u.mean((2, 3), keepdim=True)
    padded = torch.nn.functional.pad(u, (n, n, n, n), mode="replicate")
    shares = 1 / (2 * torch.arange(n, dtype=u.dtype, device=u.device) + 1)
    taps = torch.nn.functional.pad(shares, (0, 1)) - torch.nn.functional.pad(shares, (1, 0))  # of the longest window, at distances 0..n
    of_window = torch.stack([torch.nn.functional.pad(shares[: i + 1], (0, n - i)) - torch.nn.functional.pad(shares[: i + 1], (1, n - i - 1)) for i in range(n)])
    arms = (W.transpose(1, 2) @ of_window)  # [2, D, n + 1]
    kernel = u.new_zeros(u.shape[1], 1, 2 * n + 1, 2 * n + 1)
    line = torch.cat([arms[..., 1:].flip(2), 2 * arms[..., :1], arms[..., 1:]], 2)
    kernel[:, 0, n] = line[0]
    kernel[:, 0, :, n] = kernel[:, 0, :, n] + line[1]
    G = torch.nn.functional.conv2d(padded, kernel, groups=u.shape[1])

    def ray(dy, dx):
        return sum(taps[k] * padded[:, :, n + k * dy : n + k * dy + height, n + k * dx : n + k * dx + width] for k in range(n + 1))

    right, left, down, up = ray(0, 1), ray(0, -1), ray(1, 0), ray(-1, 0)
    mean = torch.nn.functional.avg_pool2d(padded, 2 * n + 1, 1)
    variance = torch.nn.functional.avg_pool2d(padded.square(), 2 * n + 1, 1) - mean.square()
    theta = variance.clamp(min=1e-12).sqrt()
    is_open = torch.minimum(torch.minimum(right, left), torch.minimum(down, up)) > theta
    return (torch.where(is_open, torch.tanh((right + left + down + up) / (4 * theta) - 1), 0) + gamma) * G


class BenchPixelDifference(OpBench):
    spec = SPEC
    native = composition
