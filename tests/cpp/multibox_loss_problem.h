// multibox_loss_problem.h: batches to train on, and the results that multibox_loss must give for them, in double.
#pragma once

#include <map>
#include <utility>

#include "multibox_loss/multibox_loss_task.h"
#include "oracles.h"

namespace ssd::test {

enum class Logits {
  kRandom,
  kTied,     // all rows have the same logits
  kFew,      // five kinds of rows
  kHostile,  // some logits are NaN or infinite
  kNan,      // all logits are NaN
};

struct Problem {
  int images = 2;
  int rows = 100;
  int columns = 5;
  DType logits_dtype = DType::float32;
  DType deltas_dtype = DType::float32;
  Logits logits = Logits::kRandom;
  Boxes boxes = Boxes::kRandom;  // of the ground truth
  int objects = 3;               // in image 0; each next image has one less, and after none as many again
  int one_in = 10;               // of this many rows one is positive, if there are objects, and one ignored; 0: none
  bool broken = false;           // some indices, labels and offsets are out of range

  int background = 0;  // -1: none
  bool focal = false;
  FocalLoss options{2.0f, 0.25f, 0.75f};  // of the focal loss
  float negatives_per_positive = 3.0f;
  int min_negatives = 0;
  float beta = 1.0f;
  Normalizer normalizer = Normalizer::positives;
  bool yx = false;

