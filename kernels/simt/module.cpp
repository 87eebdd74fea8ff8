// module.cpp: the Python module unetcu._simt. Module(path) is a compiled kernel file; its launch
// runs a kernel over a grid and waits for it.
#include <dlfcn.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "arrays.h"
#include "profiler.h"
#include "runtime.h"

namespace py = pybind11;

namespace simt {
namespace {
[[noreturn]] void refuse(const std::string& kernel, const std::string& what) {
  throw std::runtime_error(kernel + ": " + what);
}

std::string spelled(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

uint3 dimensions(const std::string& kernel, const char* what, const std::vector<long long>& given,
                 const uint3& most) {
  if (given.size() != 3) refuse(kernel, std::string("the ") + what + " needs three numbers");
  const long long limits[] = {most.x, most.y, most.z};
  for (int i = 0; i < 3; ++i)
    if (given[i] < 1 || given[i] > limits[i])
      refuse(kernel, std::string("a ") + what + " of (" + std::to_string(given[0]) + "," +
                         std::to_string(given[1]) + "," + std::to_string(given[2]) +
                         ") is outside 1 to " + spelled(most));
  return {static_cast<unsigned>(given[0]), static_cast<unsigned>(given[1]),
          static_cast<unsigned>(given[2])};
}

// The letter in api.h for a NumPy type; 0 for one that kernels do not have.
char letter(const py::dtype& type) {
  const char kind = type.kind();
  const py::ssize_t size = type.itemsize();
  if (!type.attr("isnative").cast<bool>()) return 0;  // its bytes are in the other order
  if (kind == 'f') return size == 2 ? 'e' : size == 4 ? 'f' : size == 8 ? 'd' : 0;
  if (kind != 'i' && kind != 'u') return 0;
  const char* letters = kind == 'i' ? "bhiq" : "BHIQ";
  return size == 1 ? letters[0] : size == 2 ? letters[1] : size == 4 ? letters[2] : letters[3];
}

Order order_of(const std::string& kernel, const std::string& name) {
  if (name == "forward") return Order::FORWARD;
  if (name == "reverse") return Order::REVERSE;
  if (name == "shuffled") return Order::SHUFFLED;
  refuse(kernel, "no order " + name + "; there are forward, reverse, shuffled");
}

Guard guard_of(const std::string& kernel, const std::string& name) {
  if (name == "none") return Guard::NONE;
  if (name == "after") return Guard::AFTER;
  if (name == "before") return Guard::BEFORE;
  refuse(kernel, "no guard " + name + "; there are none, after, before");
}

bool all_poison(const char* from, const char* to) {
  return std::all_of(from, to, [](char c) { return c == '\xff'; });
}

py::list as_list(const std::vector<Row>& rows) {
  py::list list;
  for (const Row& r : rows) {
    py::dict d;
    d["file"] = r.file;
    d["line"] = r.line;
    d["caller"] = r.caller;
    d["kind"] = r.kind;
    d["array"] = r.array;
    d["requests"] = r.requests;
    d["lanes"] = r.lanes;
    d["bytes"] = r.bytes;
    d["sectors"] = r.sectors;
    d["wavefronts"] = r.wavefronts;
    d["ideal"] = r.ideal;
    d["flops"] = r.flops;
    list.append(d);
  }
  return list;
}

class Module {
 public:
  explicit Module(const std::string& path) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed
    if (!handle) throw std::runtime_error(dlerror());
    table_ = static_cast<const ModuleTable*>(dlsym(handle, "simt_module"));
    if (!table_) throw std::runtime_error(path + " is no kernel module");
#if defined(__x86_64__)
    if (table_->needs_avx2 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                                __builtin_cpu_supports("f16c")))
      throw std::runtime_error(path + " needs a CPU with AVX2, FMA and F16C; this one has not all");
#endif
    statics_ = find_statics(*table_);
  }

  std::vector<std::string> kernels() const {
    std::vector<std::string> names;
    for (int i = 0; i < table_->count; ++i) names.push_back(table_->kernels[i].name);
    return names;
  }

