// Matrices in the order in which they are read, and their product with rows.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "vector.h"

constexpr int PANEL = 2 * LANES;  // Outputs whose weights lie together.
constexpr size_t HUGE_PAGE = 2 << 20;
constexpr int GROUP = 32;  // Weights of int8 that share a scale, as in llama.cpp's q8_0.

inline size_t padded(size_t n, size_t to) { return (n + to - 1) / to * to; }

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Memory at the edge of a cache line, zero, and not touched before it is used.
template <class T>
struct Array {
  std::unique_ptr<void, Free> memory;
  T* at = nullptr;
  // `streamed` is for what is read from end to end: in pages of 2 MB the processor looks up fewer addresses.
  void make(size_t n, bool streamed = false) {
    if (n > (SIZE_MAX - HUGE_PAGE) / sizeof(T)) throw std::bad_alloc();
    const size_t edge = streamed && n * sizeof(T) > HUGE_PAGE ? HUGE_PAGE : 64;
    memory.reset(std::calloc(n * sizeof(T) + edge, 1));
    if (!memory) throw std::bad_alloc();
    at = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory.get()) + edge - 1) / edge * edge);
#ifdef __linux__
    if (edge == HUGE_PAGE) madvise(at, n * sizeof(T), MADV_HUGEPAGE);
#endif
  }
};

// The forms that weights are kept in. `load` gives the weights of LANES outputs for one input.
struct Float32 {
  using Number = float;
  static Vector load(const float* w, Vector) { return ::load<Vector>(w); }
};

struct BFloat16 {
  using Number = uint16_t;
  static Vector load(const uint16_t* w, Vector) {
    const Integers bits = widen(w) << 16;
    return ::load<Vector>(&bits);
  }
};

struct Int8 {
  using Number = int8_t;
  static Vector load(const int8_t* w, Vector scale) {
    return __builtin_convertvector(widen(w), Vector) * scale;
  }
};

enum Form { FLOAT32, BFLOAT16, INT8 };
// What becomes of a product: it is stored, added to what is there, or goes through an activation.
enum Epilogue { STORE, ADD, RELU, GELU, SWIGLU };

struct Matrix {
  int outputs = 0, inputs = 0, panels = 0;
  Form form = FLOAT32;
  char* weight = nullptr;  // [panel][input][PANEL], in memory of the decoder's
  Array<float> scale;  // [panel][group][PANEL], for int8
  Array<float> bias;

  int groups() const { return (inputs + GROUP - 1) / GROUP; }

  static size_t bytes(size_t n, size_t k, Form as) {
    return (as == FLOAT32 ? 4 : as == BFLOAT16 ? 2 : 1) * padded(n, PANEL) * padded(k, 2);
  }

  void make(int n, int k, Form as, char* to) {
    outputs = n, inputs = k, form = as, panels = padded(n, PANEL) / PANEL;
    if (as == INT8) scale.make(size_t(panels) * groups() * PANEL);
    bias.make(size_t(panels) * PANEL);
    weight = to;
  }

  // One thread's share of the rows [outputs][inputs].
  void pack(const float* rows, int t, int threads) {
    for (int panel = panels * t / threads; panel < panels * (t + 1) / threads; panel++) {
      const float* from = rows + size_t(panel) * PANEL * inputs;
      const int lanes = std::min(PANEL, outputs - panel * PANEL);
      if (form == FLOAT32) pack_panel(from, reinterpret_cast<float*>(weight), panel, lanes, [](float x) { return x; });
      if (form == BFLOAT16) pack_panel(from, reinterpret_cast<uint16_t*>(weight), panel, lanes, rounded);
      if (form == INT8)
        for (int lane = 0; lane < lanes; lane++)
          for (int g = 0; g < groups(); g++) pack_group(from + size_t(lane) * inputs, panel, lane, g);
    }
  }

  template <class T, class F>
  void pack_panel(const float* from, T* weight, int panel, int lanes, F convert) {
    T* to = weight + size_t(panel) * inputs * PANEL;
    for (int k = 0; k < inputs; k++, to += PANEL)
      for (int lane = 0; lane < lanes; lane++) to[lane] = convert(from[size_t(lane) * inputs + k]);
  }

  void pack_group(const float* row, size_t panel, int lane, int g) {
    const int from = g * GROUP, to = std::min(inputs, from + GROUP);
    float largest = 0;
    for (int k = from; k < to; k++) largest = std::max(largest, std::fabs(row[k]));
    const float step = largest / 127;
    scale.at[(panel * groups() + g) * PANEL + lane] = step;
    for (int k = from; k < to; k++)
      reinterpret_cast<int8_t*>(weight)[(panel * inputs + k) * PANEL + lane] = step ? std::lrintf(row[k] / step) : 0;
  }

