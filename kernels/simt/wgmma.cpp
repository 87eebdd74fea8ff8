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

float widened(uint16_t half, Half format) {
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  if (format == Half::F16) {
    const uint32_t sign = bits & 0x80000000u, rest = half & 0x7fff;
    bits = rest >= 0x7c00 ? sign | 0x7f800000 | (rest & 0x3ff) << 13 : rest << 13;
    float f;
    memcpy(&f, &bits, sizeof f);
    if (rest >= 0x7c00) return f;
    f *= 0x1p112f;
    return sign ? -f : f;
  }
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

// Element (i, k) of a factor: row i of A or column i of B.
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

float element(Worker& w, const Factor& f, int i, int k, const Product& p) {
  const char* address = w.smem + f.at(i, k);
  if (f.at(i, k) + 2 > w.smem_bytes)
    fail("wgmma at %s:%d: element (%d,%d) of a factor lies outside shared memory", p.place.file,
         p.place.line, i, k);
  if (w.watch) w.watch->access(address, 2, READ, p.pc);
  uint16_t half;
  memcpy(&half, address, 2);
  return widened(half, p.format);
}

// The warp's part of D: row i lies with lanes 4 (i % 8) to 4 (i % 8) + 3, of which each has columns
// 8 j + 2 (lane % 4) and the next.
void multiply(Worker& w, unsigned warp, const Product& p, float* const (&sums)[WARP]) {
  const Factor a(p.a, p.a_turned, p.place), b(p.b, p.b_turned, p.place);
  float columns[DEPTH][MOST_COLUMNS];
  for (int k = 0; k < DEPTH; ++k)
    for (int j = 0; j < p.columns; ++j) columns[k][j] = element(w, b, j, k, p);
  for (int i = 0; i < 16; ++i) {
    float row[MOST_COLUMNS];
    float* const* lanes = sums + i % 8 * 4;
    for (int j = 0; j < p.columns; ++j) row[j] = lanes[j % 8 / 2][j / 8 * 4 + i / 8 * 2 + j % 2];
    for (int k = 0; k < DEPTH; ++k) {
      const float factor = element(w, a, static_cast<int>(warp) % 4 * 16 + i, k, p);
      for (int j = 0; j < p.columns; ++j) row[j] += factor * columns[k][j];
    }
    for (int j = 0; j < p.columns; ++j) lanes[j % 8 / 2][j / 8 * 4 + i / 8 * 2 + j % 2] = row[j];
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
