"""Runs TFLite's Detection_PostProcess op on `dialect_inputs` and writes its detections: tests/golden/tflite/*.npz.

python tests/golden/make_tflite.py [OUT]

Needs ai-edge-litert (the runtime), tflite (the schema) and flatbuffers. The anchors are TensorFlow's, of the folder
pedestrian_ssdlite_mnv2_tf. fast: the op's default, one class per box and one NMS over all; regular: an NMS for each
class. exported: with the defaults of export_tflite_ssd_graph.py; half: more detections, above a threshold of 0.5;
faint: of scores around the exported threshold; nested: of IoUs around the exported threshold; equal: around 0.5, which
is the threshold; apart: of many boxes that do not touch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import flatbuffers
import numpy as np
import tflite
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers import dialect_inputs  # noqa: E402

COLUMNS = 91
SETTINGS = (  # use_regular_nms, nms_score_threshold, max_detections
    ("fast_exported", False, 1e-8, 10),
    ("fast_half", False, 0.5, 1000),
    ("regular_exported", True, 1e-8, 10),
    ("regular_half", True, 0.5, 1000),
)


def main(out: str | None = None) -> None:
    folder = Path(out) if out else HERE / "tflite"
    folder.mkdir(exist_ok=True)
    with np.load(HERE / "pedestrian_ssdlite_mnv2_tf" / "astronaut.npz") as arrays:
        yxyx = arrays["anchors_yxyx"]
    anchors = np.concatenate(((yxyx[:, :2] + yxyx[:, 2:]) / 2, yxyx[:, 2:] - yxyx[:, :2]), 1)  # center y, x, h, w
    logits, deltas = dialect_inputs.head_outputs(len(anchors), COLUMNS, background=None)
    logits = dialect_inputs.around_a_threshold(logits)
    scores = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    found: dict[str, np.ndarray | int] = {"inputs": dialect_inputs.digest(logits, deltas)}
    for prefix, regular, threshold, keep in SETTINGS:
        model = detection_postprocess(len(anchors), regular, threshold, keep)
        for n in range(2):
            boxes, labels, values, count = run(model, deltas[n : n + 1], scores[n : n + 1], anchors)
            k = int(count[0])
            found[f"{prefix}_boxes_{n}"] = boxes[0, :k][:, [1, 0, 3, 2]]
            found[f"{prefix}_scores_{n}"] = values[0, :k]
            found[f"{prefix}_labels_{n}"] = labels[0, :k].astype(np.int16) + 1  # TFLite counts classes from column 1
    for name, (make, iou) in dialect_inputs.TFLITE.items():
        logits, boxes = make()
        scores = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
        centres = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1)[:, [1, 0, 3, 2]]
        for prefix, regular in (("fast", False), ("regular", True)):
            model = detection_postprocess(len(boxes), regular, 1e-8, 2000, 2, iou)
            _, _, values, count = run(model, np.zeros((1, len(boxes), 4)), scores, centres)
            found[f"{prefix}_{name}_scores"] = values[0, : int(count[0])]
    np.savez_compressed(folder / "detection_postprocess.npz", **found)


def run(model: bytes, deltas: np.ndarray, scores: np.ndarray, anchors: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), (deltas, scores, anchors), strict=True):
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(value, np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def detection_postprocess(
    num_boxes: int, regular: bool, threshold: float, keep: int, columns: int = COLUMNS, iou: float = 0.6
) -> bytes:
    """Return a model with only this op."""
    options = {
        "max_detections": keep,
        "max_classes_per_detection": 1,
        "detections_per_class": 100,
        "use_regular_nms": regular,
        "nms_score_threshold": threshold,
        "nms_iou_threshold": iou,
        "num_classes": columns - 1,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
    }
    builder = flatbuffers.Builder(1024)
    names = ["deltas", "scores", "anchors", "boxes", "labels", "values", "count"]
    shapes = [(1, num_boxes, 4), (1, num_boxes, columns), (num_boxes, 4), (), (), (), ()]
    tensors = []
    for name, shape in zip(names, shapes, strict=True):
        text, dims = builder.CreateString(name), vector(builder, list(shape))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, dims)
        tflite.TensorAddType(builder, tflite.TensorType.FLOAT32)
        tflite.TensorAddBuffer(builder, 0)
        tflite.TensorAddName(builder, text)
        tensors.append(tflite.TensorEnd(builder))
    packed = builder.CreateByteVector(bytes(pack(options)))
    inputs, outputs = vector(builder, [0, 1, 2]), vector(builder, [3, 4, 5, 6])
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, 0)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    tflite.OperatorAddCustomOptions(builder, packed)
    operators = offsets(builder, [tflite.OperatorEnd(builder)])
    tensor_list = offsets(builder, tensors)
    graph_inputs, graph_outputs = vector(builder, [0, 1, 2]), vector(builder, [3, 4, 5, 6])
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensor_list)
    tflite.SubGraphAddInputs(builder, graph_inputs)
    tflite.SubGraphAddOutputs(builder, graph_outputs)
    tflite.SubGraphAddOperators(builder, operators)
    graphs = offsets(builder, [tflite.SubGraphEnd(builder)])
    custom = builder.CreateString("TFLite_Detection_PostProcess")
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, tflite.BuiltinOperator.CUSTOM)
    tflite.OperatorCodeAddBuiltinCode(builder, tflite.BuiltinOperator.CUSTOM)
    tflite.OperatorCodeAddCustomCode(builder, custom)
    tflite.OperatorCodeAddVersion(builder, 1)
    codes = offsets(builder, [tflite.OperatorCodeEnd(builder)])
    tflite.BufferStart(builder)
    buffers = offsets(builder, [tflite.BufferEnd(builder)])
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffers)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def pack(options: dict[str, float | bool]) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in options.items():
            builder.Key(key)
            if isinstance(value, bool):
                builder.Bool(value)
            elif isinstance(value, int):
                builder.Int(value)
            else:
                builder.Float(value)
    return builder.Finish()


def vector(builder: flatbuffers.Builder, values: list[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependInt32(value)
    return builder.EndVector()


def offsets(builder: flatbuffers.Builder, values: list[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUOffsetTRelative(value)
    return builder.EndVector()


if __name__ == "__main__":
    main(*sys.argv[1:])
