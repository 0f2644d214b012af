"""The patch of torchvision.ops: when it begins and ends, for whom, and that it then leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms
from torchvision.ops import boxes as box_ops

from helpers.torchvision_ops import BOXES, KEPT, SCORES, calls_here
from ssd_fast.compat import patch_torchvision_ops, unpatch_torchvision_ops

pytestmark = pytest.mark.usefixtures("never_left_patched")

ORIGINALS = box_ops._batched_nms_vanilla, box_ops._batched_nms_coordinate_trick


@pytest.fixture(name="never_left_patched")
def _never_left_patched() -> Iterator[None]:
    yield
    unpatch_torchvision_ops()


def is_patched() -> bool:
    """Whether a call comes here; torchvision has to be changed as a whole, or not at all."""
    with calls_here() as calls:
        assert nms(BOXES, SCORES, 0.5).tolist() == KEPT
        assert batched_nms(BOXES, SCORES, torch.zeros(3), 0.5).tolist() == KEPT
        assert batched_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), 0.5).tolist() == KEPT
    found = box_ops._batched_nms_vanilla, box_ops._batched_nms_coordinate_trick
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "BackendSelect")
    assert calls in ([], ["nms", "nms", "batched_nms"])
    assert (found == ORIGINALS, has_kernel) == ((False, True) if calls else (True, False))
    return bool(calls)


def test_with_block_ends_patch_also_after_error():
    with patch_torchvision_ops():
        assert is_patched()
    assert not is_patched()
    with pytest.raises(KeyError), patch_torchvision_ops():
        raise KeyError
    assert not is_patched()


def test_plain_call_lasts_until_unpatch():
    patch_torchvision_ops()
    assert is_patched()
    patch_torchvision_ops()
    assert is_patched()
    unpatch_torchvision_ops()
    assert not is_patched()
    unpatch_torchvision_ops()
    assert not is_patched()


def test_blocks_nest_and_leave_earlier_patch():
    with patch_torchvision_ops():
        with patch_torchvision_ops():
            assert is_patched()
        assert is_patched()
    assert not is_patched()
    patch_torchvision_ops()
    with patch_torchvision_ops():
        assert is_patched()
    assert is_patched()


def test_unpatch_ends_blocks_too_and_block_can_be_entered_again():
    patch = patch_torchvision_ops()
    with patch:
        unpatch_torchvision_ops()
        assert not is_patched()
    with patch:
        assert is_patched()
    assert not is_patched()
    assert repr(patch) == "<patch of torchvision.ops.nms and batched_nms>"


def test_block_of_one_patch_nests():
    patch = patch_torchvision_ops()
    with patch:
        with patch:
            assert is_patched()
        assert is_patched()
    assert not is_patched()


def test_block_of_another_thread_keeps_patch():
    """The first block ends within the second, which goes on to be served."""
    entered, ended = threading.Event(), threading.Event()
    found: list[bool] = []

    def other() -> None:
        with patch_torchvision_ops():
            entered.set()
            assert ended.wait(60)
            found.append(is_patched())

    thread = threading.Thread(target=other)
    with patch_torchvision_ops():
        thread.start()
        assert entered.wait(60)
    ended.set()
    thread.join()
    assert found == [True] and not is_patched()


def test_patch_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with patch_torchvision_ops():
            assert is_patched()


def test_function_that_someone_put_there_since_stays(monkeypatch):
    def other(*arguments: Any) -> Tensor:
        return torch.tensor([7])

    with patch_torchvision_ops():
        monkeypatch.setattr(box_ops, "_batched_nms_coordinate_trick", other)
    assert box_ops._batched_nms_coordinate_trick is other and box_ops._batched_nms_vanilla is ORIGINALS[0]


def test_patch_without_torchvision_says_how_to_install_it():
    code = """
import sys
sys.modules["torchvision"] = None
import ssd_fast
try:
    ssd_fast.patch_torchvision_ops()
except ImportError as error:
    print(error)
ssd_fast.unpatch_torchvision_ops()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("patch_torchvision_ops: torchvision is not installed")
