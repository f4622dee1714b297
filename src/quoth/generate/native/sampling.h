// Logits → token, as `distribution` and `draw` in ../sampling.py spell it out.

#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vector.h"

struct SamplingParameters {
  double temperature, top_k, top_p, min_p, uniform;
};

// What one thread works with: room for a number and an index of each token.
struct SamplingScratch {
  double* probability;
  int* order;
};

constexpr double LOWEST_TEMPERATURE = 1e-30;

// The first of the largest logits; n, which is none, where one is NaN or +inf, or where all are -inf.
inline int argmax(const float* logit, int n) {
  Vector most = every(-INFINITY);
  Integers valid = Integers{} - 1;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    const Vector x = load<Vector>(logit + i);
    valid &= x < INFINITY;
    most = x > most ? x : most;
  }
  bool all_valid = true;
  float largest = -INFINITY;
  for (int l = 0; l < LANES; l++) all_valid &= valid[l] != 0, largest = std::max(largest, most[l]);
  for (; i < n; i++) all_valid &= logit[i] < INFINITY, largest = std::max(largest, logit[i]);
  if (!all_valid || largest == -INFINITY) return n;
  return std::find(logit, logit + n, largest) - logit;
}

// Sets the probabilities of tokens beyond top_k, top_p or min_p to zero.
inline void apply_limits(const float* logit, int n, const SamplingParameters& given, SamplingScratch scratch) {
  double* p = scratch.probability;
  const double total = std::accumulate(p, p + n, 0.0);
  for (int i = 0; i < n; i++) p[i] /= total;
  const double least = given.min_p * *std::max_element(p, p + n);
  if (given.top_k || given.top_p < 1) {
    int* heap = scratch.order;  // The likeliest comes first, and of equals the one with the smaller id.
    std::iota(heap, heap + n, 0);
    auto below = [&](int a, int b) { return logit[a] < logit[b] || (logit[a] == logit[b] && a > b); };
    std::make_heap(heap, heap + n, below);
    const int most = given.top_k ? std::min(double(n), given.top_k) : n;
    double reached = 0;
    int left = n;
    for (; n - left < most && (left == n || reached < given.top_p); left--) {
      reached += p[heap[0]];
      std::pop_heap(heap, heap + left, below);
    }
    for (int i = 0; i < left; i++) p[heap[i]] = 0;
  }
  for (int i = 0; i < n; i++)
    if (p[i] < least) p[i] = 0;
}

// The token at which the summed probabilities pass the uniform number; n, which is none, where `argmax` finds none.
inline int draw(const float* logit, int n, const SamplingParameters& given, SamplingScratch scratch) {
  const int best = argmax(logit, n);
  if (best == n || given.temperature == 0) return best;
  double* p = scratch.probability;
  const double by = std::max(given.temperature, LOWEST_TEMPERATURE), largest = logit[best] / by;
  for (int i = 0; i < n; i++) p[i] = std::exp(logit[i] / by - largest);
  if (given.top_k || given.top_p < 1 || given.min_p) apply_limits(logit, n, given, scratch);
  const double end = given.uniform * std::accumulate(p, p + n, 0.0);
  double sum = 0;
  for (int i = 0; i < n; i++)
    if ((sum += p[i]) > end) return i;
  return n;
}
