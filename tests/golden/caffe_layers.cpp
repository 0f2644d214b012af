// Hands arrays to layers of Caffe, and back their results: for make_caffe.py, which compiles this with files of Caffe.

#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/detection_output_layer.hpp"
#include "caffe/layers/multibox_loss_layer.hpp"
#include "caffe/layers/prior_box_layer.hpp"
#include "caffe/layers/softmax_layer.hpp"
#include "google/protobuf/text_format.h"

namespace caffe {
REGISTER_LAYER_CLASS(Softmax);  // layer_factory.cpp would do so, and ask for convolutions
}

namespace {

using Blob = caffe::Blob<float>;
using Shape = std::vector<int>;

caffe::LayerParameter parameters(const char* text) {
  caffe::LayerParameter parsed;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &parsed)) << text;
  return parsed;
}

void fill(Blob* blob, const Shape& shape, const float* values) {
  blob->Reshape(shape);
  std::copy_n(values, blob->count(), blob->mutable_cpu_data());
}

class OpenMultiBoxLoss : public caffe::MultiBoxLossLayer<float> {
 public:
  using MultiBoxLossLayer::all_match_indices_;
  using MultiBoxLossLayer::all_neg_indices_;
  using MultiBoxLossLayer::loc_gt_;
  using MultiBoxLossLayer::MultiBoxLossLayer;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// Of one map: writes the corners of its boxes; returns how many numbers these are.
EXPORT int prior_box(const char* text, int map_side, int image_side, float* boxes) {
  Blob map(1, 1, map_side, map_side), image(1, 3, image_side, image_side), top;
  caffe::PriorBoxLayer<float> layer(parameters(text));
  layer.SetUp({&map, &image}, {&top});
  layer.Forward({&map, &image}, {&top});
  std::copy_n(top.cpu_data(), top.count() / 2, boxes);
  return top.count() / 2;
}

// priors [2, P, 4]: corners, variances; truths [G, 8]: image, label, -, corners, difficult; matched, mined [N, P];
// encoded: [positives, 4], images and rows in order. Returns the loss.
EXPORT float multibox_loss(const char* text, int num_images, int num_priors, int num_columns, const float* deltas,
                           const float* logits, const float* priors, const float* truths, int num_truths, int* matched,
                           int* mined, float* encoded, float* deltas_gradient, float* logits_gradient) {
  Blob loc, conf, prior, truth, top;
  fill(&loc, {num_images, num_priors * 4}, deltas);
  fill(&conf, {num_images, num_priors * num_columns}, logits);
  fill(&prior, {1, 2, num_priors * 4}, priors);
  fill(&truth, {1, 1, num_truths, 8}, truths);
  const std::vector<Blob*> bottoms{&loc, &conf, &prior, &truth}, tops{&top};
  OpenMultiBoxLoss layer(parameters(text));
  layer.SetUp(bottoms, tops);
  layer.Forward(bottoms, tops);
  std::fill_n(matched, num_images * num_priors, -1);
  int num_positives = 0;
  for (int n = 0; n < num_images; ++n) {
    for (const auto& entry : layer.all_match_indices_[n]) {  // of one label, or none without ground truth
      const std::vector<int>& row = entry.second;
      std::copy(row.begin(), row.end(), matched + n * num_priors);
      num_positives += std::count_if(row.begin(), row.end(), [](int truth_index) { return truth_index >= 0; });
    }
    for (int p : layer.all_neg_indices_[n]) mined[n * num_priors + p] = 1;
  }
  std::copy_n(layer.loc_gt_.cpu_data(), num_positives * 4, encoded);
  layer.Backward(tops, {true, true, false, false}, bottoms);
  std::copy_n(loc.cpu_diff(), loc.count(), deltas_gradient);
  std::copy_n(conf.cpu_diff(), conf.count(), logits_gradient);
  return top.cpu_data()[0];
}

EXPORT void softmax(int num_rows, int num_columns, const float* logits, float* scores) {
  Blob bottom, top;
  fill(&bottom, {num_rows, num_columns}, logits);
  caffe::SoftmaxLayer<float> layer(parameters("softmax_param { axis: 1 }"));
  layer.SetUp({&bottom}, {&top});
  layer.Forward({&bottom}, {&top});
  std::copy_n(top.cpu_data(), top.count(), scores);
}

// Writes rows of image, label, score and corners; returns how many.
EXPORT int detection_output(const char* text, int num_images, int num_priors, int num_columns, const float* deltas,
                            const float* scores, const float* priors, float* rows) {
  Blob loc, conf, prior, top;
  fill(&loc, {num_images, num_priors * 4}, deltas);
  fill(&conf, {num_images, num_priors * num_columns}, scores);
  fill(&prior, {1, 2, num_priors * 4}, priors);
  caffe::DetectionOutputLayer<float> layer(parameters(text));
  layer.SetUp({&loc, &conf, &prior}, {&top});
  layer.Forward({&loc, &conf, &prior}, {&top});
  std::copy_n(top.cpu_data(), top.count(), rows);
  return top.count() / 7;
}

EXPORT void decode(int num_priors, const float* deltas, const float* priors, float* boxes) {
  std::vector<caffe::NormalizedBBox> prior_boxes, decoded;
  std::vector<std::vector<float>> variances;
  std::vector<caffe::LabelBBox> offsets;
  caffe::GetPriorBBoxes(priors, num_priors, &prior_boxes, &variances);
  caffe::GetLocPredictions(deltas, 1, num_priors, 1, true, &offsets);
  caffe::DecodeBBoxes(prior_boxes, variances, caffe::PriorBoxParameter_CodeType_CENTER_SIZE, false, false,
                      offsets[0].at(-1), &decoded);
  for (int p = 0; p < num_priors; ++p) {
    const float corners[] = {decoded[p].xmin(), decoded[p].ymin(), decoded[p].xmax(), decoded[p].ymax()};
    std::copy_n(corners, 4, boxes + p * 4);
  }
}
