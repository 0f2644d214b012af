"""Every op on arrays at awkward addresses, against the same call on fresh copies; test_alignment.py runs this program.

    python unaligned_calls.py cpu|emulated|cuda

It prints one line per op and library, and ends with a non-zero status at the first result that differs. A crash must
end this process and not pytest's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from helpers.op_calls import make_cases

OFFSETS = range(1, 32)  # elements of torch's storage, bytes of NumPy's memory


def moved_tensor(tensor: torch.Tensor, offset: int) -> torch.Tensor:
    """Return a contiguous view `offset` elements into its storage."""
    return torch.cat((tensor.new_zeros(offset), tensor.reshape(-1)))[offset:].view(tensor.shape)


def moved_array(array: np.ndarray, offset: int) -> np.ndarray:
    """Return the same values `offset` bytes into a buffer."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 32 + offset
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def packed_field(array: np.ndarray) -> np.ndarray:
    """Return a field of packed records, whose strides are not multiples of its item size."""
    records = np.zeros(array.shape, np.dtype([("flag", np.uint8), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


def as_bytes(result: Any) -> list[bytes]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    tensors = [torch.as_tensor(part).detach().contiguous() for part in parts]
    return [tensor.reshape(-1).view(torch.uint8).cpu().numpy().tobytes() for tensor in tensors]


def use_backend(name: str) -> None:
    if name == "emulated":
        from helpers.backends import emulated_extension
        from ssd_fast import _backend

        _backend.C = emulated_extension()


def main() -> None:
    use_backend(sys.argv[1])
    on_gpu = sys.argv[1] == "cuda"
    torch.manual_seed(0)
    for name, (call, named) in make_cases().items():
        tensors = [tensor.cuda() if on_gpu else tensor for tensor in named.values()]
        expected = as_bytes(call(*tensors))
        moved = differently_placed([[moved_tensor(tensor, offset) for tensor in tensors] for offset in OFFSETS])
        alone = [[*tensors[:i], moved_tensor(tensors[i], 1), *tensors[i + 1 :]] for i in range(len(tensors))]
        check(name, call, moved + alone, expected)
        print(name, "torch")
        if on_gpu or "bfloat16" in name:
            continue  # NumPy has no GPU arrays and no bfloat16
        arrays = [tensor.numpy() for tensor in tensors]
        expected = as_bytes(call(*arrays))
        calls = [[moved_array(array, offset) for array in arrays] for offset in OFFSETS]
        calls += [[*arrays[:i], moved_array(arrays[i], 1), *arrays[i + 1 :]] for i in range(len(arrays))]
        calls += [[*arrays[:i], packed_field(arrays[i]), *arrays[i + 1 :]] for i in range(len(arrays))]
        check(name, call, calls, expected)
        print(name, "numpy")


def differently_placed(argument_lists: list[list[Any]]) -> list[list[Any]]:
    """One list for each combination of addresses modulo 32."""
    return list({tuple(x.data_ptr() % 32 for x in arguments): arguments for arguments in argument_lists}.values())


def check(name: str, call: Callable[..., Any], argument_lists: list[list[Any]], expected: list[bytes]) -> None:
    for arguments in argument_lists:
        if as_bytes(call(*arguments)) != expected:
            addresses = [getattr(x, "data_ptr", lambda x=x: x.ctypes.data)() % 32 for x in arguments]
            sys.exit(f"{name}: another result at the addresses {addresses} (modulo 32)")


if __name__ == "__main__":
    main()
