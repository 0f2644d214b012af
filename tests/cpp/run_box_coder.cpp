// run_box_coder.cpp: decode_boxes and encode_boxes against the equations in double, within a few ulps; the CPU and CUDA
// results must be the same bits.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "box_coder/box_coder_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;
using ssd::BoxCoder;
using ssd::BoxCoderTask;
using ssd::DType;

constexpr float kLogScaleLimit = 4.135166556742356f;  // log(1000 / 16)
const BoxCoder kSsd{0.1f, 0.1f, 0.2f, 0.2f, -kLogScaleLimit, kLogScaleLimit, false};
const BoxCoder kUnequal{0.1f, 0.3f, 0.2f, 0.7f, -1.5f, 0.5f, false};

std::vector<Box> make_default_boxes(int n) {
  Random random(7);
  std::vector<Box> boxes(n);
  for (Box& box : boxes) {
    box.x1 = random.uniform(-50.0f, 250.0f);
    box.y1 = random.uniform(-50.0f, 250.0f);
    box.x2 = box.x1 + random.uniform(8.0f, 100.0f);
    box.y2 = box.y1 + random.uniform(8.0f, 100.0f);
  }
  return boxes;
}

// Offsets of row `row` in the order (x, y, w, h).
template <class T>
void in_xywh_order(const BoxCoder& coder, const T* stored, double offsets[4]) {
  for (int i = 0; i < 4; ++i) offsets[i] = static_cast<double>(stored[coder.yx ? i ^ 1 : i]);
}

// size: the largest number on the way to `want`.
bool near(double got, double want, double size) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::fabs(want) > std::numeric_limits<float>::max()) return std::isinf(got) && (got > 0) == (want > 0);
  return std::fabs(got - want) <= 4e-7 * (std::fabs(want) + size);
}

bool decoded_right(const Box& got, const BoxCoder& coder, const float* stored, const Box& base) {
  double t[4];
  in_xywh_order(coder, stored, t);
  const double width = static_cast<double>(base.x2) - base.x1;
  const double height = static_cast<double>(base.y2) - base.y1;
  const auto limited = [&](double log_scale) {  // NaN stays
    return log_scale < coder.log_scale_low    ? coder.log_scale_low
           : log_scale > coder.log_scale_high ? coder.log_scale_high
                                              : log_scale;
  };
  const double shift_x = t[0] * coder.variance_x * width;
  const double shift_y = t[1] * coder.variance_y * height;
  const double cx = base.x1 + width / 2 + shift_x;
  const double cy = base.y1 + height / 2 + shift_y;
  const double w = std::exp(limited(t[2] * coder.variance_w)) * width;
  const double h = std::exp(limited(t[3] * coder.variance_h)) * height;
  const double size_x = std::fabs(base.x1) + width + std::fabs(shift_x) + w;
  const double size_y = std::fabs(base.y1) + height + std::fabs(shift_y) + h;
  return near(got.x1, cx - w / 2, size_x) && near(got.y1, cy - h / 2, size_y) && near(got.x2, cx + w / 2, size_x) &&
         near(got.y2, cy + h / 2, size_y);
}

bool encoded_right(const float* stored, const BoxCoder& coder, const Box& box, const Box& base) {
  double t[4];
  in_xywh_order(coder, stored, t);
  const double width = static_cast<double>(base.x2) - base.x1;
  const double height = static_cast<double>(base.y2) - base.y1;
  const double w = static_cast<double>(box.x2) - box.x1;
  const double h = static_cast<double>(box.y2) - box.y1;
  const double x = (box.x1 + w / 2 - (base.x1 + width / 2)) / width / coder.variance_x;
  const double y = (box.y1 + h / 2 - (base.y1 + height / 2)) / height / coder.variance_y;
  const double slack = 400.0;  // the coordinates' rounding, over sizes of 8 and variances of 0.1
  return near(t[0], x, slack) && near(t[1], y, slack) && near(t[2], std::log(w / width) / coder.variance_w, slack) &&
         near(t[3], std::log(h / height) / coder.variance_h, slack);
}

// The element types as they are stored, and widened by the toolkit's own functions.
struct Float {
  using Stored = float;
  static constexpr DType kDType = DType::float32;
  static float widen(float value) { return value; }
};
struct Half {
  using Stored = uint16_t;
  static constexpr DType kDType = DType::float16;
  static float widen(uint16_t bits) { return __half2float(__half(__half_raw{bits})); }
};
struct BFloat16 {
  using Stored = uint16_t;
  static constexpr DType kDType = DType::bfloat16;
  static float widen(uint16_t bits) { return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits})); }
};

