// report.cpp: what the checker has found, in one sentence: line, what is done there to which
// element, what is wrong with it, and the other thread and its line where there is one.
#include "checker.h"
#include "source.h"
#include "variables.h"

namespace simt {
namespace {
// "(1,0,0)", of the i-th of a grid or block.
std::string words(unsigned long long i, const uint3& of) {
  return "(" + std::to_string(i % of.x) + "," + std::to_string(i / of.x % of.y) + "," +
         std::to_string(i / of.x / of.y) + ")";
}

size_t size_of(char type) {
  switch (type) {
    case 'd': case 'q': case 'Q': return 8;
    case 'h': case 'H': return 2;
    case 'b': case 'B': return 1;
    default: return 4;
  }
}

// "x[17]", or "x[-1]" for one before it.
std::string element(const Launch::Array& array, long long offset) {
  const long long size = size_of(array.type);
  const long long i = offset >= 0 ? offset / size : -((size - 1 - offset) / size);
  return array.name + "[" + std::to_string(i) + "]";
}
}  // namespace

void Checker::report(const Use& use, size_t offset, const std::string& trouble) {
  std::string verb = use.how & WRITE ? " writes " : " reads ";
  if (use.how & ATOMIC) verb = " changes ";
  std::string place = "byte " + std::to_string(offset) + " of the dynamic shared memory";
  if (use.kind == Use::ARRAY) place = element(*use.array, offset);
  if (use.kind == Use::STATIC)
    place = byte_of_shared(shared_variables(module_), offset);
  fail("%s%s%s, %s", source_line(use.pc).c_str(), verb.c_str(), place.c_str(), trouble.c_str());
}

void Checker::race(const Use& use, size_t offset, const Moment& other, const char* what,
                   uint32_t block) {
  const bool boxes = clocks_.copies(other.thread) || clocks_.copies(actor());
  std::string who = clocks_.copies(other.thread) ? "the copy of a box"
                                                 : "thread " + words(other.thread, launch_.block);
  if (block) who = "block " + words(blocks_[block - 1], launch_.grid) + " " + who;
  const bool same_warp = other.thread / 32 == worker_->now->index / 32;
  const char* missing = block ? "; no barrier orders two blocks"
                        : boxes ? "; no wait for an mbarrier lies between"
                        : same_warp ? "; no __syncwarp lies between"
                        : !worker_->barriers.empty() ? "; no __syncthreads or mbarrier lies between"
                                    : "; no __syncthreads lies between";
  report(use, offset, "which " + who + " has " + what + " at " + source_line(module_ + other.pc) +
                          missing);
}

void Checker::in_flight(const Use& use, size_t offset, const Moment& copy) {
  report(use, offset, "into which the cp.async of thread " + words(copy.thread, launch_.block) +
                          " at " + source_line(module_ + copy.pc) + " is still under way");
}

void Checker::unwritten(const Use& use, size_t offset) {
  report(use, offset, use.kind == Use::ARRAY ? "which was never written"
                                             : "which no thread of the block has written");
}

void Checker::constant(const Use& use) {
  report(use, use.offset, "but the kernel takes " + use.array->name + " as const");
}

void Checker::outside(const Use& use, size_t size) {
  const std::string bytes = std::to_string(use.bytes) + " bytes at once, but ";
  if (use.kind == Use::ARRAY)
    report(use, use.offset, bytes + "the array ends at " + element(*use.array, size));
  report(use, use.offset, bytes + "the block has " + std::to_string(size));
}

void Checker::misaligned(const Use& use) {
  const std::string n = std::to_string(use.bytes);
  char address[32];
  snprintf(address, sizeof address, "%p", static_cast<const void*>(use.address));
  fail("%s %s %s bytes at once at address %s, which is no multiple of %s",
       source_line(use.pc).c_str(), use.how & WRITE ? "writes" : "reads", n.c_str(), address,
       n.c_str());
}

// Not in any array nor in shared memory: it is told by the array that ends or starts nearest.
void Checker::nowhere(const Use& use) {
  const Launch::Array* nearest = nullptr;
  long long least = 1 << 20, offset = 0;
  for (const Launch::Array& array : launch_.arrays) {
    const long long behind = use.address - array.end, before = array.base - use.address;
    const long long distance = behind >= 0 ? behind : before;
    if (distance >= least) continue;
    least = distance;
    nearest = &array;
    offset = use.address - array.base;
  }
  const char* verb = use.how & WRITE ? "writes" : "reads";
  const std::string line = source_line(use.pc);
  if (!nearest)
    fail("%s %s %zu bytes at %p, in no array and not in shared memory", line.c_str(), verb,
         use.bytes, static_cast<const void*>(use.address));
  const size_t count = (nearest->end - nearest->base) / size_of(nearest->type);
  fail("%s %s %s, but %s has %zu elements", line.c_str(), verb, element(*nearest, offset).c_str(),
       nearest->name.c_str(), count);
}
}  // namespace simt
