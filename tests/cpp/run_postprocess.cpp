// run_postprocess.cpp: the fused postprocess, in every layout, element type and option, against the naive one.
#include "postprocess_problem.h"

namespace {

using namespace ssd::test;
using ssd::Box;
using ssd::ClassMode;
using ssd::DType;
using ssd::PostprocessTask;
using ssd::Stage;
using ssd::TopKScope;

// The task without its pointers.
PostprocessTask make_task(const Problem& problem, const Inputs& inputs) {
  PostprocessTask task{};
  task.num_levels = static_cast<int>(problem.maps.size());
  for (int i = 0; i < task.num_levels; ++i) {
    const MapSize& map = problem.maps[i];
    ssd::HeadLevel& level = task.levels[i];
    level.logits = ssd::head_map(inputs.logits.views[i], problem.columns, problem.anchor_major, problem.ahw);
    level.deltas = ssd::head_map(inputs.deltas.views[i], 4, problem.anchor_major, problem.ahw);
    const int of_maps[3] = {problem.ahw ? map.anchors : map.height, problem.ahw ? map.height : map.width,
                            problem.ahw ? map.width : map.anchors};
    const int of_rows[3] = {1, map.rows(), 1};
    std::copy_n(problem.raw ? of_maps : of_rows, 3, level.sizes);
    level.first_row = task.num_rows;
    level.num_rows = map.rows();
    task.num_rows += map.rows();
  }
  task.num_images = problem.images;
  ssd::set_columns(task, problem.columns);
  task.pool_capacity = problem.pool_capacity;
  task.logits_dtype = problem.logits_dtype;
  task.deltas_dtype = problem.deltas_dtype;
  task.coder = kCoder;
  task.sigmoid = problem.sigmoid;
  task.background = problem.background;
  ssd::set_score_threshold(
      task, problem.inclusive ? std::nextafter(problem.score_threshold, -1.0f) : problem.score_threshold);
  task.class_mode = problem.class_mode;
  task.top_k_scope = problem.top_k_scope;
  const int most = task.num_rows * (problem.top_k_scope == TopKScope::segment ? 1 : task.num_columns);
  task.top_k = problem.top_k == 0 ? most : std::min(problem.top_k, most);
  task.has_min_box_size = problem.min_box_size.has_value();
  task.min_box_size = problem.min_box_size.value_or(0.0f);
  task.iou_threshold = ssd::iou_threshold(problem.iou_threshold);
  task.keep_top_k = problem.keep_top_k;
  task.clip = problem.clip;
  task.rescale = problem.rescale;
  task.image_sizes = {nullptr, static_cast<float>(inputs.image_sizes[0]), static_cast<float>(inputs.image_sizes[1])};
  task.original_sizes = {nullptr, static_cast<float>(inputs.original_sizes[0]),
                         static_cast<float>(inputs.original_sizes[1])};
  return task;
}

std::vector<float> numbers(const std::vector<Box>& boxes) {
  std::vector<float> flat;
  for (const Box& box : boxes) flat.insert(flat.end(), {box.x1, box.y1, box.x2, box.y2});
  return flat;
}

void compare(Case& one, const Detections& got, const Detections& want, const std::string& where) {
  one.equal(got.counts, want.counts, where + ": counts");
  one.equal(got.box_idxs, want.box_idxs, where + ": box_idxs");
  one.equal(got.labels, want.labels, where + ": labels");
  one.equal(got.scores, want.scores, where + ": scores");
  one.equal(numbers(got.boxes), numbers(want.boxes), where + ": boxes");
}

Detections run_cuda(const Problem& problem, const Inputs& inputs) {
  using Bytes = DeviceArray<unsigned char>;
  PostprocessTask task = make_task(problem, inputs);
  std::vector<std::unique_ptr<Bytes>> heads;
  const auto copy = [&](const std::vector<unsigned char>& stored) {
    heads.push_back(std::make_unique<Bytes>(stored));
    return heads.back()->data();
  };
  for (int i = 0; i < task.num_levels; ++i) {
    task.levels[i].logits.data = copy(inputs.logits.stored[i]);
    task.levels[i].deltas.data = copy(inputs.deltas.stored[i]);
  }
  DeviceArray<Box> default_boxes(inputs.default_boxes);
  DeviceArray<int64_t> image_sizes(inputs.image_sizes);
  DeviceArray<int64_t> original_sizes(inputs.original_sizes);
  task.default_boxes = default_boxes.data();
  if (problem.sizes_per_image) {
    task.image_sizes.per_image = image_sizes.data();
    task.original_sizes.per_image = original_sizes.data();
  }
  const std::size_t places = static_cast<std::size_t>(problem.images) * problem.keep_top_k;
  DeviceArray<Box> boxes(places);
  DeviceArray<float> scores(places);
  DeviceArray<int64_t> labels(places);
  DeviceArray<int64_t> box_idxs(places);
  DeviceArray<int64_t> counts(problem.images);
  task.boxes = boxes.data();
  task.scores = scores.data();
  task.labels = labels.data();
  task.box_idxs = box_idxs.data();
  task.counts = counts.data();
  Bytes workspace(ssd::postprocess_cuda_workspace(task));
  ssd::postprocess_cuda(task, workspace.data(), kStream);
  return {boxes.host(), scores.host(), labels.host(), box_idxs.host(), counts.host()};
}

Detections run_cpu(const Problem& problem, const Inputs& inputs) {
  PostprocessTask task = make_task(problem, inputs);
  for (int i = 0; i < task.num_levels; ++i) {
    task.levels[i].logits.data = inputs.logits.stored[i].data();
    task.levels[i].deltas.data = inputs.deltas.stored[i].data();
  }
  task.default_boxes = inputs.default_boxes.data();
  if (problem.sizes_per_image) {
    task.image_sizes.per_image = inputs.image_sizes.data();
    task.original_sizes.per_image = inputs.original_sizes.data();
  }
  const std::size_t places = static_cast<std::size_t>(problem.images) * problem.keep_top_k;
  Detections out;
  out.boxes.resize(places);
  out.scores.resize(places);
  out.labels.resize(places);
  out.box_idxs.resize(places);
  out.counts.resize(problem.images);
  task.boxes = out.boxes.data();
  task.scores = out.scores.data();
  task.labels = out.labels.data();
  task.box_idxs = out.box_idxs.data();
  task.counts = out.counts.data();
  ssd::postprocess_cpu(task);
  return out;
}

// at_least: the fewest detections with which the case tests anything.
void postprocess(Case& one, const Problem& problem, int at_least) {
  const Inputs inputs = make_inputs(problem);
  const Detections want = plain_postprocess(problem, inputs);
  one.expect(std::accumulate(want.counts.begin(), want.counts.end(), int64_t{0}) >= at_least, "too few detections");
  compare(one, run_cuda(problem, inputs), want, "cuda");
  compare(one, run_cpu(problem, inputs), want, "cpu");
}

class Cases {
 public:
  explicit Cases(Runner& runner) : runner_(runner) {}

