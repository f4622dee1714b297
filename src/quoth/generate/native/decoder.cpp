// What Python calls. Each function returns null, or a sentence that says what failed; no exception leaves.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>

#include "transformer.h"

namespace {

template <class F>
const char* guarded(F work) {
  static thread_local char said[256];
  try {
    work();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return "there is not enough memory";
  } catch (const std::exception& error) {
    std::snprintf(said, sizeof said, "%s", error.what());
  } catch (...) {
    return "it does not say why";
  }
  return said;
}

}  // namespace

extern "C" {

const char* decoder_new(const Shape* shape, Transformer** made) {
  return guarded([&] { *made = new Transformer(*shape); });
}

void decoder_free(Transformer* d) { delete d; }

const char* decoder_threads(Transformer* d, int threads) {
  return guarded([&] { d->use_threads(threads); });
}

const char* decoder_vector(Transformer* d, int layer, int name, const float* from, int64_t n) {
  return guarded([&] { d->set_vector(layer, name, from, n); });
}

const char* decoder_matrix(Transformer* d, int layer, int name, const float* from, int outputs, int inputs,
                           const float* bias) {
  return guarded([&] { d->set_matrix(layer, name, from, outputs, inputs, bias); });
}

const char* decoder_step(Transformer* d, int n, const int32_t* token, const int32_t* slot, const int32_t* position,
                         const uint8_t* wanted, float* logits) {
  return guarded([&] { d->step({n, token, slot, position, wanted}, logits); });
}

const char* decoder_copy(Transformer* d, int from, int to, int count) {
  return guarded([&] { d->copy(from, to, count); });
}

const char* decoder_draw(Transformer* d, int n, const float* logits, const int32_t* row,
                         const SamplingParameters* given, int32_t* token) {
  return guarded([&] { d->draw(n, logits, row, given, token); });
}
}
