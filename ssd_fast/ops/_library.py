"""How ops are registered with torch: schema, implementation, fake. One call an op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

_library = torch.library.Library("ssd_fast", "DEF")


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    keys: Sequence[str] = ("CPU", "CUDA"),
    differentiable: bool = False,
) -> Any:
    """Defines torch.ops.ssd_fast.<name> for the dispatch keys and returns it.

    An op that is not differentiable returns tensors without grad; the others are given register_autograd.

    Library.define and impl cost a tenth of torch.library.custom_op's call overhead. The implementation is the function
    that other array libraries call directly, so it allocates by ssd_fast.arrays.
    """
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in keys:
        _library.impl(name, implementation, key)
    if not differentiable:
        _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"ssd_fast::{name}", fake, lib=_library)
    return getattr(torch.ops.ssd_fast, name)


def register_autograd(op_name: str, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> None:
    """The backward formula of torch.ops.ssd_fast.<op_name>."""
    torch.library.register_autograd(f"ssd_fast::{op_name}", backward, setup_context=setup_context, lib=_library)
