// The model: rows in, logits out.
//
// A row is one token, at one position of one slot. A prompt is many rows of one slot, a batch of conversations one row
// of each, and a step may mix them. Every number of a row is summed in one order, whatever other rows, threads or
// pieces of a prompt there are, so that what a request is answered depends on nothing but the request, bit by bit.

#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention.h"
#include "matrix.h"
#include "norm.h"
#include "sampling.h"
#include "thread_team.h"

enum Norm { NO_NORM, LAYERNORM, RMSNORM };
enum VectorName {
  ATTENTION_NORM, ATTENTION_NORM_BIAS, QUERY_NORM, KEY_NORM, MLP_NORM, MLP_NORM_BIAS, EMBEDDING, POSITIONS, COS, SIN,
  VECTORS
};
// A last "layer" has the final norm and, as QKV, the head.
enum MatrixName { QKV, OUT, UP, DOWN, MATRICES };

// As native/decoder.py lays it out.
struct Shape {
  int32_t vocabulary, context, layers, width, heads, kv_heads, head_size, hidden;
  int32_t norm, activation, learned, rope, qk_norm, form, slots, rows, threads;
  float eps;
};

struct Batch {
  int n;
  const int32_t *token, *slot, *position;
  const uint8_t* wanted;
};

class Transformer {
 public:
  explicit Transformer(const Shape& shape)
      : s(shape), width_stride(padded(s.width, PANEL)), hidden_stride(padded(s.hidden, PANEL)),
        qkv_stride(padded((size_t(s.heads) + 2 * size_t(s.kv_heads)) * s.head_size, PANEL)),
        attention_stride(size_t(s.heads) * s.head_size), logits_stride(padded(s.vocabulary, PANEL)),
        vectors((size_t(s.layers) + 1) * VECTORS), matrices((size_t(s.layers) + 1) * MATRICES),
        cache(s.layers, s.slots, s.kv_heads, s.head_size, s.context) {
    const size_t rows = s.rows;
    weights.make(weight_bytes(), true);
    residual.make(rows * width_stride), normed.make(rows * width_stride);
    projected.make(rows * std::max(qkv_stride, logits_stride)), hidden.make(rows * hidden_stride);
    attention_output.make(rows * padded(attention_stride, PANEL)), answers.make(rows);
    use_threads(s.threads);
  }

  // Where that fails, the threads stay as they were.
  void use_threads(int threads) {
    std::vector<Scratch> made(threads);
    for (auto& scratch : made) scratch.make(s);
    auto other = std::make_unique<ThreadTeam>(threads);
    scratch.swap(made), team.swap(other);
  }

  void set_vector(int layer, int name, const float* from, size_t n) {
    auto& v = vectors[size_t(layer) * VECTORS + name];
    if (!v.at) v.make(n);
    std::copy_n(from, n, v.at);
  }

  // A matrix that is set again takes the place that it had.
  void set_matrix(int layer, int name, const float* from, int outputs, int inputs, const float* bias) {
    Matrix& m = matrices[size_t(layer) * MATRICES + name];
    if (!m.weight) {
      m.make(outputs, inputs, Form(s.form), weights.at + packed);
      packed += Matrix::bytes(outputs, inputs, m.form);
    }
    team->run([&](int t) { m.pack(from, t, team->size); });
    std::copy_n(bias, outputs, m.bias.at);
  }

  void step(const Batch& batch, float* out) {
    check(batch);
    int answered = 0;
    for (int row = 0; row < batch.n; row++)
      if (batch.wanted[row]) answers.at[answered++] = row;
    team->run([&](int t) {
      embed(batch, t);
      for (int layer = 0; layer < s.layers; layer++) {
        attention(batch, layer, t);
        mlp(batch.n, layer, t);
      }
      head(answered, out, t);
    });
  }

  void copy(int from, int to, int count) {
    check(from, s.slots, "the slot"), check(to, s.slots, "the slot"), check(count, s.context + 1, "the count");
    if (from != to) cache.copy(from, to, count);
  }

