// Decoding on a processor: rows in, logits out.
//
// A row is one token, at one position of one slot. A prompt is many rows of one slot, a batch of conversations one row
// of each, and a step may mix them. Every number of a row is summed in one order, whatever other rows, threads or
// pieces of a prompt there are, so that what a request is answered depends on nothing but the request, bit by bit.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "draw.h"
#include "matrix.h"
#include "team.h"

namespace {

enum Norm { NO_NORM, LAYERNORM, RMSNORM };
enum Part {
  ATTENTION_NORM, ATTENTION_NORM_BIAS, QUERY_NORM, KEY_NORM, MLP_NORM, MLP_NORM_BIAS, EMBED, PLACES, COS, SIN, VECTORS,
  PROJECT = 0, OUT, UP, DOWN, MATRICES  // A last "layer" has the final norm and, as PROJECT, the head.
};

struct Shape {
  int32_t vocabulary, context, layers, width, heads, kv_heads, head_size, hidden;
  int32_t norm, after, learned, rope, qk_norm, form, slots, rows, threads;
  float eps;
};

}  // namespace

struct Decoder {
  const Shape s;
  const int groups, deep;  // Query heads for each key; the room for a value's channels.
  const int wide, between, projected, logits;  // The room for a row of each kind.
  std::vector<Array<float>> vectors;
  std::vector<Matrix> matrices;
  Array<char> weights;  // Of all matrices, one after another.
  size_t packed = 0;
  std::vector<Array<float>> keys, values;  // Of each layer: [slot][head][position / LANES][channel][LANES], and plain.
  Array<float> stream, normed, mixed, heard, thought, scores;
  std::unique_ptr<Team> team;

  explicit Decoder(const Shape& shape)
      : s(shape), groups(s.heads / s.kv_heads), deep(padded(s.head_size, LANES)), wide(padded(s.width, PANEL)),
        between(padded(s.hidden, PANEL)), projected(padded((s.heads + 2 * s.kv_heads) * s.head_size, PANEL)),
        logits(padded(s.vocabulary, PANEL)), vectors((s.layers + 1) * VECTORS), matrices((s.layers + 1) * MATRICES),
        keys(s.layers), values(s.layers) {
    weights.make(weight_bytes(), true);
    const size_t places = size_t(s.slots) * s.kv_heads * padded(s.context, LANES);
    for (auto& k : keys) k.make(places * s.head_size);
    for (auto& v : values) v.make(places * deep);
    stream.make(size_t(s.rows) * wide), normed.make(size_t(s.rows) * wide);
    mixed.make(size_t(s.rows) * std::max(projected, logits)), thought.make(size_t(s.rows) * between);
    heard.make(size_t(s.rows) * padded(s.heads * s.head_size, PANEL));
    use(s.threads);
  }

  size_t weight_bytes() const {
    const Form form = Form(s.form);
    const int up = s.after == SWIGLU ? 2 * between : s.hidden, attended = s.heads * s.head_size;
    const size_t layer = Matrix::bytes(projected, s.width, form) + Matrix::bytes(s.width, attended, form) +
                         Matrix::bytes(up, s.width, form) + Matrix::bytes(s.width, s.hidden, form);
    return s.layers * layer + Matrix::bytes(s.vocabulary, s.width, form);
  }

  void use(int threads) {
    team = nullptr;
    team = std::make_unique<Team>(threads);
    scores.make(size_t(threads) * padded(s.context, LANES));
  }

  const float* vector(int layer, int part) const { return vectors[layer * VECTORS + part].at; }

  void normalize(const float* x, float* y, int n, int layer, int part) const {
    if (s.norm == NO_NORM) return void(std::copy(x, x + n, y));
    scaled(x, y, n, vector(layer, part), s.norm == LAYERNORM ? vector(layer, part + 1) : nullptr, s.norm == LAYERNORM);
  }

  void scaled(const float* x, float* y, int n, const float* weight, const float* bias, bool centred) const {
    float mean = 0;
    if (centred) mean = reduce(x, n, [](Vector v) { return v; }) / n;
    const float squares = reduce(x, n, [=](Vector v) { return (v - mean) * (v - mean); }, mean);
    const float by = 1 / std::sqrt(squares / n + s.eps);
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * by * weight[i] + (bias ? bias[i] : 0);
  }

  template <class F>
  static float reduce(const float* x, int n, F term, float rest = 0) {
    Vector total = {}, last = every(rest);  // Lanes past the end hold what adds nothing.
    int i = 0;
    for (; i + LANES <= n; i += LANES) total += term(load<Vector>(x + i));
    if (i == n) return sum(total);
    std::copy(x + i, x + n, reinterpret_cast<float*>(&last));
    return sum(total + term(last));
  }

