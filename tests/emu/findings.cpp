// findings.cpp: texts that say what went wrong, and where.
#include <cxxabi.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "emu/scheduler.h"

namespace emu {
namespace {

int count;
std::vector<std::string> texts;

std::string where() {
  if (running.kernel.function == nullptr) return "host";
  const std::string kernel = function_name(running.kernel.function);
  if (current == nullptr) return format("kernel %s (seed %llu)", kernel.c_str(), (unsigned long long)options.seed);
  const uint3 block = current->block->index;
  const uint3 thread = current->index;
  return format("kernel %s block (%u,%u,%u) thread (%u,%u,%u) (seed %llu)", kernel.c_str(), block.x, block.y, block.z,
                thread.x, thread.y, thread.z, (unsigned long long)options.seed);
}

// The lines that binutils' addr2line prints for an address in the program or a shared library; none without debug info.
std::vector<std::string> addr2line(const char* flags, const void* address) {
  std::vector<std::string> lines;
  Dl_info module;
  if (dladdr(address, &module) == 0) return lines;
  const char* file = access(module.dli_fname, R_OK) == 0 ? module.dli_fname : "/proc/self/exe";
  char program[4096];
  if (realpath(file, program) == nullptr) return lines;
  const auto offset = static_cast<const char*>(address) - static_cast<const char*>(module.dli_fbase);
  FILE* output = popen(format("addr2line %s -e '%s' %lx 2>/dev/null", flags, program, (long)offset).c_str(), "r");
  if (output == nullptr) return lines;
  char line[4096];
  while (fgets(line, sizeof line, output) != nullptr) {
    line[strcspn(line, "\n")] = '\0';
    lines.push_back(line);
  }
  pclose(output);
  return lines;
}

std::string file_and_line(std::string text) {
  text = text.substr(0, text.find(' '));  // drop "(discriminator 2)"
  return text.substr(text.find_last_of('/') + 1);
}

// What a thread is doing when no thread can run, without what differs from thread to thread.
std::string waiting_for(const Thread& thread) {
  switch (thread.state) {
    case State::kExited:
      return "have exited";
    case State::kAtBlockBarrier:
      return format("wait in __syncthreads at %s:%d", thread.site.file, thread.site.line);
    case State::kAtClusterBarrier:
      return format("wait in cluster_barrier at %s:%d", thread.site.file, thread.site.line);
    case State::kAtGridBarrier:
      return format("wait in grid_barrier at %s:%d", thread.site.file, thread.site.line);
    case State::kAtWarpFunction:
      return format("wait in a warp function with mask %08x at %s:%d", thread.call.mask, thread.site.file,
                    thread.site.line);
    default:
      return "are ready";
  }
}

}  // namespace

std::string format(const char* pattern, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

std::string function_name(const void* function) {
  static std::map<const void*, std::string> names;
  std::string& name = names[function];
  if (!name.empty()) return name;
  Dl_info symbol;
  if (dladdr(function, &symbol) != 0 && symbol.dli_sname != nullptr && symbol.dli_saddr == function) {
    char* readable = abi::__cxa_demangle(symbol.dli_sname, nullptr, nullptr, nullptr);
    name = readable != nullptr ? readable : symbol.dli_sname;
    std::free(readable);
  } else {  // a kernel that the dynamic symbol table does not list
    const std::vector<std::string> lines = addr2line("-f -C", function);
    name = lines.empty() || lines[0] == "??" ? "of unknown name" : lines[0];
  }
  return name;
}

std::string source_lines(const void* return_address) {
  static std::map<const void*, std::string> known;
  std::string& text = known[return_address];
  if (!text.empty()) return text;
  for (const std::string& line : addr2line("-i", static_cast<const char*>(return_address) - 1)) {
    if (line.find("/emu/") != std::string::npos || line.find("??") == 0) continue;
    text += (text.empty() ? "" : " < ") + file_and_line(line);
  }
  if (text.empty()) text = "an unknown line";
  return text;
}

void report(const std::string& what) {
  constexpr std::size_t kTextsKept = 100;
  count += 1;
  if (texts.size() < kTextsKept) texts.push_back(what + "\n  in " + where());
}

void report_again() { count += 1; }

void forget_findings() {
  count = 0;
  texts.clear();
}

int finding_count() { return count; }

const std::vector<std::string>& findings() { return texts; }

void report_deadlock() {
  std::string text = "deadlock: no thread can run";
  for (const auto& block : running.resident) {
    struct Group {
      int threads = 0;
      std::string first;
    };
    std::map<std::string, Group> groups;
    for (const Thread& thread : block->threads) {
      Group& group = groups[waiting_for(thread)];
      group.threads += 1;
      if (group.threads <= 4) group.first += format(" %u", thread.number);
    }
    text += format("\n  block (%u,%u,%u):", block->index.x, block->index.y, block->index.z);
    for (const auto& [what, group] : groups) {
      const char* more = group.threads > 4 ? " ..." : "";
      text += format("\n    %d threads %s [%s%s ]", group.threads, what.c_str(), group.first.c_str(), more);
    }
  }
  report(text);
}

}  // namespace emu

#if defined(__SANITIZE_ADDRESS__)
// AddressSanitizer calls this before its own report.
extern "C" void __asan_on_error() {
  if (emu::current != nullptr) fprintf(stderr, "emulator: the error below is in %s\n", emu::where().c_str());
}
#endif
