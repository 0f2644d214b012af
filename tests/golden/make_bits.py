"""Writes bits.json from the CPU kernels; with --check, exits 1 if they no longer give what it holds.

A changed hash is a changed result for every user: give the reason in the changelog.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import bits


def main() -> int:
    hashes = {name: bits.digest(run(lambda x: x)) for name, run in bits.CASES.items()}
    if "--check" not in sys.argv[1:]:
        bits.FILE.write_text(json.dumps(hashes, indent=2) + "\n")
        return 0
    expected = bits.read()
    for name in sorted(hashes.keys() | expected.keys()):
        if hashes.get(name) != expected.get(name):
            print(f"{name}: {hashes.get(name)}, expected {expected.get(name)}")
    return int(hashes != expected)


if __name__ == "__main__":
    sys.exit(main())
