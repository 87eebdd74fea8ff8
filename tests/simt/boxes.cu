// What test_simt_boxes.py runs: copies of boxes and mbarriers, right; and wrong ones, each by the
// number of its fault. Lines that a report names end in a comment that begins with "line".
#include "ptx.cuh"

__device__ inline void dump(const unsigned short* from, unsigned short* y, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = from[i];  // line dump
}

// y: what one copy brings, as it lies. expects: 0 before the copy, 1 behind it, 2 another thread does.
extern "C" __global__ void box_of_three(const __grid_constant__ TensorMap map, unsigned short* y, int n, int c0, int c1, int c2, int expects) {
  unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrier_init(&full, 1);
    show_mbarriers();
  }
  __syncthreads();  // the mbarrier is there
  if (expects == 2 ? t == 33 : t == 0 && expects == 0) mbarrier_expect(&full, 2 * n);
  if (t == 0) copy_box(place, map, &full, c0, c1, c2);
  if (expects == 1 && t == 0) mbarrier_expect(&full, 2 * n);
  mbarrier_wait(&full, 0);
  dump(place, y, n);
}

extern "C" __global__ void box_of_four(const __grid_constant__ TensorMap map, unsigned short* y, int n, int c0, int c1, int c2, int c3) {
  unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrier_init(&full, 1);
    show_mbarriers();
  }
  __syncthreads();  // the mbarrier is there
  if (t == 0) {
    mbarrier_expect(&full, 2 * n);
    copy_box(place, map, &full, c0, c1, c2, c3);
  }
  mbarrier_wait(&full, 0);
  dump(place, y, n);
}

// `phases` times: a box of each map, both on one mbarrier, at which two threads arrive, each with what
// it copies; y: all of them, one behind the other.
extern "C" __global__ void phase_after_phase(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, unsigned short* y, int n_a, int n_b, int phases) {
  unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrier_init(&full, 2);
    show_mbarriers();
  }
  __syncthreads();  // the mbarrier is there
  for (int i = 0; i < phases; ++i) {
    if (t == 0) {
      mbarrier_expect(&full, 2 * n_a);
      copy_box(place, a, &full, 8 * i, i - 1, 0);
    }
    if (t == 32) {
      copy_box(place + n_a, b, &full, 0, i, 1, -i);
      mbarrier_expect(&full, 2 * n_b);
    }
    mbarrier_wait(&full, i % 2);
    dump(place, y + i * (n_a + n_b), n_a + n_b);
    __syncthreads();  // all of it has been read
  }
}

// A thread of the last warp fills two places in turn, `rounds` times; the warps before it read them by
// ordinary loads. y: what was in the places.
extern "C" __global__ void ring(const __grid_constant__ TensorMap map, unsigned short* y, int n, int rounds, int fault) {
  volatile unsigned short* places = dynamic_shared<unsigned short>();
  __shared__ Barrier full[2], empty[2];
  __shared__ unsigned extra;
  const int t = threadIdx.x, warps = blockDim.x / 32 - 1, lane = t % 32;
  if (t == 0) {
    for (int i = 0; i < 2; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, warps);
    }
    show_mbarriers();
  }
  __syncthreads();  // the mbarriers are there
  if (t >= 32 * warps) {
    if (lane) return;
    for (int i = 0; i < rounds; ++i) {
      const int at = i % 2, round = i / 2 % 2;
      if (fault != 1) mbarrier_wait(empty + at, fault == 2 ? round : round ^ 1);  // line producer waits
      if (fault == 10 && i == 0) extra = 1;
      mbarrier_expect(full + at, 2 * n + (fault == 3 ? 16 : fault == 4 ? -16 : 0));  // line expect
      if (fault == 12 && i == 0) extra = 1;  // line before the copy
      copy_box(const_cast<unsigned short*>(places) + at * n, map, full + at, 0, i, 0);  // line copy
      if (fault == 11 && i == 0) extra = 1;  // line behind the copy
      if (fault == 5 && i == 0) mbarrier_arrive(full + at);  // line too many
    }
    return;
  }
  for (int i = 0; i < rounds; ++i) {
    const int at = i % 2, round = i / 2 % 2;
    if (fault != 6) mbarrier_wait(full + at, fault == 7 ? round ^ 1 : round);  // line consumer waits
    for (int j = lane; j < n; j += 32) {  // all read all, one writes
      const unsigned short v = places[at * n + j];  // line read
      if (t / 32 == i % warps) y[i * n + j] = v;
    }
    if (fault >= 10 && fault <= 12 && i == 0 && t == 0) y[0] += extra;  // line extra
    if (fault != 8) __syncwarp();  // all lanes have read
    if (lane == 0 && fault != 9) mbarrier_arrive(empty + at);
    if (t == 0 && i == 0 && fault == 13) mbarrier_arrive(empty + at);
  }
}

