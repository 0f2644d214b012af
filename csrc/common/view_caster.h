// pybind11: converts any array to a View. It tries in turn DLPack's exchange API (torch >= 2.11, no Python call),
// __cuda_array_interface__ (CuPy, Numba), the buffer protocol (NumPy) and __dlpack__ (older torch, others).
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "common/cuda_info.h"
#include "common/dlpack.h"
#include "common/view.h"

namespace ssd {
namespace py = pybind11;

inline DType dtype_of(uint8_t code, int bits) {
  if (code == dlpack::kFloat && bits == 32) return DType::float32;
  if (code == dlpack::kFloat && bits == 64) return DType::float64;
  if (code == dlpack::kFloat && bits == 16) return DType::float16;
  if (code == dlpack::kBFloat && bits == 16) return DType::bfloat16;
  if (code == dlpack::kInt && bits == 32) return DType::int32;
  if (code == dlpack::kInt && bits == 64) return DType::int64;
  if (code == dlpack::kUInt && bits == 8) return DType::uint8;
  if (code == dlpack::kBool && bits == 8) return DType::boolean;
  return DType::other;
}

// From a kind letter and item size, as NumPy spells them: "<f4".
inline DType dtype_of(char kind, int bytes) {
  if (kind == 'f') return dtype_of(static_cast<uint8_t>(dlpack::kFloat), 8 * bytes);
  if (kind == 'i') return dtype_of(static_cast<uint8_t>(dlpack::kInt), 8 * bytes);
  if (kind == 'u') return dtype_of(static_cast<uint8_t>(dlpack::kUInt), 8 * bytes);
  if (kind == 'b') return dtype_of(static_cast<uint8_t>(dlpack::kBool), 8 * bytes);
  return DType::other;
}

// How many dimensions a view keeps. Those past kMaxDims are only counted, and Checks::shape refuses such an array.
inline int kept_dims(const View& view) { return std::min(view.ndim, kMaxDims); }

inline void fill_row_major_strides(View& view) {
  int64_t stride = 1;
  for (int i = kept_dims(view) - 1; i >= 0; --i) {
    view.strides[i] = stride;
    stride *= std::max<int64_t>(view.shape[i], 1);
  }
}

// Sets strides given in bytes. A dimension along which nothing ever steps may have any stride.
inline void set_byte_strides(View& view, const int64_t* strides) {
  const int64_t item = size_of(view.dtype);
  for (int i = 0; i < kept_dims(view); ++i) {
    if (view.shape[i] > 1 && strides[i] % item != 0) view.aligned = false;
    view.strides[i] = strides[i] / item;
  }
}

inline void set_address(View& view, void* data) {
  view.data = data;
  if (reinterpret_cast<uintptr_t>(data) % size_of(view.dtype) != 0) view.aligned = false;
}

inline View view_of(const dlpack::Tensor& tensor) {
  View view;
  view.dtype = tensor.dtype.lanes == 1 ? dtype_of(tensor.dtype.code, tensor.dtype.bits) : DType::other;
  set_address(view, static_cast<char*>(tensor.data) + (tensor.data != nullptr ? tensor.byte_offset : 0));
  const int32_t type = tensor.device.type;
  const bool cuda = type == dlpack::kCuda || type == dlpack::kCudaManaged;
  const bool cpu = type == dlpack::kCpu || type == dlpack::kCudaHost;
  view.device.kind = cuda ? Device::cuda : cpu ? Device::cpu : Device::other;
  view.device.index = cuda ? tensor.device.index : 0;
  view.ndim = tensor.ndim;
  std::copy_n(tensor.shape, kept_dims(view), view.shape);
  fill_row_major_strides(view);
  if (tensor.strides != nullptr) std::copy_n(tensor.strides, kept_dims(view), view.strides);
  return view;
}

// The exchange API of a type, or null. The last type is remembered: a process rarely uses two kinds of tensor.
inline const dlpack::ExchangeApi* exchange_api_of(PyTypeObject* type) {
  static PyTypeObject* last_type = nullptr;
  static const dlpack::ExchangeApi* last_api = nullptr;
  if (type == last_type) return last_api;
  const dlpack::ExchangeApi* api = nullptr;
  if (PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__")) {
    if (PyCapsule_IsValid(capsule, "dlpack_exchange_api")) {
      api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
      if (api->version.major != 1 || api->tensor_from_py_object_no_sync == nullptr) api = nullptr;
    }
    Py_DECREF(capsule);
  } else {
    PyErr_Clear();
  }
  Py_INCREF(type);  // its address must not be reused while it is remembered
  Py_XDECREF(last_type);
  last_type = type;
  last_api = api;
  return api;
}

inline View view_by_exchange_api(const dlpack::ExchangeApi& api, py::handle array) {
  dlpack::Tensor tensor{};
  if (api.tensor_from_py_object_no_sync(array.ptr(), &tensor) != 0) throw py::error_already_set();
  View view = view_of(tensor);
  if (view.device.kind == Device::cuda &&
      api.current_work_stream(dlpack::kCuda, view.device.index, &view.stream) != 0) {
    throw py::error_already_set();
  }
  return view;
}

// The number array.<name>.<name>..., if there is one.
inline std::optional<int> number_of(py::handle array, std::initializer_list<const char*> names) {
  py::object found = py::reinterpret_borrow<py::object>(array);
  for (const char* name : names) found = py::getattr(found, name, py::none());
  if (!py::isinstance<py::int_>(found)) return std::nullopt;
  return found.cast<int>();
}

// The GPU that a CuPy or Numba array names: Numba's memory knows the context that was current when it was made.
inline int named_device(py::handle array) {
  if (const auto index = number_of(array, {"device", "id"})) return *index;
  return number_of(array, {"gpu_data", "context", "device", "id"}).value_or(0);
}

inline View view_by_cuda_array_interface(py::handle array) {
  const py::dict fields = array.attr("__cuda_array_interface__");
  View view;
  const py::tuple shape = fields["shape"];
  const auto type = fields["typestr"].cast<std::string>();
  const bool known = type.size() == 3 && type[0] != '>' && type[2] >= '1' && type[2] <= '9';
  view.dtype = known ? dtype_of(type[1], type[2] - '0') : DType::other;
  set_address(view, reinterpret_cast<void*>(fields["data"].cast<py::tuple>()[0].cast<uintptr_t>()));
  view.ndim = static_cast<int>(shape.size());
  for (int i = 0; i < kept_dims(view); ++i) view.shape[i] = shape[i].cast<int64_t>();
  fill_row_major_strides(view);
  if (fields.contains("strides") && !fields["strides"].is_none()) {
    int64_t strides[kMaxDims] = {};
    for (int i = 0; i < kept_dims(view); ++i) strides[i] = fields["strides"].cast<py::tuple>()[i].cast<int64_t>();
    set_byte_strides(view, strides);
  }
  // The interface does not name the device. CUDA knows it; for an empty array, which has no memory, the library does.
  const int named = named_device(array);
  const int index = view.data != nullptr ? device_of_memory(view.data, named) : named;
  view.device.kind = index >= 0 ? Device::cuda : Device::other;
  view.device.index = index >= 0 ? index : named;
  // 1 and 2 are the names that CUDA itself gives the legacy and the per-thread default stream.
  if (fields.contains("stream") && !fields["stream"].is_none()) {
    view.stream = reinterpret_cast<void*>(fields["stream"].cast<uintptr_t>());
  }
  return view;
}

inline View view_by_buffer(py::handle array) {
  auto* buffer = new Py_buffer();
  if (PyObject_GetBuffer(array.ptr(), buffer, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    delete buffer;
    throw py::error_already_set();
  }
  View view;
  view.owner = std::shared_ptr<void>(buffer, [](void* memory) {
    PyBuffer_Release(static_cast<Py_buffer*>(memory));
    delete static_cast<Py_buffer*>(memory);
  });
  const char* format = buffer->format == nullptr ? "B" : buffer->format;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  const char kind = *format == 'e' || *format == 'f' || *format == 'd'   ? 'f'
                    : *format == 'i' || *format == 'l' || *format == 'q' ? 'i'
                    : *format == 'B'                                     ? 'u'
                    : *format == '?'                                     ? 'b'
                                                                         : 'x';
  view.dtype = buffer->itemsize <= 8 ? dtype_of(kind, static_cast<int>(buffer->itemsize)) : DType::other;
  set_address(view, buffer->buf);
  view.ndim = buffer->ndim;
  std::copy_n(buffer->shape, kept_dims(view), view.shape);
  int64_t strides[kMaxDims] = {};
  std::copy_n(buffer->strides, kept_dims(view), strides);
  set_byte_strides(view, strides);
  return view;
}

template <typename Managed>
View view_of_capsule(PyObject* capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule, used_name);
  View view = view_of(managed->tensor);
  view.owner = std::shared_ptr<void>(managed, [](void* memory) {
    auto* tensor = static_cast<Managed*>(memory);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
  return view;
}

inline View view_by_dlpack(py::handle array) {
  // stream=-1: no synchronization, since the work goes to the stream that the array's library uses anyway.
  const bool cuda = array.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>() == dlpack::kCuda;
  const py::object capsule = cuda ? array.attr("__dlpack__")(py::arg("stream") = -1) : array.attr("__dlpack__")();
  View view = PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")
                  ? view_of_capsule<dlpack::ManagedTensorVersioned>(capsule.ptr(), "dltensor_versioned",
                                                                    "used_dltensor_versioned")
                  : view_of_capsule<dlpack::ManagedTensor>(capsule.ptr(), "dltensor", "used_dltensor");
  if (cuda) {  // torch before 2.11, the only library that comes here with device memory
    const py::object current = py::module_::import("torch").attr("cuda").attr("current_stream");
    view.stream = reinterpret_cast<void*>(current(view.device.index).attr("cuda_stream").cast<uintptr_t>());
  }
  return view;
}

inline View exported_view(py::handle array) {
  if (const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(array.ptr()))) return view_by_exchange_api(*api, array);
  // torch has __cuda_array_interface__ too, but without a stream: __dlpack__ must come first for it.
  const bool has_dlpack = py::hasattr(array, "__dlpack__");
  if (py::hasattr(array, "__cuda_array_interface__") && !py::hasattr(array, "requires_grad")) {
    return view_by_cuda_array_interface(array);
  }
  if (PyObject_CheckBuffer(array.ptr())) return view_by_buffer(array);
  if (has_dlpack) return view_by_dlpack(array);
  throw py::type_error("expected an array, got " + py::str(py::type::of(array)).cast<std::string>());
}

// The name of an array's dtype as its own library spells it, such as "complex64".
inline std::string dtype_text(py::handle array) {
  const std::string text = py::str(py::getattr(array, "dtype", py::str("another type"))).cast<std::string>();
  return text.rfind("torch.", 0) == 0 ? text.substr(6) : text;
}

// A view of an array that its library refuses to export because of its dtype (float8, datetime64): Checks names it.
inline View unexportable_view(py::handle array) {
  View view;
  const auto shape = py::tuple(array.attr("shape"));
  view.ndim = static_cast<int>(shape.size());
  for (int i = 0; i < kept_dims(view); ++i) view.shape[i] = shape[i].cast<int64_t>();
  fill_row_major_strides(view);
  return view;
}

inline View view_of(py::handle array) {
  View view;
  try {
    view = exported_view(array);
  } catch (const py::error_already_set&) {
    if (!py::hasattr(array, "shape") || !py::hasattr(array, "dtype")) throw;
    view = unexportable_view(array);
  }
  if (view.dtype == DType::other) view.type_name = dtype_text(array);
  return view;
}

}  // namespace ssd

namespace pybind11::detail {
template <>
struct type_caster<ssd::View> {
  PYBIND11_TYPE_CASTER(ssd::View, const_name("array"));
  bool load(handle source, bool) {
    if (source.is_none()) return false;
    value = ssd::view_of(source);
    return true;
  }
};
}  // namespace pybind11::detail