template <class Type>
void decode(Case& one, int images, int num_default_boxes, const BoxCoder& coder,
            const std::vector<typename Type::Stored>& deltas) {
  const int rows = images * num_default_boxes;
  const std::vector<Box> base = make_default_boxes(num_default_boxes);
  DeviceArray<Box> device_base(base);
  DeviceArray<typename Type::Stored> device_deltas(deltas);
  DeviceArray<Box> boxes(rows);
  BoxCoderTask task{rows, num_default_boxes, device_base.data(), coder};
  ssd::decode_boxes_cuda(task, device_deltas.data(), Type::kDType, boxes.data(), kStream);
  const std::vector<Box> got = boxes.host();

  std::vector<float> widened;
  for (const auto value : deltas) widened.push_back(Type::widen(value));
  for (int row = 0; row < rows; ++row) {
    one.expect(decoded_right(got[row], coder, &widened[4 * row], base[row % num_default_boxes]),
               "decoded: wrong at row " + std::to_string(row));
  }

  task.default_boxes = base.data();
  std::vector<Box> on_cpu(rows);
  std::vector<Box> from_widened(rows);
  ssd::decode_boxes_cpu(task, deltas.data(), Type::kDType, on_cpu.data());
  ssd::decode_boxes_cpu(task, widened.data(), DType::float32, from_widened.data());
  const auto numbers = [](const std::vector<Box>& all) {
    std::vector<float> flat;
    for (const Box& box : all) flat.insert(flat.end(), {box.x1, box.y1, box.x2, box.y2});
    return flat;
  };
  one.equal(numbers(got), numbers(on_cpu), "cuda and cpu");
  one.equal(numbers(got), numbers(from_widened), "cuda and the same offsets as floats");
}

void encode(Case& one, int images, int num_default_boxes, const BoxCoder& coder) {
  const int rows = images * num_default_boxes;
  const std::vector<Box> base = make_default_boxes(num_default_boxes);
  std::vector<Box> boxes = make_default_boxes(rows + 5);
  boxes.erase(boxes.begin(), boxes.begin() + 5);
  DeviceArray<Box> device_base(base);
  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<float> deltas(4 * static_cast<std::size_t>(rows));
  BoxCoderTask task{rows, num_default_boxes, device_base.data(), coder};
  ssd::encode_boxes_cuda(task, device_boxes.data(), deltas.data(), kStream);
  const std::vector<float> got = deltas.host();
  for (int row = 0; row < rows; ++row) {
    one.expect(encoded_right(&got[4 * row], coder, boxes[row], base[row % num_default_boxes]),
               "encoded: wrong at row " + std::to_string(row));
  }

  task.default_boxes = base.data();
  std::vector<float> on_cpu(got.size());
  ssd::encode_boxes_cpu(task, boxes.data(), on_cpu.data());
  one.equal(got, on_cpu, "cuda and cpu");
}

// Degenerate boxes have infinite or NaN offsets, the same on both backends.
void encode_degenerate(Case& one) {
  const int n = 140;
  const std::vector<Box> base = make_default_boxes(n);
  const std::vector<Box> boxes = make_boxes<float>(Boxes::kHostile, n, 3);
  DeviceArray<Box> device_base(base);
  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<float> deltas(4 * n);
  ssd::encode_boxes_cuda({n, n, device_base.data(), kSsd}, device_boxes.data(), deltas.data(), kStream);
  std::vector<float> on_cpu(4 * n);
  ssd::encode_boxes_cpu({n, n, base.data(), kSsd}, boxes.data(), on_cpu.data());
  one.equal(deltas.host(), on_cpu, "cuda and cpu");
}

// Every 16-bit number once, mixed by an odd factor, so that a row with an infinity also has finite offsets.
std::vector<uint16_t> all_bit_patterns() {
  std::vector<uint16_t> bits(65536);
  for (unsigned i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i * 40503u);
  return bits;
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("box_coder", argc, argv, kSchedules);
  for (const int n : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025}) {
    const std::string size = std::to_string(n);
    runner.good("decode-" + size, [n](Case& one) {
      decode<Float>(one, 3, n, kSsd, Random(8).uniform(static_cast<std::size_t>(12 * n), -6.0f, 6.0f));
    });
    runner.good("encode-" + size, [n](Case& one) { encode(one, 3, n, kSsd); });
  }
  BoxCoder yx = kUnequal;
  yx.yx = true;
  for (const BoxCoder& coder : {kUnequal, yx}) {
    const std::string name = coder.yx ? "-yx" : "-xy";
    runner.good("decode-unequal" + name, [coder](Case& one) {
      decode<Float>(one, 2, 150, coder, Random(9).uniform(1200, -9.0f, 9.0f));  // beyond both limits of the scale
    });
    runner.good("encode-unequal" + name, [coder](Case& one) { encode(one, 2, 150, coder); });
  }
  runner.good("encode-degenerate", encode_degenerate);
  runner.good("decode-every-half", [](Case& one) { decode<Half>(one, 4, 4096, kSsd, all_bit_patterns()); });
  runner.good("decode-every-bfloat16", [](Case& one) { decode<BFloat16>(one, 4, 4096, kSsd, all_bit_patterns()); });
  return runner.finish();
}
