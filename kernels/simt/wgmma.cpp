// wgmma.cpp: Hopper's matrix product of a warpgroup, whose factors lie in shared memory.
//
// It is asynchronous, so it is done as late as allowed: at the wait that covers it, for which a warp
// comes together. Until then its sums are poison, and what is written meanwhile over its factors is
// what it multiplies. Each warp does its own 16 rows of D; how factors lie is laid down in the PTX ISA
// under "Matrix Descriptor Format" and "Shared Memory Matrix Layout", of which there is the one with
// 128-byte swizzling here.
#include <string.h>

#include "warp.h"

namespace simt {
namespace {
constexpr int DEPTH = 16, ROW = 128;  // numbers a product adds up; bytes of a row of the layout
constexpr int MOST_COLUMNS = 256;

// Floats side by side: compilers have a word for them, and each is rounded as if it were alone.
using Four = float __attribute__((vector_size(16)));

// Eight numbers of 16 bits. f16: exponent and fraction are moved into place, the factor makes up for the
// other bias; Inf and NaN have none.
void widen(const char* halves, Half format, float* to) {
  uint16_t h[8];
  uint32_t bits[8];
  memcpy(h, halves, sizeof h);
  if (format == Half::BF16) {
    for (int e = 0; e < 8; ++e) bits[e] = static_cast<uint32_t>(h[e]) << 16;
  } else {
    for (int e = 0; e < 8; ++e) bits[e] = static_cast<uint32_t>(h[e] & 0x7fff) << 13;
    float f[8];
    memcpy(f, bits, sizeof f);
    for (int e = 0; e < 8; ++e) f[e] *= 0x1p112f;
    memcpy(bits, f, sizeof f);
    for (int e = 0; e < 8; ++e) {
      const uint32_t rest = h[e] & 0x7fff;
      bits[e] = rest >= 0x7c00 ? 0x7f800000 | (rest & 0x3ff) << 13 : bits[e];
      bits[e] |= static_cast<uint32_t>(h[e] & 0x8000) << 16;
    }
  }
  memcpy(to, bits, sizeof bits);
}

// Element (i, k) of a factor: row i of A or column i of B. Eight of them lie side by side: from an i that
// is a multiple of 8 on, if the factor is turned, else from such a k on.
struct Factor {
  unsigned start, leading, stride;
  bool turned;  // i is fastest in memory, not k

  Factor(uint64_t descriptor, bool turned_, Place place) : turned(turned_) {
    start = static_cast<unsigned>(descriptor & 0x3fff) << 4;
    leading = static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4;
    stride = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7))
      fail("wgmma at %s:%d: a factor must have 128-byte swizzling and no base offset", place.file,
           place.line);
  }

  unsigned at(int i, int k) const {
    const unsigned a = turned ? start + i / 64 * leading + k / 8 * stride + k % 8 * ROW + i % 64 * 2
                              : start + i / 8 * stride + i % 8 * ROW + k * 2;
    return a ^ (a >> 3 & 0x70);  // pieces of 16 bytes change places within eight rows
  }
};

// The eight elements that begin with (i, k).
void eight(Worker& w, const Factor& f, int i, int k, const Product& p, float* to) {
  const unsigned at = f.at(i, k);
  if (at + 16 > w.smem_bytes)
    fail("wgmma at %s:%d: element (%d,%d) of a factor lies outside shared memory", p.place.file,
         p.place.line, i, k);
  if (w.watch) w.watch->access(w.smem + at, 16, READ | UNASKED, p.pc);
  widen(w.smem + at, p.format, to);
}

// Rows i from `first` on of a factor: to[k][i - first].
template <int ROWS>
void gather(Worker& w, const Factor& f, int first, int count, const Product& p,
            float (&to)[DEPTH][ROWS]) {
  if (f.turned) {
    for (int k = 0; k < DEPTH; ++k)
      for (int i = 0; i < count; i += 8) eight(w, f, first + i, k, p, to[k] + i);
    return;
  }
  for (int i = 0; i < count; ++i)
    for (int k = 0; k < DEPTH; k += 8) {
      float row[8];
      eight(w, f, first + i, k, p, row);
      for (int e = 0; e < 8; ++e) to[k + e][i] = row[e];
    }
}