  static uint16_t rounded(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }
};

// R rows times P panels: y = bias + W x, each y[r][v] holding LANES outputs, with the inputs added one after another.
template <class W, int R, int P>
__attribute__((noinline)) void tile(const Matrix& m, int panel, const float* x, int stride, Vector (*y)[2 * P]) {
  using Number = typename W::Number;
  const Number* w = reinterpret_cast<const Number*>(m.weight) + size_t(panel) * m.inputs * PANEL;
  const size_t next = size_t(m.inputs) * PANEL, scales = size_t(m.groups()) * PANEL;
  Vector a[R][2 * P];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < 2 * P; v++) a[r][v] = load<Vector>(m.bias.at + panel * PANEL + v * LANES);
  for (int from = 0, g = 0; from < m.inputs; from += GROUP, g++) {
    Vector scale[2 * P] = {};
    if (m.scale.at)
      for (int v = 0; v < 2 * P; v++)
        scale[v] = load<Vector>(m.scale.at + (panel + v / 2) * scales + g * PANEL + v % 2 * LANES);
    const int to = std::min(m.inputs, from + GROUP);
    for (int k = from; k < to; k++) {
      Vector weight[2 * P];
      for (int v = 0; v < 2 * P; v++)
        weight[v] = W::load(w + v / 2 * next + size_t(k) * PANEL + v % 2 * LANES, scale[v]);
      for (int r = 0; r < R; r++)
        for (int v = 0; v < 2 * P; v++) a[r][v] += weight[v] * x[size_t(r) * stride + k];
    }
  }
  std::memcpy(y, a, sizeof a);
}

// What is done with R rows of P panels when they are summed.
template <int R, int P>
void apply_epilogue(Vector (*y)[2 * P], Epilogue epilogue, int panel, float* out, int stride) {
  for (int r = 0; r < R; r++, out += stride) {
    if constexpr (P % 2 == 0) {
      if (epilogue == SWIGLU) {  // A panel of gates, then the one of values that belongs to it.
        for (int v = 0; v < P; v++) {
          const Vector gate = y[r][v / 2 * 4 + v % 2], value = y[r][v / 2 * 4 + v % 2 + 2];
          store(out + panel / 2 * PANEL + v * LANES, gate * sigmoid(gate) * value);
        }
        continue;
      }
    }
    for (int v = 0; v < 2 * P; v++) {
      float* to = out + panel * PANEL + v * LANES;
      Vector x = y[r][v];
      if (epilogue == ADD) x += load<Vector>(to);
      if (epilogue == RELU) x = x > 0.0f ? x : every(0);
      // GELU's tanh form: (1 + tanh a) / 2 is sigmoid(2 a).
      if (epilogue == GELU) x *= sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
      store(to, x);
    }
  }
}

template <class W, int R, int P>
void block(const Matrix& m, int panel, const float* x, int in, float* out, int stride, Epilogue epilogue) {
  Vector y[R][2 * P];
  tile<W, R, P>(m, panel, x, in, y);
  apply_epilogue<R, P>(y, epilogue, panel, out, stride);
}

template <class W, int P>
void rows(const Matrix& m, int panel, const float* x, int n, int in, float* out, int stride, Epilogue epilogue) {
  while (n) {
    const int r = n >= 6 ? 6 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
    auto* work = r == 6 ? block<W, 6, P> : r == 4 ? block<W, 4, P> : r == 2 ? block<W, 2, P> : block<W, 1, P>;
    work(m, panel, x, in, out, stride, epilogue);
    n -= r, x += size_t(r) * in, out += size_t(r) * stride;
  }
}

// One thread's share of out = epilogue(W x) for n rows: some of the panels, so that each weight is read once.
template <class W>
void multiply(const Matrix& m, const float* x, int n, int in, float* out, int stride, Epilogue epilogue, int t,
              int threads) {
  const int unit = epilogue == SWIGLU ? 2 : 1, units = m.panels / unit;
  int panel = units * t / threads * unit;
  const int end = units * (t + 1) / threads * unit;
  for (; n == 1 && panel + 4 <= end; panel += 4) block<W, 1, 4>(m, panel, x, in, out, stride, epilogue);
  for (; panel + 2 <= end; panel += 2) rows<W, 2>(m, panel, x, n, in, out, stride, epilogue);
  if (panel < end) rows<W, 1>(m, panel, x, n, in, out, stride, epilogue);
}
