// run_multibox_loss.cpp: the loss and its gradients; the CPU and CUDA results must be the same bits, and near those in
// double. Also what the op rests on: the order of sums, and rounding to half and bfloat16.
#include "loss_numbers.h"
#include "multibox_loss_problem.h"

namespace {

using namespace ssd::test;
using ssd::BFloat16;
using ssd::Box;
using ssd::BoxCoder;
using ssd::DType;
using ssd::Half;
using ssd::Normalizer;

// DeviceArray for the host. Its elements are garbage until they are written.
template <class T>
class HostArray {
 public:
  explicit HostArray(std::size_t size) : values_(size) {
    if (size > 0) std::memset(static_cast<void*>(values_.data()), 0xA5, size * sizeof(T));
  }
  explicit HostArray(const std::vector<T>& values) : values_(values) {}
  T* data() { return values_.data(); }
  std::vector<T> host() const { return values_; }

 private:
  std::vector<T> values_;
};

BoxCoder make_coder(const Problem& problem) { return {0.1f, 0.125f, 0.2f, 0.25f, 0.0f, 0.0f, problem.yx}; }

// Runs both passes in a backend's memory and by its functions.
template <template <class> class Array, class Forward, class Backward>
Results run(const Problem& problem, const Inputs& inputs, const Forward& forward_pass, const Backward& backward_pass) {
  Array<unsigned char> logits(inputs.logits.stored), deltas(inputs.deltas.stored);
  Array<Box> gt_boxes(inputs.gt_boxes), default_boxes(inputs.default_boxes);
  Array<int64_t> gt_labels(inputs.gt_labels), offsets(inputs.offsets), matched_idxs(inputs.matched_idxs);
  const std::size_t statistics = problem.focal ? 0 : problem.places();
  Array<float> row_max(statistics), row_sum(statistics), normalizer(problem.images), losses(2);
  Array<uint8_t> selected(problem.places());
  Array<unsigned char> grad_logits(inputs.logits.stored.size()), grad_deltas(inputs.deltas.stored.size());
  Array<float> grad_losses(std::vector<float>(kUpstream, kUpstream + 2));

  ssd::LossTask task{};
  task.logits = logits.data();
  task.deltas = deltas.data();
  task.logits_dtype = problem.logits_dtype;
  task.deltas_dtype = problem.deltas_dtype;
  task.gt_boxes = gt_boxes.data();
  task.gt_labels = gt_labels.data();
  task.offsets = offsets.data();
  task.matched_idxs = matched_idxs.data();
  task.default_boxes = default_boxes.data();
  task.num_images = problem.images;
  task.num_gt = static_cast<int64_t>(inputs.gt_boxes.size());
  task.num_rows = problem.rows;
  task.num_columns = problem.columns;
  task.coder = make_coder(problem);
  task.background = problem.background;
  task.classification = problem.focal ? ssd::Classification::focal : ssd::Classification::softmax;
  task.focal = problem.options;
  task.negatives_per_positive = problem.negatives_per_positive;
  task.min_negatives = problem.min_negatives;
  task.beta = problem.beta;
  task.normalizer_kind = problem.normalizer;
  task.row_max = row_max.data();
  task.row_sum = row_sum.data();
  task.selected = selected.data();
  task.normalizer = normalizer.data();
  forward_pass(ssd::LossForward{task, losses.data()});
  if (problem.places() > 0) {
    backward_pass(ssd::LossBackward{task, grad_losses.data(), grad_logits.data(), grad_deltas.data()});
  }
  return {losses.host(),
          row_max.host(),
          row_sum.host(),
          normalizer.host(),
          selected.host(),
          widened(grad_logits.host(), problem.logits_dtype),
          widened(grad_deltas.host(), problem.deltas_dtype)};
}

Results run_cuda(const Problem& problem, const Inputs& inputs) {
  DeviceArray<unsigned char> workspace(ssd::multibox_loss_cuda_workspace(problem.images, problem.rows));
  return run<DeviceArray>(
      problem, inputs,
      [&](const auto& forward) { ssd::multibox_loss_forward_cuda(forward, workspace.data(), kStream); },
      [&](const auto& backward) { ssd::multibox_loss_backward_cuda(backward, kStream); });
}

Results run_cpu(const Problem& problem, const Inputs& inputs) {
  return run<HostArray>(problem, inputs, ssd::multibox_loss_forward_cpu, ssd::multibox_loss_backward_cpu);
}

void compare(Case& one, const Results& cuda, const Results& cpu) {
  one.equal(cuda.losses, cpu.losses, "cuda and cpu: losses");
  one.equal(cuda.row_max, cpu.row_max, "cuda and cpu: row_max");
  one.equal(cuda.row_sum, cpu.row_sum, "cuda and cpu: row_sum");
  one.equal(cuda.normalizer, cpu.normalizer, "cuda and cpu: normalizer");
  one.equal(cuda.selected, cpu.selected, "cuda and cpu: selected");
  one.equal(cuda.grad_logits, cpu.grad_logits, "cuda and cpu: gradients of logits");
  one.equal(cuda.grad_deltas, cpu.grad_deltas, "cuda and cpu: gradients of offsets");
}

class Cases {
 public:
  explicit Cases(Runner& runner) : runner_(runner) {}