  py::object launch(const std::string& name, const std::vector<long long>& grid,
                    const std::vector<long long>& block, const py::sequence& args, long long shared,
                    const std::string& order, uint64_t seed, const std::string& guard, bool checked,
                    bool profile, const std::vector<std::string>& names, unsigned workers) const {
    Launch l{};
    l.kernel = find(name);
    l.grid = dimensions(name, "grid", grid, {2147483647, 65535, 65535});
    l.block = dimensions(name, "block", block, {1024, 1024, 64});
    if (l.block.x * l.block.y * l.block.z > MOST_THREADS)
      refuse(name, "a block of " + spelled(l.block) + " has more than 1024 threads");
    if (shared < 0 || static_cast<size_t>(shared) > MOST_SHARED)
      refuse(name, std::to_string(shared) + " bytes of shared memory; at most " +
                       std::to_string(MOST_SHARED));
    l.shared = shared;
    l.statics = statics_;
    l.order = order_of(name, order);
    l.seed = seed;
    l.workers = workers ? workers : std::max(1u, std::thread::hardware_concurrency());
    if (checked && profile) refuse(name, "checked and profile exclude each other");

    Arrays arrays(guard_of(name, guard));
    struct alignas(64) Value {
      char bytes[sizeof(TensorMap)];
    };
    const size_t count = strlen(l.kernel->types);
    if (args.size() != count)
      refuse(name, "takes " + std::to_string(count) + " arguments, got " +
                       std::to_string(args.size()));
    std::vector<Value> values(count);
    std::vector<void*> pointers(count);
    for (size_t i = 0; i < count; ++i) {
      pointers[i] = values[i].bytes;
      const std::string called =
          i < names.size() ? names[i] : "argument " + std::to_string(i + 1);
      take(l, i, called, args[i], checked, arrays, values[i].bytes);
    }
    l.arguments = pointers.data();
    arrays.protect();

    std::unique_ptr<Watch> checker = checked ? make_checker(l) : nullptr;
    std::unique_ptr<Profiler> profiler = profile ? make_profiler(l) : nullptr;
    l.watch = profile ? profiler.get() : checker.get();
    std::string error;
    {
      const py::gil_scoped_release release;
      error = simt::launch(l);
    }
    if (!error.empty()) throw std::runtime_error(error);
    try {
      arrays.copy_back();
    } catch (const std::runtime_error& trouble) {
      refuse(name, trouble.what());
    }
    return profile ? static_cast<py::object>(as_list(profiler->rows())) : py::none();
  }

 private:
  const Kernel* find(const std::string& name) const {
    std::string all;
    for (int i = 0; i < table_->count; ++i) {
      if (name == table_->kernels[i].name) return &table_->kernels[i];
      all += (i ? ", " : "") + std::string(table_->kernels[i].name);
    }
    refuse(name, "there is no such kernel; there are: " + all);
  }

  // One argument: a NumPy array for a pointer, a NumPy scalar for a value, of exactly its type.
  static void take(Launch& l, size_t i, const std::string& called, const py::handle& given,
                   bool checked, Arrays& arrays, char* value) {
    const std::string kernel = l.kernel->name;
    const char type = l.kernel->types[i], passing = l.kernel->passing[i];
    if (type == 'M') return take_map(l, called, given, checked, arrays, value);
    const bool is_array = py::isinstance<py::array>(given);
    if (is_array != (passing != 'v') || !py::hasattr(given, "dtype"))
      refuse(kernel, called + " must be a NumPy " + (passing == 'v' ? "scalar" : "array"));
    py::array array = py::array::ensure(given);
    if (letter(array.dtype()) != type)
      refuse(kernel, called + " is " + std::string(py::str(array.dtype())) + ", not of the type '" +
                         type + "' that the kernel takes");
    if (passing == 'v') {
      memcpy(value, array.data(), array.itemsize());
      return;
    }
    char* base = add(l, array, type, passing == 'w', called, checked, arrays);
    memcpy(value, &base, sizeof base);
  }

