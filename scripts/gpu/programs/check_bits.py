"""Check that the GPU gives the bits in tests/golden/bits.json, with one case per op.

    python scripts/gpu/programs/check_bits.py [--rehearse]

--rehearse: run only the small cases, on the emulated kernels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gpu.findings import from_environment

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests"))

from torch.utils._pytree import tree_map_only  # noqa: E402

from helpers import bits  # noqa: E402
from helpers.unaligned_calls import use_backend  # noqa: E402

SMALL = ("default_boxes", "box_iou_strange", "match_rules", "nms_padded", "batched_nms")


def main() -> None:
    rehearse = "--rehearse" in sys.argv[1:]
    use_backend("emulated" if rehearse else "cuda")
    findings, expected = from_environment(), bits.read()
    done = findings.done()
    for name in SMALL if rehearse else bits.CASES:
        if name in done:
            continue
        with findings.case(name):
            digest = bits.digest(bits.CASES[name](_stay if rehearse else _to_gpu))
            if digest != expected[name]:
                raise AssertionError(f"other bits than the CPU's: {digest}, expected {expected[name]}")


def _stay(x: Any) -> Any:
    return x


def _to_gpu(x: Any) -> Any:
    import torch

    return tree_map_only(torch.Tensor, lambda tensor: tensor.cuda(), x)


if __name__ == "__main__":
    main()