  std::size_t places() const { return static_cast<std::size_t>(images) * rows; }
};

const float kUpstream[2] = {0.75f, -1.25f};  // gradients of the box regression loss and of the classification loss

// ---- inputs ---------------------------------------------------------------------------------------------------------

inline std::size_t bytes_of(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

// One head output: its bytes, and the numbers that they store.
struct Head {
  std::vector<unsigned char> stored;
  std::vector<float> values;
};

inline std::vector<float> widened(const std::vector<unsigned char>& stored, DType dtype) {
  std::vector<float> values(stored.size() / bytes_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = load_as_float(stored.data(), dtype, static_cast<int64_t>(i));
  }
  return values;
}

inline Head make_head(const std::vector<float>& values, DType dtype) {
  Head head;
  head.stored.resize(values.size() * bytes_of(dtype));
  visit_logit_type(dtype, [&](auto zero) {
    auto* place = reinterpret_cast<decltype(zero)*>(head.stored.data());
    for (const float value : values) store(place++, value);
  });
  head.values = widened(head.stored, dtype);
  return head;
}

inline float make_logit(Logits kind, Random& random, int column, float few) {
  const float specials[4] = {NAN, INFINITY, -INFINITY, 80.0f};
  switch (kind) {
    case Logits::kTied:
      return column == 0 ? 1.0f : 0.0f;
    case Logits::kFew:
      return column == 0 ? few : -few;
    case Logits::kNan:
      return NAN;
    case Logits::kHostile:
      if (random.below(12) == 0) return specials[random.below(4)];
      [[fallthrough]];
    case Logits::kRandom:
      return random.uniform(-4.0f, 4.0f);
  }
  return 0.0f;
}

struct Inputs {
  Head logits, deltas;
  std::vector<Box> gt_boxes, default_boxes;
  std::vector<int64_t> gt_labels, offsets, matched_idxs;
};

inline void break_some(const Problem& problem, Random& random, Inputs& inputs) {
  const int64_t least = std::numeric_limits<int64_t>::min();
  const int64_t most = std::numeric_limits<int64_t>::max();
  const int64_t indices[6] = {-3, least, most, problem.objects, int64_t{1} << 32, -(int64_t{1} << 32)};
  const int64_t labels[6] = {-1, least, most, problem.columns, int64_t{1} << 32, problem.background};
  for (int64_t& index : inputs.matched_idxs) {
    if (random.below(8) == 0) index = indices[random.below(6)];
  }
  for (std::size_t i = 0; i < inputs.gt_labels.size(); i += 2) inputs.gt_labels[i] = labels[i / 2 % 6];
  const int64_t offsets[4] = {-1, least, most, static_cast<int64_t>(inputs.gt_boxes.size()) + 1};
  for (std::size_t i = 2; i < inputs.offsets.size(); i += 3) inputs.offsets[i] = offsets[i / 3 % 4];
}

inline Inputs make_inputs(const Problem& problem) {
  Inputs inputs;
  Random random(31);
  std::vector<float> logits;
  for (std::size_t place = 0; place < problem.places(); ++place) {
    const float few = 0.5f * static_cast<float>(random.below(5)) - 1.0f;
    for (int c = 0; c < problem.columns; ++c) logits.push_back(make_logit(problem.logits, random, c, few));
  }
  std::vector<float> deltas = random.uniform(4 * problem.places(), -2.0f, 2.0f);
  inputs.default_boxes = make_boxes<float>(Boxes::kRandom, problem.rows, 32);

  inputs.offsets.push_back(0);
  for (int image = 0; image < problem.images; ++image) {
    const int objects = problem.objects - image % (problem.objects + 1);
    inputs.offsets.push_back(inputs.offsets.back() + objects);
    for (int i = 0; i < objects; ++i) {
      const int label = random.below(problem.columns - (problem.background >= 0));
      inputs.gt_labels.push_back(label + (problem.background >= 0 && label >= problem.background));
    }
    for (int row = 0; row < problem.rows; ++row) {
      const int kind = problem.one_in > 0 ? random.below(problem.one_in) : -1;
      const int gt = objects > 0 ? random.below(objects) : -1;
      inputs.matched_idxs.push_back(kind == 0 ? gt : kind == 1 ? -2 : -1);
    }
  }
  inputs.gt_boxes = make_boxes<float>(problem.boxes, static_cast<int>(inputs.gt_labels.size()), 33);
  // One ground truth is a default box, whose offsets are 0, so that some differences are 0 too.
  if (!inputs.gt_boxes.empty() && problem.rows > 0 && problem.boxes == Boxes::kRandom) {
    inputs.gt_boxes[0] = inputs.default_boxes[0];
    inputs.matched_idxs[0] = problem.one_in > 0 ? 0 : -1;
    std::fill_n(deltas.begin(), 2, 0.0f);
  }
  if (problem.broken) break_some(problem, random, inputs);
  inputs.logits = make_head(logits, problem.logits_dtype);
  inputs.deltas = make_head(deltas, problem.deltas_dtype);
  return inputs;
}

struct Results {
  std::vector<float> losses, row_max, row_sum, normalizer;
  std::vector<uint8_t> selected;
  std::vector<float> grad_logits, grad_deltas;
};

// ---- the oracle -----------------------------------------------------------------------------------------------------

struct PlainRow {
  Selected kind;
  int64_t gt;
  int column;
  double max, sum, classification, regression;
  double differences[4];
};

inline void plain_target(const Problem& problem, const Inputs& inputs, int image, int64_t matched, PlainRow& row) {
  row.kind = kNotSelected;
  row.column = problem.background;
  if (matched == -1) row.kind = kHardNegative;
  const auto num_gt = static_cast<int64_t>(inputs.gt_boxes.size());
  const int64_t first = std::clamp<int64_t>(inputs.offsets[image], 0, num_gt);
  const int64_t end = std::clamp<int64_t>(inputs.offsets[image + 1], 0, num_gt);
  if (matched < 0 || matched >= num_gt || first + matched >= end) return;
  const int64_t label = inputs.gt_labels[first + matched];
  if (label < 0 || label >= problem.columns || label == problem.background) return;
  row.kind = kPositive;
  row.gt = first + matched;
  row.column = static_cast<int>(label);
}

inline void plain_differences(const Problem& problem, const BoxCoder& coder, const Box& gt, const Box& base,
                              const float* deltas, double differences[4]) {
  const double width = static_cast<double>(base.x2) - base.x1;
  const double height = static_cast<double>(base.y2) - base.y1;
  const double gt_width = static_cast<double>(gt.x2) - gt.x1;
  const double gt_height = static_cast<double>(gt.y2) - gt.y1;
  const double wanted[4] = {(gt.x1 + gt_width / 2 - base.x1 - width / 2) / width / coder.variance_x,
                            (gt.y1 + gt_height / 2 - base.y1 - height / 2) / height / coder.variance_y,
                            std::log(gt_width / width) / coder.variance_w,
                            std::log(gt_height / height) / coder.variance_h};
  for (int i = 0; i < 4; ++i) differences[i] = deltas[i] - wanted[problem.yx ? i ^ 1 : i];
}

// The focal loss of one logit and its slope, by the formulas of the paper.
struct PlainFocal {
  double loss, slope;
};
inline PlainFocal plain_focal(const FocalLoss& options, double logit, bool is_target) {
  const double z = is_target ? logit : -logit;
  const double sign = is_target ? 1 : -1;
  const double weight = is_target ? options.target_weight : options.other_weight;
  if (z == INFINITY) return {0, 0};
  if (z == -INFINITY) return {INFINITY, -sign * weight};
  const double p = 1 / (1 + std::exp(-z));
  const double missing = 1 / (1 + std::exp(z));
  const double entropy = std::log1p(std::exp(-std::fabs(z))) + std::max(-z, 0.0);
  const double modulation = weight * std::pow(missing, static_cast<double>(options.gamma));
  return {std::isnan(z) ? NAN : modulation * entropy, -sign * modulation * (options.gamma * p * entropy + missing)};
}

inline PlainRow plain_row(const Problem& problem, const Inputs& inputs, const BoxCoder& coder, std::size_t place) {
  PlainRow row{};
  const int image = static_cast<int>(place / problem.rows);
  plain_target(problem, inputs, image, inputs.matched_idxs[place], row);
  const float* logits = &inputs.logits.values[place * problem.columns];
  row.max = -INFINITY;
  for (int c = 0; c < problem.columns; ++c) {
    if (logits[c] > row.max || std::isnan(logits[c])) row.max = logits[c];
  }
  for (int c = 0; c < problem.columns; ++c) row.sum += std::exp(logits[c] - row.max);
  row.classification = 0;
  if (problem.focal) {
    for (int c = 0; c < problem.columns; ++c) {
      row.classification += plain_focal(problem.options, logits[c], c == row.column).loss;
    }
  } else {
    row.classification = std::log(row.sum) - (logits[row.column] - row.max);
  }
  if (row.kind != kPositive) return row;
  plain_differences(problem, coder, inputs.gt_boxes[row.gt], inputs.default_boxes[place % problem.rows],
                    &inputs.deltas.values[4 * place], row.differences);
  for (const double difference : row.differences) {
    const double size = std::fabs(difference);
    row.regression += size < problem.beta ? size * size / (2 * problem.beta) : size - problem.beta / 2;
  }
  return row;
}

// Whether `got` may be what float arithmetic makes of `want`. size: the largest number on the way to `want`.
inline bool near(double got, double want, double size) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::fabs(got - want) <= 1e-5 * (std::fabs(want) + size);
}

class Oracle {
 public:
  Oracle(const Problem& problem, const Inputs& inputs, const BoxCoder& coder) : problem_(problem), inputs_(inputs) {
    for (std::size_t i = 0; i < problem.places(); ++i) rows_.push_back(plain_row(problem, inputs, coder, i));
    int batch = 0;
    for (int image = 0; image < problem.images; ++image) {
      const auto first = rows_.begin() + static_cast<int64_t>(image) * problem.rows;
      const auto count = std::count_if(first, first + problem.rows, [](const auto& r) { return r.kind == kPositive; });
      num_positives_.push_back(static_cast<int>(count));
      batch +=
          problem.normalizer == Normalizer::sum_max_one ? std::max(num_positives_.back(), 1) : num_positives_.back();
    }
    for (const int positives : num_positives_) {
      const bool per_image = problem.normalizer == Normalizer::positives_per_image;
      normalizer_.push_back(per_image ? std::max(positives, 1) * problem.images : std::max(batch, 1));
    }
  }

