"""Register ops with torch: schema, implementation and fake, in one call per op."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import _backend
from ._options import as_object, schema_of

_library = torch.library.Library("ssd_fast", "DEF")


class Op:
    """An op: the one that torch registered, for calls that something observes, and the function behind it."""

    def __init__(
        self,
        name: str,
        registered: Callable[..., Any],
        run: Callable[..., Any],
        pack: Callable[..., Any] | None,
        prepare: Callable[[Any], Any],
        differentiable: bool,
    ) -> None:
        self.name, self.registered, self.differentiable = name, registered, differentiable
        self._run, self._pack, self._prepare = run, pack, prepare

    def call_registered(self, arguments: Sequence[Any], specs: Sequence[Any]) -> Any:
        """Call the op that torch registered, with its options as keywords. The arguments are those of call_directly."""
        if self._pack is None:
            return self.registered(*arguments)
        return self.registered(*arguments, **self._pack(*specs)._asdict())

    def call_directly(self, arguments: Sequence[Any], specs: Sequence[Any]) -> Any:
        """Call the function behind the op.

        Args:
            arguments: the arrays and numbers of the op, in order.
            specs: the specs that the options are packed from.
        """
        if self._pack is None:
            return self._run(*arguments)
        return self._run(*arguments, prepared(self, _backend.C, *specs))

    def prepare(self, *specs: Any) -> Any:
        """Pack the options of specs in the form that C++ takes."""
        assert self._pack is not None
        return self._prepare(self._pack(*specs))


@functools.lru_cache(maxsize=256)
def prepared(op: Op, extension: Any, *specs: Any) -> Any:
    """Return op.prepare(*specs), made once per extension, to which the result belongs."""
    return op.prepare(*specs)


def register(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    options: type | None = None,
    pack: Callable[..., Any] | None = None,
    prepare: Callable[[Any], Any] = as_object,
    keys: Sequence[str] = ("CPU", "CUDA"),
    differentiable: bool = False,
    known_as: str = "",
) -> Op:
    """Define torch.ops.ssd_fast.<name> for the dispatch keys.

    An op that is not differentiable returns tensors without grad; call register_autograd for the others.

    Library.define and impl cost a tenth of torch.library.custom_op's call overhead. Other libraries' arrays go to the
    function directly, so it allocates by ssd_fast.arrays.

    Args:
        schema: "name(arguments) -> results", without the options.
        run: takes the arguments, then the options as prepare makes them.
        fake: takes the arguments, and the options as keywords.
        options: a NamedTuple, whose fields become keyword-only arguments of the op.
        pack: makes that NamedTuple from specs.
        prepare: converts it to what C++ takes.
        keys: the dispatch keys to register the op for.
        differentiable: whether the op has a gradient.
        known_as: what errors call the op, if that is not its name.
    """
    name = schema.partition("(")[0]
    implementation = run
    if options is not None:
        arguments, _, results = schema.partition(")")
        schema = f"{arguments}, *, {schema_of(options)}){results}"

        def implementation(*arguments: Any, **keywords: Any) -> Any:
            return run(*arguments, prepare(options(**keywords)))

    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in keys:
        _library.impl(name, implementation, key)
    if not differentiable:
        _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"ssd_fast::{name}", fake, lib=_library)
    return Op(known_as or name, getattr(torch.ops.ssd_fast, name), run, pack, prepare, differentiable)


def register_autograd(op_name: str, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> None:
    """Register the backward formula of torch.ops.ssd_fast.<op_name>."""
    torch.library.register_autograd(f"ssd_fast::{op_name}", backward, setup_context=setup_context, lib=_library)
