// mma.cpp: tensor cores. Which element of a matrix lies in which register of which lane is laid
// down in the PTX ISA under "Matrix fragments for mma.m16n8k16" (and m16n8k8), and "ldmatrix".
//
// Products of two half floats or tf32 are exact in float; sums are rounded to nearest here and may
// be truncated on a GPU: compare with a tolerance.
#include <string.h>

#include "warp.h"

namespace simt {
namespace {
float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

template <Half FORMAT>
float widened(uint16_t half) {
  if (FORMAT == Half::BF16) return float_of(static_cast<uint32_t>(half) << 16);
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // Inf, NaN
  // Exponent and fraction moved into place; the factor makes up for the other bias, and turns
  // what would be a subnormal float into the right number.
  return float_of(sign | 0x3f800000) * (float_of(rest << 13) * 0x1p112f);
}

float tf32(uint32_t bits) { return float_of(bits & ~0x1fffu); }  // the lowest 13 bits are ignored

void all_lanes(const Meeting& m) {
  if (m.here != ~0u)
    fail("%s at %s:%d needs all 32 lanes of a warp; there are 0x%08x", m.what, m.place.file,
         m.place.line, m.here);
}

struct Rows {
  alignas(16) uint16_t row[8];  // read when this lane came, so that a missing barrier shows
  unsigned* out;
  int matrices;
  bool transposed;
};

void distribute(Warp& warp, Meeting& m) {
  all_lanes(m);
  const auto& first = *static_cast<Rows*>(warp.operands[0]);
  for (int matrix = 0; matrix < first.matrices; ++matrix) {
    const uint16_t* row[8];
    for (int i = 0; i < 8; ++i) row[i] = static_cast<Rows*>(warp.operands[8 * matrix + i])->row;
    for (int lane = 0; lane < 32; ++lane) {
      const int i = lane / 4, j = lane % 4 * 2;
      const uint32_t low = first.transposed ? row[j][i] : row[i][j];
      const uint32_t high = first.transposed ? row[j + 1][i] : row[i][j + 1];
      static_cast<Rows*>(warp.operands[lane])->out[matrix] = low | high << 16;
    }
  }
}

struct Fragments {
  float* d;
  const unsigned *a, *b;
};

// D (16 x 8) += A (16 x K) B (K x 8), the sum over k in its order.
typedef float Eight __attribute__((vector_size(32), aligned(32)));
template <int K>
void multiply(const float (*a)[K], const Eight* b, Eight* d) {
  for (int i = 0; i < 16; ++i) {
    Eight sum = d[i];
    for (int k = 0; k < K; ++k) sum += a[i][k] * b[k];
    d[i] = sum;
  }
}

template <int K, class A, class B>
void multiply_fragments(Warp& warp, Meeting& m, A take_a, B take_b) {
  all_lanes(m);
  float a[16][K];
  Eight b[K], d[16];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& f = *static_cast<Fragments*>(warp.operands[lane]);
    const int group = lane / 4, t = lane % 4;
    take_a(a, f.a, group, t);
    take_b(b, f.b, group, t);
    for (int i = 0; i < 4; ++i) d[group + i / 2 * 8][t * 2 + i % 2] = f.d[i];
  }
  multiply<K>(a, b, d);
  for (int lane = 0; lane < 32; ++lane) {
    const auto& f = *static_cast<Fragments*>(warp.operands[lane]);
    for (int i = 0; i < 4; ++i) f.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

template <Half FORMAT>
void multiply_halves(Warp& warp, Meeting& m) {
  multiply_fragments<16>(
      warp, m,
      [](float(*a)[16], const unsigned* r, int group, int t) {
        for (int i = 0; i < 8; ++i)
          a[group + i / 2 % 2 * 8][t * 2 + i / 4 * 8 + i % 2] =
              widened<FORMAT>(static_cast<uint16_t>(r[i / 2] >> i % 2 * 16));
      },
      [](Eight* b, const unsigned* r, int group, int t) {
        for (int i = 0; i < 4; ++i)
          b[t * 2 + i / 2 * 8 + i % 2][group] =
              widened<FORMAT>(static_cast<uint16_t>(r[i / 2] >> i % 2 * 16));
      });
}

void multiply_tf32(Warp& warp, Meeting& m) {
  multiply_fragments<8>(
      warp, m,
      [](float(*a)[8], const unsigned* r, int group, int t) {
        for (int i = 0; i < 4; ++i) a[group + i % 2 * 8][t + i / 2 * 4] = tf32(r[i]);
      },
      [](Eight* b, const unsigned* r, int group, int t) {
        for (int i = 0; i < 2; ++i) b[t + i * 4][group] = tf32(r[i]);
      });
}
}  // namespace

void ldmatrix(unsigned* out, int matrices, bool transposed, const void* row, Place place) {
  Worker& w = *current;
  Rows mine{{}, out, matrices, transposed};
  static const char* const names[] = {
      "ldmatrix.x1",       "ldmatrix.x2",       "ldmatrix.x4",
      "ldmatrix.x1.trans", "ldmatrix.x2.trans", "ldmatrix.x4.trans",
  };
  const char* name = names[matrices / 2 + (transposed ? 3 : 0)];
  if (w.now->index % WARP < 8u * matrices) {  // the other lanes' addresses are not used
    if (reinterpret_cast<uintptr_t>(row) % 16)
      fail("%s at %s:%d: the address of a row is no multiple of 16", name, place.file, place.line);
    if (!in_shared(w, row, 16))
      fail("%s at %s:%d: a row lies outside shared memory", name, place.file, place.line);
    if (w.watch) w.watch->access(row, 16, READ, __builtin_return_address(0));
    memcpy(mine.row, row, 16);
  }
  meet(~0u, name, place, &mine, distribute);
}

void mma_16x8x16(void* d, const unsigned* a, const unsigned* b, Half format, Place place) {
  Fragments mine{static_cast<float*>(d), a, b};
  if (current->watch) current->watch->flops(16 * 8 * 16 * 2 / 32, __builtin_return_address(0));
  if (format == Half::BF16)
    meet(~0u, "mma.m16n8k16 bf16", place, &mine, multiply_halves<Half::BF16>);
  else
    meet(~0u, "mma.m16n8k16 f16", place, &mine, multiply_halves<Half::F16>);
}

void mma_16x8x8_tf32(void* d, const unsigned* a, const unsigned* b, Place place) {
  Fragments mine{static_cast<float*>(d), a, b};
  if (current->watch) current->watch->flops(16 * 8 * 8 * 2 / 32, __builtin_return_address(0));
  meet(~0u, "mma.m16n8k8 tf32", place, &mine, multiply_tf32);
}
}  // namespace simt