// What may go wrong with one mbarrier and one copy.
extern "C" __global__ void one_copy(const __grid_constant__ TensorMap map, unsigned short* y, unsigned short* source, int n, int fault) {
  unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full[2];
  const int t = threadIdx.x;
  char* bytes = reinterpret_cast<char*>(full);
  if (t == 0) {
    if (fault == 1) mbarrier_init(reinterpret_cast<Barrier*>(bytes + 4), 1);  // line odd
    if (fault == 2) mbarrier_init(reinterpret_cast<Barrier*>(source), 1);  // line odd memory
    if (fault == 3) mbarrier_init(full, 0);  // line nobody
    if (fault != 4) mbarrier_init(full, 1);  // line init
    if (fault == 5) mbarrier_init(full, 1);  // line twice
    show_mbarriers();
  }
  if (fault != 6) __syncthreads();  // the mbarrier is there
  if (fault == 7 && t == 0) full[0] = 0;
  if (fault == 8) mbarrier_arrive(full + 1);  // line stranger
  if (fault == 9) mbarrier_wait(full + 1, 0);  // line stranger waits
  if (fault == 10 && t == 0) copy_box(place, map, full + 1, 0, 0, 0);  // line stranger copies
  if (fault == 11 && t == 0) copy_box(place + 64, map, full, 0, 0, 0);  // line misplaced
  if (fault == 12 && t == 0) copy_box(place + 512, map, full, 0, 0, 0);  // line misplaced past
  if (fault == 13 && t == 0) copy_box(source, map, full, 0, 0, 0);  // line misplaced far
  if (fault == 14 && t == 0) copy_box(place, map, full, 0, 0, 0, 0);  // line rank
  if (t == 0) {
    mbarrier_expect(full, 2 * n);  // line expect one
    copy_box(place, map, full, 0, 0, 0);  // line copy one
  }
  if (fault == 15) return;
  if (fault == 16) mbarrier_wait(full, 2);  // line parity
  if (fault == 17 && t == 40) source[3] = 7;  // line source
  if (fault == 18 && t == 40) place[9] = 7;  // line target
  if (fault != 19 || t < 32) mbarrier_wait(full, 0);  // line wait one
  if (fault == 20 && t == 40) source[3] = 7;  // its warp has waited
  if (fault == 21 && t == 0) *reinterpret_cast<char*>(full) ^= 1;
  if (fault == 22) __syncthreads();  // all have seen the first phase end
  if ((fault == 22 || fault == 23) && t == 0) mbarrier_arrive(full);  // line arrives again
  if (fault == 21 || fault == 22 || fault == 23) mbarrier_wait(full, 1);  // line wait again
  dump(place, y, n);
}

// Nobody waits before reading; or with a parity that has passed. What was there before is gone.
extern "C" __global__ void too_early(const __grid_constant__ TensorMap map, unsigned short* y, int n, int parity) {
  volatile unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrier_init(&full, 1);
    show_mbarriers();
    for (int i = 0; i < n; ++i) place[i] = 7;
    mbarrier_expect(&full, 2 * n);
    copy_box(const_cast<unsigned short*>(place), map, &full, 0, 0, 0);  // line early copy
  }
  __syncthreads();  // the copy is under way
  if (parity == 1) mbarrier_wait(&full, parity);
  for (int i = t; i < n; i += blockDim.x) y[i] = place[i];  // line too early
  __syncthreads();  // all have read
  mbarrier_wait(&full, 0);
}
