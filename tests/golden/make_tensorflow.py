"""Runs TensorFlow's object detection API on `dialect_inputs` and writes its results: tests/golden/tensorflow/.

python tests/golden/make_tensorflow.py FOLDER [OUT]

FOLDER holds object_detection, of the package tensorflow-object-detection-api 0.1.1 (research/object_detection of 2018).
Needs TensorFlow 2, whose compat.v1 stands in for TensorFlow 1, and PyTorch for the arrays.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import tensorflow
import torch
from recording import dialect_inputs, record, save

COLUMNS = 91
MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def main(folder: str, out: str | None = None) -> None:
    sys.path.insert(0, folder)
    tensorflow.compat.v1.disable_v2_tensorshape()  # sides of a shape have a .value
    old = sys.modules["tensorflow"] = types.ModuleType("tensorflow")
    old.__dict__.update({name: getattr(tensorflow.compat.v1, name) for name in dir(tensorflow.compat.v1)})
    old.contrib = types.SimpleNamespace(framework=types.SimpleNamespace(is_tensor=tensorflow.is_tensor))
    from object_detection.anchor_generators.multiple_grid_anchor_generator import create_ssd_anchors
    from object_detection.box_coders.faster_rcnn_box_coder import FasterRcnnBoxCoder
    from object_detection.core.box_list import BoxList
    from object_detection.core.post_processing import multiclass_non_max_suppression
    from object_detection.core.region_similarity_calculator import IouSimilarity
    from object_detection.matchers.argmax_matcher import ArgMaxMatcher

    # pipeline.config of ssdlite_mobilenet_v2_coco, and of ssd_mobilenet_v1_coco and v2
    generator = create_ssd_anchors(aspect_ratios=(1.0, 2.0, 0.5, 3.0, 0.3333), reduce_boxes_in_lowest_layer=True)
    anchors = generator.generate(MAPS)
    if isinstance(anchors, list):
        anchors = tensorflow.concat([level.get() for level in anchors], 0)
    yxyx = torch.from_numpy(np.array(anchors))
    coder = FasterRcnnBoxCoder([10.0, 10.0, 5.0, 5.0])
    matcher = ArgMaxMatcher(0.5, 0.5, negatives_lower_than_unmatched=True, force_match_for_each_row=True)

    def boxes_of(xyxy: torch.Tensor) -> BoxList:
        return BoxList(tensorflow.constant(flip(xyxy).numpy()))

    def match_boxes(truths: torch.Tensor, default_boxes: torch.Tensor) -> torch.Tensor:
        similarity = IouSimilarity().compare(boxes_of(truths), boxes_of(default_boxes))
        return torch.from_numpy(np.array(matcher.match(similarity).match_results)).long()

    def match(truths, labels):
        matched = match_boxes(truths, flip(yxyx))
        assert matched.min() >= -1
        encoded = coder.encode(boxes_of(truths[matched.clamp(min=0)]), boxes_of(flip(yxyx)))
        return torch.from_numpy(np.array(encoded)), torch.where(matched >= 0, labels[matched.clamp(min=0)], 0)

    def decode(deltas, default_boxes=None):
        reference = boxes_of(flip(yxyx) if default_boxes is None else default_boxes)
        return flip(torch.from_numpy(np.array(coder.decode(tensorflow.constant(deltas.numpy()), reference).get())))

    def suppress(boxes, scores, score_threshold, iou_threshold):
        found, count = multiclass_non_max_suppression(
            tensorflow.constant(flip(boxes)[:, None].numpy()),
            tensorflow.constant(scores.numpy()),
            score_threshold,
            iou_threshold,
            max_size_per_class=100,
            max_total_size=100,
            clip_window=tensorflow.constant([0.0, 0.0, 1.0, 1.0]),
        )
        k = int(count)
        return {
            "boxes": flip(torch.from_numpy(np.array(found.get())))[:k],
            "scores": torch.from_numpy(np.array(found.get_field("scores")))[:k],
            "labels": torch.from_numpy(np.array(found.get_field("classes")))[:k].long() + 1,
        }

    def detect(logits, deltas):
        scores = torch.from_numpy(np.array(tensorflow.sigmoid(tensorflow.constant(logits.numpy()))))
        return [suppress(decode(deltas[n]), scores[n, :, 1:], 1e-8, 0.6) for n in range(2)]

    def combined(logits, deltas):
        """Return the detections of tf.image's combined op, which the API exports with use_combined_nms; same limits."""
        scores = tensorflow.sigmoid(tensorflow.constant(logits[..., 1:].numpy()))
        boxes = np.stack([flip(decode(deltas[n])).numpy()[:, None] for n in range(2)])
        found = tensorflow.image.combined_non_max_suppression(
            boxes, scores, 100, 100, iou_threshold=0.6, score_threshold=1e-8, clip_boxes=True
        )
        arrays = [torch.from_numpy(np.array(x)) for x in found]
        return [
            {"boxes": flip(boxes)[:k], "scores": values[:k], "labels": labels[:k].long() + 1}
            for boxes, values, labels, k in zip(*arrays, strict=True)
        ]

    def exact(logits, default_boxes, truths):
        scores = torch.from_numpy(np.array(tensorflow.sigmoid(tensorflow.constant(logits[0, :, 1:].numpy()))))
        return match_boxes(truths, default_boxes), suppress(default_boxes, scores, 0.5, 0.5)["scores"]

    def faint(shift=0.0):
        logits, boxes = (torch.from_numpy(x) for x in dialect_inputs.apart(2, dialect_inputs.FAINT))
        scores = torch.from_numpy(np.array(tensorflow.sigmoid(tensorflow.constant(logits[0, :, 1:].numpy()))))
        return suppress(boxes + shift, scores, 1e-8, 0.6)["scores"].numpy()

    arrays = record(300, COLUMNS, flip(yxyx), match, decode, None, detect, exact=exact, more={"combined": combined})
    arrays["faint_scores"] = faint()
    arrays["outside_scores"] = faint(shift=0.5)  # most boxes do not touch the image
    save("tensorflow", out, "tf_ssdlite_mobilenet_v2", arrays)


def flip(boxes: torch.Tensor) -> torch.Tensor:
    """Convert yxyx to xyxy and back."""
    return boxes[:, [1, 0, 3, 2]].contiguous()


if __name__ == "__main__":
    main(*sys.argv[1:])
