"""The cache: complete files only, one writer at a time, and files are checked against their names."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ovseg3d.errors import CacheError
from ovseg3d.features.cache import FeatureCache, content_key, default_folder

KEY = content_key({"a": 1})
ARRAYS = {
    "half": np.arange(12, dtype=np.float16).reshape(3, 4),
    "index": np.array([[1, 2], [3, 65535]], dtype=np.uint16),
    "exact": np.array([0.1], dtype=np.float64),
}


def filled(folder: Path) -> FeatureCache:
    cache = FeatureCache.at(folder)
    cache.write("photos", KEY, ARRAYS)
    return cache


def test_what_was_written_is_read_through_a_memory_map(tmp_path: Path) -> None:
    found = filled(tmp_path / "new" / "cache").read("photos", KEY)
    assert found is not None and set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
        assert isinstance(found[name], np.memmap) and not found[name].flags.writeable


def test_a_file_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert np.array_equal(load_file(filled(tmp_path).path("photos", KEY))["index"], ARRAYS["index"])


def test_keys_are_of_the_content() -> None:
    assert content_key({"a": 1, "b": [1, "x"]}) == content_key({"b": (1, "x"), "a": 1})
    assert len({content_key(parts) for parts in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": None})}) == 5


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_a_cut_file_is_made_again(tmp_path: Path, length: int) -> None:
    cache = filled(tmp_path)
    path = cache.path("photos", KEY)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.read("photos", KEY) is None and cache.read("photos", KEY, checked=False) is None
    assert np.array_equal(cache.get_or_make("photos", KEY, lambda: ARRAYS)["half"], ARRAYS["half"])


@pytest.mark.parametrize("place", [3, 20, 60, -1])
def test_a_changed_byte_is_seen(tmp_path: Path, place: int) -> None:
    cache = filled(tmp_path)
    path = cache.path("photos", KEY)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    path.write_bytes(content)
    assert cache.read("photos", KEY) is None


def test_a_file_under_another_name_and_one_with_a_tail_are_not_trusted(tmp_path: Path) -> None:
    cache, other = filled(tmp_path), content_key({"a": 2})
    cache.path("photos", other).parent.mkdir(exist_ok=True)
    cache.path("photos", KEY).rename(cache.path("photos", other))
    assert cache.read("photos", other) is None and cache.read("photos", KEY) is None
    cache.write("photos", KEY, ARRAYS)
    with open(cache.path("photos", KEY), "ab") as file:
        file.write(b"more")
    assert cache.read("photos", KEY) is None


def test_what_is_there_is_not_made(tmp_path: Path) -> None:
    def never() -> dict[str, np.ndarray]:
        raise AssertionError

    assert filled(tmp_path).get_or_make("photos", KEY, never) is not None
    assert filled(tmp_path).try_make("photos", KEY, never), "made by another between looking and locking"


WORKER = """
import sys, time
import numpy as np
from ovseg3d.features.cache import FeatureCache, content_key
assert "torch" not in sys.modules
cache, log = FeatureCache.at(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    def make():
        log.write(f"{number}\\n")
        time.sleep(0.03)
        return {"x": np.full((200, 200), number, dtype=np.float16)}
    assert cache.get_or_make("photos", content_key({"n": number}), make)["x"][-1, -1] == number
"""


def test_two_processes_make_each_entry_once_and_nobody_reads_half_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(tmp_path / "log")]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.stderr.read()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    cache, seen = FeatureCache.at(tmp_path / "cache"), 0
    while any(worker.poll() is None for worker in workers):
        for number in range(12):
            path = cache.path("photos", content_key({"n": number}))
            if path.exists():
                found = cache.read("photos", content_key({"n": number}))
                assert found is not None and (found["x"] == number).all()
                seen += 1
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(12))
    assert seen and not list((tmp_path / "cache" / "locks").iterdir())


def test_a_maker_that_fails_lets_go(tmp_path: Path) -> None:
    cache = FeatureCache.at(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.try_make("photos", KEY, lambda: {"x": np.zeros(1 // 0)})
    assert not cache.path("photos", KEY).exists() and cache.try_make("photos", KEY, lambda: ARRAYS)


def test_waiting_ends_when_told(tmp_path: Path) -> None:
    cache, stop, inside, leave = FeatureCache.at(tmp_path), threading.Event(), threading.Event(), threading.Event()

    def slow() -> dict[str, np.ndarray]:
        inside.set()
        leave.wait(10)
        return ARRAYS

    maker = threading.Thread(target=cache.get_or_make, args=("photos", KEY, slow))
    maker.start()
    inside.wait(10)
    stop.set()
    assert cache.get_or_make("photos", KEY, dict, stop) is None
    leave.set()
    maker.join()
    assert cache.get_or_make("photos", KEY, dict, stop) is not None


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    def full(path: Path, data: bytes) -> int:
        open(path, "wb").close()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CacheError, match="disk is full") as caught:
        cache.write("photos", content_key({"a": 2}), ARRAYS)
    assert "--cache-dir" in str(caught.value) and "--clear-cache" in str(caught.value)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_folder_that_cannot_be_written_to_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = FeatureCache.at(tmp_path / "file" / "cache")
    assert not cache.writable() and cache.read("photos", KEY) is None and cache.size().files == 0
    with pytest.raises(CacheError, match="cannot be kept"):
        cache.try_make("photos", KEY, lambda: ARRAYS)
    with pytest.raises(CacheError):
        cache.write("photos", KEY, ARRAYS)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="rights do not bind this user")
def test_a_read_only_cache_serves_what_it_has(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    cache.folder.chmod(0o500)
    try:
        assert cache.get_or_make("photos", KEY, dict) is not None
        with pytest.raises(CacheError, match="no permission"):
            cache.try_make("photos", content_key({"a": 2}), lambda: ARRAYS)
    finally:
        cache.folder.chmod(0o700)


def test_clearing_takes_only_what_is_the_caches_own(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    part = cache.path("photos", KEY).parent
    strange = [tmp_path / "mine.txt", part / "notes.safetensors", tmp_path / "features" / "photos" / "mine.txt"]
    strange += [tmp_path / "locks" / "mine.lock", tmp_path / f"{KEY}.safetensors"]
    (tmp_path / "locks").mkdir(exist_ok=True)
    for path in strange:
        path.write_text("keep")
    (part / f".{KEY}.0123abcd.tmp.safetensors").write_text("half")
    (tmp_path / "locks" / f"{KEY}.lock").touch()
    size = cache.size()
    assert size.files == 2 and size.bytes > 40
    assert cache.clear() == size and cache.size().files == 0
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*strange, tmp_path / "CACHEDIR.TAG"}
    for path in strange:
        path.unlink()
    cache.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["CACHEDIR.TAG"]


def test_clearing_leaves_a_running_writer_alone(tmp_path: Path) -> None:
    """What it writes to, and the lock that keeps others from beginning the same."""
    cache, other = filled(tmp_path), content_key({"a": 2})
    half = cache.path("photos", other).with_name(f".{other}.0123abcd.tmp.safetensors")
    inside, cleared = threading.Event(), threading.Event()

    def make() -> dict[str, np.ndarray]:
        half.parent.mkdir(exist_ok=True)
        half.write_text("half")
        inside.set()
        cleared.wait(10)
        assert half.read_text() == "half"
        half.unlink()
        return ARRAYS

    made: list[bool] = []
    maker = threading.Thread(target=lambda: made.append(cache.try_make("photos", other, make)))
    maker.start()
    inside.wait(10)
    assert cache.clear().files == 1 and not cache.path("photos", KEY).exists()
    assert not cache.try_make("photos", other, dict), "it is still the maker's"
    cleared.set()
    maker.join()
    assert made == [True] and cache.read("photos", other) is not None
    assert not list((tmp_path / "locks").glob("*"))


def test_notes_are_kept_and_cleared(tmp_path: Path) -> None:
    cache = FeatureCache.at(tmp_path / "cache")
    assert cache.read_note(KEY) is None
    cache.write_note(KEY, {"a": [1, None]})
    assert cache.read_note(KEY) == {"a": [1, None]} and cache.size().files == 0
    cache.write_note(KEY, None)
    assert cache.read_note(KEY) is None
    cache.write_note(KEY, {"a": 1})
    (tmp_path / "cache" / "encoders" / "mine.json").write_text("keep")
    cache.clear()
    assert [path.name for path in (tmp_path / "cache" / "encoders").iterdir()] == ["mine.json"]
    (tmp_path / "file").write_text("x")
    FeatureCache.at(tmp_path / "file").write_note(KEY, {"a": 1})


def test_a_map_outlives_clearing(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    found = cache.read("photos", KEY)
    cache.clear()
    assert found is not None and np.array_equal(found["half"], ARRAYS["half"])


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVSEG3D_CACHE_DIR", str(tmp_path / "mine"))
    assert FeatureCache.at().folder == default_folder() == tmp_path / "mine"
    assert FeatureCache.at(tmp_path / "other").folder == tmp_path / "other"
    monkeypatch.delenv("OVSEG3D_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_folder() == tmp_path / "ovseg3d"


def test_looking_is_cheap(tmp_path: Path) -> None:
    cache = FeatureCache.at(tmp_path)
    cache.write("photos", KEY, {"x": np.zeros((1000, 1000), dtype=np.float16)})
    began = time.process_time()
    for _ in range(20):
        assert cache.read("photos", KEY) is not None
    assert (time.process_time() - began) / 20 < 0.05


def test_a_folder_that_cannot_even_be_looked_at(tmp_path: Path) -> None:
    """The same as one of somebody else, for root too: a name that no file system takes."""
    cache = FeatureCache.at(tmp_path / ("x" * 300) / "cache")
    cache.writable()
    assert cache.size().files == 0 and cache.read("photos", KEY) is None
    for call in (cache.clear, lambda: cache.try_make("photos", KEY, lambda: ARRAYS)):
        with pytest.raises(CacheError, match="cannot be kept"):
            call()


def test_a_lock_that_cannot_be_deleted_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not delete open files."""
    delete = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".lock":
            raise PermissionError(errno.EACCES, "in use", str(path))
        delete(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    cache = FeatureCache.at(tmp_path)
    assert cache.try_make("photos", KEY, lambda: ARRAYS) and cache.read("photos", KEY) is not None
