"""Files of public models: from the disk, else from the hub, else a clear error within seconds.

Files in the Hugging Face cache are used without network access. Others are downloaded only if the hub answers within
`HUB_SECONDS`, while data arrives (`STALLED_SECONDS`) and until stopped (`stoppable`). HF_HUB_OFFLINE=1 forbids network
access. Libraries are kept offline while they load local files, because they would otherwise query the hub first, and
retry if it does not answer.
"""

import http.client
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from ovseg3d.errors import EncoderError

HUB_SECONDS = 5.0
"""Timeout for the hub's answer."""
STALLED_SECONDS = 30.0
"""Downloads without progress for this time are cancelled."""
_CHUNK = 2**16
"""Bytes of a download that count as progress."""
_REMEMBERED_SECONDS = 30.0
"""How long the hub's availability is cached, since a model has several files."""

_answers: dict[str, tuple[float, bool]] = {}
_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
_local: ContextVar[bool] = ContextVar("local", default=False)


@contextmanager
def stoppable(stop: threading.Event) -> Generator[None, None, None]:
    """Downloads of this thread inside the block raise KeyboardInterrupt once `stop` is set."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


@contextmanager
def only_local(forbidden: bool = True) -> Generator[None, None, None]:
    """Forbid downloads inside the block, for models that a file names and not the user."""
    token = _local.set(forbidden or _local.get())
    try:
        yield
    finally:
        _local.reset(token)


def cached(repo: str, name: str) -> Path | None:
    """The path of a repository's file in the hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def fetch(repo: str, names: Sequence[str], *, flag: str, example: str) -> Path:
    """One file of a repository: the first of `names` that is on this disk, else the first that the hub has.

    Args:
        repo: "owner/name".
        names: equivalent files, the preferred one first.
        flag: the option that names the model, "--clip" or "--dino", for the message.
        example: value of the option for a local copy, for the message.

    Raises:
        EncoderError: no model can have that name, or it is not on this disk, and the hub does not answer within
            `HUB_SECONDS`, or does not have it, or does not hand it out.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        for name in names:
            if (found := cached(repo, name)) is not None:
                return found
    except HFValidationError:
        raise EncoderError(
            f"The hub cannot have a model called {repo!r}",
            fix=f"write OWNER/NAME, or give a local copy ({flag} {example})",
        ) from None
    why = _out_of_reach()
    if why is not None:
        raise EncoderError(
            f"The weights of {repo} are not on this disk, and {why}",
            where=f"{cache_folder()} (wanted: {' or '.join(names)})",
            fix=f"fetch them where there is a network (hf download {repo}) and copy that cache here, or give a local "
            f"copy ({flag} {example}), or use the built-in encoder ({flag} builtin), or train without one "
            "(--only field)",
        )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    for name in names:
        try:
            return _download(repo, name)
        except GatedRepoError:
            raise EncoderError(
                f"{repo} is handed out only to those who accepted its licence",
                fix=f"accept it on the model's page and run `hf auth login`, or use {flag} builtin",
            ) from None
        except RepositoryNotFoundError:
            raise EncoderError(
                f"The hub has no model {repo}, or not for everybody",
                fix=f"check the spelling, or give a local folder ({flag} {example})",
            ) from None
        except EntryNotFoundError as error:
            # A subclass of this error is raised for broken connections.
            if not isinstance(error, LocalEntryNotFoundError):
                continue
            raise _failed(repo, name, error, flag, example) from error
        except Exception as error:  # Any network error.
            raise _failed(repo, name, error, flag, example) from error
    raise EncoderError(f"{repo} has none of the files {', '.join(names)}", fix=f"choose another model for {flag}")


def _failed(repo: str, name: str, error: Exception, flag: str, example: str) -> EncoderError:
    return EncoderError(
        f"Fetching {repo} failed: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
        where=name,
        fix=f"try again, or give a local copy ({flag} {example}), or use {flag} builtin",
    )


def fetch_optional(repo: str, name: str) -> Path | None:
    """A file that may not exist: from the disk, or from the hub if it answers; otherwise None."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    if isinstance(found, str):
        return Path(found)
    if found is _CACHED_NO_EXIST or _out_of_reach() is not None:
        return None
    try:
        return _download(repo, name)
    except Exception:  # The file is optional; callers have defaults.
        return None


class Stalled(Exception):
    """A download without progress."""


def _download(repo: str, name: str) -> Path:
    """Fetch a file into the hub's cache. Raises what the hub's library raises, Stalled, and KeyboardInterrupt.

    The library waits for every packet, and retries: a very slow connection would block it for hours. So it runs in a
    thread, and progress is read from its progress bar, or from the cache if another process downloads the same file.
    Threads cannot be cancelled: an abandoned one waits until the process ends.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import tqdm

    outcome: list[str | BaseException] = []
    done = threading.Event()
    received: int | float = 0

    class Counted(tqdm):
        def update(self, n: int | float | None = 1) -> bool | None:
            nonlocal received
            received += n or 0
            return super().update(n)

    def work() -> None:
        try:
            outcome.append(hf_hub_download(repo, name, etag_timeout=HUB_SECONDS, tqdm_class=Counted))
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    # The library counts whole chunks of 10 MB, which take too long on a slow connection.
    constants.DOWNLOAD_CHUNK_SIZE = min(getattr(constants, "DOWNLOAD_CHUNK_SIZE", _CHUNK), _CHUNK)
    threading.Thread(target=work, daemon=True).start()
    seen, since, stop = received + _arrived(repo), time.monotonic(), _stop.get()
    while not done.wait(min(0.5, STALLED_SECONDS / 4)):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        now = received + _arrived(repo)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS:
            raise Stalled(f"nothing more arrived for {STALLED_SECONDS:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return Path(outcome[0])


def _arrived(repo: str) -> int:
    """Bytes of a repository in the cache, in complete and partial files."""
    total = 0
    for path in (Path(cache_folder()) / f"models--{repo.replace('/', '--')}" / "blobs").glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def in_cache(path: Path) -> bool:
    """Whether this is a snapshot in the hub's cache, or a file of one."""
    above = path.parent, path.parent.parent
    return any(parent.name == "snapshots" and parent.parent.name.startswith("models--") for parent in above)


def reference(path: Path) -> Path:
    """The file that names a repository's current snapshot, for a file or folder of a snapshot."""
    return next(parent for parent in path.parents if parent.name == "snapshots").parent / "refs" / "main"


@contextmanager
def offline() -> Generator[None, None, None]:
    """Keep libraries offline inside this block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_answers(seconds: float | None = None) -> bool:
    """Whether the hub gives any answer within `seconds` (HUB_SECONDS).

    The request runs in a thread, since resolving a name may block for longer than any socket timeout.
    """
    from huggingface_hub import constants

    seconds = HUB_SECONDS if seconds is None else seconds
    answered = threading.Event()
    done = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            with urllib.request.urlopen(request, timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            done.set()

    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return answered.is_set()


def _out_of_reach() -> str | None:
    """Why the hub is not available, or None."""
    if _local.get():
        return "a file that names a model may not have it fetched: only a flag may"
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE forbids to fetch them"
    when, answered = _answers.get(constants.ENDPOINT, (-math.inf, False))
    if time.monotonic() - when > _REMEMBERED_SECONDS:
        answered = hub_answers()
        _answers[constants.ENDPOINT] = time.monotonic(), answered
    return None if answered else f"{constants.ENDPOINT} does not answer"


def cache_folder() -> str:
    """The folder of the hub's cache."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
