"""Linear cross-attention: attention with the feature map elu(x) + 1, linear in the number of tokens."""
import torch
from torch import Tensor

from .._register import check_dim, check_floating, check_same_device, check_same_dtype, check_size, refuse_forward_mode, register


def linear_cross_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Attention of N queries over M keys through a d x e state, without a 1/sqrt(d) and without a mask.

    .. math:: out_i = \frac{\phi(q_i)^T S}{\phi(q_i)^T z + eps},\quad S = \sum_j \phi(k_j) v_j^T,\quad z = \sum_j \phi(k_j),\quad \phi(x) = elu(x) + 1

    Katharopoulos et al., "Transformers are RNNs", ICML 2020, Eq. 5-7, non-causal. For x <= 0 phi is exp(x), so that it keeps its digits where
    elu(x) + 1 in float32 is 0. `eps` is part of the contract: it dominates where all phi are tiny.

    Args:
        q: [B, h, N, d] queries. k: [B, h, M, d] keys, M >= 1. v: [B, h, M, e] values; any strides.
        eps: added to the denominator, >= 0; 0 works where the denominator is positive.

    Returns:
        [B, h, N, e] in the dtype of q. Its memory order follows q: tokens innermost (dense as [B, h, e, N]) where q has stride 1 along N and not
        along d, as for heads viewed from a (B, C, H, W) map; else contiguous.

    Dtypes: q, k, v in one of float16, bfloat16, float32, float64; half precision accumulates in float32 and rounds once. Under autocast the
    dtypes stay as they come; where they differ, all are cast to the autocast dtype.
    Errors: RuntimeError in one line for a wrong shape, dtype or device. There is no second and no forward-mode derivative.

    Example:
        >>> import torch, irstd_ext
        >>> q, k, v = torch.randn(2, 4, 100, 32), torch.randn(2, 4, 25, 32), torch.randn(2, 4, 25, 16)
        >>> irstd_ext.linear_cross_attention(q, k, v).shape
        torch.Size([2, 4, 100, 16])
    """
    refuse_forward_mode("linear_cross_attention", q, k, v)
    return torch.ops.irstd_ext.linear_cross_attention(q, k, v, eps)


def _check(op, q, k, v, eps):
    if not eps >= 0:
        raise RuntimeError(f"{op}: eps must be >= 0, got {eps:g}")
    check_dim(op, "q", q, 4, "[B, h, N, d]")
    check_dim(op, "k", k, 4, "[B, h, M, d]")
    check_dim(op, "v", v, 4, "[B, h, M, e]")
    check_size(op, "k", k, 0, q.shape[0], "B of q")
    check_size(op, "k", k, 1, q.shape[1], "h of q")
    check_size(op, "k", k, 3, q.shape[3], "d of q")
    check_size(op, "v", v, 0, q.shape[0], "B of q")
    check_size(op, "v", v, 1, q.shape[1], "h of q")
    check_size(op, "v", v, 2, k.shape[2], "M of k")
    if k.shape[2] == 0:
        raise RuntimeError(f"{op}: k must hold at least one token, got M=0")
    check_floating(op, "q", q)
    for name, t in (("k", k), ("v", v)):
        check_same_dtype(op, name, t, "q", q)
        check_same_device(op, name, t, "q", q)


def _tokens_innermost(t):
    return t.stride(2) == 1 and t.stride(3) != 1 and t.shape[3] > 1


def _empty_like_layout(like, shape):
    """Dense, with the token dimension innermost where it is so in `like`."""
    B, h, n, f = shape
    return like.new_empty(B, h, f, n).transpose(2, 3) if _tokens_innermost(like) else like.new_empty(B, h, n, f)


def _fake(q, k, v, eps=1e-6):
    _check("linear_cross_attention", q, k, v, eps)
    return _empty_like_layout(q, (q.shape[0], q.shape[1], q.shape[2], v.shape[3]))


def _fake_backward(grad, q, k, v, eps):
    op = "linear_cross_attention_backward"
    _check(op, q, k, v, eps)
    check_dim(op, "grad", grad, 4, "[B, h, N, e]")
    for axis, (want, what) in enumerate(((q.shape[0], "B of q"), (q.shape[1], "h of q"), (q.shape[2], "N of q"), (v.shape[3], "e of v"))):
        check_size(op, "grad", grad, axis, want, what)
    check_same_dtype(op, "grad", grad, "q", q)
    check_same_device(op, "grad", grad, "q", q)
    return tuple(_empty_like_layout(t, t.shape) for t in (q, k, v))


def _setup_context(ctx, inputs, output):
    q, k, v, ctx.eps = inputs
    ctx.save_for_backward(q, k, v)


def _backward(ctx, need, grad):
    q, k, v = ctx.saved_tensors
    grads = torch.ops.irstd_ext.linear_cross_attention_backward(grad.to(q.dtype), q, k, v, ctx.eps)
    return *(g if n else None for g, n in zip(grads, need)), None


def _flops(q, k, v, *args, out_shape=None, **kwargs):
    return 2 * q[0] * q[1] * (q[2] + k[2]) * q[3] * v[3]


def _backward_flops(grad, q, k, v, *args, out_shape=None, **kwargs):
    return 2 * q[0] * q[1] * (2 * q[2] + 3 * k[2]) * q[3] * v[3]  # the state is computed again


def _autocast(dtype, q, k, v, eps=1e-6):
    if not q.dtype == k.dtype == v.dtype:
        q, k, v = (t.to(dtype) for t in (q, k, v))
    return q, k, v, eps


def _vmap(info, in_dims, q, k, v, eps):
    def fold(t, d):
        return (t.unsqueeze(0).expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)).flatten(0, 1)

    out = torch.ops.irstd_ext.linear_cross_attention(fold(q, in_dims[0]), fold(k, in_dims[1]), fold(v, in_dims[2]), eps)
    return out.unflatten(0, (info.batch_size, -1)), 0


register("linear_cross_attention", fake=_fake, backward_fake=_fake_backward, setup_context=_setup_context, backward=_backward, flops=_flops,
         backward_flops=_backward_flops, autocast=_autocast, vmap=_vmap)
