// ptx.cuh: the instructions for which CUDA C++ has no word. Nothing else in kernels/ holds inline
// assembly. On a GPU each function is one instruction; where the SIMT runtime compiles kernels
// (SIMT_HOST), it is a call that does the same, and reports misuse with the caller's line.
#pragma once

#ifdef SIMT_HOST
#define ON_GPU(...)
#define ON_HOST(...) __VA_ARGS__
#define CALLER , SIMT_PLACE
#define CALLED SIMT_PLACE
using simt::TensorMap;
#else
#define ON_GPU(...) __VA_ARGS__
#define ON_HOST(...)
#define CALLER
#define CALLED
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};
__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
#endif

// Dynamic shared memory: as many bytes as the launch asked for, aligned to 1024.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  ON_GPU(extern __shared__ __align__(1024) unsigned char dynamic[];
         return reinterpret_cast<T*>(dynamic);)
  ON_HOST(return static_cast<T*>(simt::dynamic_shared());)
}

// ldmatrix, sm_75: 8 x 8 matrices of 16-bit elements from shared memory to the fragments of mma.
// Lane i brings the address (a multiple of 16) of row i % 8 of matrix i / 8; register j of lane i
// gets elements 2 (i % 4) and the next of row i / 4 of matrix j. `trans`: of column i / 4.
__device__ __forceinline__ void ldmatrix_x1(unsigned (&r)[1], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                      : "=r"(r[0]) : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 1, false, row, SIMT_HERE);)
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&r)[2], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                      : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 2, false, row, SIMT_HERE);)
}
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                      : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 4, false, row, SIMT_HERE);)
}
__device__ __forceinline__ void ldmatrix_x1_trans(unsigned (&r)[1], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                      : "=r"(r[0]) : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 1, true, row, SIMT_HERE);)
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&r)[2], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                      : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 2, true, row, SIMT_HERE);)
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* row CALLER) {
  ON_GPU(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                      : "r"(shared_address(row)) : "memory");)
  ON_HOST(simt::ldmatrix(r, 4, true, row, SIMT_HERE);)
}

// mma, sm_80: d (16 x 8 float) += a (16 x K) b (K x 8) by the 32 lanes of a warp. K = 16 for bf16
// and f16, two to a register, the lower index in the lower half; K = 8 for tf32, a float whose
// lowest 13 bits are ignored. With g = lane / 4 and t = lane % 4 a lane holds
//   16 bits  a: (g, 2t..), (g+8, 2t..), (g, 2t+8..), (g+8, 2t+8..)   b: (2t.., g), (2t+8.., g)
//   tf32     a: (g, t), (g+8, t), (g, t+4), (g+8, t+4)               b: (t, g), (t+4, g)
//   d        (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2] CALLER) {
  ON_GPU(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));)
  ON_HOST(simt::mma_16x8x16(d, a, b, simt::Half::BF16, SIMT_HERE);)
}
__device__ __forceinline__ void mma_f16(float (&d)[4], const unsigned (&a)[4],
                                        const unsigned (&b)[2] CALLER) {
  ON_GPU(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));)
  ON_HOST(simt::mma_16x8x16(d, a, b, simt::Half::F16, SIMT_HERE);)
}
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2] CALLER) {
  ON_GPU(asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));)
  ON_HOST(simt::mma_16x8x8_tf32(d, a, b, SIMT_HERE);)
}

// cvt: a float rounded to 16 bits, to the nearest, of two the even one; and back. bf16: sm_80. The
// second of two goes into the upper half of a register.
__device__ __forceinline__ unsigned short bf16_of(float v) {
  ON_GPU(unsigned short bits; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v)); return bits;)
  ON_HOST(return simt::to_bf16(v);)
}
__device__ __forceinline__ unsigned short f16_of(float v) {
  ON_GPU(unsigned short bits; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v)); return bits;)
  ON_HOST(return simt::to_f16(v);)
}
__device__ __forceinline__ float float_of_f16(unsigned short bits) {
  ON_GPU(float v; asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits)); return v;)
  ON_HOST(return simt::from_f16(bits);)
}
__device__ __forceinline__ unsigned bf16x2_of(float low, float high) {
  ON_GPU(unsigned bits; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
         return bits;)
  ON_HOST(return simt::to_bf16(low) | static_cast<unsigned>(simt::to_bf16(high)) << 16;)
}
__device__ __forceinline__ unsigned f16x2_of(float low, float high) {
  ON_GPU(unsigned bits; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
         return bits;)
  ON_HOST(return simt::to_f16(low) | static_cast<unsigned>(simt::to_f16(high)) << 16;)
}
// A float rounded to the 10 bits of fraction of tf32, halves away from zero. sm_80.
__device__ __forceinline__ unsigned tf32_of(float v) {
  ON_GPU(unsigned bits; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v)); return bits;)
  ON_HOST(return simt::to_tf32(v);)
}

