// The element types of arrays, and how each is widened to float on load.
#pragma once

#include <cstdint>

#include "common/box_math.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace ssd {

enum class DType { float32, float64, float16, bfloat16, int32, int64, uint8, boolean, other };

inline const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::uint8:
      return "uint8";
    case DType::boolean:
      return "bool";
    case DType::other:
      return "another type";
  }
  return "another type";
}

// Bytes of an element; 1 for a type that no kernel takes.
inline int size_of(DType dtype) {
  switch (dtype) {
    case DType::float64:
    case DType::int64:
      return 8;
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    default:
      return 1;
  }
}

struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

SSD_HD float to_float(float value) { return value; }
SSD_HD float to_float(BFloat16 value) { return bits_to_float(static_cast<unsigned>(value.bits) << 16); }
SSD_HD float to_float(Half value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const unsigned sign = static_cast<unsigned>(value.bits & 0x8000u) << 16;
  const unsigned magnitude = static_cast<unsigned>(value.bits & 0x7FFFu) << 13;
  // Rebias the exponent by a product, which also normalizes subnormals; infinity and NaN keep the full exponent.
  const unsigned rebiased = float_to_bits(mul(bits_to_float(magnitude), 0x1p112f));
  return bits_to_float(sign | (magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : rebiased));
#endif
}

SSD_HD float load_as_float(const void* data, DType dtype, int64_t offset) {
  if (dtype == DType::float16) return to_float(static_cast<const Half*>(data)[offset]);
  if (dtype == DType::bfloat16) return to_float(static_cast<const BFloat16*>(data)[offset]);
  return static_cast<const float*>(data)[offset];
}

// ---- rounding to nearest even on store ------------------------------------------------------------------------------

SSD_HD void store(float* place, float value) { *place = value; }
SSD_HD void store(BFloat16* place, float value) {
  const unsigned bits = float_to_bits(value);
  const unsigned rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const bool is_nan = value != value;  // adding could carry a NaN over to infinity
  place->bits = static_cast<unsigned short>(is_nan ? 0x7FC0u : rounded);
}
SSD_HD void store(Half* place, float value) {
#if defined(__CUDA_ARCH__)
  place->bits = __half_as_ushort(__float2half_rn(value));
#else
  const unsigned bits = float_to_bits(value);
  const unsigned sign = bits >> 16 & 0x8000u;
  const unsigned magnitude = bits & 0x7FFFFFFFu;
  unsigned half;
  if (magnitude > 0x7F800000u) {
    half = 0x7FFFu;  // NaN, as the GPU's conversion gives it
  } else if (magnitude >= 0x477FF000u) {
    half = 0x7C00u;  // rounds past the largest half: infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the half's bits, rounded, in the lowest bits of the sum.
    half = float_to_bits(add(bits_to_float(magnitude), 0.5f)) - 0x3F000000u;
  } else {
    half = (magnitude - 0x38000000u + 0x0FFFu + (magnitude >> 13 & 1u)) >> 13;
  }
  place->bits = static_cast<unsigned short>(sign | half);
#endif
}

// Calls visitor(T{}) with the C++ type of a floating dtype that head outputs may have.
template <typename Visitor>
void visit_logit_type(DType dtype, Visitor visitor) {
  switch (dtype) {
    case DType::float16:
      return visitor(Half{});
    case DType::bfloat16:
      return visitor(BFloat16{});
    default:
      return visitor(float{});  // the checks of <family>.h let nothing else through
  }
}

}  // namespace ssd