  template <class Change>
  void add(const std::string& name, const Problem& base, const Change& change, int at_least = 10) {
    Problem problem = base;
    change(problem);
    runner_.good(name, [=](Case& one) { postprocess(one, problem, at_least); });
  }

 private:
  Runner& runner_;
};

const std::vector<MapSize> kLevels = {{3, 5, 7}, {2, 3, 4}, {6, 1, 1}};

Problem one_map(int rows) {
  Problem problem;
  problem.maps = {{1, 1, rows}};
  problem.raw = false;
  problem.images = 1;
  return problem;
}

void add_layouts(Cases& cases) {
  Problem base;
  base.maps = kLevels;
  for (int bits = 0; bits < 8; ++bits) {
    base.channels_last = (bits & 1) != 0;
    base.anchor_major = (bits & 2) != 0;
    base.ahw = (bits & 4) != 0;
    const std::string name = std::string(base.channels_last ? "channels-last" : "nchw") +
                             (base.anchor_major ? "-ac" : "-ca") + (base.ahw ? "-ahw" : "-hwa");
    cases.add("layout-" + name, base, [](Problem&) {});
  }
  cases.add("layout-rows", one_map(130), [](Problem& p) { p.images = 3; });
  cases.add("layout-eight-levels", base, [](Problem& p) { p.maps.assign(8, {2, 2, 3}); });
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const std::string name = dtype == DType::float16 ? "half" : "bfloat16";
    cases.add(name + "-nchw", base, [&](Problem& p) { p.logits_dtype = p.deltas_dtype = dtype; });
    cases.add(name + "-channels-last-deltas-float", base, [&](Problem& p) {
      p.channels_last = true;
      p.logits_dtype = dtype;
    });
    cases.add(name + "-rows", one_map(100), [&](Problem& p) { p.logits_dtype = p.deltas_dtype = dtype; });
  }
}