  void draw(int n, const float* logits, const int32_t* row, const SamplingParameters* given, int32_t* token) {
    const int threads = n > 1 ? team->size : 1;
    auto share = [&](int t) {
      for (int i = int64_t(n) * t / threads; i < int64_t(n) * (t + 1) / threads; i++)
        token[i] = ::draw(logits + size_t(row[i]) * s.vocabulary, s.vocabulary, given[i], scratch[t].sampling());
    };
    n > 1 ? team->run(share) : share(0);
  }

 private:
  // What one thread works with, so that no step allocates.
  struct Scratch {
    Array<float> scores, head;
    Array<double> probability;
    Array<int> order;
    void make(const Shape& s) {
      scores.make(padded(s.context, LANES)), head.make(s.head_size);
      probability.make(s.vocabulary), order.make(s.vocabulary);
    }
    SamplingScratch sampling() const { return {probability.at, order.at}; }
  };

  size_t weight_bytes() const {
    const Form form = Form(s.form);
    const size_t up = s.activation == SWIGLU ? 2 * hidden_stride : s.hidden;
    const size_t layer = Matrix::bytes(qkv_stride, s.width, form) + Matrix::bytes(s.width, attention_stride, form) +
                         Matrix::bytes(up, s.width, form) + Matrix::bytes(s.width, s.hidden, form);
    return s.layers * layer + Matrix::bytes(s.vocabulary, s.width, form);
  }

  void check(const Batch& batch) const {
    if (batch.n > s.rows) refuse("the number of rows", batch.n, size_t(s.rows) + 1);
    for (int row = 0; row < batch.n; row++) {
      check(batch.token[row], s.vocabulary, "the token");
      check(batch.slot[row], s.slots, "the slot");
      check(batch.position[row], s.context, "the position");
    }
  }

  static void check(int value, int end, const char* what) {
    if (value < 0 || value >= end) refuse(what, value, end);
  }

  static void refuse(const char* what, int value, size_t end) {
    throw std::out_of_range(std::string(what) + " " + std::to_string(value) + " is not below " + std::to_string(end));
  }

  const float* vector(int layer, int name) const { return vectors[size_t(layer) * VECTORS + name].at; }

  // One thread's share of some units of work, and then the others' end.
  template <class F>
  void share(int64_t units, int t, F each) {
    for (int64_t u = units * t / team->size; u < units * (t + 1) / team->size; u++) each(u);
    team->wait();
  }

  void multiply(int layer, int name, const float* x, int n, int in, float* out, int stride, Epilogue epilogue, int t) {
    const Matrix& m = matrices[size_t(layer) * MATRICES + name];
    auto* work = m.form == FLOAT32 ? ::multiply<Float32> : m.form == BFLOAT16 ? ::multiply<BFloat16> : ::multiply<Int8>;
    work(m, x, n, in, out, stride, epilogue, t, team->size);
    team->wait();
  }

  void embed(const Batch& batch, int t) {
    share(batch.n, t, [&](int64_t row) {
      float* x = residual.at + row * width_stride;
      std::copy_n(vector(s.layers, EMBEDDING) + size_t(batch.token[row]) * s.width, s.width, x);
      if (!s.learned) return;
      const float* position = vector(s.layers, POSITIONS) + size_t(batch.position[row]) * s.width;
      for (int c = 0; c < s.width; c++) x[c] += position[c];
    });
  }

  void normalize_row(int64_t from, int64_t to, int layer, int norm) {
    const float* x = residual.at + from * width_stride;
    float* y = normed.at + to * width_stride;
    if (s.norm == NO_NORM) return void(std::copy(x, x + s.width, y));
    const bool layernorm = s.norm == LAYERNORM;
    normalize(x, y, s.width, vector(layer, norm), layernorm ? vector(layer, norm + 1) : nullptr, layernorm, s.eps);
  }