  // at_least: the fewest positives with which the case tests anything.
  template <class Change>
  void add(const std::string& name, const Change& change, int at_least = 2) {
    Problem problem;
    change(problem);
    runner_.good(name, [=](Case& one) {
      const Inputs inputs = make_inputs(problem);
      const Oracle oracle(problem, inputs, make_coder(problem));
      one.expect(oracle.num_positives() >= at_least, "too few positives");
      const Results cpu = run_cpu(problem, inputs);
      oracle.verify(one, cpu, "cpu");
      const Results cuda = run_cuda(problem, inputs);
      compare(one, cuda, cpu);
      oracle.verify(one, cuda, "cuda");
    });
  }

 private:
  Runner& runner_;
};

void add_sizes(Cases& cases) {
  for (const int rows : {1, 31, 32, 33, 127, 128, 129, 255, 256, 257}) {
    cases.add("rows-" + std::to_string(rows), [=](Problem& p) { p.rows = rows; }, rows / 20);
  }
  for (const int rows : {1023, 1024, 1025}) {
    cases.add("rows-" + std::to_string(rows), [=](Problem& p) {
      p.rows = rows;
      p.columns = 2;
      p.images = 1;
    });
  }
  // Ever fewer rows fit into a tile; from 385 columns on none is staged.
  for (const int columns : {2, 21, 91, 383, 385, 2000}) {
    cases.add("columns-" + std::to_string(columns), [=](Problem& p) {
      p.columns = columns;
      p.rows = columns > 100 ? 33 : 65;
      p.images = columns > 100 ? 1 : 2;
      p.one_in = 5;
    });
  }
  const auto images = [&](int count, int rows) {
    cases.add(
        "images-" + std::to_string(count),
        [=](Problem& p) {
          p.images = count;
          p.rows = rows;
          p.columns = 2;
          p.one_in = 3;
        },
        count / 4);
  };
  images(0, 40);
  images(1, 40);
  images(3, 40);
  images(300, 2);
  cases.add("images-0-rows-0", [](Problem& p) { p.images = p.rows = 0; }, 0);
  cases.add("rows-0", [](Problem& p) { p.rows = 0; }, 0);
  cases.add(
      "rows-0-per-image",
      [](Problem& p) {
        p.rows = 0;
        p.normalizer = Normalizer::positives_per_image;
      },
      0);
#if !defined(SSD_CHECKED) && !defined(__SANITIZE_ADDRESS__)
  images(1030, 2);
  cases.add("rows-8732", [](Problem& p) {
    p.rows = 8732;
    p.columns = 21;
    p.images = 1;
  });
#endif
}

void add_types(Cases& cases) {
  const std::pair<const char*, DType> types[3] = {
      {"float", DType::float32}, {"half", DType::float16}, {"bfloat16", DType::bfloat16}};
  for (const auto& [logits_name, logits] : types) {
    for (const auto& [deltas_name, deltas] : types) {
      cases.add(std::string("logits-") + logits_name + "-deltas-" + deltas_name,
                [logits = logits, deltas = deltas](Problem& p) {
                  p.logits_dtype = logits;
                  p.deltas_dtype = deltas;
                  p.rows = 70;
                });
    }
    if (logits == DType::float32) continue;
    cases.add(std::string("hostile-") + logits_name, [logits = logits](Problem& p) {
      p.logits_dtype = p.deltas_dtype = logits;
      p.logits = Logits::kHostile;
      p.boxes = Boxes::kHostile;
    });
    cases.add(
        std::string("columns-2000-") + logits_name,
        [logits = logits](Problem& p) {
          p.logits_dtype = logits;
          p.columns = 2000;
          p.rows = 7;
          p.one_in = 3;
          p.images = 1;
        },
        1);
  }
}

void add_mining(Cases& cases) {
  cases.add("no-objects", [](Problem& p) { p.objects = 0; }, 0);
  cases.add(
      "no-objects-min-negatives",
      [](Problem& p) {
        p.objects = 0;
        p.min_negatives = 7;
      },
      0);
  cases.add("all-background", [](Problem& p) { p.one_in = 0; }, 0);
  cases.add("all-positive", [](Problem& p) { p.one_in = 1; }, 100);
  cases.add("no-negatives-wanted", [](Problem& p) { p.negatives_per_positive = 0.0f; });
  cases.add("more-wanted-than-there-are", [](Problem& p) { p.negatives_per_positive = 1000.0f; });
  cases.add("all-wanted-of-1025", [](Problem& p) {
    p.rows = 1025;
    p.images = 1;
    p.columns = 2;
    p.negatives_per_positive = 1e9f;
  });
  cases.add("ratio-1.75", [](Problem& p) { p.negatives_per_positive = 1.75f; });
  cases.add("min-negatives-40", [](Problem& p) { p.min_negatives = 40; });
  cases.add("tied", [](Problem& p) {
    p.logits = Logits::kTied;
    p.rows = 300;
  });
  cases.add("few", [](Problem& p) {
    p.logits = Logits::kFew;
    p.rows = 300;
  });
  cases.add("few-1030", [](Problem& p) {
    p.logits = Logits::kFew;
    p.rows = 1030;
    p.columns = 2;
    p.images = 1;
  });
  cases.add("broken", [](Problem& p) {
    p.broken = true;
    p.images = 9;
    p.one_in = 4;
  });
  cases.add("hostile", [](Problem& p) {
    p.logits = Logits::kHostile;
    p.boxes = Boxes::kHostile;
    p.rows = 200;
    p.one_in = 20;
  });
  cases.add("hostile-logits-min-negatives", [](Problem& p) {
    p.logits = Logits::kHostile;
    p.columns = 2;
    p.min_negatives = 60;
  });
  // Row 0 of an image is a negative whose loss is NaN: no key may be larger than its key.
  for (const int wanted : {0, 1, 5, 100}) {
    cases.add(
        "nan-" + std::to_string(wanted),
        [=](Problem& p) {
          p.logits = Logits::kNan;
          p.one_in = 0;
          p.min_negatives = wanted;
        },
        0);
  }
}

void add_options(Cases& cases) {
  const std::pair<const char*, Normalizer> normalizers[3] = {{"positives", Normalizer::positives},
                                                             {"per-image", Normalizer::positives_per_image},
                                                             {"sum-max-one", Normalizer::sum_max_one}};
  for (const auto& [name, normalizer] : normalizers) {
    const std::string prefix = std::string("normalizer-") + name;
    cases.add(prefix, [normalizer = normalizer](Problem& p) {
      p.normalizer = normalizer;
      p.images = 5;
      p.min_negatives = 4;
    });
    cases.add(
        prefix + "-no-objects",
        [normalizer = normalizer](Problem& p) {
          p.normalizer = normalizer;
          p.objects = 0;
          p.min_negatives = 4;
        },
        0);
    cases.add(prefix + "-images-33", [normalizer = normalizer](Problem& p) {
      p.normalizer = normalizer;
      p.images = 33;
      p.rows = 9;
      p.one_in = 3;
    });
  }
  cases.add("beta-0", [](Problem& p) { p.beta = 0.0f; });
  cases.add("beta-ninth", [](Problem& p) { p.beta = 1.0f / 9; });
  cases.add("beta-4", [](Problem& p) { p.beta = 4.0f; });
  cases.add("yx", [](Problem& p) { p.yx = true; });
  cases.add("yx-half", [](Problem& p) {
    p.yx = true;
    p.deltas_dtype = DType::float16;
  });
  cases.add("background-last", [](Problem& p) { p.background = p.columns - 1; });
  cases.add("background-2", [](Problem& p) { p.background = 2; });
}

void add_focal(Cases& cases) {
  const auto add = [&](const std::string& name, const auto& change, int at_least = 2) {
    cases.add(
        "focal-" + name,
        [=](Problem& p) {
          p.focal = true;
          p.background = -1;
          change(p);
        },
        at_least);
  };
  for (const int rows : {1, 31, 33, 127, 129, 257, 1025}) {
    add("rows-" + std::to_string(rows), [=](Problem& p) { p.rows = rows; }, rows / 20);
  }
  for (const int columns : {1, 21, 91, 385}) {
    add("columns-" + std::to_string(columns), [=](Problem& p) {
      p.columns = columns;
      p.rows = 65;
      p.images = columns > 100 ? 1 : 2;
      p.one_in = 5;
    });
  }
  const std::pair<const char*, DType> types[3] = {
      {"float", DType::float32}, {"half", DType::float16}, {"bfloat16", DType::bfloat16}};
  for (const auto& [name, type] : types) {
    add(name, [type = type](Problem& p) { p.logits_dtype = type; });
    add(std::string("hostile-") + name, [type = type](Problem& p) {
      p.logits_dtype = type;
      p.logits = Logits::kHostile;
    });
    add(
        std::string("columns-2000-") + name,
        [type = type](Problem& p) {
          p.logits_dtype = type;
          p.columns = 2000;
          p.rows = 9;
          p.one_in = 3;
          p.images = 1;
        },
        1);
  }
  add("background-0", [](Problem& p) { p.background = 0; });
  add("background-last", [](Problem& p) { p.background = p.columns - 1; });
  add("unweighted", [](Problem& p) { p.options = {2.0f, 1.0f, 1.0f}; });
  add("gamma-0", [](Problem& p) { p.options.gamma = 0.0f; });
  add("gamma-0-hostile", [](Problem& p) {
    p.options.gamma = 0.0f;
    p.logits = Logits::kHostile;
  });
  add("gamma-5", [](Problem& p) { p.options.gamma = 5.0f; });
  add("broken", [](Problem& p) {
    p.broken = true;
    p.images = 9;
    p.one_in = 4;
  });
  add("nan", [](Problem& p) { p.logits = Logits::kNan; });
  add("no-objects", [](Problem& p) { p.objects = 0; }, 0);
  add("images-0", [](Problem& p) { p.images = 0; }, 0);
  add("rows-0", [](Problem& p) { p.rows = 0; }, 0);
  for (const Normalizer normalizer : {Normalizer::positives_per_image, Normalizer::sum_max_one}) {
    add("normalizer-" + std::to_string(static_cast<int>(normalizer)), [=](Problem& p) {
      p.normalizer = normalizer;
      p.images = 5;
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("multibox_loss", argc, argv, kSchedules);
  Cases cases(runner);
  add_sizes(cases);
  add_types(cases);
  add_mining(cases);
  add_options(cases);
  add_focal(cases);
  runner.good("sum-order", [](Case& one) {
    for (const int count : {0, 1, 31, 32, 33, 1023, 1024, 1025, 2047, 2048, 2049, 8732, 70000}) sum_of(one, count);
  });
  runner.good("sum-order-of-2^20", [](Case& one) { sum_of(one, 1 << 20); });
  runner.good("rounding-half", [](Case& one) { rounding<Half>(one, kHalf); });
  runner.good("rounding-bfloat16", [](Case& one) { rounding<BFloat16>(one, kBFloat16); });
  return runner.finish();
}