void add_options(Cases& cases) {
  Problem base;
  base.maps = kLevels;
  base.images = 1;
  cases.add("sigmoid", base, [](Problem& p) { p.sigmoid = true; });
  cases.add("sigmoid-no-background", base, [](Problem& p) {
    p.sigmoid = true;
    p.background = -1;
    p.score_threshold = 0.9f;
  });
  cases.add("no-background", base, [](Problem& p) { p.background = -1; });
  cases.add("last-background", base, [](Problem& p) { p.background = p.columns - 1; });
  cases.add("one-class", base, [](Problem& p) {
    p.columns = 1;
    p.background = -1;
  });
  // No row can be rejected, and a score of 0 is a candidate.
  cases.add("threshold-0-inclusive", base, [](Problem& p) {
    p.score_threshold = 0.0f;
    p.inclusive = true;
  });
  cases.add("threshold-inclusive", base, [](Problem& p) {
    p.logits = Logits::kTied;
    p.columns = 4;
    p.score_threshold = 0.25f;  // exactly the scores
    p.inclusive = true;
  });
  cases.add(
      "threshold-exclusive", base,
      [](Problem& p) {
        p.logits = Logits::kTied;
        p.columns = 4;
        p.score_threshold = 0.25f;
      },
      0);
  cases.add("nothing-passes", base, [](Problem& p) { p.score_threshold = 2.0f; }, 0);
  cases.add("stages-never", base, [](Problem& p) { p.clip = p.rescale = Stage::never; });
  cases.add("stages-before-nms", base, [](Problem& p) { p.clip = p.rescale = Stage::before_nms; });
  cases.add("stages-after-nms", base, [](Problem& p) { p.clip = p.rescale = Stage::after_nms; });
  cases.add("sizes-per-image", base, [](Problem& p) {
    p.images = 3;
    p.sizes_per_image = true;
  });
  cases.add("top-k-3", base, [](Problem& p) { p.top_k = 3; });
  cases.add("keep-top-k-1", base, [](Problem& p) { p.keep_top_k = 1; }, 1);
  cases.add("hostile", base, [](Problem& p) {
    p.logits = Logits::kHostile;
    p.boxes = Boxes::kHostile;
  });
  cases.add("hostile-sigmoid", base, [](Problem& p) {
    p.logits = Logits::kHostile;
    p.sigmoid = true;
  });
}

