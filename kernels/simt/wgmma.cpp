// wgmma.cpp: Hopper's matrix product of a warpgroup, whose factors lie in shared memory.
//
// It is asynchronous, so it is done as late as allowed: at the wait that covers it. Until then its
// sums are poison, and what is written meanwhile over its factors is what it multiplies. Each thread
// does its own part of D; how factors lie is laid down in the PTX ISA under "Matrix Descriptor
// Format" and "Shared Memory Matrix Layout", of which there is the one with 128-byte swizzling here.
#include <string.h>

#include "runtime.h"

namespace simt {
namespace {
constexpr int DEPTH = 16, ROW = 128;  // numbers a product adds up; bytes of a row of the layout

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

// The thread's part of D: rows 16 warp + lane / 4 and 8 below, columns 8 j + 2 (lane % 4) and the next.
void multiply(Worker& w, const Product& p, float* sums) {
  const int t = w.now->index % 128, lane = t % 32;
  const Factor a(p.a, p.a_turned, p.place), b(p.b, p.b_turned, p.place);
  float row[2][DEPTH];
  for (int below = 0; below < 2; ++below)
    for (int k = 0; k < DEPTH; ++k)
      row[below][k] = element(w, a, t / 32 * 16 + lane / 4 + 8 * below, k, p);
  for (int j = 0; j < p.columns / 8; ++j)
    for (int e = 0; e < 2; ++e) {
      float column[DEPTH];
      for (int k = 0; k < DEPTH; ++k) column[k] = element(w, b, 8 * j + lane % 4 * 2 + e, k, p);
      for (int below = 0; below < 2; ++below) {
        float& sum = sums[4 * j + 2 * below + e];
        for (int k = 0; k < DEPTH; ++k) sum += row[below][k] * column[k];
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
  Sums* mine = nullptr;
  for (Sums& s : t.sums)
    if (s.d == d) mine = &s;
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

void wgmma_wait(int keep) {
  Worker& w = *current;
  Thread& t = *w.now;
  size_t done = 0;
  for (; done < t.products.size(); ++done) {
    const Product& p = t.products[done];
    if (p.group + keep >= t.product_groups) break;
    for (Sums& s : t.sums)
      if (s.d == p.d) multiply(w, p, s.values.data());
  }
  t.products.erase(t.products.begin(), t.products.begin() + done);
  for (size_t i = t.sums.size(); i-- > 0;) {
    bool used = false;
    for (const Product& p : t.products) used |= p.d == t.sums[i].d;
    if (used) continue;
    memcpy(t.sums[i].d, t.sums[i].values.data(), t.sums[i].values.size() * sizeof(float));
    t.sums.erase(t.sums.begin() + static_cast<long>(i));
  }
}
}  // namespace simt