  // RMSNorm on a head's queries or keys, and their rotation.
  void turn(const float* x, float* y, int layer, int norm, int position) const {
    if (s.qk_norm) scaled(x, y, s.head_size, vector(layer, norm), nullptr, false);
    else std::copy(x, x + s.head_size, y);
    if (!s.rope) return;
    const int half = s.head_size / 2;
    const float *cos = vector(s.layers, COS) + position * half, *sin = vector(s.layers, SIN) + position * half;
    for (int k = 0; k < half; k++) {
      const float a = y[k], b = y[k + half];
      y[k] = a * cos[k] - b * sin[k], y[k + half] = b * cos[k] + a * sin[k];
    }
  }

  size_t place(int slot, int head) const { return (size_t(slot) * s.kv_heads + head) * padded(s.context, LANES); }

  void remember(int layer, int row, int head, int slot, int position) {
    const float* key = mixed.at + size_t(row) * projected + (s.heads + head) * s.head_size;
    const float* value = key + s.kv_heads * s.head_size;
    std::vector<float> turned(s.head_size);
    turn(key, turned.data(), layer, KEY_NORM, position);
    float* to = keys[layer].at + (place(slot, head) + position / LANES * LANES) * s.head_size + position % LANES;
    for (int k = 0; k < s.head_size; k++) to[k * LANES] = turned[k];
    std::copy(value, value + s.head_size, values[layer].at + (place(slot, head) + position) * deep);
  }

  // softmax(q k / sqrt(K)) v over the positions up to the row's own.
  void listen(int layer, int row, int head, int slot, int position, float* score) {
    const int K = s.head_size, tiles = position / LANES + 1;
    const size_t at = place(slot, head / groups);
    std::vector<float> q(K);
    turn(mixed.at + size_t(row) * projected + head * K, q.data(), layer, QUERY_NORM, position);
    const float by = 1 / std::sqrt(float(K));
    Vector most = every(-INFINITY), total = {};
    const float *key = keys[layer].at + at * K, *value = values[layer].at + at * deep;
    int seen = 0;
    for (; seen + 4 * LANES <= position + 1; seen += 4 * LANES)
      compare<4>(q.data(), key + size_t(seen) * K, value + size_t(seen) * deep, score + seen);
    for (; seen <= position; seen += LANES)
      compare<1>(q.data(), key + size_t(seen) * K, value + size_t(seen) * deep, score + seen);
    for (int i = 0; i < tiles; i++) {
      Vector a = load<Vector>(score + i * LANES) * by;
      if (i == tiles - 1)
        for (int l = position % LANES + 1; l < LANES; l++) a[l] = -INFINITY;
      most = a > most ? a : most;
      store(score + i * LANES, a);
    }
    float largest = most[0];
    for (int l = 1; l < LANES; l++) largest = std::max(largest, most[l]);
    for (int i = 0; i < tiles; i++) {
      Vector p = exponential(load<Vector>(score + i * LANES) - largest);
      if (i == tiles - 1)
        for (int l = position % LANES + 1; l < LANES; l++) p[l] = 0;
      total += p;
      store(score + i * LANES, p);
    }
    const float share = 1 / sum(total);
    float* out = heard.at + (size_t(row) * s.heads + head) * K;
    int k = 0;
    for (; k + 4 * LANES <= deep; k += 4 * LANES) gather<4>(score, value + k, position, share, out + k, K - k);
    for (; k < deep; k += LANES) gather<1>(score, value + k, position, share, out + k, K - k);
  }

  // A query times the keys of N vectors of positions. Their values are needed next.
  template <int N>
  void compare(const float* q, const float* key, const float* value, float* score) const {
    Vector a[N] = {};
    for (int k = 0; k < s.head_size; k++)
      for (int v = 0; v < N; v++) {
        const size_t at = (size_t(v) * s.head_size + k) * LANES;
        __builtin_prefetch(value + at);
        a[v] += q[k] * load<Vector>(key + at);
      }
    std::memcpy(score, a, sizeof a);
  }

  // The sum of values by their scores, for N vectors of channels.
  template <int N>
  void gather(const float* score, const float* value, int position, float share, float* out, int left) const {
    Vector a[N] = {};
    for (int p = 0; p <= position; p++)
      for (int v = 0; v < N; v++) a[v] += score[p] * load<Vector>(value + size_t(p) * deep + v * LANES);
    for (int v = 0; v < N; v++) a[v] *= share;
    std::memcpy(out, a, sizeof(float) * std::min(N * LANES, left));
  }

  void multiply(int layer, int part, const float* x, int n, int in, float* out, int stride, After after, int t) {
    const Matrix& m = matrices[layer * MATRICES + part];
    auto* work = m.form == FLOAT32 ? ::multiply<Float32> : m.form == BFLOAT16 ? ::multiply<BFloat16> : ::multiply<Int8>;
    work(m, x, n, in, out, stride, after, t, team->size);
  }