// One class per box, one NMS over all classes, top-k per level or image, boxes too small.
void add_modes(Cases& cases) {
  Problem base;
  base.maps = kLevels;
  for (const ClassMode mode : {ClassMode::argmax, ClassMode::agnostic}) {
    base.class_mode = mode;
    const std::string name = mode == ClassMode::argmax ? "argmax" : "agnostic";
    cases.add(name, base, [](Problem&) {});
    cases.add(name + "-sigmoid", base, [](Problem& p) {
      p.sigmoid = true;
      p.background = -1;
    });
    cases.add(name + "-tied", base, [](Problem& p) {  // the first of the classes
      p.logits = Logits::kTied;
      p.top_k = 60;
    });
    cases.add(name + "-inclusive", base, [](Problem& p) {
      p.logits = Logits::kTied;
      p.columns = 4;
      p.score_threshold = 0.25f;
      p.inclusive = true;
    });
    cases.add(name + "-hostile", base, [](Problem& p) {
      p.logits = Logits::kHostile;
      p.boxes = Boxes::kHostile;
      p.sigmoid = true;
    });
    cases.add(name + "-list-overflows", one_map(2500), [=](Problem& p) {
      p.class_mode = mode;
      p.logits = Logits::kUntrained;
      p.columns = 3;
      p.images = 2;
      p.score_threshold = 0.3f;
    });
    cases.add(name + "-list-overflows-rejects", one_map(3000), [=](Problem& p) {  // a quarter of the rows
      p.class_mode = mode;
      p.columns = 2;
      p.background = -1;
      p.sigmoid = true;
      p.score_threshold = 0.4f;
    });
  }
  for (const TopKScope scope : {TopKScope::level, TopKScope::image}) {
    base.top_k_scope = scope;
    const std::string name = scope == TopKScope::level ? "top-k-of-levels" : "top-k-of-images";
    for (const ClassMode mode : {ClassMode::per_class, ClassMode::argmax, ClassMode::agnostic}) {
      base.class_mode = mode;
      const std::string full_name = name + "-mode-" + std::to_string(static_cast<int>(mode));
      cases.add(full_name, base, [](Problem& p) { p.top_k = 9; });
      cases.add(full_name + "-tied", base, [](Problem& p) {
        p.logits = Logits::kTied;
        p.top_k = 21;
        p.iou_threshold = 0.9f;
      });
    }
    base.class_mode = ClassMode::per_class;
    cases.add(name + "-many", base, [](Problem& p) { p.top_k = 10000; });  // more than there are
    cases.add(name + "-nothing", base, [](Problem& p) { p.score_threshold = 2.0f; }, 0);
    cases.add(name + "-lists-overflow", base, [](Problem& p) {  // the last level is the last to be rescanned
      p.pool_capacity = 100;
      p.maps = {{1, 3, 3}, {2, 25, 30}, {2, 15, 10}};
      p.columns = 4;
      p.background = -1;
      p.images = 1;
      p.score_threshold = 0.001f;
      p.top_k = 300;
      p.keep_top_k = 1000;
    });
    cases.add(name + "-more-than-are-sorted-at-once", base, [](Problem& p) {
      p.maps = {{2, 20, 30}, {2, 10, 10}};
      p.columns = 2;
      p.images = 1;
      p.logits = Logits::kUntrained;
      p.boxes = Boxes::kDisjoint;
      p.clip = Stage::never;
      p.top_k = 1100;
      p.keep_top_k = 1500;
    });
  }
  Problem sized;
  sized.maps = kLevels;
  for (const Stage stage : {Stage::before_nms, Stage::after_nms}) {  // the sides are those of the moment
    const std::string name = stage == Stage::before_nms ? "before" : "after";
    cases.add("min-box-size-stages-" + name, sized, [=](Problem& p) {
      p.clip = p.rescale = stage;
      p.min_box_size = 60.0f;
    });
  }
  cases.add("min-box-size-0", sized, [](Problem& p) {
    p.boxes = Boxes::kHostile;
    p.min_box_size = 0.0f;
  });
  for (const bool exact : {true, false}) {  // a side that equals it is too small
    const auto staircase = [=](Problem& p) {
      p.boxes = Boxes::kStaircase;
      p.clip = Stage::never;
      p.logits = Logits::kTied;
      p.min_box_size = exact ? 10.0f : 9.999f;
    };
    cases.add(exact ? "min-box-size-exact" : "min-box-size-just-below", one_map(40), staircase, exact ? 0 : 10);
  }
  cases.add(
      "min-box-size-after-top-k", sized,
      [](Problem& p) {
        p.top_k = 30;
        p.min_box_size = 60.0f;
        p.class_mode = ClassMode::agnostic;
      },
      3);
}

