// Linear cross-attention, one head:  out_i = phi(q_i)^T S / D_i,  D_i = phi(q_i) . z + eps,  S = sum_j phi(k_j) v_j^T,  z = sum_j phi(k_j).
// (Katharopoulos et al. 2020, Eq. 5-7.)  Backward, with G = dout:
//   dN_i = G_i / D_i      dD_i = -phi(q_i) . (S dN_i) / D_i      dphi(q_i) = S dN_i + z dD_i
//   dS = sum_i phi(q_i) dN_i^T      dz = sum_i phi(q_i) dD_i      dphi(k_j) = dS v_j + dz      dv_j = dS^T phi(k_j)
#pragma once
#include "common/hd.h"

namespace irstd::linear_cross_attention {

// phi = elu + 1. `exp_of_x` is exp(x) and is used for x <= 0 only: elu(x) + 1 has no digits left below about -12 in float32. NaN stays NaN.
template <class V> IRSTD_HD V phi(V x, V exp_of_x) { return x > 0 ? x + 1 : exp_of_x; }

// phi'(x), from x and phi(x): 1 for x > 0, exp(x) = phi(x) else.
template <class V> IRSTD_HD V phi_slope(V x, V phi_of_x) { return x > 0 ? V{} + 1 : phi_of_x; }

// The same from phi(x) alone: phi > 1 only where x > 0, and where phi is 1 so is the slope.
template <class V> IRSTD_HD V phi_slope(V phi_of_x) { return phi_of_x > 1 ? V{} + 1 : phi_of_x; }

}  // namespace irstd::linear_cross_attention
