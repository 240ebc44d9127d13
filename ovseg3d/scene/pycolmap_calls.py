"""Calls of pycolmap that are silent and can be interrupted: shared by `prepare.sfm` and `sparse`."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def chunks(items: list[Any], size: int) -> Iterator[tuple[list[Any], int]]:
    """Parts of at most `size` items, each with the number of items before it."""
    for start in range(0, len(items), size):
        yield items[start : start + size], start


@contextmanager
def open_database(path: Path) -> Generator[Any, None, None]:
    """A pycolmap database, closed afterwards; it is created if it does not exist."""
    from ovseg3d.scene.colmap_library import pycolmap

    database = pycolmap.Database.open(path)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Let only fatal messages of COLMAP's logger reach stderr, not hundreds of lines."""
    from ovseg3d.scene.colmap_library import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


class Stopped(Exception):
    """Raised inside a callback to end a reconstruction early."""


def interruptible(call: Callable[..., Any], *args: Any, stop: threading.Event | None = None, **options: Any) -> Any:
    """Run a pycolmap call of seconds in a thread; Ctrl-C in the caller sets `stop`, waits for it, and is re-raised.

    A direct call of native code would block the main thread. Calls are kept short by giving each little work; the long
    one, mapping, checks `stop` in its callback. The call is always waited for: native code that runs while the
    interpreter ends crashes the process.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = call(*args, **options)
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    # An event, not Thread.join: after an interrupted join, Python 3.11 considers the thread finished.
    done = threading.Event()
    threading.Thread(target=work, name="ovseg3d-sfm", daemon=True).start()
    try:
        while not done.wait(0.2):
            pass
    except BaseException:
        if stop is not None:
            stop.set()
        done.wait()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def match_pairs(database: Path, pairs: Sequence[tuple[str, str]], threads: int, seed: int) -> None:
    """Match the features of pairs of images, and verify the matches.

    Args:
        database: with the images' features; receives the matches.
        pairs: names of the images.
        threads: of the matching.
        seed: of the verification.
    """
    from ovseg3d.scene.colmap_library import pycolmap

    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    listing = pycolmap.ImportedPairingOptions()
    listing.match_list_path = database.with_name("pairs.txt")
    Path(listing.match_list_path).write_text("".join(f"{one} {other}\n" for one, other in pairs))
    interruptible(
        pycolmap.match_image_pairs,
        database,
        matching_options=matching,
        pairing_options=listing,
        verification_options=verification,
        device=pycolmap.Device.cpu,
    )
