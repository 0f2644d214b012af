// run_patterns.cpp: runs each pattern, and under the count flavor compares the counts with what they must be.
//
//   patterns_count          prints one line per pattern, and exits with 1 if a count is wrong
//   patterns_cuda           runs them on a GPU, in order, for a profiler; prints each pattern's counts as JSON
#include <cstdio>
#include <string>

#include "patterns.h"
#include "runner.h"
#ifdef SSD_COUNTED
#include "emu/counts.h"
#include "emu/emu.h"
#endif

namespace {

using ssd::patterns::Pattern;
using ssd::patterns::Use;

std::string text(const Use& use) {
  return "[" + std::to_string(use.requests) + ", " + std::to_string(use.sectors) + ", " +
         std::to_string(use.conflicts) + "]";
}

std::string text(const Use& loads, const Use& stores, const Use& shared_loads, const Use& shared_stores,
                 int contended) {
  return "\"contended\": " + std::to_string(contended) + ", \"loads\": " + text(loads) +
         ", \"stores\": " + text(stores) + ", \"shared_loads\": " + text(shared_loads) +
         ", \"shared_stores\": " + text(shared_stores);
}

std::string expected(const Pattern& pattern) {
  return text(pattern.global_loads, pattern.global_stores, pattern.shared_loads, pattern.shared_stores,
              pattern.contended);
}

#ifdef SSD_COUNTED
std::string counted(const Pattern& pattern) {
  Use uses[2][2];  // by space, then load or store
  int widest = 0;
  int contended = 0;
  for (const auto& [key, site] : emu::counts().launches.at(0).sites) {
    const auto& [space, use] = key.second;
    contended += static_cast<int>(site.contended);
    if (use == emu::Use::kAtomic) continue;
    Use& sum = uses[static_cast<int>(space)][static_cast<int>(use)];
    sum.requests += static_cast<int>(site.requests);
    sum.sectors += static_cast<int>(site.sectors);
    sum.conflicts += static_cast<int>(site.conflicts);
    const bool is_source = space == emu::Space::kShared || use == emu::Use::kLoad;
    if (is_source && site.bytes > widest) widest = site.bytes;
  }
  const bool stores_only = pattern.global_loads.requests + pattern.shared_loads.requests == 0;
  const std::string width = stores_only || widest == pattern.bytes ? "" : ", width " + std::to_string(widest);
  return text(uses[0][0], uses[0][1], uses[1][0], uses[1][1], contended) + width;
}
#endif

}  // namespace

int main() {
  const std::vector<float> ones(ssd::patterns::kFloats, 1.0f);
  ssd::test::DeviceArray<float> from(ones);
  ssd::test::DeviceArray<float> to(ssd::patterns::kFloats);
  int failures = 0;
  for (const Pattern& pattern : ssd::patterns::all()) {
#ifdef SSD_COUNTED
    emu::restart({});
    emu::start_counting();
    pattern.run(from.data(), to.data(), ssd::Stream{});
    const bool right = counted(pattern) == expected(pattern);
    failures += right ? 0 : 1;
    std::printf("%s %s: {%s}\n", right ? "pass" : "FAIL", pattern.name, counted(pattern).c_str());
    if (!right) std::printf("  expected {%s}\n", expected(pattern).c_str());
#else
    pattern.run(from.data(), to.data(), ssd::Stream{});
    ssd::test::require(cudaDeviceSynchronize());
    std::printf("{\"pattern\": \"%s\", %s}\n", pattern.name, expected(pattern).c_str());
#endif
  }
  return failures > 0 ? 1 : 0;
}
