"""Call a case once in a profiler's range, for ncu:

ncu --profile-from-start off ... python bench/profile_case.py NAME [--rehearse]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import device_cases
import device_program
import torch


def main(arguments: Sequence[str] | None = None) -> int:
    parser = device_program.parser(__doc__)
    parser.add_argument("name", choices=[case.name for case in device_cases.CASES], metavar="NAME")
    options = parser.parse_args(arguments)
    device = device_program.use_device(options.rehearse)
    prepared = device_cases.named(options.name).prepare(device, small=options.rehearse)
    for _ in range(2):
        prepared.call(*prepared.inputs)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    prepared.call(*prepared.inputs)
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
