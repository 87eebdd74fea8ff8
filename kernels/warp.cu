// warp.cu: cuts training tiles out of images on the GPU, deformed and with varied gray values: what
// unetcu/augment.py does on the CPU, from the same random numbers. No gradient.
//
//   position   of pixel (i, j): sum_ab spline[i][a] nodes[k][a][b] spline[j][b], k = 0, 1 (double)
//   x          cubic spline through the image there: 4 x 4 coefficients; the nearest pixel if exact
//   t, w       label and weight of the nearest pixel, for the centre of the tile
//   gray       gamma between the darkest and the brightest value, contrast about the mean,
//              brightness, noise: unetcu/gray.py
//
// Outside the image lies its mirror image. Positions are doubles, as on the CPU: in an image of
// thousands of pixels a float would be off by 1e-4 of one, and now and then take another label.
//
// Shapes   planes (pixels of all images, C times): image by image, each (C, H, W); coefficients of
//          splines or, if exact, gray values   labels, weights (pixels)
//          places (images, 3): where it starts, in pixels, H, W   spline (tile, 3)
//          tiles (N, NUMBERS + 4 C): NODES coordinates of nodes, the number of the image, the key
//          of the noise in 4 pieces of 32 bits, and of each channel exponent, factor, shift, noise
//          x (N, tile, tile, C)   t, w (N, out, out)   ranges, moments (N, C, parts, 2)
//          What changes from tile to tile is read from memory: a replayed graph sees it.
// Threads  grid (parts, C, N), at most BLOCK parts. A plane's pixels go to all threads of its parts
//          in turns: neighbours write neighbours. Then every block puts together what all parts
//          have found, a thread a part, always in the same order.
// Shared   4096 bytes for each of range and sums.
// Cost     Three passes over x. A pixel takes some 50 operations in double, 70 in float, one power
//          and one logarithm, and 250 of integers for noise: four words are drawn, one is used.
//
// Launched by unetcu/warp.py. Tested by tests/test_warp.py.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int NODES = 18;
constexpr int NUMBERS = NODES + 5;
constexpr float SIXTH = 1.0f / 6;

struct Two {
  double a, b;
};

struct Range {  // darkest, brightest; NaN stays
  __device__ Two operator()(Two s, Two t) const {
    return {t.a < s.a || t.a != t.a ? t.a : s.a, t.b > s.b || t.b != t.b ? t.b : s.b};
  }
};

struct Sum {
  __device__ Two operator()(Two s, Two t) const { return {s.a + t.a, s.b + t.b}; }
};

// What the BLOCK threads bring, made one, pairwise, in one order; for every thread. Once a kernel
// for each way of making one of two.
template <class Join>
__device__ Two joined(Two mine, Join join) {
  __shared__ Two part[BLOCK];
  part[threadIdx.x] = mine;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();  // waits for the round before: a thread reads below what another has joined
    if (threadIdx.x < half) part[threadIdx.x] = join(part[threadIdx.x], part[threadIdx.x + half]);
  }
  __syncthreads();  // waits for the last round: all read what thread 0 has made
  return part[0];
}

// What this thread's block is about: channel c of tile n, of a plane of `area` pixels.
struct Plane {
  int c, channels, parts, area;
  long long n, slot;  // slot: of its first part among all parts
  __device__ explicit Plane(int tile)
      : c(blockIdx.y), channels(gridDim.y), parts(gridDim.x), area(tile * tile), n(blockIdx.z),
        slot((n * channels + c) * parts) {}
  __device__ int first() const { return blockIdx.x * BLOCK + threadIdx.x; }
  __device__ int step() const { return parts * BLOCK; }
  __device__ long long at(int i) const { return (n * area + i) * channels + c; }
  __device__ const double* numbers(const double* tiles) const {
    return tiles + n * (NUMBERS + 4 * channels);
  }
  __device__ float gray(const double* tiles, int which) const {
    return static_cast<float>(numbers(tiles)[NUMBERS + 4 * c + which]);
  }
};

// The pixel at position `at` of a line of so many, which goes on as its mirror image, and so on.
__device__ inline int mirrored(int at, int size) {
  if (at >= 0 && at < size) return at;
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  const int turned = at % period, index = turned < 0 ? turned + period : turned;
  return min(index, period - index);
}

