"""Files are written whole or not at all, and failures are explained."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ovseg3d.errors import OutputError, RunError, SceneError
from ovseg3d.files import expand, output_error, read_json, sweep, write_atomic, write_json, write_together


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if ".tmp" in p.name)


def test_writes_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.bin", b"123")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"123"
    assert leftovers(tmp_path / "a") == []


def test_files_of_all_writers_have_the_usual_permissions(tmp_path: Path) -> None:
    write_atomic(tmp_path / "plain", b"1")
    write_atomic(tmp_path / "tensors", lambda path: save_file({"a": np.zeros(3)}, path))
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_home_is_written_out_where_somebody_knows_it() -> None:
    assert expand("~/a", RunError) == Path.home() / "a" and expand("a~/b") == Path("a~/b")
    with pytest.raises(RunError, match="home folder of this user"):
        expand("~no-such-user/a", RunError)


def test_the_advice_names_the_flags_of_the_commands(tmp_path: Path) -> None:
    for code in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO):
        assert "--output (train: --output-dir)" in output_error(OSError(code, "no"), tmp_path).fix


def test_a_writer_function_sees_the_suffix(tmp_path: Path) -> None:
    seen = []
    write_atomic(tmp_path / "x.png", lambda p: (seen.append(p.suffix), p.write_text("hi"))[0])
    assert seen == [".png"] and (tmp_path / "x.png").read_text() == "hi"


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EROFS, "read-only")],
)
def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words) as caught:
        write_atomic(target, b"new")
    assert caught.value.where == target and caught.value.fix
    assert target.read_bytes() == b"old" and leftovers(tmp_path) == []


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("broken writer")

    with pytest.raises(RuntimeError):
        write_atomic(tmp_path / "f", half)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_in_another_language_that_finds_the_disk_full(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise RuntimeError("Error while serializing: No space left on device (os error 28)")

    with pytest.raises(OutputError, match="disk is full"):
        write_atomic(tmp_path / "f", full)


def test_a_missing_input_of_the_writer_is_not_called_an_output_problem(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "f", lambda p: p.write_bytes((tmp_path / "absent").read_bytes()) and None)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="exists where a folder"):
        write_atomic(tmp_path / "out" / "deep" / "f", b"x")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "f", b"x")
    assert leftovers(tmp_path) == []


def test_a_real_limit_of_the_system(tmp_path: Path) -> None:
    """A write that the kernel cuts short, as a full disk does (a size limit needs no root and no mount)."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from ovseg3d.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except Exception as e: print(type(e).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "OutputError"
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip_with_numpy_paths_and_nan(tmp_path: Path) -> None:
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": Path("x/y"), "d": float("nan"), "e": (1, "é")}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == {"a": 0.5, "b": [0, 1, 2], "c": "x/y", "d": None, "e": [1, "é"]}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", b"[1]", b"[" * 100_000, b'{"a": 1} x'])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(SceneError) as caught:
        read_json(tmp_path / "v.json")
    assert "v.json" in str(caught.value)


def test_the_caller_chooses_the_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing"):
        read_json(tmp_path / "absent.json", RunError)


def test_non_json_values_are_refused_before_the_file_is_touched(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"old": 1}))
    with pytest.raises(TypeError):
        write_json(tmp_path / "v.json", {"f": object()})
    assert read_json(tmp_path / "v.json") == {"old": 1}


def write_set(folder: Path, earlier: tuple[str, ...], files: dict[str, str]) -> None:
    with write_together(folder, "list.json", earlier) as place:
        for name, text in files.items():
            (place / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_set_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    first, second = {"a": "1", "b": "1", "list.json": "ab"}, {"b": "2", "c": "2", "list.json": "bc"}
    write_set(tmp_path / "new" / "folder", (), first)
    assert content(tmp_path / "new" / "folder") == first
    (tmp_path / "new" / "folder" / "mine").write_text("mine")
    write_set(tmp_path / "new" / "folder", ("a", "b", "gone"), second)
    assert content(tmp_path / "new" / "folder") == second | {"mine": "mine"}


def test_a_set_may_have_folders_and_no_listing(tmp_path: Path) -> None:
    def write(earlier: list[str], *names: str) -> set[str]:
        with write_together(tmp_path / "set", None, earlier) as place:
            for name in names:
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).touch()
        return {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*")}

    assert write([], "a", "in/b", "in/c") == {"a", "in", "in/b", "in/c"}
    assert write(["a", "in/b", "in/c", "gone/d"], "in/c", "e") == {"in", "in/c", "e"}
    assert write(["in/c"]) == {"e"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_set_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    first = {"a": "1", "list.json": "a"}
    write_set(tmp_path, (), first)
    with pytest.raises(error), write_together(tmp_path, "list.json", ["a"]) as place:
        (place / "b").write_text("2")
        raise error
    assert content(tmp_path) == first


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_set_that_is_coming_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: signal.Signals
) -> None:
    replace, came = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        came.append(signal.raise_signal(name))
        replace(source, target)

    def handle(*_: object) -> None:
        raise KeyboardInterrupt

    write_set(tmp_path, (), {"a": "1", "b": "1", "list.json": "ab"})
    monkeypatch.setattr(os, "replace", interrupted)
    old = signal.signal(name, handle)
    second = {"b": "2", "c": "2", "list.json": "bc"}
    try:
        with pytest.raises(KeyboardInterrupt):
            write_set(tmp_path, ("a", "b"), second)
        assert signal.getsignal(name) is handle
    finally:
        signal.signal(name, old)
    assert content(tmp_path) == second and len(came) == 3


def test_a_set_may_be_written_by_any_thread(tmp_path: Path) -> None:
    writer = threading.Thread(target=write_set, args=(tmp_path, (), {"a": "1", "list.json": "a"}))
    writer.start()
    writer.join()
    assert content(tmp_path) == {"a": "1", "list.json": "a"}


def test_a_set_never_stands_beside_the_listing_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path, (), {"a": "1", "b": "1", "list.json": "ab"})
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == "b":
            raise OSError(errno.EIO, "broken on purpose")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="broken on purpose"):
        write_set(tmp_path, ("a", "b"), {"a": "2", "b": "2", "list.json": "ab"})
    assert content(tmp_path) == {"a": "2"}