// cp.async, sm_80: BYTES (4, 8 or 16) from global to shared memory in the background; both
// addresses are multiples of BYTES. Only the first `valid` bytes are read, the rest become zeros.
// 16 bytes pass by the first-level cache. The target may be touched only behind the wait.
template <int BYTES>
__device__ __forceinline__ void cp_async(void* shared, const void* global,
                                         int valid = BYTES CALLER) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  ON_GPU(if (BYTES == 16)
           asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                        :: "r"(shared_address(shared)), "l"(global), "r"(valid) : "memory");
         else
           asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                        :: "r"(shared_address(shared)), "l"(global), "r"(valid), "n"(BYTES)
                        : "memory");)
  ON_HOST(simt::copy_async(shared, global, BYTES, valid, SIMT_HERE);)
}
// Makes a group of the thread's copies since the last one.
__device__ __forceinline__ void cp_async_commit() {
  ON_GPU(asm volatile("cp.async.commit_group;" ::: "memory");)
  ON_HOST(simt::copy_commit();)
}
// Waits until at most KEEP of the thread's own groups, the latest, are under way. What other
// threads have copied is there only behind a barrier.
template <int KEEP>
__device__ __forceinline__ void cp_async_wait() {
  ON_GPU(asm volatile("cp.async.wait_group %0;" :: "n"(KEEP) : "memory");)
  ON_HOST(simt::copy_wait(KEEP);)
}

// mbarrier, sm_90: 8 bytes of shared memory that end phase after phase. A phase ends when so many
// arrivals have come as init says, and all bytes that they expect of copies. Phases have parity 0, 1,
// 0, ...; what arriving threads have done, and those copies, is there for whoever has waited for the
// phase. Behind init come show_mbarriers and __syncthreads.
typedef unsigned long long Barrier;
__device__ __forceinline__ void mbarrier_init(Barrier* b, unsigned arrivals CALLER) {
  ON_GPU(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
                      :: "r"(shared_address(b)), "r"(arrivals) : "memory");)
  ON_HOST(simt::mbarrier_init(b, arrivals, SIMT_HERE);)
}
__device__ __forceinline__ void show_mbarriers() {
  ON_GPU(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");)
}
__device__ __forceinline__ void mbarrier_arrive(Barrier* b CALLER) {
  ON_GPU(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(b)) : "memory");)
  ON_HOST(simt::mbarrier_arrive(b, 0, SIMT_HERE);)
}
__device__ __forceinline__ void mbarrier_expect(Barrier* b, unsigned bytes CALLER) {
  ON_GPU(asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                      :: "r"(shared_address(b)), "r"(bytes) : "memory");)
  ON_HOST(simt::mbarrier_arrive(b, bytes, SIMT_HERE);)
}
// Returns when the phase of this parity has ended: at once, if that was the one before.
__device__ __forceinline__ void mbarrier_wait(Barrier* b, unsigned parity CALLER) {
  ON_GPU(asm volatile("{\n.reg .pred done;\n"
                      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                      "@!done bra again;\n}" :: "r"(shared_address(b)), "r"(parity) : "memory");)
  ON_HOST(simt::mbarrier_wait(b, parity, SIMT_HERE);)
}

// Copies a box of an array to shared memory in the background (TMA, sm_90), and tells the mbarrier
// its bytes. The map, a __grid_constant__ parameter, tells sizes, strides and the box; numbers have 16
// bits and the box's rows 64 of them, which lie in 128 bytes, their pieces swizzled as wgmma wants
// it, from a multiple of 1024 bytes on. (c0, c1, ...) is the box's first element, fastest index
// first; what is outside the array becomes 0.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap& map, Barrier* b, int c0,
                                         int c1, int c2 CALLER) {
  ON_GPU(asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                      "[%0], [%1, {%3, %4, %5}], [%2];"
                      :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(b)), "r"(c0),
                         "r"(c1), "r"(c2) : "memory");)
  ON_HOST(const int at[] = {c0, c1, c2}; simt::copy_box(shared, map, b, at, 3, SIMT_HERE);)
}
__device__ __forceinline__ void copy_box(void* shared, const TensorMap& map, Barrier* b, int c0,
                                         int c1, int c2, int c3 CALLER) {
  ON_GPU(asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                      "[%0], [%1, {%3, %4, %5, %6}], [%2];"
                      :: "r"(shared_address(shared)), "l"(&map), "r"(shared_address(b)), "r"(c0),
                         "r"(c1), "r"(c2), "r"(c3) : "memory");)
  ON_HOST(const int at[] = {c0, c1, c2, c3}; simt::copy_box(shared, map, b, at, 4, SIMT_HERE);)
}

