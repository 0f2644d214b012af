"""Runs TF.js' coco-ssd on `dialect_inputs` in node and writes its detections: tests/golden/tfjs/coco_ssd.npz.

python tests/golden/make_tfjs.py FOLDER [OUT]

FOLDER/node_modules holds @tensorflow-models/coco-ssd, @tensorflow/tfjs-core, -converter and -backend-cpu (versions:
SOURCES.md). The network is replaced by its outputs; everything after it is the package's code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers import dialect_inputs  # noqa: E402

COLUMNS = 90
SETTINGS = (  # inputs, maxNumBoxes and minScore
    ("default", dialect_inputs.halves, ""),
    ("loose", dialect_inputs.halves, ", 100, 0.5"),
    ("nested", dialect_inputs.nested, ", 128"),
    ("apart", dialect_inputs.apart, ", 1024"),
)
SCRIPT = """
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const { ObjectDetection } = require('@tensorflow-models/coco-ssd');
const { scores, boxes, columns } = JSON.parse(require('fs').readFileSync(0));
const detection = new ObjectDetection('lite_mobilenet_v2');
const rows = boxes.length / 4;
detection.model = { executeAsync: async () =>
  [tf.tensor(scores, [1, rows, columns]), tf.tensor(boxes, [1, rows, 1, 4])] };
detection.buildDetectedObjects = (width, height, boxes, scores, indexes, classes) =>
  Array.from(indexes).map(i => [i, classes[i], scores[i]]);  // without the names of classes
detection.detect(tf.zeros([8, 8, 3])SETTINGS).then(found => console.log(JSON.stringify(found)));
"""


def main(folder: str, out: str | None = None) -> None:
    arrays: dict[str, np.ndarray | int] = {"inputs": dialect_inputs.digest(*dialect_inputs.halves(COLUMNS))}
    for name, make, settings in SETTINGS:
        logits, boxes = make(COLUMNS)
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        inputs = {"scores": scores.reshape(-1).tolist(), "boxes": boxes[:, [1, 0, 3, 2]].reshape(-1).tolist()}
        script = SCRIPT.replace("SETTINGS", settings)
        text = json.dumps(inputs | {"columns": COLUMNS})
        done = subprocess.run(
            ["node", "-e", script], input=text, capture_output=True, text=True, cwd=folder, check=True
        )
        rows = np.array(json.loads(done.stdout.strip().splitlines()[-1]))
        arrays[f"{name}_box_idxs"], arrays[f"{name}_labels"] = rows[:, 0].astype(np.int16), rows[:, 1].astype(np.int16)
        arrays[f"{name}_scores"] = rows[:, 2].astype(np.float32)
    path = Path(out) if out else HERE / "tfjs"
    path.mkdir(exist_ok=True)
    np.savez_compressed(path / "coco_ssd.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
