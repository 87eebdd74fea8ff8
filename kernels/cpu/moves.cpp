// moves.cpp: ops that choose, move or scale numbers and add up nothing: relu, maxpool2, crop_concat,
// dropout, fill, add, multiply; forward and backward.
//
// Shapes   as the ops' files say; all arrays C-contiguous, NHWC.
// Split    a part is PART consecutive elements or as many whole rows: by the shape alone. No element
//          has two writers and none is a sum, so the split cannot change a bit.
// Cost     memory-bound. The loops are plain ones that the compiler turns into vectors: conditions
//          are choices between two values, or gates on their bits (vec.h).
//
// Called by unetcu/ops/{relu,maxpool2,crop_concat,dropout,elementwise}.py. Tested by tests/ops.
#include <cstdint>
#include <cstring>

#include "isa.h"
#include "pool.h"
#include "vec.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr long PART = 1 << 15;  // elements: three arrays of it fit a core's L2
constexpr int STRIP = 64;       // elements that drop-out works on at once

// body(from, to) over 0..count in parts of `size`.
template <class Body>
void over_elements(long count, Body body, long size = PART) {
  parallel(ceil_div(count, size), [&](long part, int) {
    body(part * size, smaller(count, (part + 1) * size));
  });
}

// body(row) for every row of `width` elements, about PART elements at a time.
template <class Body>
void over_rows(long rows, long width, Body body) {
  const long together = larger(1L, PART / larger(1L, width));
  parallel(ceil_div(rows, together), [&](long part, int) {
    const long to = smaller(rows, (part + 1) * together);
    for (long row = part * together; row < to; ++row) body(row);
  });
}

typedef std::uint8_t bytes __attribute__((vector_size(LANES)));

// Where a window's four numbers lie in x, from its first one, in row order: PLACES in maxpool2.py.
struct Window {
  long place[4];
  Window(long W, long C) : place{0, C, 2 * W * C, 2 * W * C + C} {}
};

void copy(float* to, const float* from, long count) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

