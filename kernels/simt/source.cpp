// source.cpp: asks addr2line (binutils: there wherever g++ is) which lines addresses belong to.
#include "source.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>

extern char** environ;

namespace simt {
namespace {
using Key = std::pair<std::string, uintptr_t>;  // a module's file, and an offset in it
std::map<Key, SourceLine>& known() {
  static std::map<Key, SourceLine> lines;
  return lines;
}

Key key_of(const void* address) {
  Dl_info module;
  if (!address || !dladdr(address, &module) || !module.dli_fname) return {"", 0};
  // A return address lies behind the call, perhaps already on the next line.
  const auto at = reinterpret_cast<uintptr_t>(address) - 1;
  return {module.dli_fname, at - reinterpret_cast<uintptr_t>(module.dli_fbase)};
}

// The program's output, or "" where it cannot be started. No shell is involved.
std::string output_of(std::vector<std::string> words) {
  int ends[2];
  if (pipe(ends)) return "";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(&word[0]);
  argv.push_back(nullptr);
  pid_t child = 0;
  const bool started = !posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string text;
  char part[1024];
  while (started) {
    const ssize_t n = read(ends[0], part, sizeof part);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(part, n);
  }
  close(ends[0]);
  while (started && waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return text;
}

// "/tmp/x/kernels/conv3x3.cu" as "kernels/conv3x3.cu", any other path as its last part.
std::string shown(const std::string& path) {
  const size_t folder = path.rfind("/kernels/"), last = path.rfind('/');
  if (folder != std::string::npos) return path.substr(folder + 1);
  return last == std::string::npos ? path : path.substr(last + 1);
}

bool ends_with(const std::string& text, const char* end) {
  const size_t n = strlen(end);
  return text.size() >= n && text.compare(text.size() - n, n, end) == 0;
}

// Of functions that stand for instructions, the line that called them is asked for.
bool is_instruction(const std::string& file) {
  for (const char* name : {"/simt.h", "/numbers.h", "/counted.h", "/ptx.cuh"})
    if (ends_with(file, name)) return true;
  return false;
}

// addr2line -a -i prints for each address "0x...", then "file:line", innermost function first.
void read_answer(const std::string& text, const std::string& module) {
  SourceLine* current = nullptr;
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = std::min(text.find('\n', at), text.size());
    const std::string row = text.substr(at, end - at);
    if (row.compare(0, 2, "0x") == 0) {
      current = &known()[{module, strtoull(row.c_str(), nullptr, 16)}];
      continue;
    }
    const size_t colon = row.rfind(':');
    const int line = colon == std::string::npos ? 0 : atoi(row.c_str() + colon + 1);
    if (!current || line <= 0) continue;
    const std::string file = row.substr(0, colon);
    if (!current->line || is_instruction(current->file)) {
      *current = {file, line, ""};
    } else if (current->caller.empty() && !ends_with(current->file, ".cu") &&
               ends_with(file, ".cu")) {
      current->caller = shown(file) + ":" + std::to_string(line);
    }
  }
}

void look_up(const std::string& module, const std::vector<uintptr_t>& offsets) {
  for (const char* program : {"addr2line", "llvm-addr2line"}) {
    std::vector<std::string> words = {program, "-a", "-i", "-e", module};
    for (uintptr_t offset : offsets) {
      char hex[32];
      snprintf(hex, sizeof hex, "0x%zx", static_cast<size_t>(offset));
      words.push_back(hex);
    }
    const std::string answer = output_of(words);
    if (answer.empty()) continue;
    read_answer(answer, module);
    break;
  }
  for (uintptr_t offset : offsets) {
    SourceLine& found = known()[{module, offset}];
    if (found.line) {
      found.file = shown(found.file);
    } else {
      char hex[32];
      snprintf(hex, sizeof hex, "+0x%zx", static_cast<size_t>(offset));
      found.file = module.substr(module.rfind('/') + 1) + hex;
    }
  }
}
}  // namespace

std::string SourceLine::text() const {
  if (!line) return file;
  const std::string place = file + ":" + std::to_string(line);
  return caller.empty() ? place : place + " (called at " + caller + ")";
}

std::vector<SourceLine> source_lines(const std::vector<const void*>& addresses) {
  std::map<std::string, std::vector<uintptr_t>> missing;
  for (const void* address : addresses) {
    const Key key = key_of(address);
    if (!key.first.empty() && !known().count(key)) {
      known()[key];
      missing[key.first].push_back(key.second);
    }
  }
  constexpr size_t MOST = 1000;  // addresses a call: a command line is not endless
  for (auto& [module, offsets] : missing)
    for (size_t i = 0; i < offsets.size(); i += MOST)
      look_up(module, {offsets.begin() + i, offsets.begin() + std::min(i + MOST, offsets.size())});
  std::vector<SourceLine> lines;
  for (const void* address : addresses) {
    const Key key = key_of(address);
    lines.push_back(key.first.empty() ? SourceLine{"an unknown line", 0, ""} : known()[key]);
  }
  return lines;
}

std::string source_line(const void* address) { return source_lines({address})[0].text(); }
}  // namespace simt
