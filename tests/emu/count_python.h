// count_python.h: what the count flavor counts, for Python: _C_counted.emulator.counts().
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "emu/counts.h"
#include "emu/scheduler.h"

namespace emu {

inline pybind11::dict as_dict(const LaunchCounts& launch) {
  using namespace pybind11::literals;
  pybind11::list sites;
  for (const auto& [key, site] : launch.sites) {
    const auto& [code, what] = key;
    static const char* const uses[] = {"load", "store", "atomic"};
    sites.append(pybind11::dict(
        "line"_a = source_lines(code), "space"_a = what.first == Space::kGlobal ? "global" : "shared",
        "use"_a = uses[static_cast<int>(what.second)], "bytes"_a = site.bytes, "lanes"_a = site.lanes,
        "requests"_a = site.requests, "sectors"_a = site.sectors, "least_sectors"_a = site.least,
        "wavefronts"_a = site.wavefronts, "conflicts"_a = site.conflicts, "contended"_a = site.contended));
  }
  return pybind11::dict("kernel"_a = launch.kernel, "grid"_a = launch.grid, "block"_a = launch.block,
                        "dynamic_shared"_a = launch.dynamic_shared, "static_shared"_a = launch.static_shared,
                        "bytes_read"_a = launch.bytes_read, "bytes_written"_a = launch.bytes_written,
                        "barriers"_a = launch.barriers, "longest_loads"_a = launch.longest_loads,
                        "longest_shared"_a = launch.longest_shared, "sites"_a = sites);
}

inline void add_counts_to(pybind11::module_& emulator) {
  emulator.def("start_counting", [] {
    Options in_order;
    in_order.order = Order::kInOrder;  // so that the order of atomics, and what they hand out, is the same each time
    restart(in_order);
    start_counting();
  });
  emulator.def("counts", [] {
    pybind11::list launches;
    for (const LaunchCounts& launch : counts().launches) launches.append(as_dict(launch));
    return pybind11::dict(pybind11::arg("launches") = launches, pybind11::arg("memsets") = counts().memsets);
  });
}

}  // namespace emu