// The warp's part of D: row i lies with lanes 4 (i % 8) to 4 (i % 8) + 3, of which each has columns
// 8 j + 2 (lane % 4) and the next.
void multiply(Worker& w, unsigned warp, const Product& p, float* const (&sums)[WARP]) {
  const Factor a(p.a, p.a_turned, p.place), b(p.b, p.b_turned, p.place);
  float rows[DEPTH][16], columns[DEPTH][MOST_COLUMNS];
  gather(w, a, static_cast<int>(warp) % 4 * 16, 16, p, rows);
  gather(w, b, 0, p.columns, p, columns);
  for (int i = 0; i < 16; ++i) {
    float* const* lanes = sums + i % 8 * 4;
    for (int j = 0; j < p.columns; j += 8) {  // two floats of each of the four lanes
      float* part[4];
      for (int l = 0; l < 4; ++l) part[l] = lanes[l] + j / 2 + i / 8 * 2;
      Four low = {part[0][0], part[0][1], part[1][0], part[1][1]};
      Four high = {part[2][0], part[2][1], part[3][0], part[3][1]};
      for (int k = 0; k < DEPTH; ++k) {
        Four b_low, b_high;
        memcpy(&b_low, columns[k] + j, sizeof b_low);
        memcpy(&b_high, columns[k] + j + 4, sizeof b_high);
        low += rows[k][i] * b_low;
        high += rows[k][i] * b_high;
      }
      for (int e = 0; e < 4; ++e) {
        part[e / 2][e % 2] = low[e];
        part[2 + e / 2][e % 2] = high[e];
      }
    }
  }
}

Sums* sums_of(Thread& t, const float* d) {
  for (Sums& s : t.sums)
    if (s.d == d) return &s;
  return nullptr;
}

bool same(const Product& p, const Product& q) {
  return p.a == q.a && p.b == q.b && p.columns == q.columns && p.format == q.format &&
         p.a_turned == q.a_turned && p.b_turned == q.b_turned && p.group == q.group;
}

// Does the products that all lanes wait for, and hands out the sums that are complete.
void finish(Warp& warp, Meeting& m) {
  Worker& w = *current;
  if (m.here != ~0u)
    fail("%s at %s:%d needs all 32 lanes of a warp; there are 0x%08x", m.what, m.place.file,
         m.place.line, m.here);
  Thread* lanes = &w.threads[warp.index * WARP];
  const unsigned keep = *static_cast<int*>(warp.operands[0]);
  size_t done = 0;
  for (; done < lanes->products.size(); ++done) {
    const Product& p = lanes->products[done];
    if (p.group + keep >= lanes->product_groups) break;
    float* sums[WARP];
    for (unsigned i = 0; i < WARP; ++i) {
      if (done >= lanes[i].products.size() || !same(lanes[i].products[done], p))
        fail("wgmma at %s:%d: the lanes of a warp do not multiply the same", p.place.file,
             p.place.line);
      sums[i] = sums_of(lanes[i], lanes[i].products[done].d)->values.data();
    }
    multiply(w, warp.index, p, sums);
  }
  for (unsigned i = 0; i < WARP; ++i) {
    Thread& t = lanes[i];
    t.products.erase(t.products.begin(), t.products.begin() + static_cast<long>(done));
    for (size_t s = t.sums.size(); s-- > 0;) {
      bool used = false;
      for (const Product& p : t.products) used |= p.d == t.sums[s].d;
      if (used) continue;
      memcpy(t.sums[s].d, t.sums[s].values.data(), t.sums[s].values.size() * sizeof(float));
      t.sums.erase(t.sums.begin() + static_cast<long>(s));
    }
  }
}
}  // namespace

unsigned shared_offset(const void* address) {
  const Worker& w = *current;
  const char* p = static_cast<const char*>(address);
  if (p < w.smem || p >= w.smem + w.smem_bytes)
    fail("an address in a matrix descriptor lies outside dynamic shared memory");
  return static_cast<unsigned>(p - w.smem);
}

void wgmma(void* d, int columns, uint64_t a, uint64_t b, Half format, bool a_turned, bool b_turned,
           Place place) {
  Thread& t = *current->now;
  const size_t count = columns / 2;
  const Sums* mine = sums_of(t, static_cast<float*>(d));
  if (!mine) {
    const float* values = static_cast<const float*>(d);
    t.sums.push_back({static_cast<float*>(d), std::vector<float>(values, values + count)});
    memset(d, 0xff, count * sizeof(float));
  } else if (mine->values.size() != count) {
    fail("wgmma at %s:%d: its sums are those of a product of other size", place.file, place.line);
  }
  const void* pc = __builtin_return_address(0);
  if (current->watch) current->watch->flops(64 * columns * DEPTH * 2 / 128, pc);
  t.products.push_back({static_cast<float*>(d), columns, a, b, format, a_turned, b_turned,
                        t.product_groups, place, pc});
}

void wgmma_commit() { ++current->now->product_groups; }

void wgmma_wait(int keep, Place place) { meet(~0u, "wgmma.wait_group", place, &keep, finish); }
}  // namespace simt