// nodes (3, 3); down, across (3): their weights at a row and at a column of the tile.
__device__ inline double position(const double* nodes, const double* down, const double* across) {
  double sum = 0;
#pragma unroll
  for (int b = 0; b < 3; ++b)
    sum += (down[0] * nodes[b] + down[1] * nodes[3 + b] + down[2] * nodes[6 + b]) * across[b];
  return sum;
}

// The weights of the coefficients at -1, 0, 1, 2 for a position t in [0, 1), and their indices.
__device__ inline void taps(double at, int size, float weight[4], int index[4]) {
  const double whole = floor(at);
  const float t = static_cast<float>(at - whole), s = 1 - t;
  weight[0] = s * s * s * SIXTH;
  weight[1] = (4 - 3 * t * t * (2 - t)) * SIXTH;
  weight[2] = (4 - 3 * s * s * (2 - s)) * SIXTH;
  weight[3] = t * t * t * SIXTH;
#pragma unroll
  for (int k = 0; k < 4; ++k) index[k] = mirrored(static_cast<int>(whole) - 1 + k, size);
}

// Also ranges: the darkest and the brightest value of each part.
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
warp_cut(const float* __restrict__ planes, const int* __restrict__ labels,
         const float* __restrict__ weights, const long long* __restrict__ places,
         const double* __restrict__ spline, const double* __restrict__ tiles,
         float* __restrict__ x, int* __restrict__ t, float* __restrict__ w,
         float* __restrict__ ranges, int tile, int out, int exact) {
  const Plane own(tile);
  const double* nodes = own.numbers(tiles);
  const long long* place = places + 3 * static_cast<long long>(nodes[NODES]);
  const long long start = place[0];
  const int height = static_cast<int>(place[1]), width = static_cast<int>(place[2]);
  const float* plane = planes + start * own.channels + place[1] * place[2] * own.c;
  const int margin = (tile - out) / 2;
  const double largest = 1.7976931348623157e308;
  Two range = {largest, -largest};
  for (int i = own.first(); i < own.area; i += own.step()) {
    const double *down = spline + 3 * (i / tile), *across = spline + 3 * (i % tile);
    const double row = position(nodes, down, across);
    const double column = position(nodes + NODES / 2, down, across);
    const long long nearest =
        static_cast<long long>(mirrored(static_cast<int>(rint(row)), height)) * width +
        mirrored(static_cast<int>(rint(column)), width);
    float value = 0;
    if (exact) {
      value = plane[nearest];
    } else {
      float of_rows[4], of_columns[4];
      int rows[4], columns[4];
      taps(row, height, of_rows, rows);
      taps(column, width, of_columns, columns);
#pragma unroll
      for (int a = 0; a < 4; ++a) {
        const float* line = plane + static_cast<long long>(rows[a]) * width;
        float sum = 0;
#pragma unroll
        for (int b = 0; b < 4; ++b) sum += of_columns[b] * line[columns[b]];
        value += of_rows[a] * sum;
      }
    }
    x[own.at(i)] = value;
    range = Range()(range, Two{value, value});
    const int r = i / tile - margin, q = i % tile - margin;
    if (own.c == 0 && r >= 0 && r < out && q >= 0 && q < out) {
      const long long at = (own.n * out + r) * out + q;
      t[at] = labels[start + nearest];
      w[at] = weights[start + nearest];
    }
  }
  range = joined(range, Range());
  if (threadIdx.x > 0) return;
  ranges[2 * (own.slot + blockIdx.x)] = static_cast<float>(range.a);
  ranges[2 * (own.slot + blockIdx.x) + 1] = static_cast<float>(range.b);
}

// Gamma, where the exponent is not 1. Also moments: of each part the sums of d and d^2, d being how
// far a value is above the darkest of the first part: so little cancels in the variance.
extern "C" __global__ void __launch_bounds__(BLOCK)
warp_gamma(const double* __restrict__ tiles, const float* __restrict__ ranges,
           float* __restrict__ x, double* __restrict__ moments, int tile) {
  const Plane own(tile);
  const float* parts = ranges + 2 * own.slot;
  const int mine = min(static_cast<int>(threadIdx.x), own.parts - 1);
  const Two range = joined(Two{parts[2 * mine], parts[2 * mine + 1]}, Range());
  const float low = static_cast<float>(range.a), span = static_cast<float>(range.b) - low;
  const float exponent = own.gray(tiles, 0), about = parts[0];
  const bool bends = exponent != 1.0f && span > 0.0f;
  Two sums = {0, 0};
  for (int i = own.first(); i < own.area; i += own.step()) {
    float v = x[own.at(i)];
    if (bends) {
      v = low + span * powf((v - low) / span, exponent);
      x[own.at(i)] = v;
    }
    const double d = static_cast<double>(v) - static_cast<double>(about);
    sums = Sum()(sums, Two{d, d * d});
  }
  sums = joined(sums, Sum());
  if (threadIdx.x > 0) return;
  moments[2 * (own.slot + blockIdx.x)] = sums.a;
  moments[2 * (own.slot + blockIdx.x) + 1] = sums.b;
}

