// bilinear attention, channel c of one image:  out_i = residual_i + gamma * sum_j A_ij value_j,  A_i = softmax_j(a_i k_j),  a_i = weight_c q_i.
// (SGEM U-Net, Eq. 1-3.) The logits have rank one, so a row's maximum is a_i max(k) or a_i min(k), and no reduction over j is needed to find it.
// A and V are a number, or a SIMD vector of them.
#pragma once
#include "common/hd.h"

namespace irstd::bilinear_attention {

// The k that makes a * k largest.
template <class V> IRSTD_HD V peak(V a, V k_min, V k_max) { return a >= 0 ? k_max : k_min; }

// Exponent of the weight of j, <= 0. Exact where a * k would cancel: the error of exp(-t) is at most eps / e for any size of the logits.
template <class V> IRSTD_HD V exponent(V a, V k, V peak_k) { return a * (k - peak_k); }

// residual + gamma * mixed; gamma = 0 gives residual bit for bit (also -0).
template <class V, class A> IRSTD_HD V add_residual(V residual, A gamma, V mixed) {
  const V t = gamma * mixed;
  return t == 0 ? residual : residual + t;
}

// Gradient of the logits from that of the weights: dT = gamma A (dA - sum_j A dA), dA_ij = <dout_i, value_j>.
template <class V, class A> IRSTD_HD V logit_gradient(A gamma, V weight, V d_weight, V row_dot) { return gamma * weight * (d_weight - row_dot); }

}  // namespace irstd::bilinear_attention