  // Where the kernel finds an array.
  static char* add(Launch& l, const py::array& array, char type, bool writable,
                   const std::string& called, bool checked, Arrays& arrays) {
    const std::string kernel = l.kernel->name;
    if (!(array.flags() & py::array::c_style)) refuse(kernel, called + " is not contiguous");
    if (writable && !array.writeable()) refuse(kernel, called + " is read-only");
    char* data = static_cast<char*>(const_cast<void*>(array.data()));
    const size_t bytes = array.nbytes();
    char* base;
    try {
      base = arrays.add(data, bytes, writable, called);
    } catch (const std::runtime_error& trouble) {
      refuse(kernel, trouble.what());
    }
    // An output as device.empty has left it. Not so an input of integers: labels may all be -1.
    const bool uninitialised = checked && writable && bytes && all_poison(base, base + bytes);
    l.arrays.push_back({base, base + bytes, writable, called, type, uninitialised});
    return base;
  }

  // A map of boxes: (array, first element, sizes, strides in elements, box); see device/boxes.py.
  static void take_map(Launch& l, const std::string& called, const py::handle& given, bool checked,
                       Arrays& arrays, char* value) {
    if (!py::isinstance<py::tuple>(given) || py::len(given) != 5)
      refuse(l.kernel->name, called + " must be a map of boxes");
    const auto parts = py::cast<py::tuple>(given);
    const auto array = py::cast<py::array>(parts[0]);
    const auto start = py::cast<long long>(parts[1]);
    const auto sizes = py::cast<std::vector<int>>(parts[2]);
    const auto strides = py::cast<std::vector<long long>>(parts[3]);
    const auto box = py::cast<std::vector<int>>(parts[4]);
    TensorMap map{};
    map.rank = static_cast<int>(std::min<size_t>(sizes.size(), 5));
    if (array.itemsize() != 2 || map.rank < 2 || map.rank > 4 || strides.size() != sizes.size() ||
        box.size() != sizes.size() || strides[0] != 1 || sizes[0] % 8 || box[0] != 64)
      refuse(l.kernel->name, called + " is no map of boxes of 64 16-bit numbers");
    map.base = add(l, array, letter(array.dtype()), false, called, checked, arrays) + 2 * start;
    for (int d = 0; d < map.rank; ++d) {
      map.sizes[d] = sizes[d];
      map.strides[d] = 2 * strides[d];
      map.box[d] = box[d];
    }
    memcpy(value, &map, sizeof map);
  }

  const ModuleTable* table_;
  Launch::Statics statics_;
};
}  // namespace
}  // namespace simt

PYBIND11_MODULE(_simt, m) {
  m.doc() = "The SIMT runtime: runs compiled CUDA kernels on a CPU.";
  // Kernel modules find the runtime's functions among the global symbols.
  Dl_info self;
  if (!dladdr(reinterpret_cast<void*>(&simt::copy_commit), &self) ||
      !dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL))
    throw py::import_error("unetcu._simt cannot offer its functions to kernels");
  py::class_<simt::Module>(m, "Module", "A compiled kernel file.")
      .def(py::init<std::string>(), py::arg("path"))
      .def("kernels", &simt::Module::kernels, "The names of its kernels.")
      .def("launch", &simt::Module::launch, py::arg("name"), py::arg("grid"), py::arg("block"),
           py::arg("args"), py::arg("shared") = 0, py::arg("order") = "forward",
           py::arg("seed") = 0, py::arg("guard") = "none", py::arg("checked") = false,
           py::arg("profile") = false, py::arg("names") = std::vector<std::string>(),
           py::arg("workers") = 0,
           "Runs a kernel and waits for it.\n\n"
           "args: NumPy arrays for pointers, NumPy scalars for values. shared: bytes of dynamic\n"
           "shared memory. order: forward, reverse or shuffled (by seed), of threads and blocks.\n"
           "guard: none, after or before: where a page that faults lies beside each array.\n"
           "checked, profile: for modules compiled for it; profile returns a list of dicts.\n"
           "names: of the arguments. workers: OS threads, 0 for one a CPU.\n"
           "RuntimeError for whatever is wrong, \"kernel: block (x,y,z) thread (x,y,z): what\".");
}
