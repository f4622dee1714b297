// LayerNorm and RMSNorm of one row.

#pragma once

#include <algorithm>
#include <cmath>

#include "vector.h"

// The sum of `term` over n numbers. The last vector is filled up with `rest`, whose term has to be zero.
template <class F>
float reduce(const float* x, int n, F term, float rest = 0) {
  Vector total = {}, last = every(rest);
  int i = 0;
  for (; i + LANES <= n; i += LANES) total += term(load<Vector>(x + i));
  if (i == n) return sum(total);
  std::copy(x + i, x + n, reinterpret_cast<float*>(&last));
  return sum(total + term(last));
}

// LayerNorm where the row is centred, RMSNorm where not; `bias` may be null.
inline void normalize(const float* x, float* y, int n, const float* weight, const float* bias, bool centred,
                      float eps) {
  float mean = 0;
  if (centred) mean = reduce(x, n, [](Vector v) { return v; }) / n;
  const float squares = reduce(x, n, [=](Vector v) { return (v - mean) * (v - mean); }, mean);
  const float by = 1 / std::sqrt(squares / n + eps);
  for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * by * weight[i] + (bias ? bias[i] : 0);
}