void add_sizes(Cases& cases) {
  for (const int rows : {1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257}) {
    cases.add("rows-" + std::to_string(rows), one_map(rows), [](Problem& p) { p.columns = 3; }, rows / 10);
  }
  cases.add("no-rows", one_map(0), [](Problem&) {}, 0);
  cases.add("tied", one_map(300), [](Problem& p) { p.logits = Logits::kTied; });
  cases.add("identical", one_map(300), [](Problem& p) { p.boxes = Boxes::kIdentical; }, 3);
  cases.add(
      "staircase", one_map(300),
      [](Problem& p) {
        p.boxes = Boxes::kStaircase;
        p.clip = Stage::never;
        p.logits = Logits::kTied;  // box 0 suppresses 1, so 2 is kept, and so on
        p.keep_top_k = 600;
      },
      500);
  for (const int columns : {31, 33, 90, 400, 2000}) {  // ever fewer rows fit into a tile
    cases.add("columns-" + std::to_string(columns), one_map(33), [=](Problem& p) {
      p.columns = columns;
      p.score_threshold = std::min(0.1f, 10.0f / static_cast<float>(columns));
    });
  }
  for (const int columns : {7000, 7001}) {  // the longest row that is staged, and one that is not
    cases.add(
        "columns-" + std::to_string(columns), one_map(3),
        [=](Problem& p) {
          p.columns = columns;
          p.score_threshold = 0.0001f;
          p.logits = Logits::kUntrained;
          p.class_mode = ClassMode::agnostic;
        },
        1);
  }
  cases.add("columns-2000-nchw", one_map(0), [](Problem& p) {
    p.maps = {{2, 3, 4}, {1, 1, 3}};
    p.raw = true;
    p.columns = 2000;
    p.score_threshold = 0.005f;
  });
  // Segments of up to 32 candidates are a warp's work. In larger ones up to 1024 candidates are sorted at a time, and
  // each thread of a block, 256 or 512, takes a box.
  for (const int rows : {31, 32, 33, 511, 512, 513, 1023, 1024, 1025}) {
    cases.add("segment-of-" + std::to_string(rows), one_map(rows), [](Problem& p) {
      p.logits = Logits::kUntrained;
      p.columns = 3;
      p.top_k = 200;
    });
  }
  cases.add("segments-of-which-one-enters", one_map(0), [](Problem& p) {  // and blocks take several
    p.maps = {{1, 1, 50}};
    p.raw = false;
    p.images = 60;
    p.logits = Logits::kUntrained;
    p.sigmoid = true;
    p.background = -1;
    p.top_k_scope = TopKScope::image;
    p.top_k = 1;
    p.keep_top_k = 10;
  });
  cases.add("list-overflows-sigmoid", one_map(1100), [](Problem& p) {
    p.logits = Logits::kUntrained;
    p.columns = 2;
    p.sigmoid = true;
  });
  cases.add("list-overflows-rejects", one_map(1500), [](Problem& p) {  // some rows are
    p.columns = 2;
    p.score_threshold = 1e-5f;
    p.logits = Logits::kHostile;
  });
  Problem large;
  large.maps = {{2, 20, 25}, {3, 10, 15}};
  large.images = 1;
  large.columns = 2;
  large.logits = Logits::kUntrained;
  large.boxes = Boxes::kDisjoint;
  large.clip = Stage::never;
  cases.add("top-k-1300", large, [](Problem& p) { p.top_k = 1300; });
  cases.add(
      "top-k-all-keep-1100", large,
      [](Problem& p) {
        p.top_k = 0;
        p.keep_top_k = 1100;
      },
      1100);
  cases.add(
      "keep-1100-of-two-classes", large,
      [](Problem& p) {
        p.maps = {{1, 20, 30}};
        p.columns = 3;
        p.keep_top_k = 1100;
        p.logits_dtype = DType::bfloat16;  // many ties, between classes too
      },
      800);
}