  int num_positives() const { return std::accumulate(num_positives_.begin(), num_positives_.end(), 0); }

  void verify(Case& one, const Results& got, const std::string& where) const {
    for (int image = 0; image < problem_.images; ++image) verify_selected(one, got, image, where);
    verify_losses(one, got, where);
    for (std::size_t place = 0; place < problem_.places(); ++place) verify_gradients(one, got, place, where);
  }

 private:
  // NaN is the hardest, above the largest number, so that == finds ties.
  static double hardness(const PlainRow& row) {
    if (std::isnan(row.classification)) return INFINITY;
    return std::min(row.classification, std::numeric_limits<double>::max());
  }

  // Rounding may decide which of two rows is mined, but not how many are, nor which of several with the same logits.
  void verify_selected(Case& one, const Results& got, int image, const std::string& where) const {
    const std::size_t first = static_cast<std::size_t>(image) * problem_.rows;
    const std::size_t row_bytes = problem_.columns * sizeof(float);
    std::map<std::string, bool> left_out;  // by logits: whether a row was left out
    double easiest_mined = INFINITY, hardest_left_out = -1;
    int64_t candidates = 0, mined = 0;
    for (std::size_t place = first; place < first + problem_.rows; ++place) {
      const PlainRow& row = rows_[place];
      if (row.kind != kHardNegative) {
        one.expect(got.selected[place] == row.kind, where + ": selected: positives or ignored rows");
        continue;
      }
      const auto* bytes = reinterpret_cast<const char*>(&inputs_.logits.values[place * problem_.columns]);
      const double hard = hardness(row);
      const bool extreme = hard == INFINITY || hard == std::numeric_limits<double>::max();
      bool& out = left_out[extreme ? std::to_string(hard) : std::string(bytes, row_bytes)];
      ++candidates;
      if (got.selected[place] == kHardNegative) {
        ++mined;
        one.expect(!out, where + ": selected: a tie goes to the lower row");
        easiest_mined = std::min(easiest_mined, hard);
      } else {
        one.expect(got.selected[place] == kNotSelected, where + ": selected: a negative as a positive");
        out = true;
        hardest_left_out = std::max(hardest_left_out, hard);
      }
    }
    const int positives = num_positives_[image];
    auto wanted = static_cast<int64_t>(problem_.negatives_per_positive * static_cast<float>(positives));
    wanted = std::max<int64_t>(wanted, problem_.min_negatives);
    if (problem_.focal) wanted = problem_.rows;
    if (problem_.normalizer == Normalizer::positives_per_image && positives == 0) wanted = 0;
    one.expect(mined == std::min(wanted, candidates), where + ": selected: how many negatives");
    const bool hardest = hardest_left_out <= easiest_mined || near(easiest_mined, hardest_left_out, 1);
    one.expect(mined == 0 || hardest, where + ": selected: not the hardest negatives");
  }

