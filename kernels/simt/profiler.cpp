// profiler.cpp: profile mode. Counts what a GPU would have to do for each source line: requests to
// memory and the 32-byte sectors they touch, passes through the banks of shared memory, arithmetic.
//
// Threads run one after the other here, so requests of a warp are put together afterwards: the n-th
// time that its lanes come to an instruction since the last barrier is one request. That is what
// the hardware does wherever lanes skip an instruction for good (guards, loops of different
// length); where lanes take turns in skipping it, requests come out too few and too full.
// An array counts as starting at a multiple of 32 bytes, as allocations on a GPU do.
#include "profiler.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "counted.h"
#include "source.h"

namespace simt {
namespace {
constexpr uint64_t SECTOR = 32, BANKS = 32, WORD = 4;

// Sorts and counts what is different.
uint64_t distinct(uint64_t* first, uint64_t* last) {
  std::sort(first, last);
  return std::unique(first, last) - first;
}
}  // namespace

Profiler::Profiler(const Launch& launch)
    : launch_(launch), variables_(shared_variables(reinterpret_cast<void*>(launch.kernel->run))) {}

void Profiler::block_begins(Worker& worker) { worker_ = &worker; }

void Profiler::warp_barrier(unsigned warp, uint32_t mask) {
  if (worker_->warps[warp].alive & ~mask) return;
  for (Site& site : sites_)
    if (warp < site.warps.size()) flush_warp(site, site.warps[warp]);
}

Profiler::Site& Profiler::site(const void* pc, Kind kind, int array) {
  const uint64_t which = static_cast<unsigned>(array + 1) << 3 | kind;
  const uint64_t key = reinterpret_cast<uint64_t>(pc) << 16 ^ which;
  Recent& recent = recent_[(key >> 16 ^ key) % recent_.size()];
  if (recent.key != key) {
    const auto [found, is_new] = numbers_.try_emplace(key, sites_.size());
    if (is_new) {
      sites_.push_back({pc, kind, array});
      sites_.back().warps.resize(worker_->warps.size());
    }
    recent = {key, found->second};
  }
  return sites_[recent.number];
}

void Profiler::access(const void* address, size_t bytes, unsigned how, const void* pc) {
  const char* p = static_cast<const char*>(address);
  const Worker& w = *worker_;
  if (on_stack(w, p) || how & UNASKED) return;
  const bool write = how & WRITE;
  const Kind shared = write ? SHARED_STORE : SHARED_LOAD;
  if (p >= w.tls && p < w.tls + w.tls_bytes) {
    const size_t offset = p - w.tls;
    int array = -1;
    for (size_t i = 0; i < variables_.size() && variables_[i].begin <= offset; ++i)
      if (offset < variables_[i].end) array = static_cast<int>(launch_.arrays.size() + i);
    return note(site(pc, shared, array), offset, bytes);
  }
  if (in_dynamic_window(w, p))
    return note(site(pc, shared, -1), (uint64_t{1} << 40) + (p - w.smem), bytes);
  for (size_t i = 0; i < launch_.arrays.size(); ++i) {
    const Launch::Array& array = launch_.arrays[i];
    if (p < array.base || p >= array.end) continue;
    const Kind kind = write ? GLOBAL_STORE : GLOBAL_LOAD;
    return note(site(pc, kind, static_cast<int>(i)), p - array.base, bytes);
  }
}

// A copy by cp.async is a load of its source; its way into shared memory is not counted.
void Profiler::copy_begins(void*, size_t, const void* source, size_t valid, const void* pc) {
  if (valid) access(source, valid, READ, pc);
}

void Profiler::note(Site& site, uint64_t at, size_t bytes) {
  const unsigned thread = worker_->now->index, lane = thread % 32;
  Lanes& lanes = site.warps[thread / 32];
  const uint32_t number = lanes.count[lane]++ - lanes.first;
  if (number >= lanes.pending.size()) lanes.pending.emplace_back();
  Request& request = lanes.pending[number];
  request.mask |= 1u << lane;
  request.bytes = static_cast<uint32_t>(bytes);
  request.at[lane] = at;
  // All lanes have come: nothing more can happen to it. Kernels without barriers make many.
  if (number != lanes.done || worker_->warps[thread / 32].alive & ~request.mask) return;
  finish(site, request);
  if (++lanes.done < lanes.pending.size()) return;
  lanes.first += lanes.done;
  lanes.done = 0;
  lanes.pending.clear();
}

void Profiler::flops(int operations, const void* pc) {
  Site& place = site(pc, FLOPS, -1);
  place.operations = operations;
  const unsigned thread = worker_->now->index;
  ++place.warps[thread / 32].count[thread % 32];
}

void Profiler::finish(Site& site, const Request& request) {
  Row& sums = site.sums;
  const int active = __builtin_popcount(request.mask);
  sums.requests += 1;
  sums.lanes += active;
  sums.bytes += uint64_t{request.bytes} * active;
  touched_.clear();
  if (site.kind == GLOBAL_LOAD || site.kind == GLOBAL_STORE) {
    for (int lane = 0; lane < 32; ++lane) {
      if (!(request.mask >> lane & 1)) continue;
      const uint64_t last = (request.at[lane] + request.bytes - 1) / SECTOR;
      for (uint64_t s = request.at[lane] / SECTOR; s <= last; ++s) touched_.push_back(s);
    }
    sums.sectors += distinct(touched_.data(), touched_.data() + touched_.size());
    return;
  }
  // 8 bytes a lane go half a warp at a time, 16 bytes a quarter. In such a phase each bank gives
  // one word a pass, to all lanes that want it.
  const int lanes = request.bytes <= 4 ? 32 : request.bytes <= 8 ? 16 : 8;
  for (int from = 0; from < 32; from += lanes) {
    touched_.clear();
    for (int lane = from; lane < from + lanes; ++lane) {
      if (!(request.mask >> lane & 1)) continue;
      const uint64_t last = (request.at[lane] + request.bytes - 1) / WORD;
      for (uint64_t w = request.at[lane] / WORD; w <= last; ++w) touched_.push_back(w);
    }
    if (touched_.empty()) continue;
    const uint64_t words = distinct(touched_.data(), touched_.data() + touched_.size());
    uint64_t in_bank[BANKS] = {};
    for (uint64_t i = 0; i < words; ++i) ++in_bank[touched_[i] % BANKS];
    sums.wavefronts += *std::max_element(in_bank, in_bank + BANKS);
    sums.ideal += 1;
  }
}

void Profiler::flush_warp(Site& site, Lanes& lanes) {
  if (site.kind == FLOPS) {
    uint64_t most = 0, all = 0;
    for (const uint32_t count : lanes.count) {
      most = std::max<uint64_t>(most, count);
      all += count;
    }
    site.sums.requests += most;
    site.sums.lanes += all;
    site.sums.flops += all * site.operations;
  }
  for (size_t i = lanes.done; i < lanes.pending.size(); ++i) finish(site, lanes.pending[i]);
  std::fill(lanes.count, lanes.count + 32, 0);
  lanes.pending.clear();
  lanes.first = lanes.done = 0;
}

void Profiler::flush() {
  for (Site& site : sites_)
    for (Lanes& lanes : site.warps) flush_warp(site, lanes);
}
std::string Profiler::name_of(int array) const {
  const int arguments = static_cast<int>(launch_.arrays.size());
  if (array < 0) return "";
  return array < arguments ? launch_.arrays[array].name : variables_[array - arguments].name;
}

std::vector<Row> Profiler::rows() const {
  static const char* const KINDS[] = {"global load", "global store", "shared load", "shared store",
                                      "flops"};
  std::vector<const void*> addresses;
  for (const Site& site : sites_) addresses.push_back(site.pc);
  const std::vector<SourceLine> lines = source_lines(addresses);
  std::map<std::tuple<std::string, int, std::string, int, std::string>, Row> sums;
  for (size_t i = 0; i < sites_.size(); ++i) {
    const Site& site = sites_[i];
    const std::string array = name_of(site.array);
    const SourceLine& at = lines[i];
    Row& row = sums[{at.file, at.line, at.caller, site.kind, array}];
    row.file = at.file;
    row.line = at.line;
    row.caller = at.caller;
    row.kind = KINDS[site.kind];
    row.array = array;
    row.requests += site.sums.requests;
    row.lanes += site.sums.lanes;
    row.bytes += site.sums.bytes;
    row.sectors += site.sums.sectors;
    row.wavefronts += site.sums.wavefronts;
    row.ideal += site.sums.ideal;
    row.flops += site.sums.flops;
  }
  std::vector<Row> sorted;
  for (auto& entry : sums) sorted.push_back(entry.second);
  return sorted;
}

std::unique_ptr<Profiler> make_profiler(const Launch& launch) {
  return std::make_unique<Profiler>(launch);
}

void count_flops(int operations) {
  const Worker* worker = current;
  if (worker && worker->now && worker->watch)
    worker->watch->flops(operations, __builtin_return_address(0));
}
}  // namespace simt
