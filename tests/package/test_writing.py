"""replace_file and append_line leave the old content or the new one, and their errors name the file."""

from __future__ import annotations

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest

from helpers.folder_checks import files_of_at_most
from helpers.training_cases import small_network
from ssd_fast._io.writing import WriteError, append_line, remove_partials, replace_file
from ssd_fast.models import load_weights, save_weights


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_that_does_not_fit_leaves_old_one(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"old")
    with files_of_at_most(1000), pytest.raises(WriteError) as caught:
        replace_file(path, bytes(1001))
    assert str(caught.value) == f"{path}: cannot be written: File too large"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value) and caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]
    with files_of_at_most(1000):
        replace_file(path, bytes(1000))
    assert path.read_bytes() == bytes(1000)


def test_line_that_does_not_fit_leaves_log_unchanged(tmp_path):
    path = tmp_path / "log"
    append_line(path, "first")
    with files_of_at_most(10), pytest.raises(WriteError, match="log: cannot be written: File too large"):
        append_line(path, "second")  # only "seco" fits
    assert path.read_text() == "first\n"
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_line_after_truncated_one_begins_anew(tmp_path):
    (tmp_path / "log").write_text("first\nsec")
    append_line(tmp_path / "log", "third")
    assert (tmp_path / "log").read_text() == "first\nsec\nthird\n"


def test_weights_that_cannot_be_written_leave_old_ones(tmp_path):
    path, network = tmp_path / "w.safetensors", small_network()
    save_weights(network, path)
    before = path.read_bytes()
    with files_of_at_most(len(before) - 1), pytest.raises(WriteError, match=r"w\.safetensors: cannot be written: File"):
        save_weights(small_network(seed=1), path)
    assert path.read_bytes() == before and names(tmp_path) == ["w.safetensors"]
    load_weights(network, path)
    with pytest.raises(WriteError, match=r"nowhere/w\.safetensors: cannot be written: No such file or directory"):
        save_weights(network, tmp_path / "nowhere" / "w.safetensors")


@pytest.mark.parametrize("write", [lambda path: replace_file(path, b"new"), lambda path: append_line(path, "new")])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
def test_only_regular_files_are_written(write, kind, tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    if kind == "link":
        other.write_text("kept")
    if "link" in kind:
        path.symlink_to(other)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = names(tmp_path)
    given = {"folder": "a folder", "fifo": "a named pipe"}.get(kind, "a symbolic link")
    expected = "expected a new file or a regular file to overwrite"
    with pytest.raises(WriteError, match=f"file: cannot be written: {expected}, got {given}"):
        write(path)
    assert names(tmp_path) == before and (kind != "link" or other.read_text() == "kept")


def test_links_among_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link" / "file", b"new")
    append_line(tmp_path / "link" / "log", "new")
    assert names(tmp_path / "real") == ["file", "log"]


def test_names_may_be_of_maximal_length_and_not_utf8(tmp_path):
    for name in ("n" * 255, "é" * 127, os.fsdecode(b"\xff" * 255)):
        replace_file(tmp_path / name, b"new")
        append_line(tmp_path / name, "line")
        assert (tmp_path / name).read_bytes() == b"new\nline\n"


def test_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "file", b"")
        append_line(tmp_path / "log", "")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "log")} == {0o640}


def test_interrupt_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    replace_file(tmp_path / "file", b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_remove_partials_removes_those_of_one_file(tmp_path):
    kept = [".partial-01234567-my-file", ".partial-other", "file", "partial-file"]
    for name in (*kept, ".partial-file", ".partial-01234567-file"):
        (tmp_path / name).write_text("")
    remove_partials(tmp_path / "file")
    assert names(tmp_path) == sorted(kept)