// Word number i of Philox-4x64-10 (Salmon et al., SC 2011), as NumPy counts: counters (1 + i / 4,
// channel, 0, 0). key: in 4 pieces of 32 bits, the lowest first.
__device__ inline unsigned long long word(const double* key, int channel, int i) {
  unsigned long long k0 = static_cast<unsigned long long>(key[1]) << 32;
  unsigned long long k1 = static_cast<unsigned long long>(key[3]) << 32;
  k0 |= static_cast<unsigned long long>(key[0]);
  k1 |= static_cast<unsigned long long>(key[2]);
  unsigned long long a = 1 + i / 4, b = channel, c = 0, d = 0;
  for (int round = 0; round < 10; ++round) {
    const unsigned long long first = 0xD2E7470EE14C6C93ull, second = 0xCA5A826395121157ull;
    const unsigned long long high = __umul64hi(second, c) ^ b ^ k0;
    const unsigned long long other = __umul64hi(first, a) ^ d ^ k1;
    b = second * c;
    d = first * a;
    a = high;
    c = other;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  return i % 4 < 2 ? (i % 4 == 0 ? a : b) : (i % 4 == 2 ? c : d);
}

// Box and Muller's normal number of a word: sqrt(-2 log u) cos(2 pi v). The cosine by the series of
// the angle that is left of v beside quarter turns: cosf has local memory, for huge angles.
__device__ inline float normal(unsigned long long word) {
  const float u = (static_cast<float>(static_cast<unsigned>(word >> 41)) + 0.5f) * 0x1p-23f;
  const int v = static_cast<int>(word & 0xFFFFFF), quarters = (v + (1 << 21)) >> 22;
  const float angle = static_cast<float>(v - (quarters << 22)) * (1.57079632679f * 0x1p-22f);
  const float s = angle * angle;
  const float of_8 = 1 - s * (1.0f / 30) * (1 - s * (1.0f / 56));  // up to the power of 8, below 9
  const float of_9 = 1 - s * (1.0f / 42) * (1 - s * (1.0f / 72));
  const float cosine = 1 - s * 0.5f * (1 - s * (1.0f / 12) * of_8);
  const float sine = angle * (1 - s * SIXTH * (1 - s * 0.05f * of_9));
  const float turned = quarters % 2 == 0 ? cosine : -sine;
  return sqrtf(-2 * logf(u)) * (quarters % 4 < 2 ? turned : -turned);
}

// Contrast, brightness and noise, each where its numbers change anything.
extern "C" __global__ void __launch_bounds__(BLOCK)
warp_gray(const double* __restrict__ tiles, const float* __restrict__ ranges,
          const double* __restrict__ moments, float* __restrict__ x, int tile) {
  const Plane own(tile);
  const double* parts = moments + 2 * own.slot;
  const int mine = threadIdx.x;
  Two sums = {0, 0};
  if (mine < own.parts) sums = {parts[2 * mine], parts[2 * mine + 1]};
  sums = joined(sums, Sum());
  const float factor = own.gray(tiles, 1), shift = own.gray(tiles, 2), noise = own.gray(tiles, 3);
  const double middle = sums.a / own.area, variance = sums.b / own.area - middle * middle;
  const float mean = static_cast<float>(static_cast<double>(ranges[2 * own.slot]) + middle);
  const float spread = variance < 0 ? 0.0f : static_cast<float>(sqrt(variance));
  const double* key = own.numbers(tiles) + NODES + 1;
  const bool stretches = factor != 1.0f || shift != 0.0f, adds = noise != 0.0f;
  if (!stretches && !adds) return;
  for (int i = own.first(); i < own.area; i += own.step()) {
    float v = x[own.at(i)];
    if (stretches) v = mean + factor * (v - mean) + shift * spread;
    if (adds) v += spread * noise * normal(word(key, own.c, i));
    x[own.at(i)] = v;
  }
}
