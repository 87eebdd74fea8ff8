// unetcu._native: tells how this module was built, and what the CPU it runs on can do.
//
// The CPU's own kernels will be functions of this module. They have to be compiled for more
// than one instruction set and chosen at run time; the two lists below are what that choice
// is made from.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>
#include <string>
#include <vector>

namespace py = pybind11;

namespace {

using Names = std::vector<std::string>;

std::string compiler() {
  std::ostringstream text;
#if defined(__clang__)
  text << "Clang " << __clang_major__ << '.' << __clang_minor__ << '.' << __clang_patchlevel__;
#elif defined(__GNUC__)
  text << "GCC " << __GNUC__ << '.' << __GNUC_MINOR__ << '.' << __GNUC_PATCHLEVEL__;
#elif defined(_MSC_VER)
  text << "MSVC " << _MSC_VER;
#else
  text << "an unknown compiler";
#endif
  return text.str();
}

// What the compiler was allowed to use everywhere in this module.
Names compiled_for() {
  Names names;
#if defined(__SSE2__) || defined(_M_X64)
  names.push_back("sse2");
#endif
#if defined(__AVX__)
  names.push_back("avx");
#endif
#if defined(__AVX2__)
  names.push_back("avx2");
#endif
#if defined(__FMA__)
  names.push_back("fma");
#endif
#if defined(__AVX512F__)
  names.push_back("avx512f");
#endif
#if defined(__ARM_NEON) || defined(_M_ARM64)
  names.push_back("neon");
#endif
#if defined(__ARM_FEATURE_SVE)
  names.push_back("sve");
#endif
  return names;
}

// What this CPU and its operating system offer: asked where the compiler knows how to ask, and
// otherwise no more than what the module was compiled for, since it is running.
Names detected() {
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
  Names names;
  __builtin_cpu_init();
  // The builtin takes a literal only, hence a macro and no loop.
#define UNETCU_ASK(name) \
  if (__builtin_cpu_supports(name)) names.push_back(name)
  UNETCU_ASK("sse2");
  UNETCU_ASK("avx");
  UNETCU_ASK("avx2");
  UNETCU_ASK("fma");
  UNETCU_ASK("avx512f");
#undef UNETCU_ASK
  return names;
#else
  return compiled_for();
#endif
}

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) {
    if (!text.empty()) text += ' ';
    text += name;
  }
  return text.empty() ? "nothing special" : text;
}

std::string describe() {
  return compiler() + ", compiled for " + joined(compiled_for()) + ", this CPU has " +
         joined(detected());
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler();
  info["compiled_for"] = compiled_for();
  info["detected"] = detected();
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "How unetcu's compiled code was built, and what this CPU can do.";
  module.def("describe", &describe, "build_info() in one line of text.");
  module.def("build_info", &build_info,
             "A dict: compiler (str), and the instruction sets compiled_for and detected (lists "
             "of str).");
}