  void attention(const Batch& batch, int layer, int t) {
    share(batch.n, t, [&](int64_t row) { normalize_row(row, row, layer, ATTENTION_NORM); });
    multiply(layer, QKV, normed.at, batch.n, width_stride, projected.at, qkv_stride, STORE, t);
    share(int64_t(batch.n) * s.kv_heads, t, [&](int64_t u) {
      store_key_value(batch, layer, u / s.kv_heads, u % s.kv_heads, t);
    });
    // Batch see more or fewer positions, so a thread that is free takes the next one; of a lone row, some heads.
    const int some = batch.n > 1 ? s.heads : (s.heads + team->size - 1) / team->size;
    const int shares = (s.heads + some - 1) / some;
    for (int u; (u = team->take()) < batch.n * shares;) {
      const int first = u % shares * some;
      for (int head = first; head < std::min(first + some, s.heads); head++) attend(batch, layer, u / shares, head, t);
    }
    team->wait();
    multiply(layer, OUT, attention_output.at, batch.n, attention_stride, residual.at, width_stride, ADD, t);
  }

  void store_key_value(const Batch& batch, int layer, int64_t row, int head, int t) {
    const float* key = projected.at + row * qkv_stride + (s.heads + head) * s.head_size;
    const int position = batch.position[row];
    rotate(key, scratch[t].head.at, layer, KEY_NORM, position);
    cache.store(layer, batch.slot[row], head, position, scratch[t].head.at, key + s.kv_heads * s.head_size);
  }

  void attend(const Batch& batch, int layer, int64_t row, int head, int t) {
    const int position = batch.position[row], kv_head = head / (s.heads / s.kv_heads);
    rotate(projected.at + row * qkv_stride + head * s.head_size, scratch[t].head.at, layer, QUERY_NORM, position);
    float* out = attention_output.at + row * attention_stride + head * s.head_size;
    cache.attend(layer, batch.slot[row], kv_head, position, scratch[t].head.at, scratch[t].scores.at, out);
  }

  // RMSNorm on a head's queries or keys, and their rotation.
  void rotate(const float* x, float* y, int layer, int norm, int position) const {
    if (s.qk_norm) normalize(x, y, s.head_size, vector(layer, norm), nullptr, false, s.eps);
    else std::copy(x, x + s.head_size, y);
    if (!s.rope) return;
    const int half = s.head_size / 2;
    const size_t at = size_t(position) * half;
    const float *cos = vector(s.layers, COS) + at, *sin = vector(s.layers, SIN) + at;
    for (int k = 0; k < half; k++) {
      const float a = y[k], b = y[k + half];
      y[k] = a * cos[k] - b * sin[k], y[k + half] = b * cos[k] + a * sin[k];
    }
  }

  void mlp(int n, int layer, int t) {
    share(n, t, [&](int64_t row) { normalize_row(row, row, layer, MLP_NORM); });
    multiply(layer, UP, normed.at, n, width_stride, hidden.at, hidden_stride, Epilogue(s.activation), t);
    multiply(layer, DOWN, hidden.at, n, hidden_stride, residual.at, width_stride, ADD, t);
  }

  void head(int answered, float* out, int t) {
    share(answered, t, [&](int64_t i) { normalize_row(answers.at[i], i, s.layers, ATTENTION_NORM); });
    multiply(s.layers, QKV, normed.at, answered, width_stride, projected.at, logits_stride, STORE, t);
    share(answered, t, [&](int64_t i) {
      std::copy_n(projected.at + i * logits_stride, s.vocabulary, out + i * s.vocabulary);
    });
  }

  const Shape s;
  const size_t width_stride, hidden_stride, qkv_stride, attention_stride, logits_stride;  // The room for a row of each.
  std::vector<Array<float>> vectors;
  std::vector<Matrix> matrices;
  Array<char> weights;  // Of all matrices, one after another, in the order in which they are set.
  size_t packed = 0;
  KeyValueCache cache;
  Array<float> residual, normed, projected, attention_output, hidden;
  Array<int> answers;
  std::vector<Scratch> scratch;  // Of each thread.
  std::unique_ptr<ThreadTeam> team;
};
