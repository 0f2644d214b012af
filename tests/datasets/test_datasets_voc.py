"""The layout of PASCAL VOC: reading it, and the message for every broken file."""

from __future__ import annotations

import pytest

from helpers.dataset_files import SIZE_XML, object_xml, save_image, write_voc
from ssd_fast.datasets import open_dataset
from ssd_fast.ground_truth import GroundTruthError


def test_voc_coordinates_are_kept(tmp_path):
    body = SIZE_XML + object_xml("cat", (1, 1, 40, 30)) + object_xml("cat", (" 0.5 ", 2, 20.25, "1e1"))
    dataset = open_dataset(write_voc(tmp_path, {"a": body}), policy="raise")
    assert dataset.samples[0].boxes.tolist() == [[1, 1, 40, 30], [0.5, 2, 20.25, 10]]


def test_difficult_objects_are_ignored(tmp_path):
    flags = ("", "<difficult>0</difficult>", "<difficult> 1 </difficult>", "<difficult/>")
    body = "".join(object_xml(extra=flag) for flag in flags)
    dataset = open_dataset(write_voc(tmp_path, {"a": body}))
    assert dataset.samples[0].ignored.tolist() == [False, False, True, False]


def test_parts_are_not_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>3</xmin></bndbox></part>"
    dataset = open_dataset(write_voc(tmp_path, {"a": object_xml("person", extra=part)}))
    assert dataset.classes == ("person",) and len(dataset.samples[0].boxes) == 1


def test_voc_splits_are_image_sets(tmp_path):
    bodies = {name: object_xml(label) for name, label in (("a", "dog"), ("b", "cat"), ("c", "ape"))}
    root = write_voc(tmp_path, bodies, {"train": ["c", "", "a "], "test": ["b"], "cat_test": ["b 1"]})
    assert [sample.name for sample in open_dataset(root).samples] == ["a.png", "b.png", "c.png"]
    assert [sample.name for sample in open_dataset(root, "train").samples] == ["c.png", "a.png"]
    with pytest.raises(GroundTruthError, match=r"no split 'val'; the splits are: test, train$"):
        open_dataset(root, "val")


def test_labels_of_splits_agree(tmp_path):
    """Neither split has objects of all classes."""
    bodies = {name: object_xml(label) for name, label in (("a", "dog"), ("b", "cat"), ("c", "ape"))}
    root = write_voc(tmp_path, bodies, {"train": ["a", "c"], "test": ["b"]})
    train, test = open_dataset(root, "train"), open_dataset(root, "test")
    assert train.classes == test.classes == ("ape", "cat", "dog")
    assert [s.labels.tolist() for s in (*train.samples, *test.samples)] == [[3], [1], [2]]


def test_annotation_without_objects_is_background_image(tmp_path):
    dataset = open_dataset(write_voc(tmp_path, {"a": object_xml(), "b": SIZE_XML}))
    assert [len(sample.boxes) for sample in dataset.samples] == [1, 0]
    root = write_voc(tmp_path / "bare", {"a": SIZE_XML})
    with pytest.raises(GroundTruthError, match=r"no object, and so no class, .* classes="):
        open_dataset(root)
    assert open_dataset(root, classes=["cat"]).classes == ("cat",)


def test_image_has_name_of_annotation(tmp_path):
    root = write_voc(tmp_path, {"a": "<filename>stale.jpg</filename>" + object_xml()})
    assert open_dataset(root).samples[0].name == "a.png"
    (root / "JPEGImages" / "a.png").rename(root / "JPEGImages" / "a.JPG")
    assert open_dataset(root).samples[0].name == "a.JPG"
    (root / "JPEGImages" / "a.JPG").rename(root / "JPEGImages" / "stale.jpg")
    assert open_dataset(root).samples[0].name == "stale.jpg", "<filename> does not help where the name fails"


def test_stale_filename_of_another_image_is_not_used(tmp_path):
    stale = "<filename>b.png</filename>" + object_xml("cat")
    dataset = open_dataset(write_voc(tmp_path, {"a": stale, "b": object_xml("dog")}))
    assert [(sample.name, sample.labels.tolist()) for sample in dataset.samples] == [("a.png", [1]), ("b.png", [2])]


def test_filename_decides_between_two_images(tmp_path):
    root = write_voc(tmp_path, {"a": object_xml(), "b": "<filename>b.jpg</filename>" + object_xml()})
    save_image(root / "JPEGImages" / "b.jpg")
    assert [sample.name for sample in open_dataset(root).samples] == ["a.png", "b.jpg"]
    save_image(root / "JPEGImages" / "a.jpg")
    with pytest.raises(GroundTruthError, match=r"a\.xml: expected one image a in .*got a\.jpg, a\.png"):
        open_dataset(root)


def test_two_annotations_of_one_image_are_refused(tmp_path):
    root = write_voc(tmp_path, {"a": object_xml(), "b": "<filename>a.png</filename>" + object_xml()})
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(GroundTruthError, match=r"b\.xml: filename: its image 'a\.png' already belongs to .*a\.xml"):
        open_dataset(root)


