// Keys and values of what slots have read, and attention over them.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "matrix.h"

// Keys lie as [slot][head][position / LANES][channel][LANES], so that one load has a channel of LANES positions; values
// as [slot][head][position][channel], each filled up to whole vectors.
class KeyValueCache {
 public:
  KeyValueCache(int layers, int slots, int heads, int head_size, int context)
      : heads(heads), head_size(head_size), value_stride(padded(head_size, LANES)), positions(padded(context, LANES)),
        keys(layers), values(layers) {
    for (auto& k : keys) k.make(slots * heads * positions * head_size);
    for (auto& v : values) v.make(slots * heads * positions * value_stride);
  }

  void store(int layer, int slot, int head, int position, const float* key, const float* value) {
    const size_t first = start(slot, head);
    float* to = keys[layer].at + (first + position / LANES * LANES) * head_size + position % LANES;
    for (size_t k = 0; k < head_size; k++) to[k * LANES] = key[k];
    std::copy(value, value + head_size, values[layer].at + (first + position) * value_stride);
  }

  // What the first positions of a slot hold, for another slot as well.
  void copy(size_t from, size_t to, size_t count) {
    for (size_t layer = 0; layer < keys.size(); layer++)
      for (size_t head = 0; head < heads; head++) {
        const float *key = keys[layer].at + start(from, head) * head_size,
                    *value = values[layer].at + start(from, head) * value_stride;
        std::copy_n(key, padded(count, LANES) * head_size, keys[layer].at + start(to, head) * head_size);
        std::copy_n(value, count * value_stride, values[layer].at + start(to, head) * value_stride);
      }
  }

  // softmax(q k / sqrt(head_size)) v over the positions up to the query's own; `score` has room for each of them.
  void attend(int layer, int slot, int head, int position, const float* query, float* score, float* out) const {
    const float* key = keys[layer].at + start(slot, head) * head_size;
    const float* value = values[layer].at + start(slot, head) * value_stride;
    dot_products(query, key, value, position, score);
    const float scale = 1 / softmax(score, position, 1 / std::sqrt(float(head_size)));
    size_t k = 0;
    for (; k + 4 * LANES <= value_stride; k += 4 * LANES)
      weighted_sum<4>(score, value + k, position, scale, out + k, head_size - k);
    for (; k < value_stride; k += LANES)
      weighted_sum<1>(score, value + k, position, scale, out + k, head_size - k);
  }

 private:
  size_t start(size_t slot, int head) const { return (slot * heads + head) * positions; }

  void dot_products(const float* query, const float* key, const float* value, int position, float* score) const {
    size_t seen = 0;
    for (; seen + 4 * LANES <= size_t(position) + 1; seen += 4 * LANES)
      dot_products<4>(query, key + seen * head_size, value + seen * value_stride, score + seen);
    for (; seen <= size_t(position); seen += LANES)
      dot_products<1>(query, key + seen * head_size, value + seen * value_stride, score + seen);
  }

  // A query times the keys of N vectors of positions. Their values are needed next.
  template <int N>
  void dot_products(const float* query, const float* key, const float* value, float* score) const {
    Vector a[N] = {};
    for (size_t k = 0; k < head_size; k++)
      for (size_t v = 0; v < N; v++) {
        const size_t at = (v * head_size + k) * LANES;
        __builtin_prefetch(value + at);
        a[v] += query[k] * load<Vector>(key + at);
      }
    std::memcpy(score, a, sizeof a);
  }

  // Scores → e^(scale score - largest), zero past the position; returns their sum.
  static float softmax(float* score, int position, float scale) {
    const int last = position / LANES;
    auto fill = [&](Vector& v, int tile, float rest) {
      if (tile == last)
        for (int l = position % LANES + 1; l < LANES; l++) v[l] = rest;
    };
    Vector most = every(-INFINITY), total = {};
    for (int tile = 0; tile <= last; tile++) {
      Vector a = load<Vector>(score + size_t(tile) * LANES) * scale;
      fill(a, tile, -INFINITY);
      most = a > most ? a : most;
      ::store(score + size_t(tile) * LANES, a);
    }
    float largest = most[0];
    for (int l = 1; l < LANES; l++) largest = std::max(largest, most[l]);
    for (int tile = 0; tile <= last; tile++) {
      Vector p = exponential(load<Vector>(score + size_t(tile) * LANES) - largest);
      fill(p, tile, 0);
      total += p;
      ::store(score + size_t(tile) * LANES, p);
    }
    return sum(total);
  }

  // The sum of values by their scores, for N vectors of channels, of which `left` are asked for.
  template <int N>
  void weighted_sum(const float* score, const float* value, int position, float scale, float* out, size_t left) const {
    Vector a[N] = {};
    for (size_t p = 0; p <= size_t(position); p++)
      for (size_t v = 0; v < N; v++) a[v] += score[p] * load<Vector>(value + p * value_stride + v * LANES);
    for (int v = 0; v < N; v++) a[v] *= scale;
    std::memcpy(out, a, sizeof(float) * std::min(size_t(N) * LANES, left));
  }

  const size_t heads, head_size, value_stride, positions;
  std::vector<Array<float>> keys, values;  // Of each layer.
};