void zero(float* to, long count) {
  std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace

// y = max(x, 0), and NaN where x is NaN.
void relu_forward(const float* x, float* y, long count) {
  over_elements(count, [=](long from, long to) {
    for (long i = from; i < to; ++i) y[i] = x[i] <= 0 ? 0.0f : x[i];
  });
}

void relu_backward(const float* dy, const float* y, float* dx, long count) {
  over_elements(count, [=](long from, long to) {
    for (long i = from; i < to; i += LANES) {
      const int some = static_cast<int>(smaller<long>(LANES, to - i));
      store(dx + i, gate(load(dy + i, some), load(y + i, some) > vec{}), some);
    }
  });
}

// x (rows of 2, 2W, C) -> y, winner (rows, W, C): the largest of each window, and its number 0..3 in
// row order; of equals the first, and a NaN before all.
void maxpool2_forward(const float* x, float* y, std::uint8_t* winner, long rows, long W, long C) {
  const Window window(W, C);
  over_rows(rows, W * C, [=](long row) {
    for (long j = 0; j < W; ++j) {
      const float* in = x + 4 * row * W * C + 2 * j * C;
      float* out = y + (row * W + j) * C;
      std::uint8_t* number = winner + (row * W + j) * C;
      for (long c = 0; c < C; c += LANES) {
        const int some = static_cast<int>(smaller<long>(LANES, C - c));
        __builtin_prefetch(in + 4 * C + c);
        vec best = load(in + c, some);
        ivec first{};
        for (int k = 1; k < 4; ++k) {
          __builtin_prefetch(in + 4 * C + window.place[k] + c);
          const vec v = load(in + window.place[k] + c, some);
          const ivec better = ~(v <= best) & (best == best);  // v is larger, or the first NaN
          best = better ? v : best;
          first = better ? ivec{} + k : first;
        }
        store(out + c, best, some);
        const bytes numbers = __builtin_convertvector(first, bytes);
        std::memcpy(number + c, &numbers, static_cast<std::size_t>(some));
      }
    }
  });
}

// Writes all four places of every window: dy where it won, else 0; plus so_far, if given.
void maxpool2_backward(const float* dy, const std::uint8_t* winner, const float* so_far, float* dx,
                       long rows, long W, long C) {
  const Window window(W, C);
  over_rows(rows, W * C, [=](long row) {
    for (long j = 0; j < W; ++j) {
      const float* from = dy + (row * W + j) * C;
      const std::uint8_t* number = winner + (row * W + j) * C;
      const long first = 4 * row * W * C + 2 * j * C;
      for (long c = 0; c < C; c += LANES) {
        const int some = static_cast<int>(smaller<long>(LANES, C - c));
        bytes numbers{};
        std::memcpy(&numbers, number + c, static_cast<std::size_t>(some));
        const ivec won = __builtin_convertvector(numbers, ivec);
        const vec g = load(from + c, some);
        for (int k = 0; k < 4; ++k) {
          const long at = first + window.place[k] + c;
          const vec share = gate(g, won == k);
          store(dx + at, so_far ? load(so_far + at, some) + share : share, some);
        }
      }
    }
  });
}

// y[..., :S] = the centre of skip (N,Hs,Ws,S), y[..., S:] = x (N,H,W,C).
void crop_concat_forward(const float* skip, const float* x, float* y, long N, long Hs, long Ws,
                         long S, long H, long W, long C) {
  const long top = (Hs - H) / 2, left = (Ws - W) / 2;
  over_rows(N * H, W * (S + C), [=](long row) {
    const float* cut = skip + ((row / H * Hs + top + row % H) * Ws + left) * S;
    const float* own = x + row * W * C;
    float* out = y + row * W * (S + C);
    for (long j = 0; j < W; ++j, out += S + C) {
      copy(out, cut + j * S, S);
      copy(out + S, own + j * C, C);
    }
  });
}

// dskip: the first S channels of dy (N,H,W,S+C) at its centre, 0 around.
void crop_concat_backward_skip(const float* dy, float* dskip, long N, long Hs, long Ws, long S,
                               long H, long W, long C) {
  const long top = (Hs - H) / 2, left = (Ws - W) / 2;
  over_rows(N * Hs, Ws * S, [=](long row) {
    const long n = row / Hs, i = row % Hs - top;
    float* out = dskip + row * Ws * S;
    if (i < 0 || i >= H) return zero(out, Ws * S);
    const float* in = dy + (n * H + i) * W * (S + C);
    zero(out, left * S);
    for (long j = 0; j < W; ++j) copy(out + (left + j) * S, in + j * (S + C), S);
    zero(out + (left + W) * S, (Ws - left - W) * S);
  });
}

// dx = the last C channels of dy, a row a pixel.
void crop_concat_backward_x(const float* dy, float* dx, long pixels, long S, long C) {
  over_rows(pixels, S + C, [=](long p) { copy(dx + p * C, dy + p * (S + C) + S, C); });
}

// y = x scale where the element's word is at least `threshold`, else x 0. Element i has word i % 2
// of Philox-2x32-10 with the counter (i / 2, step).
void dropout(const float* x, float* y, long count, std::uint32_t key, std::uint32_t step,
             std::uint32_t threshold, float scale) {
  over_elements(count, [=](long from, long to) {  // from is even
    for (long start = from; start < to; start += 2 * STRIP) {
      std::uint32_t left[STRIP], right[STRIP], round = key;
      for (int i = 0; i < STRIP; ++i) {
        left[i] = static_cast<std::uint32_t>(start / 2 + i);
        right[i] = step;
      }
      for (int r = 0; r < 10; ++r, round += 0x9E3779B9u)
        for (int i = 0; i < STRIP; ++i) {
          const std::uint64_t product = std::uint64_t{left[i]} * 0xD256D193u;
          left[i] = static_cast<std::uint32_t>(product >> 32) ^ round ^ right[i];
          right[i] = static_cast<std::uint32_t>(product);
        }
      float factor[2 * STRIP];
      for (int i = 0; i < STRIP; ++i) {
        factor[2 * i] = left[i] >= threshold ? scale : 0.0f;
        factor[2 * i + 1] = right[i] >= threshold ? scale : 0.0f;
      }
      const int some = static_cast<int>(smaller<long>(2 * STRIP, to - start));
      for (int i = 0; i < some; ++i) y[start + i] = x[start + i] * factor[i];
    }
  }, PART / 8);  // the draws make an element ten times the work of others
}

void fill(float* y, long count, float value) {
  over_elements(count, [=](long from, long to) {
    for (long i = from; i < to; ++i) y[i] = value;
  });
}

void add(const float* a, const float* b, float* y, long count) {
  over_elements(count, [=](long from, long to) {
    for (long i = from; i < to; ++i) y[i] = a[i] + b[i];
  });
}

void multiply(const float* a, const float* b, float* y, long count) {
  over_elements(count, [=](long from, long to) {
    for (long i = from; i < to; ++i) y[i] = a[i] * b[i];
  });
}

}  // namespace unetcu::UNETCU_ISA