  void step(int n, const int32_t* token, const int32_t* slot, const int32_t* position, const uint8_t* wanted, float* out) {
    int answers = 0;
    std::vector<int> answer(n);
    for (int row = 0; row < n; row++)
      if (wanted[row]) answer[answers++] = row;
    team->run([&](int t) {
      auto share = [&](int units, auto&& each) {
        for (int u = units * t / team->size; u < units * (t + 1) / team->size; u++) each(u);
        team->wait();
      };
      const int attended = s.heads * s.head_size;
      share(n, [&](int row) {
        float* x = stream.at + size_t(row) * wide;
        std::copy_n(vector(s.layers, EMBED) + size_t(token[row]) * s.width, s.width, x);
        for (int c = 0; s.learned && c < s.width; c++) x[c] += vector(s.layers, PLACES)[size_t(position[row]) * s.width + c];
      });
      auto norms = [&](int layer, int part) {
        share(n, [&](int row) { normalize(stream.at + size_t(row) * wide, normed.at + size_t(row) * wide, s.width, layer, part); });
      };
      for (int layer = 0; layer < s.layers; layer++) {
        norms(layer, ATTENTION_NORM);
        multiply(layer, PROJECT, normed.at, n, wide, mixed.at, projected, STORE, t);
        team->wait();
        share(n * s.kv_heads, [&](int u) {
          const int row = u / s.kv_heads;
          remember(layer, row, u % s.kv_heads, slot[row], position[row]);
        });
        // Rows have more or less to listen to, so whoever is free takes the next one; of a lone row, some heads.
        const int some = n > 1 ? s.heads : (s.heads + team->size - 1) / team->size;
        const int shares = (s.heads + some - 1) / some;
        for (int u; (u = team->take()) < n * shares;) {
          const int row = u / shares, first = u % shares * some;
          for (int head = first; head < std::min(first + some, s.heads); head++)
            listen(layer, row, head, slot[row], position[row], scores.at + size_t(t) * padded(s.context, LANES));
        }
        team->wait();
        multiply(layer, OUT, heard.at, n, attended, stream.at, wide, ADD, t);
        team->wait();
        norms(layer, MLP_NORM);
        multiply(layer, UP, normed.at, n, wide, thought.at, between, After(s.after), t);
        team->wait();
        multiply(layer, DOWN, thought.at, n, between, stream.at, wide, ADD, t);
        team->wait();
      }
      share(answers, [&](int i) {
        normalize(stream.at + size_t(answer[i]) * wide, normed.at + size_t(i) * wide, s.width, s.layers, ATTENTION_NORM);
      });
      multiply(s.layers, PROJECT, normed.at, answers, wide, mixed.at, logits, STORE, t);
      team->wait();
      share(answers, [&](int i) { std::copy_n(mixed.at + size_t(i) * logits, s.vocabulary, out + size_t(i) * s.vocabulary); });
    });
  }
};

extern "C" {

// Null where there is no memory for it, or no threads.
Decoder* decoder_new(const Shape* shape) {
  try {
    return new Decoder(*shape);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void decoder_threads(Decoder* d, int threads) { d->use(threads); }

void decoder_free(Decoder* d) { delete d; }

void decoder_vector(Decoder* d, int layer, int part, const float* from, int64_t n) {
  auto& v = d->vectors[layer * VECTORS + part];
  v.make(n);
  std::copy_n(from, n, v.at);
}

void decoder_matrix(Decoder* d, int layer, int part, const float* from, int outputs, int inputs, const float* bias) {
  Matrix& m = d->matrices[layer * MATRICES + part];
  m.pack(from, outputs, inputs, Form(d->s.form), d->weights.at + d->packed);
  d->packed += Matrix::bytes(outputs, inputs, m.form);
  if (bias) std::copy_n(bias, outputs, m.bias.at);
}

void decoder_step(Decoder* d, int n, const int32_t* token, const int32_t* slot, const int32_t* position,
                  const uint8_t* wanted, float* logits) {
  d->step(n, token, slot, position, wanted, logits);
}

void decoder_draw(Decoder* d, int n, const float* logits, const int32_t* row, const Wish* wish, int32_t* token) {
  const int V = d->s.vocabulary;
  const int threads = n > 1 ? d->team->size : 1;
  auto share = [&](int t) {
    for (int i = n * t / threads; i < n * (t + 1) / threads; i++)
      token[i] = draw(logits + size_t(row[i]) * V, V, wish[i]);
  };
  n > 1 ? d->team->run(share) : share(0);
}
}
