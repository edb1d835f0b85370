"""The neighbour term of both references that have one: smoothed differences, their gate and their weighted sum, in plain PyTorch."""
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LARGE = 1 << 26  # elements kept for backward; above it, one image at a time


def _variance(padded: Tensor, window: int) -> Tensor:
    """Population variance of squares, in two passes along each axis: the mean of the variances of their rows, and the variance of the means of these."""
    def neighbours(x, axis):
        return [x.narrow(axis, k, x.shape[axis] - window + 1) for k in range(window)]

    def mean(x):
        return sum(x[1:], x[0]) / window

    def variance(x):
        middle = mean(x)
        return mean([(y - middle).square() for y in x])

    rows = neighbours(padded, 3)
    return mean(neighbours(variance(rows), 2)) + variance(neighbours(mean(rows), 2))


def local_differences(u: Tensor, n: int) -> tuple[list[list[Tensor]], Tensor]:
    """The differences Dl_e^(i)(t) = sum_{k<i} (u(t + k e) - u(t + (k+1) e)) / (2k+1) as [e][i-1], e = +x, -x, +y, -y, and the variance of the window of
    (2n+1)^2 pixels; pixels outside the image are those at its border. u: [B, D, H, W], not empty."""
    H, W = u.shape[2:]
    padded = u
    for axis in (2, 3):
        first, last = padded.narrow(axis, 0, 1), padded.narrow(axis, padded.shape[axis] - 1, 1)
        padded = torch.cat([first] * n + [padded] + [last] * n, axis)

    differences = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        ray = [padded[:, :, n + k * dy : n + k * dy + H, n + k * dx : n + k * dx + W] for k in range(n + 1)]
        sums = [ray[0] - ray[1]]
        for k in range(1, n):
            sums.append(sums[-1] + (ray[k] - ray[k + 1]) / (2 * k + 1))
        differences.append(sums)
    return differences, _variance(padded, 2 * n + 1)


def _neighbour_term(u: Tensor, W: Tensor, gamma: float) -> Tensor:
    """p = f G: G the weighted sum of all differences, f its gate."""
    n = W.shape[1]
    (right, left, down, up), variance = local_differences(u, n)
    least = torch.minimum(torch.minimum(right[-1], left[-1]), torch.minimum(down[-1], up[-1]))
    case_1 = (least.detach() > variance.detach().sqrt()) & (variance.detach() > 0)  # 0 beside differences: their squares underflow
    theta = torch.where(case_1, variance, 1).sqrt()  # 1 before the root: a flat window would give 0 * inf in backward
    m = (right[-1] + left[-1] + down[-1] + up[-1]) / 4
    f = torch.where(case_1, torch.tanh(m / theta - 1), 0) + gamma

    weights = W[..., None, None].unbind(1)  # window i: [2, D, 1, 1], axis 0 = x, 1 = y
    terms = [w[axis] * (one[i] + other[i]) for i, w in enumerate(weights) for axis, (one, other) in enumerate(((right, left), (down, up)))]
    return f * sum(terms[1:], terms[0])


def neighbour_term(u: Tensor, W: Tensor, gamma: float) -> Tensor:
    """p = f G of [B, D, H, W] images and [2, n, D] weights, in float32 or float64."""
    if 4 * u.numel() * (2 * W.shape[1] + 1) <= LARGE:
        return _neighbour_term(u, W, gamma)
    # Backward needs every neighbour's deviation: make those of one image when it comes to them.
    return torch.cat([checkpoint(_neighbour_term, one, W, gamma, use_reentrant=False) for one in u.split(1)])
