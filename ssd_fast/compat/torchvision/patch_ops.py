"""Patch torchvision.ops.nms and batched_nms: whoever calls them, in this process, runs the kernels of this package."""

from __future__ import annotations

import threading
from types import ModuleType

import torch

from .model import import_torchvision
from .nms import KEY, dispatched_nms, exact_batched_nms

__all__ = ["OpsPatch", "patch_torchvision_ops", "unpatch_torchvision_ops"]

# torchvision.ops.batched_nms looks these up at every call, so functions that were imported earlier find ours too.
_BATCHED = ("_batched_nms_vanilla", "_batched_nms_coordinate_trick")


class OpsPatch:
    """A patch of torchvision's ops, which the end of a `with` block takes back."""

    def __init__(self) -> None:
        self.blocks = 0  # that are open

    def __enter__(self) -> OpsPatch:
        _state.add(self, blocks=1)
        return self

    def __exit__(self, *error: object) -> None:
        _state.leave_block(self)

    def __repr__(self) -> str:
        return "<patch of torchvision.ops.nms and batched_nms>"


def patch_torchvision_ops() -> OpsPatch:
    """Let torchvision's nms and batched_nms run on this package's kernels, for every caller in the process.

    This speeds up other people's detectors without changing them: those of torchvision.models.detection, and any code
    that calls torchvision.ops.nms, torchvision.ops.batched_nms or torch.ops.torchvision.nms, even if it imported them
    earlier, or is scripted, compiled or exported. The patch holds for the whole process, thus for all threads, until
    unpatch_torchvision_ops or the end of a `with` block.

    Float32 and float64 tensors are served, on the CPU and, if the package was built for CUDA, on a GPU. Everything else
    runs torchvision's own code as before: other dtypes and devices, NaN scores, a threshold outside 0 to 1, tensor
    subclasses, classes that are not integers, and wrong arguments, for which torchvision raises its own errors.

    Returns:
        An object for a `with` block, at whose end the patch is taken back.

    Same:
        nms on the CPU keeps the same indices as torchvision in the same order, also for equal scores, NaN, infinite and
        degenerate boxes, and IoUs next to the threshold. batched_nms keeps what torchvision's nms keeps of each class.

    Ties:
        Of equal scores, the lower index comes first, as in torchvision's nms on the CPU. torchvision.ops.batched_nms
        leaves their order open when it has more boxes than it moves (see Differs).

    Differs:
        With up to 1,000 boxes on the CPU (25,000 on a GPU), torchvision.ops.batched_nms moves each class by a multiple
        of the largest coordinate plus 1 and runs one NMS. This rounds coordinates to the spacing of floats at the sum,
        2^-7 pixels for class 90 of a 1,000 pixel image. An IoU may thus pass a threshold to which it is near, boxes of
        two classes may suppress each other where coordinates are negative, and if a coordinate is NaN or +inf, no box
        suppresses another. Patched, boxes are not moved, and none of this happens. In compiled, exported, traced and
        scripted code it still does, since there only nms is patched.

        On a GPU, torchvision's compiler may fuse a multiplication with an addition, so that an IoU within rounding of
        the threshold may fall on its other side.

    Syncs:
        nms and batched_nms wait for a GPU twice: to look for NaN scores, and to trim the result.

    Raises:
        ImportError: torchvision is not installed.

    Source:
        torchvision.ops.nms and torchvision.ops.batched_nms

    Examples:
        >>> import ssd_fast, torch
        >>> from torchvision.ops import nms
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [20.0, 20.0, 30.0, 30.0]])
        >>> with ssd_fast.patch_torchvision_ops():
        ...     nms(boxes, torch.tensor([0.8, 0.9, 0.7]), iou_threshold=0.5)
        tensor([1, 2])
    """
    patch = OpsPatch()
    _state.add(patch)
    return patch


def unpatch_torchvision_ops() -> None:
    """Give torchvision its own nms and batched_nms back, however often they were patched, also within `with` blocks.

    Examples:
        >>> import ssd_fast
        >>> patch = ssd_fast.patch_torchvision_ops()
        >>> ssd_fast.unpatch_torchvision_ops()
    """
    _state.discard_all()


class _State:
    """The patches in force; torchvision is changed by the first of them, and restored after the last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.patches: set[OpsPatch] = set()
        self.applied: _Applied | None = None

    def add(self, patch: OpsPatch, blocks: int = 0) -> None:
        boxes = import_torchvision("patch_torchvision_ops", "ops.boxes")
        with self.lock:
            self.applied = self.applied or _Applied(boxes)
            self.patches.add(patch)
            patch.blocks += blocks

    def leave_block(self, patch: OpsPatch) -> None:
        """Take the patch back at the end of its outermost block."""
        with self.lock:
            patch.blocks -= 1
            if patch.blocks == 0:
                self._discard({patch})

    def discard_all(self) -> None:
        with self.lock:
            self._discard(set(self.patches))

    def _discard(self, patches: set[OpsPatch]) -> None:
        self.patches -= patches
        if self.applied is not None and not self.patches:
            self.applied.undo()
            self.applied = None


class _Applied:
    """What was changed in torchvision."""

    def __init__(self, boxes: ModuleType) -> None:
        self.boxes = boxes
        self.library = torch.library.Library("torchvision", "IMPL")
        # Disabled, or torch.compile would compile our Python too, wherever it leaves nms out of its graph.
        self.library.impl("nms", torch.compiler.disable(dispatched_nms), KEY, with_keyset=True)
        self.stand_ins = {name: exact_batched_nms(getattr(boxes, name)) for name in _BATCHED if hasattr(boxes, name)}
        for name, stand_in in self.stand_ins.items():
            setattr(boxes, name, stand_in)

    def undo(self) -> None:
        for name, stand_in in self.stand_ins.items():
            if getattr(self.boxes, name) is stand_in:  # else someone has replaced it since
                setattr(self.boxes, name, stand_in.__wrapped__)
        self.library._destroy()


_state = _State()
