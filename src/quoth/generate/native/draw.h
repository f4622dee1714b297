// Logits → token, as `distribution` and `draw` in ../sampling.py spell it out.

#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

struct Wish {
  double temperature, top_k, top_p, min_p, u;
};

constexpr double LOWEST = 1e-30;  // Of temperatures.

// Leaves the probabilities that a token may be drawn with, of those that pass every limit.
inline void limit(std::vector<double>& p, const Wish& wish) {
  const int n = p.size();
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= total;
  const double least = wish.min_p * *std::max_element(p.begin(), p.end());
  if (wish.top_k || wish.top_p < 1) {
    std::vector<int> heap(n);  // The likeliest comes first, and of equals the one with the smaller id.
    std::iota(heap.begin(), heap.end(), 0);
    auto below = [&](int a, int b) { return p[a] < p[b] || (p[a] == p[b] && a > b); };
    std::make_heap(heap.begin(), heap.end(), below);
    const int most = wish.top_k ? std::min(double(n), wish.top_k) : n;
    double reached = 0;
    int left = n;
    for (; n - left < most && (left == n || reached < wish.top_p); left--) {
      reached += p[heap[0]];
      std::pop_heap(heap.begin(), heap.begin() + left, below);
    }
    for (int i = 0; i < left; i++) p[heap[i]] = 0;
  }
  for (double& x : p)
    if (x < least) x = 0;
}

// The token at which the summed probabilities pass u; n, which is none, of logits that are no numbers.
inline int draw(const float* logit, int n, const Wish& wish) {
  const float* best = std::max_element(logit, logit + n);
  if (std::isnan(*best)) return n;
  if (wish.temperature == 0) return best - logit;
  static thread_local std::vector<double> p;
  p.resize(n);
  const double by = std::max(wish.temperature, LOWEST), largest = *best / by;
  for (int i = 0; i < n; i++) p[i] = std::exp(logit[i] / by - largest);
  if (wish.top_k || wish.top_p < 1 || wish.min_p) limit(p, wish);
  const double end = wish.u * std::accumulate(p.begin(), p.end(), 0.0);
  double sum = 0;
  for (int i = 0; i < n; i++)
    if ((sum += p[i]) > end) return i;
  return n;
}
