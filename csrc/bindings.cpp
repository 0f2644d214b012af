// ssd_fast._C: one m.def per op, no logic. Every op takes its inputs and its outputs as arrays; Python allocates.
#include <pybind11/stl.h>

#include "box_coder/box_coder.h"
#include "box_iou/box_iou.h"
#include "common/bind_options.h"
#include "common/interrupt.h"
#include "common/parallel.h"
#include "common/view_caster.h"
#include "default_boxes/default_boxes.h"
#include "match/match.h"
#include "multibox_loss/multibox_loss.h"
#include "nms/nms.h"
#include "postprocess/postprocess.h"

#ifdef SSD_EMULATED
#include "emu/python.h"
#endif

namespace py = pybind11;
using namespace pybind11::literals;

// Python's signal handlers run while an op does, and what they raise, such as KeyboardInterrupt, ends it. Python runs
// them in its main thread alone, so that ops of other threads never wait for the GIL.
struct SignalsEndOp : ssd::Interruptible {
  static inline unsigned long main_thread = 0;
  SignalsEndOp() : Interruptible(PyThread_get_thread_ident() == main_thread ? run_handlers : nullptr) {}

  static void run_handlers() {
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
};

#ifdef SSD_EMULATED
#ifndef SSD_MODULE
#define SSD_MODULE _C_emulated
#endif
// The emulator runs one kernel at a time: the GIL is its lock.
using Guard = py::call_guard<SignalsEndOp, ssd::SubnormalsOn>;
#else
#define SSD_MODULE _C
using Guard = py::call_guard<SignalsEndOp, py::gil_scoped_release, ssd::SubnormalsOn>;
#endif

#define FIELD(options, name) \
  ssd::Field { #name, &ssd::options::name }

PYBIND11_MODULE(SSD_MODULE, m) {
  m.doc() = "The compiled kernels of ssd_fast. Use ssd_fast.ops, which allocates outputs and documents each op.";
  SignalsEndOp::main_thread =
      py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  static py::handle type_error = PyExc_TypeError;
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const ssd::TypeError& e) {
      PyErr_SetString(type_error.ptr(), e.what());
    }
  });

  m.def("default_boxes", &ssd::default_boxes, "feature_maps"_a, "boxes_per_cell"_a, "box_sizes"_a, "steps"_a,
        "offset"_a, "clip_centers"_a, "clip"_a, "normalized"_a, "ahw"_a, "image_height"_a, "image_width"_a, "out"_a,
        Guard());
  m.def("box_iou", &ssd::box_iou, "boxes1"_a, "boxes2"_a, "out"_a, Guard());
  m.def("encode_boxes", &ssd::encode_boxes, "boxes"_a, "default_boxes"_a, "variances"_a, "yx"_a, "out"_a, Guard());
  m.def("decode_boxes", &ssd::decode_boxes, "deltas"_a, "default_boxes"_a, "variances"_a, "log_scale_low"_a,
        "log_scale_high"_a, "yx"_a, "out"_a, Guard());
  ssd::bind_options(m, "MatchOptions", FIELD(MatchOptions, positive_threshold), FIELD(MatchOptions, positive_inclusive),
                    FIELD(MatchOptions, negative_threshold), FIELD(MatchOptions, bipartite), FIELD(MatchOptions, force),
                    FIELD(MatchOptions, last_wins), FIELD(MatchOptions, forced_above),
                    FIELD(MatchOptions, ignored_coverage));
  m.def("match", &ssd::match, "gt_boxes"_a, "offsets"_a, "default_boxes"_a, "gt_ignored"_a, "options"_a, "workspace"_a,
        "out"_a, Guard());
  m.def("match_workspace", &ssd::match_workspace, "gt_boxes"_a);
  ssd::bind_options(m, "LossOptions", FIELD(LossOptions, background), FIELD(LossOptions, classification),
                    FIELD(LossOptions, target_weight), FIELD(LossOptions, other_weight), FIELD(LossOptions, gamma),
                    FIELD(LossOptions, negatives_per_positive), FIELD(LossOptions, min_negatives),
                    FIELD(LossOptions, beta), FIELD(LossOptions, normalizer), FIELD(LossOptions, variances),
                    FIELD(LossOptions, yx));
  m.def("multibox_loss_forward", &ssd::multibox_loss_forward, "cls_logits"_a, "bbox_regression"_a, "gt_boxes"_a,
        "gt_labels"_a, "offsets"_a, "matched_idxs"_a, "default_boxes"_a, "options"_a, "workspace"_a, "losses"_a,
        "row_max"_a, "row_sum"_a, "selected"_a, "normalizer"_a, Guard());
  m.def("multibox_loss_backward", &ssd::multibox_loss_backward, "grad_losses"_a, "cls_logits"_a, "bbox_regression"_a,
        "gt_boxes"_a, "gt_labels"_a, "offsets"_a, "matched_idxs"_a, "default_boxes"_a, "options"_a, "row_max"_a,
        "row_sum"_a, "selected"_a, "normalizer"_a, "grad_logits"_a, "grad_regression"_a, Guard());
  m.def("multibox_loss_workspace", &ssd::multibox_loss_workspace, "cls_logits"_a);
  m.def("nms", &ssd::nms, "boxes"_a, "scores"_a, "iou_threshold"_a, "workspace"_a, "out"_a, "count"_a, Guard());
  m.def("batched_nms", &ssd::batched_nms, "boxes"_a, "scores"_a, "idxs"_a, "iou_threshold"_a, "workspace"_a, "out"_a,
        "count"_a, Guard());
  m.def("nms_padded", &ssd::nms_padded, "boxes"_a, "scores"_a, "iou_threshold"_a, "max_output"_a, "workspace"_a,
        "out"_a, "counts"_a, Guard());
  m.def("nms_workspace", &ssd::nms_workspace, "boxes"_a);
  m.def("nms_padded_workspace", &ssd::nms_padded_workspace, "boxes"_a, "scores"_a, "iou_threshold"_a, "max_output"_a);
  m.def("postprocess_workspace", &ssd::postprocess_workspace, "cls_logits"_a, "num_rows"_a, "num_columns"_a,
        "options"_a);

  ssd::bind_options(
      m, "PostprocessOptions", FIELD(PostprocessOptions, sigmoid), FIELD(PostprocessOptions, background),
      FIELD(PostprocessOptions, score_threshold), FIELD(PostprocessOptions, score_inclusive),
      FIELD(PostprocessOptions, class_mode), FIELD(PostprocessOptions, top_k), FIELD(PostprocessOptions, top_k_scope),
      FIELD(PostprocessOptions, min_box_size), FIELD(PostprocessOptions, iou_threshold),
      FIELD(PostprocessOptions, iou_inclusive), FIELD(PostprocessOptions, keep_top_k), FIELD(PostprocessOptions, clip),
      FIELD(PostprocessOptions, rescale), FIELD(PostprocessOptions, anchor_major), FIELD(PostprocessOptions, ahw),
      FIELD(PostprocessOptions, variances), FIELD(PostprocessOptions, log_scale_low),
      FIELD(PostprocessOptions, log_scale_high), FIELD(PostprocessOptions, yx));
  m.def(
      "postprocess",
      [](const std::vector<ssd::View>& cls_logits, const std::vector<ssd::View>& bbox_regression,
         const ssd::View& default_boxes, int64_t num_columns, const ssd::PostprocessOptions& options,
         const std::optional<ssd::View>& image_sizes, const std::vector<double>& image_size,
         const std::optional<ssd::View>& original_sizes, const std::vector<double>& original_size,
         const ssd::View& workspace, const ssd::View& boxes, const ssd::View& scores, const ssd::View& labels,
         const ssd::View& box_idxs, const ssd::View& counts) {
        ssd::postprocess(cls_logits, bbox_regression, default_boxes, num_columns, options, image_sizes, image_size,
                         original_sizes, original_size, workspace, {boxes, scores, labels, box_idxs, counts});
      },
      "cls_logits"_a, "bbox_regression"_a, "default_boxes"_a, "num_columns"_a, "options"_a, "image_sizes"_a,
      "image_size"_a, "original_sizes"_a, "original_size"_a, "workspace"_a, "boxes"_a, "scores"_a, "labels"_a,
      "box_idxs"_a, "counts"_a, Guard());

  m.def("gpu_of", [](const ssd::View& array) { return array.device.index; }, "array"_a);

  // Scalar probes: the tests measure the error of the package's own exp, log and log1p through them.
  m.def("exp", &ssd::exp, "x"_a);
  m.def("log", &ssd::log, "x"_a);
  m.def("log1p", &ssd::log1p, "x"_a);

#if defined(SSD_WITH_CUDA) || defined(SSD_EMULATED)
  py::class_<ssd::CudaFacts>(m, "CudaFacts", py::module_local())
      .def_readonly("gpus", &ssd::CudaFacts::gpus)
      .def_readonly("error", &ssd::CudaFacts::error)
      .def_readonly("message", &ssd::CudaFacts::message)
      .def_readonly("driver", &ssd::CudaFacts::driver);
  m.def("cuda_facts", &ssd::cuda_facts);
#endif
#ifdef SSD_EMULATED
  emu::add_to(m);
#endif
  py::dict info;
#if defined(SSD_EMULATED)
  info["cuda"] = "emulated";
#elif defined(SSD_WITH_CUDA)
  info["cuda"] = SSD_CUDA_COMPILER;
  info["cuda_architectures"] = SSD_CUDA_ARCHITECTURES;
#else
  info["cuda"] = py::none();
#endif
  info["compiler"] = SSD_CXX_COMPILER;
  info["pybind11"] = PYBIND11_VERSION_MAJOR * 100 + PYBIND11_VERSION_MINOR;
  m.attr("build_info") = info;
}
