"""CPU threads: torch's number in every Python thread, and no waiting for threads that a fork left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import torch

import ssd_fast


def run(script: str, timeout: float = 120, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_forked_child_can_run_first_op():
    """torch's thread pool belongs to the parent: a child that waited for it would wait forever."""
    script = """
        import os, torch, ssd_fast
        torch.set_num_threads(2)
        torch.exp(torch.zeros(1 << 20))
        boxes = torch.rand(3000, 2)
        boxes = torch.cat((boxes, boxes + 1), 1)
        child = os.fork()
        if child == 0:
            total = ssd_fast.box_iou(boxes, boxes).trace().item()
            os._exit(0 if abs(total - 3000) < 1e-3 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ssd_fast.box_iou(boxes, boxes).shape[0])
    """
    assert run(script, OMP_NUM_THREADS="2") == "0 3000\n"


def test_new_thread_keeps_torch_set_num_threads():
    """libgomp gives every new thread its default number. The threads that exist afterwards are those that worked."""
    script = """
        import os, threading, torch, ssd_fast
        torch.set_num_threads(1)
        boxes = torch.rand(3000, 2)
        boxes = torch.cat((boxes, boxes + 1), 1)
        before = len(os.listdir("/proc/self/task"))
        counts = []
        def work():
            ssd_fast.box_iou(boxes, boxes)
            counts.append(len(os.listdir("/proc/self/task")))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(counts[0] - before)
    """
    assert run(script, OMP_NUM_THREADS="4") == "1\n"  # only the Python thread


def test_op_uses_several_threads():
    script = """
        import os, torch, ssd_fast
        torch.set_num_threads(3)
        before = len(os.listdir("/proc/self/task"))
        boxes = torch.rand(3000, 2)
        ssd_fast.box_iou(torch.cat((boxes, boxes + 1), 1), torch.cat((boxes, boxes + 1), 1))
        print(len(os.listdir("/proc/self/task")) - before)
    """
    assert int(run(script, OMP_NUM_THREADS="4")) >= 2


def test_results_do_not_depend_on_number_of_threads():
    boxes = torch.rand(3000, 2)
    boxes = torch.cat((boxes, boxes + 0.1), 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = ssd_fast.box_iou(boxes, boxes)
        torch.set_num_threads(3)
        assert torch.equal(ssd_fast.box_iou(boxes, boxes), expected)
    finally:
        torch.set_num_threads(before)
