// python.h: the host's side of the emulator for tests in Python: _C_emulated.emulator.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>

#include "emu/emu.h"
#ifdef SSD_COUNTED
#include "emu/count_python.h"
#endif

namespace emu {

inline void add_to(pybind11::module_& module) {
  auto emulator = module.def_submodule("emulator", "What the emulated CUDA runtime is told, and what it counts.");
  emulator.def("calls", [] { return host.calls; });
  emulator.def(
      "set_capturing",
      [](bool capturing, uintptr_t stream) {
        host.capturing = capturing;
        host.captured = reinterpret_cast<const void*>(stream);
      },
      pybind11::arg("capturing"), pybind11::arg("stream") = 0);
  emulator.def("set_devices", [](int devices) { host.devices = devices; });
  emulator.def("set_reads_host_memory", [](bool reads) { host.reads_host_memory = reads; });
  emulator.def("reset", [] { host = Host(); });
  emulator.def("place", [](uintptr_t memory, int device) {
    host.device_of_memory[reinterpret_cast<const void*>(memory)] = device;
  });
  emulator.def("fail_next", [](const std::string& function) { host.next_failure = function; });
  emulator.def("current_device", current_device);
#ifdef SSD_COUNTED
  add_counts_to(emulator);
#endif
}

}  // namespace emu
