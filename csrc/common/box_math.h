// Every formula of the package, once, for the host compilers, nvcc, NVRTC and Numba: boxes, IoU, box coding, scores.
//
// The same source must give the same bits everywhere (docs/numerics.md), so:
//   - products and sums that a compiler might contract are spelled mul / add / sub, which are never fused, and
//     quotients div, which is never approximate;
//   - fma is spelled fma, and only exp, log and overlap.h use it;
//   - min and max are ternaries: fminf(-0, 0) depends on the order of its operands, a ternary does not;
//   - exp and log (and log1p, made of log) are written out, since libraries differ in the last bit.
//
// The package's own builds turn contraction off by a flag, so they could do with + - * /. This header is also for users
// of Numba, CuPy and NVRTC, who compile it with flags of their own: there only the spelling keeps a GPU's compiler from
// contracting. NVRTC may have no include path, so nothing here includes a header on the device.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SSD_HD __host__ __device__ __forceinline__
#else
#define SSD_HD inline __attribute__((always_inline))  // into each clone of common/simd.h
#endif

namespace ssd {

// ---- arithmetic that is never contracted ----------------------------------------------------------------------------

#if defined(__CUDA_ARCH__)
SSD_HD float add(float a, float b) { return __fadd_rn(a, b); }
SSD_HD float sub(float a, float b) { return __fsub_rn(a, b); }
SSD_HD float mul(float a, float b) { return __fmul_rn(a, b); }
SSD_HD float div(float a, float b) { return __fdiv_rn(a, b); }
SSD_HD float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SSD_HD double add(double a, double b) { return __dadd_rn(a, b); }
SSD_HD double sub(double a, double b) { return __dsub_rn(a, b); }
SSD_HD double mul(double a, double b) { return __dmul_rn(a, b); }
SSD_HD double div(double a, double b) { return __ddiv_rn(a, b); }
SSD_HD float bits_to_float(unsigned bits) { return __uint_as_float(bits); }
SSD_HD unsigned float_to_bits(float value) { return __float_as_uint(value); }
SSD_HD unsigned long long double_to_bits(double value) {
  return static_cast<unsigned long long>(__double_as_longlong(value));
}
#else  // host compilers need -ffp-contract=off
SSD_HD float add(float a, float b) { return a + b; }
SSD_HD float sub(float a, float b) { return a - b; }
SSD_HD float mul(float a, float b) { return a * b; }
SSD_HD float div(float a, float b) { return a / b; }
SSD_HD float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SSD_HD double add(double a, double b) { return a + b; }
SSD_HD double sub(double a, double b) { return a - b; }
SSD_HD double mul(double a, double b) { return a * b; }
SSD_HD double div(double a, double b) { return a / b; }
SSD_HD float bits_to_float(unsigned bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
SSD_HD unsigned float_to_bits(float value) {
  unsigned bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
SSD_HD unsigned long long double_to_bits(double value) {
  unsigned long long bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
#endif

// The result is a where the comparison fails: a NaN in b is passed over, a NaN in a stays.
template <typename T>
SSD_HD T min_of(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
SSD_HD T max_of(T a, T b) {
  return b > a ? b : a;
}
template <typename T>
SSD_HD T clamp(T value, T low, T high) {  // NaN stays NaN
  return value < low ? low : (value > high ? high : value);
}

// ---- exp, log and log1p ---------------------------------------------------------------------------------------------

// exp(x), within 1 ulp, monotone, exp(0) = 1, +0 below 2^-126 (so that flush-to-zero changes nothing), +inf
// above 88.72. Reduces x to |r| <= ln(2) / 2 by rounding with a magic number, since a float-to-int cast is undefined
// out of range.
SSD_HD float exp(float x) {
  float y = x < -104.0f ? -104.0f : x;  // comparisons are false for NaN, which therefore passes through
  y = y > 89.0f ? 89.0f : y;
  const float round_magic = 12582912.0f;  // 1.5 * 2^23
  const float shifted = fma(y, 1.44269504088896341f, round_magic);
  const int k = static_cast<int>(float_to_bits(shifted) - 0x4B400000u);
  const float n = sub(shifted, round_magic);
  float r = fma(n, -0.693145751953125f, y);  // ln 2 in two parts
  r = fma(n, -1.42860682030941723212e-6f, r);
  float p = 1.97901361e-4f;  // (exp(r) - 1 - r) / r^2, a Remez fit: Cephes' coefficients exceed 1 ulp
  p = fma(p, r, 1.39448687e-3f);
  p = fma(p, r, 8.33349861e-3f);
  p = fma(p, r, 4.16662917e-2f);
  p = fma(p, r, 1.66666657e-1f);
  p = fma(p, r, 0.5f);
  const float e = add(fma(p, mul(r, r), r), 1.0f);
  const int half = k >> 1;  // 2^k in two factors, since 2^128 is not a float
  const float scale_low = bits_to_float(static_cast<unsigned>(half + 127) << 23);
  const float scale_high = bits_to_float(static_cast<unsigned>(k - half + 127) << 23);
  const float result = mul(mul(e, scale_low), scale_high);
  return result < 1.17549435e-38f ? 0.0f : result;
}

// log(x), within 1 ulp, for a positive normal x; meaningless for any other.
SSD_HD float log_of_normal(float x) {
  // x = 2^k * m with m in [sqrt(1/2), sqrt(2)): subtracting sqrt(1/2)'s bits makes the exponent field switch there.
  const unsigned root_half = 0x3F3504F3u;
  const unsigned shifted = float_to_bits(x) - root_half;
  const int k = static_cast<int>(shifted) >> 23;
  const float f = sub(bits_to_float((shifted & 0x007FFFFFu) + root_half), 1.0f);
  float p = 6.74664006e-2f;  // (log(1 + f) - f + f^2 / 2) / f^3, a Remez fit
  p = fma(p, f, -1.16756521e-1f);
  p = fma(p, f, 1.1888162e-1f);
  p = fma(p, f, -1.24055892e-1f);
  p = fma(p, f, 1.42195523e-1f);
  p = fma(p, f, -1.66679963e-1f);
  p = fma(p, f, 2.00021192e-1f);
  p = fma(p, f, -2.50000089e-1f);
  p = fma(p, f, 3.33333135e-1f);
  const float n = static_cast<float>(k);
  const float tail = fma(mul(f, f), fma(p, f, -0.5f), mul(n, 1.42860682030941723212e-6f));  // ln 2 in two parts
  return fma(n, 0.693145751953125f, add(f, tail));
}

// log(x). Zeros and subnormals (which flush-to-zero hardware reads as 0) of either sign give -inf, other negative
// numbers NaN, +inf +inf.
SSD_HD float log(float x) {
  const bool finite_positive = x >= 1.17549435e-38f && x <= 3.40282347e38f;
  const float special = x <= -1.17549435e-38f ? bits_to_float(0x7FC00000u)
                        : x < 1.0f            ? bits_to_float(0xFF800000u)
                                              : x;  // +inf, or NaN, for which every comparison fails
  return finite_positive ? log_of_normal(x) : special;
}

// log(1 + x) for x in [0, 1], within 1.5 ulp however small x is; NaN stays NaN. Rounding 1 + x loses at most 2^-24 of
// x, which is known exactly; the slope of log there, 1 / u, is so close to a line that no division is needed.
SSD_HD float log1p(float x) {
  const float u = add(1.0f, x);
  const float rounded_off = sub(x, sub(u, 1.0f));
  return add(log_of_normal(u), mul(rounded_off, sub(1.5f, mul(0.5f, u))));
}

// ---- boxes ----------------------------------------------------------------------------------------------------------

template <typename T>
struct alignas(16) BoxOf {  // corners; x1 <= x2 and y1 <= y2 unless degenerate. 16 bytes: a GPU's widest load
  T x1, y1, x2, y2;
};
using Box = BoxOf<float>;

template <typename T>
SSD_HD T area(const BoxOf<T>& box) {
  return mul(sub(box.x2, box.x1), sub(box.y2, box.y1));
}

// 0 for disjoint boxes. A NaN in a stays, a NaN in b may be passed over.
template <typename T>
SSD_HD T intersection(const BoxOf<T>& a, const BoxOf<T>& b) {
  const T width = max_of(sub(min_of(a.x2, b.x2), max_of(a.x1, b.x1)), T(0));
  const T height = max_of(sub(min_of(a.y2, b.y2), max_of(a.y1, b.y1)), T(0));
  return mul(width, height);
}

// Intersection over union; 0 where it is undefined (degenerate, NaN or overflowing boxes), so such boxes never match.
// The quotient is the same, but NaN or negative there: as good, and faster, to compare with a threshold from 0 up.
template <typename T>
SSD_HD T iou_quotient(const BoxOf<T>& a, T area_a, const BoxOf<T>& b, T area_b) {
  const T shared = intersection(a, b);
  return div(shared, sub(add(area_a, area_b), shared));
}
template <typename T>
SSD_HD T iou(const BoxOf<T>& a, T area_a, const BoxOf<T>& b, T area_b) {
  const T quotient = iou_quotient(a, area_a, b, area_b);
  return quotient > T(0) ? quotient : T(0);
}
template <typename T>
SSD_HD T iou(const BoxOf<T>& a, const BoxOf<T>& b) {
  return iou(a, area(a), b, area(b));
}

// The share of the box that `other` covers; 0 where it is undefined: for NaN boxes, and boxes without a finite area.
template <typename T>
SSD_HD T coverage(const BoxOf<T>& box, T box_area, const BoxOf<T>& other) {
  const T quotient = div(intersection(other, box), box_area);  // a NaN in the box itself is in its area too
  return quotient > T(0) ? quotient : T(0);
}

// The position of a cell's center: `index + offset` cells of `step` pixels from the edge.
SSD_HD float cell_center(int index, float offset, float step) {
  return mul(add(static_cast<float>(index), offset), step);
}
SSD_HD Box box_around(float cx, float cy, float width, float height) {
  const float half_width = mul(width, 0.5f);
  const float half_height = mul(height, 0.5f);
  return {sub(cx, half_width), sub(cy, half_height), add(cx, half_width), add(cy, half_height)};
}

SSD_HD Box divide(const Box& box, float width, float height) {
  return {div(box.x1, width), div(box.y1, height), div(box.x2, width), div(box.y2, height)};
}
SSD_HD Box multiply(const Box& box, float width, float height) {
  return {mul(box.x1, width), mul(box.y1, height), mul(box.x2, width), mul(box.y2, height)};
}
SSD_HD Box clip(const Box& box, float width, float height) {
  return {clamp(box.x1, 0.0f, width), clamp(box.y1, 0.0f, height), clamp(box.x2, 0.0f, width),
          clamp(box.y2, 0.0f, height)};
}

// ---- box coding -----------------------------------------------------------------------------------------------------

struct BoxCoder {
  float variance_x, variance_y, variance_w, variance_h;
  float log_scale_low, log_scale_high;  // limits of tw * variance_w and th * variance_h before exp
  bool yx;                              // offsets are stored (ty, tx, th, tw)
};

struct CenterBox {
  float cx, cy, w, h;
};
SSD_HD CenterBox to_center(const Box& box) {
  const float w = sub(box.x2, box.x1);
  const float h = sub(box.y2, box.y1);
  return {add(box.x1, mul(0.5f, w)), add(box.y1, mul(0.5f, h)), w, h};
}

struct Deltas {  // offsets of a box from its default box, as the network predicts them
  float x, y, w, h;
};
SSD_HD Deltas load_deltas(float d0, float d1, float d2, float d3, bool yx) {
  return yx ? Deltas{d1, d0, d3, d2} : Deltas{d0, d1, d2, d3};
}

SSD_HD float decode_size(float delta, float variance, float size, const BoxCoder& coder) {
  return mul(exp(clamp(mul(delta, variance), coder.log_scale_low, coder.log_scale_high)), size);
}

SSD_HD Box decode(const Deltas& deltas, const Box& default_box, const BoxCoder& coder) {
  const CenterBox base = to_center(default_box);
  const float cx = add(base.cx, mul(mul(deltas.x, coder.variance_x), base.w));
  const float cy = add(base.cy, mul(mul(deltas.y, coder.variance_y), base.h));
  const float half_w = mul(0.5f, decode_size(deltas.w, coder.variance_w, base.w, coder));
  const float half_h = mul(0.5f, decode_size(deltas.h, coder.variance_h, base.h, coder));
  return {sub(cx, half_w), sub(cy, half_h), add(cx, half_w), add(cy, half_h)};
}

SSD_HD Deltas encode(const Box& box, const Box& default_box, const BoxCoder& coder) {
  const CenterBox target = to_center(box);
  const CenterBox base = to_center(default_box);
  return {div(div(sub(target.cx, base.cx), base.w), coder.variance_x),
          div(div(sub(target.cy, base.cy), base.h), coder.variance_y),
          div(log(div(target.w, base.w)), coder.variance_w), div(log(div(target.h, base.h)), coder.variance_h)};
}

// ---- scores ---------------------------------------------------------------------------------------------------------

// Softmax: max over the columns; the sum of softmax_term over the columns in ascending order, one float accumulator;
// then softmax_score. That order is the definition (docs/numerics.md).
SSD_HD float softmax_term(float logit, float max) { return exp(sub(logit, max)); }
template <typename Logit>
SSD_HD void softmax_statistics(const Logit& logit, int columns, float& max, float& sum) {
  max = logit(0);
  for (int c = 1; c < columns; ++c) max = max_of(max, logit(c));
  sum = 0.0f;
  for (int c = 0; c < columns; ++c) sum = add(sum, softmax_term(logit(c), max));
}
SSD_HD float softmax_score(float logit, float max, float sum) { return div(softmax_term(logit, max), sum); }
SSD_HD float sigmoid(float logit) { return div(1.0f, add(1.0f, exp(-logit))); }

// ---- sigmoid focal loss (Lin et al. 2017) ---------------------------------------------------------------------------

// weight * (1 - p)^gamma * -log p, where p is the probability that a logit gives to the truth about its column.
struct FocalLoss {
  float gamma, target_weight, other_weight;  // weights of the target column and of the others, both positive
};

struct FocalTerms {
  float tail;           // exp(-|z|), where p = sigmoid(z)
  float cross_entropy;  // -log p
  float scale;          // weight * (1 - p)^gamma
};
// p and 1 - p are never formed, so nothing cancels: -log(1 - p) and -log p are log1p(tail), plus |z| for one of them.
SSD_HD FocalTerms focal_terms(float z, float weight, float gamma) {
  const float tail = exp(z < 0.0f ? z : -z);
  const float shared = log1p(tail);
  // -log(1 - p), kept finite: gamma may be 0, and 0 * infinity is NaN.
  const float hardness = min_of(add(shared, max_of(z, 0.0f)), 3.40282347e38f);
  return {tail, add(shared, max_of(-z, 0.0f)), mul(weight, exp(mul(-gamma, hardness)))};
}

// An infinite logit costs 0 when right and inf when wrong.
SSD_HD float focal_loss(float logit, bool is_target, const FocalLoss& focal) {
  const float weight = is_target ? focal.target_weight : focal.other_weight;
  const FocalTerms terms = focal_terms(is_target ? logit : -logit, weight, focal.gamma);
  return mul(terms.scale, terms.cross_entropy);
}

// The derivative by the logit; by z it is -scale * (gamma * p * -log p + 1 - p). For an infinite logit it is 0 when
// right, and of the weight's magnitude when wrong.
SSD_HD float focal_slope(float logit, bool is_target, const FocalLoss& focal) {
  const float weight = is_target ? focal.target_weight : focal.other_weight;
  const float z = is_target ? logit : -logit;
  const FocalTerms terms = focal_terms(z, weight, focal.gamma);
  const float larger = div(1.0f, add(1.0f, terms.tail));
  const float smaller = mul(terms.tail, larger);
  const float p = z < 0.0f ? smaller : larger;
  const float missing = z < 0.0f ? larger : smaller;                     // 1 - p
  const float entropy = p == 0.0f ? 0.0f : mul(p, terms.cross_entropy);  // not 0 * infinity
  const float slope = mul(terms.scale, add(mul(focal.gamma, entropy), missing));
  return is_target ? -slope : slope;
}

}  // namespace ssd
