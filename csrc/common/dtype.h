// The element types of arrays, and how each is widened to float on load.
#pragma once

#include "common/box_math.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace ssd {

enum class DType { float32, float64, float16, bfloat16, int32, int64, uint8, other };

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
    case DType::other:
      return "another type";
  }
  return "another type";
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
  // Rebias the exponent by a product, which also normalises subnormals; infinity and NaN keep the full exponent.
  const unsigned rebiased = float_to_bits(mul(bits_to_float(magnitude), 0x1p112f));
  return bits_to_float(sign | (magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : rebiased));
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
