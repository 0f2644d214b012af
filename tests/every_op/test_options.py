"""Options by name: one NamedTuple gives the keywords of torch's schema, the op and C++, packed once per spec."""

from __future__ import annotations

import dataclasses
import importlib
import typing

import pytest
import torch

import ssd_fast
from helpers.op_calls import CODER, make_cases
from ssd_fast import MatcherSpec, PostprocessSpec, _backend
from ssd_fast.ops import _library, _loss_options, _postprocess_options
from ssd_fast.ops._box_coder_ops import DecodeOptions, EncodeOptions
from ssd_fast.ops._options import schema_of
from ssd_fast.ops.default_boxes import DefaultBoxOptions
from ssd_fast.ops.match import MatchOptions

postprocess = importlib.import_module("ssd_fast.ops.postprocess")  # the package has the op under this name
CASES = make_cases()
OBJECTS = {
    "postprocess": _postprocess_options.PostprocessOptions,
    "match": MatchOptions,
    "multibox_loss_forward": _loss_options.LossOptions,
    "multibox_loss_backward": _loss_options.LossOptions,
}
OPTIONS = OBJECTS | {"encode_boxes": EncodeOptions, "decode_boxes": DecodeOptions, "default_boxes": DefaultBoxOptions}


@pytest.mark.parametrize("op", OPTIONS)
def test_options_are_keywords_of_schema(op):
    schema = getattr(torch.ops.ssd_fast, op).default._schema
    keywords = [argument for argument in schema.arguments if argument.kwarg_only]
    assert [argument.name for argument in keywords] == list(OPTIONS[op]._fields)
    text = str(schema)
    assert f"*, {schema_of(OPTIONS[op])})" in text.replace("SymInt", "int")


@pytest.mark.parametrize("op", OBJECTS)
def test_options_are_keywords_of_cpp(op, backend):
    """Each option has its own name: distinct values come back under the names they were given."""
    kind, values = OBJECTS[op], {}
    for number, (name, hint) in enumerate(typing.get_type_hints(OBJECTS[op]).items(), start=2):
        choices = {bool: number % 2 == 0, int: number, float: number / 4}
        values[name] = choices.get(hint, number if hint == int | None else number / 4)
        if name == "variances":
            values[name] = [number, number + 0.5, number + 0.25, number + 0.75]
    made = getattr(_backend.C, kind.__name__)(**values)
    assert {name: getattr(made, name) for name in values} == values
    assert {name for name in dir(made) if not name.startswith("_")} == set(kind._fields)
    with pytest.raises(TypeError):
        getattr(_backend.C, kind.__name__)(*values.values())


def test_options_are_packed_once_per_spec(monkeypatch, backend):
    made = []
    prepare = _library.Op.prepare
    monkeypatch.setattr(_library.Op, "prepare", lambda op, *specs: (made.append(op.name), prepare(op, *specs))[1])
    _library.prepared.cache_clear()
    heads = [backend.to(tensor) for tensor in list(CASES["postprocess float32"][1].values())[:3]]
    spec = PostprocessSpec(score_threshold=0.125)
    for _ in range(3):
        ssd_fast.postprocess(*heads, spec, coder=CODER)
        ssd_fast.postprocess(*heads, dataclasses.replace(spec), coder=CODER)  # equal, but not identical
        ssd_fast.match([heads[2][:2]], heads[2], MatcherSpec())
    assert made == ["postprocess", "match"]
    ssd_fast.postprocess(heads[0][..., :3].contiguous(), *heads[1:], spec, coder=CODER)  # another number of columns
    assert made == ["postprocess", "match", "postprocess"]


def test_another_extension_has_own_options(emulated, monkeypatch):
    given = []
    run = postprocess._op._run
    monkeypatch.setattr(postprocess._op, "_run", lambda *args: (given.append(type(args[-1])), run(*args))[1])
    heads = list(CASES["postprocess float32"][1].values())[:3]
    ours = ssd_fast.postprocess(*heads, PostprocessSpec(), coder=CODER)
    monkeypatch.setattr(_backend, "C", emulated)
    assert all(map(torch.equal, ours, ssd_fast.postprocess(*heads, PostprocessSpec(), coder=CODER)))
    assert given == [_backend._C.PostprocessOptions, emulated.PostprocessOptions]
