"""How many blocks of a kernel are resident on a multiprocessor at once, as computed by NVIDIA's cuda_occupancy.h."""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
REGISTERS = 64 * 1024  # per multiprocessor
REGISTER_UNIT = 256  # a warp's registers are a multiple of this
PARTITIONS = 4  # per multiprocessor; a warp's registers are all in one
SHARED_UNIT = 128
SHARED_RESERVED = 1024  # by the driver, per block
KIB = 1024


@dataclass(frozen=True)
class Multiprocessor:
    warps: int
    blocks: int
    shared: int  # bytes, in the largest split between it and the L1 cache
    shared_block: int  # the most that one block can have


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(warps=64, blocks=32, shared=164 * KIB, shared_block=163 * KIB),
    "sm_90": Multiprocessor(warps=64, blocks=32, shared=228 * KIB, shared_block=227 * KIB),
    "sm_120": Multiprocessor(warps=48, blocks=24, shared=100 * KIB, shared_block=99 * KIB),
}


@dataclass(frozen=True)
class Resident:
    blocks: int  # 0: the kernel cannot be launched
    warps: int
    share: float  # of the warps that a multiprocessor can hold
    limit: str  # what limits them: "registers", "shared memory", "warps" or "blocks"


def resident(architecture: str, registers: int, threads: int, shared: int = 0) -> Resident:
    """The blocks that fit. registers: per thread; threads and shared memory (static and dynamic): per block."""
    sm = MULTIPROCESSORS[architecture]
    block_warps = _up(threads, WARP) // WARP
    limits = {"blocks": sm.blocks, "warps": sm.warps // block_warps}
    warp_registers = _up(registers * WARP, REGISTER_UNIT)
    if warp_registers:
        limits["registers"] = REGISTERS // PARTITIONS // warp_registers * PARTITIONS // block_warps
    limits["shared memory"] = sm.shared // _up(shared + SHARED_RESERVED, SHARED_UNIT)
    if shared > sm.shared_block:
        limits["shared memory"] = 0
    if threads > 1024 or registers > 255 or _up(block_warps, PARTITIONS) * warp_registers > REGISTERS:
        limits["registers"] = 0
    limit = min(limits, key=lambda what: limits[what])
    warps = limits[limit] * block_warps
    return Resident(limits[limit], warps, warps / sm.warps, limit)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