def test_voc_images_may_be_elsewhere(tmp_path):
    root = write_voc(tmp_path / "set", {"a": object_xml()})
    save_image(tmp_path / "elsewhere" / "a.jpg")
    dataset = open_dataset(root, images=tmp_path / "elsewhere")
    assert dataset.samples[0].path == str(tmp_path / "elsewhere" / "a.jpg")


@pytest.mark.parametrize("name", ["Annotations", "JPEGImages"])
def test_missing_folders_are_named(tmp_path, name):
    root = write_voc(tmp_path, {"a": object_xml()})
    (root / name).rename(root / "gone")
    with pytest.raises(GroundTruthError, match=f"VOC: expected the folder .*{name}, which does not exist"):
        open_dataset(root, format="voc")


def test_voc_without_annotations_is_refused(tmp_path):
    with pytest.raises(GroundTruthError, match=r"Annotations: expected at least 1 annotation, \*\.xml, got 0"):
        open_dataset(write_voc(tmp_path, {}), format="voc")


def test_annotation_without_its_image_is_named(tmp_path):
    root = write_voc(tmp_path, {"a": object_xml(), "b": "<filename>other.jpg</filename>"})
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(GroundTruthError, match=r"b\.xml: expected an image b\.jpg .*or 'other\.jpg' in .*not exist"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "expected at least 1 image name, got an empty split"),
        ([" "], "empty split"),
        (["a", "", "b", "a"], "line 4: expected each name once, got 'a' again, as in line 1"),
        (["a", "z"], "line 2: .*got 'z' without z.xml"),
        (["a 1", "b -1"], "line 1: expected one name per line, got 'a 1' .a file for one class"),
    ],
)
def test_faulty_lines_of_splits_are_named(tmp_path, lines, message):
    root = write_voc(tmp_path, {"a": object_xml(), "b": object_xml()}, {"train": lines})
    with pytest.raises(GroundTruthError, match=rf"train\.txt: .*{message}"):
        open_dataset(root, "train")


def test_split_that_is_not_text_is_refused(tmp_path):
    root = write_voc(tmp_path, {"a": object_xml()})
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(b"a\xff\n")
    with pytest.raises(GroundTruthError, match=r"train\.txt: byte 1: expected names in UTF-8"):
        open_dataset(root, "train")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (object_xml(box=("x", 2, 3, 4)), "object 0 'cat': xmin: expected a number, got 'x'"),
        (object_xml() + object_xml("dog", (1, 2, "", 4)), "object 1 'dog': xmax: expected a number, got ''"),
        (object_xml(box=("1_0", 2, 30, 4)), "xmin: expected a number, got '1_0'"),
        ("<object><name>cat</name></object>", "object 0 'cat': expected one <bndbox>, got 0"),
        (object_xml().replace("<name>cat</name>", ""), "object 0: expected a <name>, got none"),
        (object_xml(" "), "object 0: expected a <name>, got none"),
        (object_xml().replace("xmin", "x"), "object 0 'cat': expected one <xmin> in <bndbox>, got 0; it has x, xmax"),
        (object_xml().replace("</xmin>", "</xmin><xmin>3</xmin>"), "expected one <xmin> in <bndbox>, got 2"),
        (object_xml(extra="<bndbox/>"), "object 0 'cat': expected one <bndbox>, got 2"),
        (object_xml(extra="<difficult>yes</difficult>"), "object 0 'cat': difficult: expected 0 or 1, got 'yes'"),
        ("<size><width>40</width></size>", "size: expected one <height> in <size>, got 0; it has width"),
        ("<size><width>4o</width><height>30</height></size>", "size: width: expected a number, got '4o'"),
    ],
)
def test_faulty_annotations_are_named(tmp_path, body, message):
    with pytest.raises(GroundTruthError, match=rf"b\.xml: .*{message}"):
        open_dataset(write_voc(tmp_path, {"a": object_xml(), "b": body}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>\n  <object></annotation>", "line 2, column 13: invalid XML: mismatched tag"),
        ("", "line 1, column 1: invalid XML: no element found"),
        ("<detections/>", "expected the root element <annotation>, got <detections>"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "line 1, column .*invalid XML"),
    ],
)
def test_unreadable_xml_is_named(tmp_path, text, message):
    root = write_voc(tmp_path, {"a": object_xml()})
    (root / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(GroundTruthError, match=rf"a\.xml: {message}"):
        open_dataset(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;">]>',
        '<!DOCTYPE a [<!ENTITY l SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE a SYSTEM "a.dtd">',
    ],
)
def test_document_types_are_refused(tmp_path, doctype, encoding):
    """A document type is refused before an entity can be expanded, in any encoding."""
    root = write_voc(tmp_path, {"a": object_xml()})
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{doctype}\n<annotation>{object_xml("&l;")}</annotation>'
    (root / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(GroundTruthError, match=r"a\.xml: line 2, column .*<!DOCTYPE \.\.\.>\) are refused"):
        open_dataset(root)


def test_broken_annotation_of_another_split_is_named(tmp_path):
    """The annotation is read because its classes count."""
    root = write_voc(tmp_path, {"a": object_xml(), "b": object_xml()}, {"train": ["a"]})
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(GroundTruthError, match=r"b\.xml: line 1"):
        open_dataset(root, "train")
    assert len(open_dataset(root, "train", classes=["cat"])) == 1