// wgmma, sm_90a: d (64 x N floats) += a (64 x 16) b (16 x N) by the four warps of a warpgroup, in the
// background. Both factors lie in shared memory, in rows of 128 bytes whose pieces of 16 bytes are
// swizzled: piece j of the row at byte 128 i of dynamic shared memory lies at j ^ (i % 8). A factor
// is told by where it begins and two strides in bytes. If its 16 (depth) are fastest in memory, a row
// is 64 of them, and groups of eight rows (or columns of b) are `stride` apart; TURNED, a row is 64
// of its rows (columns of b), 64 of them further on begin at `leading`, eight deeper at `stride`.
// A lane holds of d rows 16 (warp % 4) + lane / 4 and 8 more, as the d of mma: columns 8 j + 2 (lane % 4)
// and the next at 4 j, 4 j + 1, of the row 8 below at 4 j + 2, 4 j + 3.
__device__ __forceinline__ unsigned long long wgmma_factor(const void* p, unsigned leading,
                                                           unsigned stride) {
  ON_GPU(const unsigned long long at = shared_address(p);)
  ON_HOST(const unsigned long long at = simt::shared_offset(p);)
  return (at & 0x3ffff) >> 4 | static_cast<unsigned long long>(leading >> 4) << 16 |
         static_cast<unsigned long long>(stride >> 4) << 32 | 1ull << 62;
}
#ifndef SIMT_HOST
#define FOUR(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SIXTEEN(d, i) FOUR(d, i), FOUR(d, i + 4), FOUR(d, i + 8), FOUR(d, i + 12)
#define OF_32 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"    \
              "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define OF_64 OF_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50," \
                    "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define OF_96 OF_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82," \
                    "%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#endif
#define WGMMA(NAME, HALF, TYPE, N, REGISTERS, ...)                                                \
  template <bool A_TURNED, bool B_TURNED>                                                         \
  __device__ __forceinline__ void NAME(float (&d)[N / 2], unsigned long long a,                   \
                                       unsigned long long b CALLER) {                             \
    ON_GPU(asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE " "     \
                        REGISTERS __VA_ARGS__ : "l"(a), "l"(b), "n"(A_TURNED), "n"(B_TURNED));)   \
    ON_HOST(simt::wgmma(d, N, a, b, simt::Half::HALF, A_TURNED, B_TURNED, SIMT_HERE);)            \
  }
#define WGMMA_SIZES(NAME, HALF, TYPE)                                                             \
  WGMMA(NAME, HALF, TYPE, 64, OF_32, "}, %32, %33, 1, 1, 1, %34, %35;"                            \
        : SIXTEEN(d, 0), SIXTEEN(d, 16))                                                          \
  WGMMA(NAME, HALF, TYPE, 128, OF_64, "}, %64, %65, 1, 1, 1, %66, %67;"                           \
        : SIXTEEN(d, 0), SIXTEEN(d, 16), SIXTEEN(d, 32), SIXTEEN(d, 48))                          \
  WGMMA(NAME, HALF, TYPE, 192, OF_96, "}, %96, %97, 1, 1, 1, %98, %99;"                           \
        : SIXTEEN(d, 0), SIXTEEN(d, 16), SIXTEEN(d, 32), SIXTEEN(d, 48), SIXTEEN(d, 64),          \
          SIXTEEN(d, 80))
WGMMA_SIZES(wgmma_bf16, BF16, bf16)
WGMMA_SIZES(wgmma_f16, F16, f16)
// Before the first wgmma, and wherever its sums were touched since the last: for all four warps.
__device__ __forceinline__ void wgmma_begin() {
  ON_GPU(asm volatile("wgmma.fence.sync.aligned;" ::: "memory");)
}
// Makes a group of the products since the last one.
__device__ __forceinline__ void wgmma_commit() {
  ON_GPU(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");)
  ON_HOST(simt::wgmma_commit();)
}
// Waits until at most KEEP groups, the latest, are under way.
template <int KEEP>
__device__ __forceinline__ void wgmma_wait(CALLED) {
  ON_GPU(asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(KEEP) : "memory");)
  ON_HOST(simt::wgmma_wait(KEEP, SIMT_HERE);)
}
// Before the first wgmma_begin and behind the last wait: here the sums d are as C++ has them, and the
// compiler moves nothing that touches them across.
template <int N>
__device__ __forceinline__ void wgmma_settle(float (&d)[N]) {
  ON_GPU(_Pragma("unroll") for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i]) :: "memory");)
  ON_HOST((void)d;)
}
// What this thread has put into shared memory may be read by wgmma: before the barrier.
__device__ __forceinline__ void show_to_wgmma() {
  ON_GPU(asm volatile("fence.proxy.async.shared::cta;" ::: "memory");)
}

// setmaxnreg, sm_90a: from here on a thread of this warpgroup has COUNT registers, a multiple of 8; for
// all of its warps. What some give up, others may have. For the compiler as well.
template <int COUNT>
__device__ __forceinline__ void registers_down_to() {
  ON_GPU(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(COUNT));)
}
template <int COUNT>
__device__ __forceinline__ void registers_up_to() {
  ON_GPU(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(COUNT));)
}

#undef ON_GPU
#undef ON_HOST
#undef CALLER
#undef CALLED
