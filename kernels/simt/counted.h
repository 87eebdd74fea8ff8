// counted.h: profile mode's `float` and `double`, which count what is computed with them.
//
// simt.h ends with `#define float ::simt::Counted<float>` (and double) in profile mode: same size,
// same layout, same results, but each addition, multiplication, division and root is one call of
// count_flops, whose return address is the line of the kernel. A fused multiply-add counts two, as
// a * b + c does, so that it does not matter which of the two a compiler makes of a line.
#pragma once
#include <cmath>
#include <type_traits>

#include "api.h"

namespace simt {
SIMT_API void count_flops(int operations);  // profiler.cpp; done by the running thread

#define SIMT_COUNTED __attribute__((always_inline)) inline constexpr

template <class T>
struct Counted {
  T value;
  template <class U>
  static constexpr bool is_number = std::is_arithmetic_v<U> || std::is_enum_v<U>;

  // Zero, not indeterminate: GCC would guard thread_local arrays of it by a flag read each time.
  SIMT_COUNTED Counted() : value(0) {}
  template <class U, class = std::enable_if_t<is_number<U>>>
  SIMT_COUNTED Counted(U u) : value(static_cast<T>(u)) {}
  template <class U, class = std::enable_if_t<!std::is_same_v<T, U>>>
  SIMT_COUNTED Counted(Counted<U> u) : value(static_cast<T>(u.value)) {}
  // Copies of the value, not of the class: a compiler then sees what it sees with plain floats. Of
  // `y[i] = x[i] > 0 ? x[i] : 0` it makes one load and one store.
  SIMT_COUNTED Counted(const Counted& from) : value(from.value) {}
  SIMT_COUNTED Counted& operator=(const Counted& from) {
    value = from.value;
    return *this;
  }
  // Explicit, or `condition ? x : 0.0f` would be ambiguous.
  template <class U, class = std::enable_if_t<is_number<U>>>
  SIMT_COUNTED explicit operator U() const {
    return static_cast<U>(value);
  }
  template <class U>
  SIMT_COUNTED Counted& operator+=(U u) { return *this = *this + u; }
  template <class U>
  SIMT_COUNTED Counted& operator-=(U u) { return *this = *this - u; }
  template <class U>
  SIMT_COUNTED Counted& operator*=(U u) { return *this = *this * u; }
  template <class U>
  SIMT_COUNTED Counted& operator/=(U u) { return *this = *this / u; }
  SIMT_COUNTED Counted operator+() const { return *this; }
  SIMT_COUNTED Counted operator-() const {  // a sign is not an operation
    Counted negative;
    negative.value = -value;
    return negative;
  }
};

// Vector types are still copied in one piece: a float4 is one access of 16 bytes.
#define SIMT_WHOLE(NAME, PARAMETERS, ...)                                \
  NAME() = default;                                                      \
  __attribute__((always_inline)) NAME PARAMETERS : __VA_ARGS__ {}        \
  __attribute__((always_inline)) NAME(const NAME& from) { *this = from; } \
  __attribute__((always_inline)) NAME& operator=(const NAME& from) {     \
    __builtin_memcpy(static_cast<void*>(this), &from, sizeof(NAME));     \
    return *this;                                                        \
  }

template <class T>
struct Raw {
  using type = T;
};
template <class T>
struct Raw<Counted<T>> {
  using type = T;
};
template <class T>
using raw_t = typename Raw<T>::type;
template <class T>
SIMT_COUNTED T raw(T number) { return number; }
template <class T>
SIMT_COUNTED T raw(Counted<T> number) { return number.value; }

template <class T>
constexpr bool is_counted = !std::is_same_v<T, raw_t<T>>;
// What A and B make together in C, if at least one of them is counted and both are numbers.
template <class... A>
using both_t = std::enable_if_t<(is_counted<A> || ...) && (std::is_arithmetic_v<raw_t<A>> && ...),
                                std::common_type_t<raw_t<A>...>>;

#define SIMT_OPERATOR(SYMBOL)                                                     \
  template <class A, class B, class T = both_t<A, B>>                             \
  SIMT_COUNTED Counted<T> operator SYMBOL(A a, B b) {                             \
    if (!__builtin_is_constant_evaluated()) count_flops(1);                       \
    return Counted<T>(static_cast<T>(raw(a)) SYMBOL static_cast<T>(raw(b)));      \
  }
#define SIMT_COMPARISON(SYMBOL)                                                   \
  template <class A, class B, class T = both_t<A, B>>                             \
  SIMT_COUNTED bool operator SYMBOL(A a, B b) {                                   \
    return static_cast<T>(raw(a)) SYMBOL static_cast<T>(raw(b));                  \
  }
SIMT_OPERATOR(+) SIMT_OPERATOR(-) SIMT_OPERATOR(*) SIMT_OPERATOR(/)
SIMT_COMPARISON(==) SIMT_COMPARISON(!=) SIMT_COMPARISON(<)
SIMT_COMPARISON(<=) SIMT_COMPARISON(>) SIMT_COMPARISON(>=)

// The functions of the C library, found by the type of their arguments. FLOPS: how many each
// counts; a library function is one operation, however many steps a GPU needs for it.
#define SIMT_FUNCTION1(NAME, CALL, FLOPS)                                         \
  template <class A, class T = both_t<A>>                                         \
  SIMT_COUNTED auto NAME(A a) {                                                   \
    if (FLOPS && !__builtin_is_constant_evaluated()) count_flops(FLOPS);          \
    return Counted<T>(CALL(raw(a)));                                              \
  }
#define SIMT_FUNCTION2(NAME, CALL, FLOPS)                                         \
  template <class A, class B, class T = both_t<A, B>>                             \
  SIMT_COUNTED auto NAME(A a, B b) {                                              \
    if (FLOPS && !__builtin_is_constant_evaluated()) count_flops(FLOPS);          \
    return Counted<T>(CALL(static_cast<T>(raw(a)), static_cast<T>(raw(b))));      \
  }
#define SIMT_FUNCTION3(NAME, CALL, FLOPS)                                         \
  template <class A, class B, class C, class T = both_t<A, B, C>>                 \
  SIMT_COUNTED auto NAME(A a, B b, C c) {                                         \
    if (FLOPS && !__builtin_is_constant_evaluated()) count_flops(FLOPS);          \
    return Counted<T>(                                                            \
        CALL(static_cast<T>(raw(a)), static_cast<T>(raw(b)), static_cast<T>(raw(c)))); \
  }
#define SIMT_BOTH1(NAME, FLOPS)                                                   \
  SIMT_FUNCTION1(NAME##f, std::NAME, FLOPS)                                       \
  SIMT_FUNCTION1(NAME, std::NAME, FLOPS)
#define SIMT_BOTH2(NAME, FLOPS)                                                   \
  SIMT_FUNCTION2(NAME##f, std::NAME, FLOPS)                                       \
  SIMT_FUNCTION2(NAME, std::NAME, FLOPS)
SIMT_BOTH1(sqrt, 1) SIMT_BOTH1(exp, 1) SIMT_BOTH1(exp2, 1) SIMT_BOTH1(expm1, 1)
SIMT_BOTH1(log, 1) SIMT_BOTH1(log2, 1) SIMT_BOTH1(log1p, 1) SIMT_BOTH1(sin, 1)
SIMT_BOTH1(cos, 1) SIMT_BOTH1(tanh, 1) SIMT_BOTH1(fabs, 0) SIMT_BOTH1(floor, 0)
SIMT_BOTH1(ceil, 0) SIMT_BOTH1(round, 0) SIMT_BOTH1(rint, 0) SIMT_BOTH1(trunc, 0)
SIMT_BOTH2(fmax, 0) SIMT_BOTH2(fmin, 0) SIMT_BOTH2(copysign, 0)
SIMT_BOTH2(pow, 1) SIMT_BOTH2(fmod, 1)
SIMT_FUNCTION3(fmaf, std::fma, 2) SIMT_FUNCTION3(fma, std::fma, 2)
SIMT_FUNCTION2(max, std::fmax, 0) SIMT_FUNCTION2(min, std::fmin, 0)
SIMT_FUNCTION1(abs, std::fabs, 0)
template <class A, class T = both_t<A>>
SIMT_COUNTED bool isnan(A a) { return raw(a) != raw(a); }
template <class A, class T = both_t<A>>
SIMT_COUNTED bool isinf(A a) { return std::isinf(raw(a)); }
template <class A, class T = both_t<A>>
SIMT_COUNTED bool isfinite(A a) { return std::isfinite(raw(a)); }

#undef SIMT_OPERATOR
#undef SIMT_COMPARISON
#undef SIMT_FUNCTION1
#undef SIMT_FUNCTION2
#undef SIMT_FUNCTION3
#undef SIMT_BOTH1
#undef SIMT_BOTH2
}  // namespace simt