CALLS = ("mkdir", "open", "fsync", "replace", "unlink", "rmdir", "lstat")
"""What a write asks the system for, below Python's own files."""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["one", "json", "set"])
def test_each_call_of_a_write_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, call: str, code: int
) -> None:
    """And all after it, as on a disk that went read-only: what is told is an OutputError, and the old file is whole."""
    (tmp_path / "old.json").write_text('{"old": 1}')

    def write() -> None:
        if how == "one":
            write_atomic(tmp_path / "deep" / "new.bin", b"new")
            write_atomic(tmp_path / "old.json", b"new")
        elif how == "json":
            write_json(tmp_path / "old.json", {"new": 2})
        else:
            with write_together(tmp_path, "list.json", ["gone/away.png"]) as place:
                write_json(place / "list.json", {})
                write_atomic(place / "masks" / "a.png", b"a")

    usual, left = getattr(os, call), [0]

    def fail(*args: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        return usual(*args, **options)

    for good in range(6):
        left[0] = good
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                write()
                done = True
            except OutputError as error:
                done = False
                assert error.where and error.fix
        text = (tmp_path / "old.json").read_text()
        assert text in ('{"old": 1}', "new") or json.loads(text) == {"new": 2}
        if done and left[0] >= 0:
            break


def test_a_file_that_is_too_large_is_told(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from ovseg3d.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomic(Path(sys.argv[1]), bytes(5000))"
    )
    command = [sys.executable, "-c", script, tmp_path / "f"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "The file would be larger than this system allows" in done.stderr and leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "x" * 255, "é" * 120 + ".json", "a." + "y" * 240])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("link", ["exports", "exports/query", "exports/query/chair", "exports/query/chair/masks"])
def test_no_link_in_a_run_is_followed(tmp_path: Path, link: str) -> None:
    run, images = tmp_path / "run", tmp_path / "pictures"
    images.mkdir()
    for place in (images, images / "chair", images / "query" / "chair" / "masks", images / "chair" / "masks"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "mine.png").write_bytes(b"mine")
    (run / link).parent.mkdir(parents=True)
    (run / link).symlink_to(images)
    for name in ("config.json", "status.json"):
        (run / name).write_text("{}")
    before = sorted(path for path in images.rglob("*"))
    folder = run / "exports" / "query" / "chair"
    with pytest.raises(OutputError, match="link"):
        with write_together(folder, None, ["masks/mine.png"]) as place:
            write_atomic(place / "masks" / "new.png", b"new")
    with pytest.raises(OutputError, match="link"):
        write_atomic(folder / "masks" / "new.png", b"new")
    assert sorted(path for path in images.rglob("*")) == before


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "mine").symlink_to("theirs")
    write_atomic(tmp_path / "mine", b"new")
    assert (tmp_path / "theirs").read_bytes() == b"theirs" and not (tmp_path / "mine").is_symlink()


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".a.0123abcd.tmp.png", ".b.0123abcd.tmp", ".c.tmp"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    (tmp_path / ".0123abcd.tmp").mkdir()
    (tmp_path / ".0123abcd.tmp" / "half").write_bytes(b"half")
    for path in (old, other, tmp_path / ".0123abcd.tmp"):
        os.utime(path, (0, 0))
    (tmp_path / ".d.0123abcd.tmp").symlink_to("b")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.0123abcd.tmp", ".c.tmp", ".d.0123abcd.tmp"]