// If the lists do not hold a segment, its column is computed again, in parts if it is long.
void add_columns(Cases& cases) {
  Problem base;
  base.maps = {{2, 5, 7}, {3, 4, 5}, {6, 1, 1}};
  base.logits = Logits::kUntrained;
  base.pool_capacity = 1;
  for (const ClassMode mode : {ClassMode::per_class, ClassMode::argmax, ClassMode::agnostic}) {
    base.class_mode = mode;
    const std::string name = "pool-of-one-mode-" + std::to_string(static_cast<int>(mode));
    cases.add(name, base, [](Problem&) {});
    cases.add(name + "-sigmoid-nchw-half", base, [](Problem& p) {
      p.sigmoid = true;
      p.anchor_major = false;
      p.logits_dtype = DType::float16;
    });
    cases.add(name + "-top-k-of-levels", base, [](Problem& p) {
      p.top_k_scope = TopKScope::level;
      p.top_k = 40;
    });
    cases.add(name + "-tied", base, [](Problem& p) { p.logits = Logits::kTied; });
    cases.add(name + "-top-k-all-keep-1500", one_map(1400), [=](Problem& p) {
      p.class_mode = mode;
      p.pool_capacity = 1;
      p.logits = Logits::kUntrained;
      p.boxes = Boxes::kDisjoint;
      p.clip = Stage::never;
      p.columns = 3;
      p.top_k = 0;
      p.keep_top_k = 1500;
    });
  }
  // In the levels of such maps a thread takes several rows, which it finds without a division.
  for (int bits = 0; bits < 8; ++bits) {
    base.class_mode = ClassMode::per_class;
    cases.add("column-of-large-maps-" + std::to_string(bits), base, [=](Problem& p) {
      p.channels_last = (bits & 1) != 0;
      p.anchor_major = (bits & 2) != 0;
      p.ahw = (bits & 4) != 0;
      p.maps = {{3, 17, 41}, {7, 11, 19}};
      p.images = 1;
      p.columns = 2;
    });
  }
  // Hostile boxes are in some warps and tiles, and among the boxes kept before.
  cases.add("rarely-hostile-boxes", one_map(1100), [](Problem& p) {
    p.columns = 2;
    p.logits = Logits::kUntrained;
    p.boxes = Boxes::kRarelyHostile;
    p.clip = Stage::never;
    p.top_k = 0;
    p.keep_top_k = 900;
  });
  // More boxes are kept than a block has threads, and they suppress later ones.
  cases.add(
      "staircase-shuffled-of-1700", one_map(1700),
      [](Problem& p) {
        p.columns = 2;
        p.logits = Logits::kUntrained;
        p.boxes = Boxes::kStaircase;
        p.clip = Stage::never;
        p.top_k = 0;
        p.keep_top_k = 1700;
      },
      600);
  // The union of two points is 0, and a threshold with an odd last bit includes what is halfway to the next float.
  cases.add(
      "points", one_map(1100),
      [](Problem& p) {
        p.columns = 2;
        p.logits = Logits::kUntrained;
        p.boxes = Boxes::kPoints;
        p.clip = Stage::never;
        p.iou_threshold = 0.7f;
        p.top_k = 0;
        p.keep_top_k = 1100;
      },
      1100);
  // A segment that the pool does not hold, but shared memory does or just does not, and one in a long column.
  for (const int rows : {4479, 4480, 4481}) {
    cases.add("pool-of-one-segment-of-" + std::to_string(rows), one_map(rows), [](Problem& p) {
      p.pool_capacity = 1;
      p.columns = 2;
      p.logits = Logits::kUntrained;
      p.top_k = 1100;
      p.keep_top_k = 700;
    });
  }
  for (const ClassMode mode : {ClassMode::per_class, ClassMode::agnostic}) {
    cases.add("few-of-a-column-of-12000-mode-" + std::to_string(static_cast<int>(mode)), one_map(12000),
              [=](Problem& p) {
                p.class_mode = mode;
                p.pool_capacity = 100;
                p.columns = 2;
                p.top_k = 1100;
                p.keep_top_k = 700;
              });
  }
  cases.add("all-nan", base, [](Problem& p) { p.logits = Logits::kNaN; }, 0);
  cases.add("candidate-per-class", one_map(1), [](Problem& p) {
    p.columns = 40;
    p.logits = Logits::kUntrained;
    p.score_threshold = 0.001f;
  });
  cases.add(
      "iou-threshold-0-inclusive", base,
      [](Problem& p) {  // each suppresses all
        p.class_mode = ClassMode::per_class;
        p.iou_threshold = -1.0f;
      },
      2);
  for (const int rows : {8732, 24564, 100000}) {
    cases.add("column-of-" + std::to_string(rows), one_map(rows), [](Problem& p) {
      p.columns = 2;
      p.logits = Logits::kUntrained;
    });
  }
  // More than 128 segments: a block takes several at a time, which may be the last of several images.
  cases.add("images-180-of-4", one_map(4), [](Problem& p) {
    p.images = 180;
    p.columns = 3;
    p.background = -1;
    p.logits = Logits::kUntrained;
    p.keep_top_k = 10;
  });
  cases.add("images-140-of-40", one_map(40), [](Problem& p) {
    p.images = 140;
    p.columns = 1;
    p.background = -1;
    p.sigmoid = true;
    p.logits = Logits::kUntrained;
    p.keep_top_k = 10;
  });
  // More images than blocks, some of them without a candidate.
  cases.add("images-600", one_map(3), [](Problem& p) {
    p.images = 600;
    p.columns = 4;
    p.keep_top_k = 5;
  });
  // More segments than the 512 blocks take in one round, 16 each.
  cases.add("images-210-of-40-classes", one_map(1), [](Problem& p) {
    p.images = 210;
    p.columns = 40;
    p.background = -1;
    p.score_threshold = 0.001f;
    p.logits = Logits::kUntrained;
    p.top_k_scope = TopKScope::image;
    p.keep_top_k = 50;
  });
  cases.add("column-of-10000-agnostic", one_map(10000), [](Problem& p) {
    p.columns = 3;
    p.class_mode = ClassMode::agnostic;
    p.logits = Logits::kUntrained;
    p.top_k = 1500;
    p.keep_top_k = 1300;
  });
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("postprocess", argc, argv, kSchedules);
  Cases cases(runner);
  add_layouts(cases);
  add_options(cases);
  add_modes(cases);
  add_sizes(cases);
  add_columns(cases);
  return runner.finish();
}
