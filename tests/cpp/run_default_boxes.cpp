// run_default_boxes.cpp: default boxes of several maps against loops over the maps, their cells and their shapes.
#include "default_boxes/default_boxes_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;
using ssd::DefaultBoxParams;

struct Map {
  int height;
  int width;
  int boxes_per_cell;
};

struct Options {
  bool clip_centers = false;
  bool clip = false;
  bool normalized = false;
  bool ahw = false;
  float offset = 0.5f;
};

constexpr float kImageHeight = 300.0f;
constexpr float kImageWidth = 400.0f;

// Steps and sizes that are not round numbers; the largest boxes leave the image.
DefaultBoxParams make_params(const std::vector<Map>& maps, const Options& options) {
  DefaultBoxParams params{};
  int num_sizes = 0;
  for (const Map& map : maps) {
    params.levels[params.num_levels++] = {map.height,
                                          map.width,
                                          map.boxes_per_cell,
                                          params.num_rows,
                                          num_sizes,
                                          kImageHeight / static_cast<float>(map.height),
                                          kImageWidth / static_cast<float>(map.width)};
    params.num_rows += map.height * map.width * map.boxes_per_cell;
    num_sizes += map.boxes_per_cell;
  }
  for (int i = 0; i < num_sizes; ++i) {
    params.widths[i] = 20.3f * static_cast<float>(i + 1);
    params.heights[i] = 31.7f * static_cast<float>(num_sizes - i);
  }
  params.offset = options.offset;
  params.image_height = kImageHeight;
  params.image_width = kImageWidth;
  params.clip_centers = options.clip_centers;
  params.clip = options.clip;
  params.normalized = options.normalized;
  params.ahw = options.ahw;
  return params;
}

Box plain_box(const DefaultBoxParams& params, const ssd::DefaultBoxLevel& level, int y, int x, int shape) {
  float cx = (static_cast<float>(x) + params.offset) * level.step_x;
  float cy = (static_cast<float>(y) + params.offset) * level.step_y;
  if (params.clip_centers) {
    cx = std::min(cx, kImageWidth);  // no center is left of the image
    cy = std::min(cy, kImageHeight);
  }
  const float half_width = params.widths[level.first_size + shape] / 2;
  const float half_height = params.heights[level.first_size + shape] / 2;
  Box box{cx - half_width, cy - half_height, cx + half_width, cy + half_height};
  float right = kImageWidth;
  float bottom = kImageHeight;
  if (params.normalized) {
    box = {box.x1 / right, box.y1 / bottom, box.x2 / right, box.y2 / bottom};
    right = bottom = 1.0f;
  }
  if (params.clip) {
    box = {std::clamp(box.x1, 0.0f, right), std::clamp(box.y1, 0.0f, bottom), std::clamp(box.x2, 0.0f, right),
           std::clamp(box.y2, 0.0f, bottom)};
  }
  return box;
}

std::vector<Box> plain_boxes(const DefaultBoxParams& params) {
  std::vector<Box> boxes;
  for (int i = 0; i < params.num_levels; ++i) {
    const ssd::DefaultBoxLevel& level = params.levels[i];
    const int shapes = level.boxes_per_cell;
    for (int a = 0; a < (params.ahw ? shapes : 1); ++a) {
      for (int y = 0; y < level.height; ++y) {
        for (int x = 0; x < level.width; ++x) {
          if (params.ahw) {
            boxes.push_back(plain_box(params, level, y, x, a));
          } else {
            for (int shape = 0; shape < shapes; ++shape) boxes.push_back(plain_box(params, level, y, x, shape));
          }
        }
      }
    }
  }
  return boxes;
}

void default_boxes(Case& one, const std::vector<Map>& maps, const Options& options) {
  const DefaultBoxParams params = make_params(maps, options);
  const std::vector<Box> want = plain_boxes(params);
  DeviceArray<Box> boxes(want.size());
  ssd::default_boxes_cuda(params, boxes.data(), kStream);
  one.equal(boxes.host(), want, "cuda");

  std::vector<Box> on_cpu(want.size());
  ssd::default_boxes_cpu(params, on_cpu.data());
  one.equal(on_cpu, want, "cpu");
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("default_boxes", argc, argv, kSchedules);
  const auto add = [&](const std::string& name, const std::vector<Map>& maps, const Options& options) {
    runner.good(name, [=](Case& one) { default_boxes(one, maps, options); });
  };
  const std::vector<Map> ssd300 = {{38, 38, 4}, {19, 19, 6}, {10, 10, 6}, {5, 5, 6}, {3, 3, 4}, {1, 1, 4}};
  const std::vector<Map> oblong = {{7, 11, 3}, {3, 5, 2}, {1, 2, 1}};

  for (const int rows : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025}) {
    add("row-of-" + std::to_string(rows), {{1, rows, 1}}, {});
    add("column-of-" + std::to_string(rows), {{rows, 1, 1}}, {});
  }
  for (int bits = 0; bits < 16; ++bits) {
    Options options;
    options.clip = (bits & 1) != 0;
    options.normalized = (bits & 2) != 0;
    options.ahw = (bits & 4) != 0;
    options.clip_centers = (bits & 8) != 0;
    std::string name = std::string(options.clip ? "-clip" : "") + (options.normalized ? "-normalized" : "") +
                       (options.ahw ? "-ahw" : "") + (options.clip_centers ? "-centers" : "");
    add("ssd300" + name, ssd300, options);
    options.offset = options.clip_centers ? 1.25f : 0.25f;  // the last cells' centers lie beyond the image
    add("oblong" + name, oblong, options);
  }
  add("eight-maps-of-sixteen", std::vector<Map>(8, Map{2, 3, 16}), {});
  return runner.finish();
}
