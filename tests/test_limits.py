"""Limits: oversized or malformed input is refused before it is opened or allocated."""

import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ovseg3d.errors import ConfigError, RunError, SceneError, printable
from ovseg3d.limits import (
    Trust,
    check_array,
    check_memory,
    check_name,
    check_number,
    check_regular,
    inside,
    open_regular,
    read_bytes,
    read_text,
    shorten,
    tensor_headers,
)

pytestmark = pytest.mark.timeout(20, method="signal")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        for look in (open_regular, check_regular, read_bytes):
            with pytest.raises(SceneError, match="no regular file"):
                look(path)


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder"):
        read_bytes(tmp_path, RunError)
    with pytest.raises(RunError, match="The photo is missing"):
        read_bytes(tmp_path / "none", RunError, "photo")
    with pytest.raises(SceneError, match="is invalid"):
        check_regular(tmp_path / "a\0b")
    with pytest.raises(SceneError, match="too long"):
        check_regular(tmp_path / ("a" * 300))


def test_bytes_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, most=5) == b"12345"
    with pytest.raises(SceneError, match="larger than"):
        read_bytes(path, most=4)


def test_text_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("\ufeffMöbel".encode())
    assert read_text(path) == "Möbel"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SceneError, match="not UTF-8"):
        read_text(path)


def test_a_path_stays_in_its_folder(tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    (scene / "images").mkdir(parents=True)
    (scene / "out").symlink_to(tmp_path)
    assert inside(scene, "images/1.png") == scene / "images" / "1.png"
    assert inside(scene, "images/../1.png")
    for name in ("../1.png", "/etc/passwd", "out/secret", "images/../../1.png"):
        with pytest.raises(SceneError, match="outside"):
            inside(scene, name)
        assert inside(scene, name, trust=Trust(outside=True)) == scene / name
    for name in ("a\0b", "\udc80\ud800", "a" * 5000):
        with pytest.raises(SceneError):
            inside(scene, name)


def test_a_scene_behind_a_link_is_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    assert inside(tmp_path / "link", "1.png")


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert printable("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert printable("a\u202eb\ud800") == "a\\u202eb\\ud800"
    assert printable("Möbel\u00a0椅子\n\tline") == "Möbel\u00a0椅子\n\tline"


@pytest.mark.parametrize("name", ["a\x1bb", "a\nb", "a\0b", "\ud800", "x" * 256, "é" * 200, "a/" * 3000, "a\u202eb"])
def test_names_that_nothing_can_have(name: str) -> None:
    with pytest.raises(SceneError, match="The class") as caught:
        check_name(name, "classes.txt", what="class")
    assert caught.value.fix in ("shorten it", "leave them out", "write it in UTF-8")


@pytest.mark.parametrize("name", ["chair", "office chair", "椅子", "images/0001.jpg", "x" * 255, "TV\u00a0stand"])
def test_names_of_things(name: str) -> None:
    assert check_name(name, "classes.txt") == name


def test_numbers_have_ranges() -> None:
    assert check_number(3, "w", "file", 1, 5) == 3.0
    for wrong in (True, "3", None, [3], math.nan, math.inf, 10**400, 0, 6):
        with pytest.raises(SceneError, match="'w'"):
            check_number(wrong, "w", "file", 1, 5)


def test_an_array_is_judged_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 4), np.uint16))
    assert check_array(path) == (3, 4)
    for wrong in (np.zeros(3), np.zeros((0, 4)), np.zeros((2, 2), complex), np.full((2, 2), "a"), np.float64(1)):
        np.save(path, wrong)
        with pytest.raises(SceneError):
            check_array(path)
    np.save(path, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(SceneError, match="plain numbers"):
        check_array(path)


def test_a_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (100, 100)})
    with pytest.raises(SceneError, match="cut short"):
        check_array(path)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (10**6, 10**6)})
        file.truncate(2 * 10**12 + 1000)  # sparse: it takes no room on the disk
    with pytest.raises(SceneError, match="larger than"):
        check_array(path)
    path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16)
    with pytest.raises(SceneError, match="no array"):
        check_array(path)


def test_tensors_are_judged_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"xyz": np.zeros((5, 3), np.float32)}, path, metadata={"a": "b"})
    tensors, facts = tensor_headers(path, RunError)
    assert tensors["xyz"].shape == (5, 3) and tensors["xyz"].bytes == 60 and facts == {"a": "b"}
    with pytest.raises(RunError, match="more than can be right"):
        tensor_headers(path, RunError, most=59)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match="cut"):
        tensor_headers(path, RunError)


@pytest.mark.parametrize(
    "header",
    ["[]", '{"a": 1}', '{"a": {"shape": [-1], "dtype": "F32"}}', '{"a": {"shape": 3}}', "[" * 5000, "\ud800",
     '{"__metadata__": {"a": 1}}', '{"a": {"dtype": "F32", "shape": [1e3]}}'],
)  # fmt: skip
def test_nonsense_for_a_header(tmp_path: Path, header: str) -> None:
    path, data = tmp_path / "a.safetensors", header.encode(errors="surrogatepass")
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    with pytest.raises(RunError):
        tensor_headers(path, RunError)
    path.write_bytes(struct.pack("<Q", 2**62) + json.dumps({}).encode())
    with pytest.raises(RunError):
        tensor_headers(path, RunError)


def test_memory_that_is_not_there() -> None:
    check_memory(1000, "A thing", None, ConfigError)
    with pytest.raises(ConfigError, match=r"A thing takes .* GiB"):
        check_memory(1e15, "A thing", None, ConfigError)


def test_a_long_text_is_shown_in_part() -> None:
    assert len(shorten("x" * 10_000)) < 100 and shorten("short") == "short"


TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # control characters and lone surrogates, too


@settings(deadline=None)
@given(TEXT)
def test_what_is_printable_stays_so_and_a_name_is_printable(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown == shown.encode().decode() and not any(
        ord(c) < 32 and c not in "\n\t" for c in shown
    )
    try:
        name = check_name(text, "file")
    except SceneError as error:
        assert printable(str(error)) == str(error)
    else:
        assert name == text == shown and len(text.encode()) <= 255 * (1 + text.count("/"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "link", "b c", "", "~"]) | TEXT, max_size=6), st.booleans())
def test_a_path_inside_is_inside(parts: list[str], absolute: bool) -> None:
    folder = Path("/tmp/capture")
    try:
        found = inside(folder, "/" * absolute + "/".join(parts))
    except SceneError:
        return
    assert os.path.realpath(found) == str(folder) or os.path.realpath(found).startswith(f"{folder}/")
