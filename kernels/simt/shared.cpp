// shared.cpp: the shared memory of a block. It is poison (NaN in every float format) before each
// block, and whoever runs over its end meets a page that faults.
//
// __shared__ variables are thread-local variables of the kernel's module. Its code asks
// __tls_get_addr for them, and where the linker could rename that call (--wrap) it comes here, so
// that they lie in our memory too. Otherwise they lie where the C library has put them.
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "runtime.h"

#ifdef __linux__
#include <link.h>
extern "C" void* __tls_get_addr(void*);
#endif

namespace simt {
namespace {
constexpr size_t BESIDE = 64;  // bytes before the memory that must stay as they are
constexpr size_t ALIGN = 1024;  // of dynamic shared memory: the most that an instruction asks for

thread_local bool* redirected __attribute__((tls_model("initial-exec"))) = nullptr;
}  // namespace

SharedMap::~SharedMap() {
  if (base_) munmap(base_ - PAGE, end_ - base_ + 2 * PAGE);
}

char* SharedMap::place(size_t bytes, size_t align) {
  const size_t needed = (bytes + align + BESIDE + PAGE - 1) / PAGE * PAGE;
  if (!base_ || needed > static_cast<size_t>(end_ - base_)) {
    void* map = mmap(nullptr, needed + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    if (base_) munmap(base_ - PAGE, end_ - base_ + 2 * PAGE);
    base_ = static_cast<char*>(map) + PAGE;
    end_ = base_ + needed;
    if (mprotect(base_, needed, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  }
  bytes_ = bytes;
  placed_ = end_ - bytes;
  placed_ -= reinterpret_cast<uintptr_t>(placed_) % align;
  return placed_;
}

void SharedMap::poison() { memset(placed_ - BESIDE, 0xff, end_ - placed_ + BESIDE); }

long SharedMap::trespass() const {
  for (const char* p = placed_ + bytes_; p < end_; ++p)
    if (*p != '\xff') return p - placed_ - bytes_ + 1;
  for (const char* p = placed_ - 1; p >= placed_ - BESIDE; --p)
    if (*p != '\xff') return p - placed_;
  return 0;
}

void* dynamic_shared() noexcept { return current->smem; }

bool in_shared(const Worker& w, const void* address, size_t bytes) {
  const char* p = static_cast<const char*>(address);
  return (p >= w.smem && p + bytes <= w.smem + w.smem_bytes) ||
         (p >= w.tls && p + bytes <= w.tls + w.tls_bytes);
}

#ifdef __linux__
namespace {
struct Search {
  char* inside;  // of the module (or of its thread-local storage here)
  Launch::Statics statics;
  char* storage;  // this OS thread's, as the C library has it
};

int look(dl_phdr_info* info, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  bool found = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    const char* start = reinterpret_cast<char*>(info->dlpi_addr + part.p_vaddr);
    found |= part.p_type == PT_LOAD && search.inside >= start &&
             search.inside < start + part.p_memsz;
  }
  for (int i = 0; found && i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    if (part.p_type != PT_TLS) continue;
    search.statics.bytes = part.p_memsz;
    search.statics.align = std::max<size_t>(part.p_align, 16);
    search.statics.module = info->dlpi_tls_modid;
    search.storage = static_cast<char*>(info->dlpi_tls_data);
  }
  return found;
}
}  // namespace

Launch::Statics find_statics(const ModuleTable& table) {
  auto* inside = const_cast<char*>(reinterpret_cast<const char*>(&table));
  Search search{inside, {}, nullptr};
  bool seen = false;
  redirected = &seen;
  table.anchor();
  redirected = nullptr;
  dl_iterate_phdr(look, &search);
  search.statics.redirected = seen;
  search.statics.anchor = table.anchor;
  search.statics.table = &table;
  return search.statics;
}

static char* library_storage(const Launch::Statics& statics) {
  statics.anchor();  // makes the C library set it up for this OS thread
  auto* inside = const_cast<char*>(reinterpret_cast<const char*>(statics.table));
  Search search{inside, {}, nullptr};
  dl_iterate_phdr(look, &search);
  return search.storage;
}
#else
Launch::Statics find_statics(const ModuleTable&) { return {}; }
static char* library_storage(const Launch::Statics&) { return nullptr; }
#endif

void lay_out_shared(Worker& w) {
  w.smem_bytes = w.launch->shared;
  w.smem = w.smem_map.place(w.smem_bytes, ALIGN);
  const Launch::Statics& statics = w.launch->statics;
  w.tls_bytes = statics.bytes;
  w.tls = statics.redirected ? w.tls_map.place(statics.bytes, statics.align)
          : statics.module   ? library_storage(statics)
                             : nullptr;
}

void poison_shared(Worker& w) {
  w.tls_module = 0;
  if (w.smem_bytes) w.smem_map.poison();
  if (w.tls && !w.launch->statics.redirected) memset(w.tls, 0xff, w.tls_bytes);
}

std::string trespass(const Worker& w) {
  const long dynamic = w.smem_bytes ? w.smem_map.trespass() : 0;
  const long fixed = w.tls_module ? w.tls_map.trespass() : 0;
  if (!dynamic && !fixed) return "";
  const long by = dynamic ? dynamic : fixed;
  return "something was written " + std::to_string(by < 0 ? -by : by) + " bytes " +
         (by < 0 ? "before the start" : "past the end") + " of " +
         (dynamic ? "dynamic shared memory" : "the __shared__ variables");
}
}  // namespace simt

#ifdef __linux__
// In place of __tls_get_addr for kernels: the address of a variable, given its module and offset.
struct SimtVariable {
  size_t module, offset;
};
extern "C" SIMT_API void* __wrap___tls_get_addr(SimtVariable* variable) {
  using namespace simt;
  Worker* w = current;
  if (w && w->tls_module == variable->module) return w->tls + variable->offset;
  if (w && w->launch->statics.module == variable->module) {  // the block's first use of any
    w->tls_map.poison();
    w->tls_module = variable->module;
    return w->tls + variable->offset;
  }
  if (redirected) *redirected = true;
  return __tls_get_addr(variable);
}
#endif
