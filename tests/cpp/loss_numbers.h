// loss_numbers.h: tests what a loss in float, half and bfloat16 rests on, the order of sums and rounding on store,
// against its definition.
#pragma once

#include "common/dtype.h"
#include "common/tree_sum.h"
#include "oracles.h"

namespace ssd::test {

// ---- the order of sums ----------------------------------------------------------------------------------------------

// Sums in tiles of 1024 and 32 lanes, as tree_sum.h says; zeros stand for values past the end.
inline float plain_tree_sum(std::vector<float> values) {
  do {
    values.resize((values.size() + 1023) / 1024 * 1024);
    std::vector<float> tiles;
    for (std::size_t tile = 0; tile < values.size(); tile += 1024) {
      std::vector<float> lanes(32);
      for (std::size_t i = 0; i < 1024; ++i) lanes[i % 32] += values[tile + i];
      while (lanes.size() > 1) {
        std::vector<float> halved(lanes.size() / 2);
        for (std::size_t i = 0; i < halved.size(); ++i) halved[i] = lanes[i] + lanes[i + halved.size()];
        lanes = halved;
      }
      tiles.push_back(lanes[0]);
    }
    values = tiles;
  } while (values.size() > 1);
  return values.empty() ? 0.0f : values[0];
}

inline void sum_of(Case& one, int count) {
  const std::vector<float> values = Random(41).uniform(count, 0.0f, 1.0f);
  const float got = ssd::tree_sum([&](int64_t i) { return values[i]; }, count);
  one.equal<float>({got}, {plain_tree_sum(values)}, "sum of " + std::to_string(count));
}

// ---- half and bfloat16 ----------------------------------------------------------------------------------------------

struct Format {
  int mantissa_bits;
  int least_exponent;  // exponent of the unit of subnormals
  int infinity;        // its bits
};
const Format kHalf{10, -24, 0x7C00};
const Format kBFloat16{7, -133, 0x7F80};

// Decodes the bits of a number that is not negative; those of infinity as if they were the next number.
inline double decoded(const Format& format, int bits) {
  const int exponent = bits >> format.mantissa_bits;
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  if (exponent == 0) return std::ldexp(mantissa, format.least_exponent);
  return std::ldexp(mantissa + (1 << format.mantissa_bits), format.least_exponent + exponent - 1);
}

// Checks every number of the type, the middle between it and the next, and the floats beside both.
template <class T>
void rounding(Case& one, const Format& format) {
  const auto check = [&](double value, int bits) {
    for (const int sign : {0, 0x8000}) {
      T stored{};
      store(&stored, static_cast<float>(sign != 0 ? -value : value));
      one.expect(stored.bits == (bits | sign), "stored wrong: near bits " + std::to_string(bits | sign));
    }
  };
  const auto next = [](double value, float towards) { return std::nextafter(static_cast<float>(value), towards); };
  for (int bits = 0; bits < format.infinity; ++bits) {
    const double value = decoded(format, bits);
    const double middle = (value + decoded(format, bits + 1)) / 2;
    one.expect(static_cast<float>(middle) == middle, "a float holds the middle");
    const T positive{static_cast<unsigned short>(bits)}, negative{static_cast<unsigned short>(bits | 0x8000)};
    one.expect(to_float(positive) == value && !std::signbit(to_float(positive)), "loaded wrong");
    one.expect(to_float(negative) == -value && std::signbit(to_float(negative)), "loaded wrong: negative");
    check(value, bits);
    check(next(value, INFINITY), bits);
    if (bits > 0) check(next(value, 0.0f), bits);
    check(middle, bits + bits % 2);
    check(next(middle, 0.0f), bits);
    check(next(middle, INFINITY), bits + 1);
  }
  check(std::numeric_limits<float>::denorm_min(), 0);
  check(std::numeric_limits<float>::max(), format.infinity);
  check(INFINITY, format.infinity);
  one.expect(std::isinf(to_float(T{static_cast<unsigned short>(format.infinity)})), "loaded wrong: infinity");
  for (int bits = format.infinity + 1; bits < 0x8000; ++bits) {
    for (const int sign : {0, 0x8000}) {
      T stored{static_cast<unsigned short>(bits | sign)};
      one.expect(std::isnan(to_float(stored)), "loaded wrong: NaN");
      store(&stored, to_float(stored));
      one.expect(std::isnan(to_float(stored)), "stored wrong: NaN");
    }
  }
  for (const unsigned bits : {0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu}) {
    T stored{};
    store(&stored, ssd::bits_to_float(bits));
    one.expect(std::isnan(to_float(stored)), "stored wrong: NaN of a float");
  }
}

}  // namespace ssd::test
