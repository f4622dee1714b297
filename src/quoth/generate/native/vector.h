// Vectors of 16 numbers, and what is done with them. Where a processor has narrower ones, the compiler takes several.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

constexpr int LANES = 16;

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef int8_t Bytes __attribute__((vector_size(LANES)));

template <class T, class S>
T load(const S* from) {
  T v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

// Integers from narrower ones. Compilers know better ways only since lately.
inline Integers widen(const uint16_t* from) {
#ifdef __AVX512F__
  return (Integers)_mm512_cvtepu16_epi32(load<__m256i>(from));
#else
  return __builtin_convertvector(load<Halves>(from), Integers);
#endif
}

inline Integers widen(const int8_t* from) {
#ifdef __AVX512F__
  return (Integers)_mm512_cvtepi8_epi32(load<__m128i>(from));
#else
  return __builtin_convertvector(load<Bytes>(from), Integers);
#endif
}

inline Vector every(float x) { return Vector{} + x; }

inline float sum(Vector v) {
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
}

// e^x to a few units in the last place (Cody and Waite's reduction, then a polynomial), between 2^-126 and 2^127.
inline Vector exponential(Vector x) {
  const Vector low = every(-87.0f), high = every(88.0f);
  x = x < low ? low : x > high ? high : x;
  const float round = 12582912.0f;  // 1.5 x 2^23: what is added to it loses its fraction.
  const Vector n = (x * 1.44269504f + round) - round;
  const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = every(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) p = p * r + c;
  p = p * r * r + r + 1.0f;
  const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
  return p * load<Vector>(&power);
}

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }
