// pybind11: a struct of options as a Python class whose constructor takes every field by its keyword.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>

namespace ssd {
namespace py = pybind11;

template <typename Options, typename Value>
struct Field {
  const char* name;
  Value Options::* member;
};

template <typename Options, typename Value>
Field(const char*, Value Options::*) -> Field<Options, Value>;

// Each field is named once, beside its member, so that no two can be swapped.
template <typename Options, typename... Values>
void bind_options(py::module_& m, const char* name, Field<Options, Values>... fields) {
  py::class_<Options> type(m, name, py::module_local());
  type.def(py::init([fields...](Values... values) {
             Options options{};
             ((options.*(fields.member) = std::move(values)), ...);
             return options;
           }),
           py::kw_only(), py::arg(fields.name)...);
  (type.def_readonly(fields.name, fields.member), ...);
}

}  // namespace ssd
