// Measures the largest error, in units in the last place, of ssd::exp and ssd::log over every float, which fails above
// 1, and of ssd::log1p over those from 0 to 1, which fails above 1.5. Also checks what box_math.h promises of special
// values: NaN, infinities, zeros, underflow; and that exp is monotone.
//
// The truth is the double-precision function of the C library, whose own error is below 1e-8 of a float's ulp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "common/box_math.h"
#include "common/simd.h"

namespace {

constexpr float kSmallestNormal = 1.17549435e-38f;

struct Result {
  double error = 0;  // the largest, in ulp
  float at = 0;
  uint64_t compared = 0;
  uint64_t wrong = 0;  // special values that are not what they should be
  float wrong_at = 0;

  void add(const Result& other) {
    if (other.error > error) {
      error = other.error;
      at = other.at;
    }
    if (wrong == 0) wrong_at = other.wrong_at;
    compared += other.compared;
    wrong += other.wrong;
  }
};

// The distance between neighboring floats around a value in the normal range.
double ulp(double value) { return std::ldexp(1.0, std::ilogb(value) - 23); }

constexpr int kBatch = 4096;

SSD_CLONES void exp_batch(const float* x, float* y) {
  for (int i = 0; i < kBatch; ++i) y[i] = ssd::exp(x[i]);
}
SSD_CLONES void log_batch(const float* x, float* y) {
  for (int i = 0; i < kBatch; ++i) y[i] = ssd::log(x[i]);
}

SSD_CLONES void log1p_batch(const float* x, float* y) {
  for (int i = 0; i < kBatch; ++i) y[i] = ssd::log1p(x[i]);
}

// The result that a special argument must have, or false for a result to compare by its error.
bool exp_is_special(float x, double truth, float* expected) {
  if (std::isnan(x)) return *expected = NAN, true;
  if (truth < kSmallestNormal) return *expected = 0.0f, true;
  if (truth > 3.4028235677973366e38) return *expected = INFINITY, true;  // halfway to what would be 2^128
  return false;
}
bool log_is_special(float x, double, float* expected) {
  if (std::isnan(x)) return *expected = NAN, true;
  if (std::fabs(x) < kSmallestNormal) return *expected = -INFINITY, true;
  if (x < 0) return *expected = NAN, true;
  if (std::isinf(x)) return *expected = INFINITY, true;
  return false;
}

bool log1p_is_special(float x, double, float* expected) {
  if (std::isnan(x)) return *expected = NAN, true;
  return x == 0 ? (*expected = 0.0f, true) : false;
}

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

// Tries every float whose bits are in [begin, end).
template <typename Batch, typename Truth, typename Special>
Result sweep(uint64_t begin, uint64_t end, Batch batch, Truth truth_of, Special is_special) {
  Result result;
  std::vector<float> x(kBatch), y(kBatch);
  for (uint64_t first = begin; first < end; first += kBatch) {
    for (int i = 0; i < kBatch; ++i) x[i] = ssd::bits_to_float(static_cast<unsigned>(first + i));
    batch(x.data(), y.data());
    for (int i = 0; i < kBatch; ++i) {
      const double truth = truth_of(static_cast<double>(x[i]));
      float expected;
      if (is_special(x[i], truth, &expected)) {
        // At the two edges of exp's range a neighbor's rounding may decide: one ulp of the normal limit is allowed.
        const bool edge = std::fabs(truth / kSmallestNormal - 1) < 2e-7 && y[i] == kSmallestNormal;
        if (!same(y[i], expected) && !edge && result.wrong++ == 0) result.wrong_at = x[i];
        continue;
      }
      ++result.compared;
      if (truth == 0 && y[i] == 0) continue;  // log(1)
      double error = std::fabs(static_cast<double>(y[i]) - truth) / ulp(truth);
      if (y[i] == 0.0f && truth < kSmallestNormal * (1 + 2e-7)) error = 0;  // flushed at the edge
      if (!(error <= result.error)) {
        result.error = error;
        result.at = x[i];
      }
    }
  }
  return result;
}

// Tries all floats, or those from +0 up whose bits are below `end`.
template <typename Batch, typename Truth, typename Special>
bool report(const char* name, Batch batch, Truth truth_of, Special is_special, double allowed = 1.0,
            uint64_t end = uint64_t{1} << 32) {
  const unsigned count = std::max(1u, std::thread::hardware_concurrency());
  std::vector<Result> results(count);
  std::vector<std::thread> threads;
  const uint64_t batches = end / kBatch;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      results[i] = sweep(batches * i / count * kBatch, batches * (i + 1) / count * kBatch, batch, truth_of, is_special);
    });
  }
  Result total;
  for (unsigned i = 0; i < count; ++i) {
    threads[i].join();
    total.add(results[i]);
  }
  std::printf("%s: at most %.4f ulp (at %.9g) over %llu floats; %llu special values wrong", name, total.error, total.at,
              static_cast<unsigned long long>(total.compared), static_cast<unsigned long long>(total.wrong));
  if (total.wrong > 0) std::printf(" (first %.9g)", total.wrong_at);
  std::printf("\n");
  return total.error <= allowed && total.wrong == 0;
}

// exp never decreases from one float to the next, negative ones (from large to small magnitude) first.
bool exp_is_monotone() {
  float before = 0.0f;
  std::vector<float> x(kBatch), y(kBatch);
  for (const bool negative : {true, false}) {
    for (uint64_t first = 0; first <= 0x7F800000u; first += kBatch) {
      for (int i = 0; i < kBatch; ++i) {
        const uint64_t step = std::min<uint64_t>(first + i, 0x7F800000u);
        x[i] = ssd::bits_to_float(static_cast<unsigned>(negative ? 0xFF800000u - step : step));
      }
      exp_batch(x.data(), y.data());
      for (int i = 0; i < kBatch; ++i) {
        if (y[i] < before) {
          std::printf("exp: decreases at %.9g\n", x[i]);
          return false;
        }
        before = y[i];
      }
    }
  }
  std::printf("exp: monotone\n");
  return true;
}

}  // namespace

int main() {
  const bool exp_good = report("exp", exp_batch, [](double x) { return std::exp(x); }, exp_is_special);
  const bool log_good = report("log", log_batch, [](double x) { return std::log(x); }, log_is_special);
  const uint64_t past_one = 0x3F800000u + kBatch;
  const bool log1p_good =
      report("log1p", log1p_batch, [](double x) { return std::log1p(x); }, log1p_is_special, 1.5, past_one);
  const bool monotone = exp_is_monotone();
  if (ssd::exp(0.0f) != 1.0f || ssd::log(1.0f) != 0.0f) {
    std::printf("exp(0) is not 1, or log(1) not 0\n");
    return 1;
  }
  return exp_good && log_good && log1p_good && monotone ? 0 : 1;
}
