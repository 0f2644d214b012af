"""Interrupts: a signal ends a long call on the CPU, or its handler runs meanwhile, and the next call is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from helpers.long_calls import SIZES


def run(script: str, *arguments: Any) -> Any:
    """Run a script in a process of its own, and return what it prints as JSON."""
    imports = "import json, signal, sys, threading, time, torch\nfrom helpers.long_calls import *\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_ends_long_call(threads):
    script = """
        torch.set_num_threads(int(sys.argv[1]))
        seen = {}
        for prepare, (small, large) in SIZES.items():
            expected, call, sent, ended = seeded(prepare, small)(), seeded(prepare, large), [], False
            try:
                timer = send_soon(signal.SIGINT, sent)
                call()
                ended = True
                timer.join()
            except KeyboardInterrupt:
                seconds = time.perf_counter() - sent[0]
            seen[prepare.__name__] = ended, seconds, torch.equal(seeded(prepare, small)(), expected)
        print(json.dumps(seen))
    """
    seen = run(script, threads)
    assert len(seen) == len(SIZES)
    assert {name: call for name, call in seen.items() if call[0] or call[1] > 1 or not call[2]} == {}


def test_error_of_signal_handler_ends_call_as_it_is():
    script = """
        class Timeout(Exception):
            pass
        def expire(*_):
            raise Timeout("time is up")
        signal.signal(signal.SIGALRM, expire)
        call = nms(1_000_000)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            call()
        except Exception as error:
            print(json.dumps([type(error).__name__, str(error)]))
    """
    assert run(script) == ["Timeout", "time is up"]


@pytest.mark.parametrize("threads", [1, 2])
def test_signal_handler_runs_while_call_goes_on(threads):
    """The handler runs an op itself, in the middle of the other."""
    script = """
        torch.set_num_threads(int(sys.argv[1]))
        call, small = seeded(match, 60_000), seeded(match, 40)
        expected = call(), small()
        handled = []
        def handle(*_):
            handled.append((time.perf_counter(), torch.equal(small(), expected[1])))
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        matches = call()
        end = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, 0)
        meanwhile = [is_right for at, is_right in handled if at < end]
        print(json.dumps([len(meanwhile) > 0, all(meanwhile), torch.equal(matches, expected[0])]))
    """
    assert run(script, threads) == [True, True, True]


def test_interrupt_does_not_end_call_of_another_thread():
    script = """
        call = seeded(match, 60_000)
        expected, seen, done, interrupted = call(), [], threading.Event(), False
        def work():
            seen.append(torch.equal(call(), expected))
            done.set()
        threading.Thread(target=work).start()
        try:
            send_soon(signal.SIGINT, [])
            done.wait()
        except KeyboardInterrupt:
            interrupted = not done.is_set()
        done.wait()
        print(json.dumps([interrupted, seen]))
    """
    assert run(script) == [True, [True]]