  void verify_losses(Case& one, const Results& got, const std::string& where) const {
    double regression = 0, classification = 0;
    for (std::size_t place = 0; place < problem_.places(); ++place) {
      if (got.selected[place] == kNotSelected) continue;
      const double normalizer = normalizer_[place / problem_.rows];
      classification += rows_[place].classification / normalizer;
      regression += rows_[place].regression / normalizer;
    }
    one.expect(near(got.losses[0], regression, 1), where + ": regression loss");
    one.expect(near(got.losses[1], classification, 1), where + ": classification loss");
    const std::vector<float> normalizer(normalizer_.begin(), normalizer_.end());
    one.equal(got.normalizer, normalizer, where + ": normalizer");
  }

  void verify_gradients(Case& one, const Results& got, std::size_t place, const std::string& where) const {
    const PlainRow& row = rows_[place];
    const double normalizer = normalizer_[place / problem_.rows];
    if (!problem_.focal) {
      one.expect(near(got.row_sum[place], row.sum, 0), where + ": row_sum");
      one.expect(std::isnan(row.sum) || got.row_max[place] == row.max, where + ": row_max");
    }
    for (int c = 0; c < problem_.columns; ++c) {
      const std::size_t i = place * problem_.columns + c;
      double slope = 0;
      if (got.selected[place] != kNotSelected) {
        const double logit = inputs_.logits.values[i];
        slope = problem_.focal ? plain_focal(problem_.options, logit, c == row.column).slope
                               : std::exp(logit - row.max) / row.sum - (c == row.column ? 1 : 0);
      }
      one.expect(rounded_right(got.grad_logits[i], slope, kUpstream[1] / normalizer, problem_.logits_dtype),
                 where + ": gradient of a logit");
    }
    for (int i = 0; i < 4; ++i) {
      const double difference = row.differences[i];  // 0 unless the row is positive
      double slope = difference > 0 ? 1 : difference < 0 ? -1 : difference;
      if (std::fabs(difference) < problem_.beta) slope = difference / problem_.beta;
      one.expect(rounded_right(got.grad_deltas[4 * place + i], slope, kUpstream[0] / normalizer, problem_.deltas_dtype),
                 where + ": gradient of an offset");
    }
  }

  // Whether got is slope * scale, within float's rounding of the slope and then the type's.
  static bool rounded_right(double got, double slope, double scale, DType dtype) {
    if (std::isnan(slope)) return std::isnan(got);
    if (slope == 0) return got == 0;
    const double half_ulp = dtype == DType::float16 ? 0x1p-11 : dtype == DType::bfloat16 ? 0x1p-8 : 0;
    const double least = dtype == DType::float16 ? 0x1p-25 : 0;
    const double error = 1e-5 * std::fabs(scale) + half_ulp * std::fabs(slope * scale) + least;
    return std::fabs(got - slope * scale) <= error * 1.01;
  }

  const Problem& problem_;
  const Inputs& inputs_;
  std::vector<PlainRow> rows_;
  std::vector<int> num_positives_, normalizer_;
};

}  // namespace ssd::test
