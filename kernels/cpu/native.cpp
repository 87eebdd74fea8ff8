// unetcu._native: the CPU's own kernels, how they were built, and what this CPU can do.
//
// The kernels are compiled for more than one instruction set (isa.h); when the module is loaded,
// the best that the CPU has is chosen, or the one that the environment variable UNETCU_ISA names.
// The functions themselves are bound in bind_*.cpp.

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "arrays.h"
#include "pool.h"

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
  UNETCU_ASK("avx512dq");
  UNETCU_ASK("avx512bw");
  UNETCU_ASK("avx512vl");
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

// The sets that are built in and that this CPU has, the best first.
std::vector<const unetcu::Ops*> usable() {
  std::vector<const unetcu::Ops*> tables;
#ifdef UNETCU_X86
  const Names has = detected();
  const auto all_of = [&](const Names& wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& name) {
      return std::find(has.begin(), has.end(), name) != has.end();
    });
  };
  if (all_of({"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma"}))
    tables.push_back(&unetcu::avx512::table());
  if (all_of({"avx2", "fma"})) tables.push_back(&unetcu::avx2::table());
#endif
  tables.push_back(&unetcu::portable::table());
  return tables;
}

const unetcu::Ops* choose() {
  const std::vector<const unetcu::Ops*> tables = usable();
  const char* asked = std::getenv("UNETCU_ISA");
  if (!asked || !*asked) return tables.front();
  Names names;
  for (const unetcu::Ops* table : tables) {
    if (std::string(asked) == table->name) return table;
    names.push_back(table->name);
  }
  throw py::import_error("UNETCU_ISA is '" + std::string(asked) + "'; this CPU can use " +
                         joined(names));
}

const unetcu::Ops* chosen = nullptr;

std::string describe() {
  return compiler() + ", compiled for " + joined(compiled_for()) + ", this CPU has " +
         joined(detected()) + "; kernels for " + chosen->name;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler();
  info["compiled_for"] = compiled_for();
  info["detected"] = detected();
  info["kernels"] = chosen->name;
  return info;
}

}  // namespace

const unetcu::Ops& unetcu::ops() { return *chosen; }

PYBIND11_MODULE(_native, module) {
  chosen = choose();
  module.doc() = "The CPU's own kernels, how they were built, and what this CPU can do.";
  module.def("describe", &describe, "build_info() in one line of text.");
  module.def("build_info", &build_info,
             "A dict: compiler (str), the instruction sets compiled_for and detected (lists of "
             "str), and kernels (str), the set whose kernels run.");
  module.def("set_threads", &unetcu::set_threads,
             "Use at most this many threads. Results do not depend on it.");
  module.def("scratch_bytes", &unetcu::scratch_bytes,
             "Bytes of working memory that the kernels hold now, on all threads.");
  module.def("rehearse", &unetcu::rehearse,
             "True: from now on this thread's kernels do only the first part of each job. False: "
             "no longer; returns the bytes of working memory that all the jobs would have taken.");
  unetcu::bind_moves(module);
  unetcu::bind_winograd(module);
  unetcu::bind_exact(module);
  unetcu::bind_products(module);
  unetcu::bind_loss(module);
  unetcu::bind_optim(module);
}
