"""The model hub: online and offline, its local cache, and which files are downloaded."""

import hashlib
import http.server
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import save_dino

from ovseg3d.cli.console import interruptible
from ovseg3d.encoders import hub, load_clip, load_dino
from ovseg3d.errors import EncoderError
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.lazy import lazy_dino
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.settings import make_config


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, a hub that does not exist, and no memory of it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_answers", {})
    return tmp_path / "hub"


@pytest.mark.parametrize(("load", "name"), [(load_clip, "ViT-B-16:openai"), (load_dino, "facebook/dino-vits8")])
def test_a_hub_that_is_not_there_is_said_at_once(empty_cache: Path, load, name: str) -> None:
    start = time.monotonic()
    with pytest.raises(EncoderError, match="does not answer") as raised:
        load(name)
    assert time.monotonic() - start < 5
    assert all(word in raised.value.fix for word in ("hf download", "builtin", "--only field", "/path/to/"))


def test_a_hub_that_is_silent_costs_its_seconds_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing."""
    import socket

    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(hub, "HUB_SECONDS", 2.0)
        start = time.monotonic()
        for _ in range(3):
            with pytest.raises(EncoderError, match="does not answer"):
                load_clip("ViT-B-16:openai")
        assert 1.9 < time.monotonic() - start < 5.5


def test_something_else_than_a_hub_answers(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object, **__: object) -> None:
        raise http.client.BadStatusLine("SSH-2.0")

    monkeypatch.setattr(threading.Thread, "start", threading.Thread.run)  # where an exception does not get lost
    monkeypatch.setattr(hub.urllib.request, "urlopen", answer)
    assert not hub.hub_answers(1.0)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_dino, "models/my dino"),
        (load_dino, "facebook/dino--vits8"),
        (load_clip, "hf-hub:"),
        (load_clip, "hf-hub:a/b/c"),
    ],
)
def test_names_that_the_hub_cannot_have(load, name: str) -> None:
    with pytest.raises(EncoderError, match="cannot have a model called"):
        load(name)


def test_looking_up_a_name_may_hang(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout of a socket ends that."""

    def hang(*_: object, **__: object) -> None:
        time.sleep(3)
        raise OSError("no such name")

    monkeypatch.setattr(hub.urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert not hub.hub_answers(0.2)
    assert time.monotonic() - start < 2


def test_offline_means_not_even_asking(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    for load, name in ((load_clip, "ViT-B-16:openai"), (load_dino, "facebook/dino-vits8"), (load_clip, "hf-hub:a/b")):
        with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
            load(name)


def in_cache(cache: Path, repo: str, folder: Path, digit: str = "a") -> None:
    """Lay a folder into the hub's cache, as a download of a revision would have."""
    place = cache / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / (digit * 40)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(digit * 40)
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())


def test_what_is_in_the_cache_is_used_without_asking(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    in_cache(empty_cache, "facebook/dino-vits8", save_dino(tmp_path / "dino", "dino"))
    loaded = load_dino("facebook/dino-vits8")
    assert loaded.id == "transformers:facebook/dino-vits8"
    assert loaded.encode_dense(torch.rand(1, 3, 16, 16)).shape == (1, 32, 2, 2)


def test_a_second_start_knows_what_is_in_the_hubs_cache(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until another revision is there; and when its weights are gone, without asking for them."""
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    cache, name = FeatureCache.at(tmp_path / "cache"), "facebook/dino-vits8"
    in_cache(empty_cache, name, save_dino(tmp_path / "one", "dino"))
    loaded, known = lazy_dino(name, cache), lazy_dino(name, cache)
    assert type(known) is not type(loaded) and known.weight_hash == loaded.weight_hash
    monkeypatch.chdir(tmp_path)
    assert type(lazy_dino(name, cache)) is type(known), "a name of the hub means the same everywhere"
    in_cache(empty_cache, name, save_dino(tmp_path / "two", "dino", seed=1), "b")
    newer = [lazy_dino(name, cache) for _ in range(2)]
    assert newer[0].weight_hash == newer[1].weight_hash != known.weight_hash
    shutil.rmtree(empty_cache)
    gone = lazy_dino(name, cache)
    assert gone.weight_hash == newer[0].weight_hash
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="not on this disk"):
        gone.encode_dense(torch.rand(1, 3, 16, 16))


def test_published_weights_bring_their_settings(
    empty_cache: Path, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tag of open_clip says which activation and preprocessing its weights were trained with."""
    from open_clip.pretrained import _PRETRAINED

    common = {"url": "", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear"}
    tags = {
        "quick": {**common, "hf_hub": "some/quick/", "resize_mode": "squash", "quick_gelu": True},
        "usual": {**common, "hf_hub": "some/usual/weights.bin", "resize_mode": "squash"},
    }
    monkeypatch.setitem(_PRETRAINED, "tiny-named", tags)
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    for repo, file in (("some/quick", "open_clip_pytorch_model.bin"), ("some/usual", "weights.bin")):
        (tmp_path / repo).mkdir(parents=True)
        (tmp_path / repo / file).write_bytes((tiny / "weights.pt").read_bytes())
        in_cache(empty_cache, repo, tmp_path / repo)
    quick, usual = load_clip("tiny-named:quick"), load_clip("tiny-named:usual")
    assert quick.id == "open_clip:tiny-named:quick"
    assert (quick.preprocess.mean, quick.preprocess.resize_mode) == ((0.1, 0.2, 0.3), "squash")
    assert (quick.encode_text(["a chair"]) - usual.encode_text(["a chair"])).abs().max() > 1e-4
    # A file of the same architecture is prepared as all its tags agree.
    assert load_clip(f"tiny-named:{tiny / 'weights.pt'}").preprocess == usual.preprocess
    tags["usual"]["mean"] = (0.4, 0.4, 0.4)
    assert load_clip(f"tiny-named:{tiny / 'weights.pt'}").preprocess.mean[0] == pytest.approx(0.48145466)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download asks for; `folders` are its models."""

    folders: dict[str, Path] = {}
    asked: list[str] = []
    pace: Callable[[bytes], Iterable[bytes]] | None = None
    """Cuts a body into packets, and waits between them."""

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        repo, _, file = self.path.lstrip("/").partition("/resolve/main/")
        path = self.folders.get(repo, Path("/nowhere")) / file
        if self.path == "/":
            self._answer(200)
        elif repo.startswith("locked/"):
            self._answer(403, **{"X-Error-Code": "GatedRepo"})
        elif repo not in self.folders:
            self._answer(404, **{"X-Error-Code": "RepoNotFound"})
        elif not path.is_file():
            self._answer(404, **{"X-Error-Code": "EntryNotFound"})
        else:
            etag = hashlib.sha256(path.read_bytes()).hexdigest()
            self._answer(200, path.read_bytes(), **{"ETag": f'"{etag}"', "X-Repo-Commit": "b" * 40})

    do_GET = do_HEAD

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            for part in (body,) if Hub.pace is None else Hub.pace(body):
                self.wfile.write(part)
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def own_hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub of our own, and a cache that is empty."""
    from huggingface_hub import constants

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(Hub, "folders", {})
        monkeypatch.setattr(Hub, "asked", [])
        monkeypatch.setattr(Hub, "pace", None)
        yield Hub
        server.shutdown()


def test_a_hub_that_answers_is_fetched_from_once(own_hub: type[Hub], empty_cache: Path, tmp_path: Path) -> None:
    folder = save_dino(tmp_path / "dino", "dino")
    own_hub.folders["facebook/dino-vits8"] = folder
    loaded = load_dino("facebook/dino-vits8")
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(loaded.encode_dense(images), load_dino(str(folder)).encode_dense(images))
    assert loaded.weight_hash == load_dino(str(folder)).weight_hash
    own_hub.asked.clear()
    assert load_dino("facebook/dino-vits8").weight_hash == loaded.weight_hash
    assert own_hub.asked == []


@pytest.mark.parametrize("trickle", [False, True])
def test_a_download_that_stalls_is_given_up(
    own_hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trickle: bool
) -> None:
    """Nothing more, or a byte now and then, which no timeout of a socket ends."""
    over = threading.Event()

    def pace(body: bytes) -> Iterator[bytes]:
        yield body[:100]
        while not over.wait(0.1):
            yield b"x" if trickle else b""

    own_hub.folders["facebook/dino-vits8"] = save_dino(tmp_path / "dino", "dino")
    monkeypatch.setattr(own_hub, "pace", pace)
    monkeypatch.setattr(hub, "STALLED_SECONDS", 1.0)
    start = time.monotonic()
    try:
        with pytest.raises(EncoderError, match="nothing more arrived for 1 s") as raised:
            load_dino("facebook/dino-vits8")
    finally:
        over.set()
    assert time.monotonic() - start < 5 and "/path/to/folder" in raised.value.fix


@pytest.mark.parametrize("way", ["Ctrl-C", "stop"])
def test_a_download_can_be_stopped(
    own_hub: type[Hub], tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By the first Ctrl-C of a command, and by the `stop` of a training."""
    stop, over, repo = threading.Event(), threading.Event(), "facebook/dino-vits8"
    flags = {"only": "features", "encode": {"clip": "builtin", "dino": repo}, "train": {"device": "cpu"}}

    def pace(body: bytes) -> Iterator[bytes]:
        yield body[:100]
        if way == "stop":
            stop.set()
        elif not stop.is_set():
            os.kill(os.getpid(), signal.SIGINT)
        over.wait(60)
        yield body[100:]

    own_hub.folders[repo] = save_dino(tmp_path / "dino", "dino")
    monkeypatch.setattr(own_hub, "pace", pace)
    monkeypatch.setattr(hub, "STALLED_SECONDS", 5.0)
    monkeypatch.setenv("OVSEG3D_CACHE_DIR", str(tmp_path / "cache"))
    try:
        with pytest.raises(KeyboardInterrupt):
            if way == "Ctrl-C":
                with interruptible(stop):
                    load_dino(repo)
            else:
                train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run", stop=stop)
    finally:
        over.set()
    assert stop.is_set() and not (tmp_path / "run").exists()


def test_a_slow_download_is_waited_for(own_hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than a stalled one may, but gets on."""

    def pace(body: bytes) -> Iterator[bytes]:
        for first in range(0, len(body), 2**16):
            time.sleep(0.4)
            yield body[first : first + 2**16]

    folder = save_dino(tmp_path / "dino", "dino", hidden_size=96)
    assert (folder / "model.safetensors").stat().st_size > 4 * 2**16
    own_hub.folders["facebook/dino-vits8"] = folder
    monkeypatch.setattr(own_hub, "pace", pace)
    monkeypatch.setattr(hub, "STALLED_SECONDS", 1.5)
    assert load_dino("facebook/dino-vits8").weight_hash == load_dino(str(folder)).weight_hash


def test_a_hub_that_has_not_the_model(own_hub: type[Hub], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="The hub has no model") as raised:
        load_dino("facebook/dino-vit8")
    assert "facebook/dino-vits8" in raised.value.fix
    with pytest.raises(EncoderError, match="licence"):
        load_dino("locked/dinov3")
    own_hub.folders["some/model"] = save_dino(tmp_path / "dino", "dino")
    (tmp_path / "dino" / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="none of the files model.safetensors"):
        load_dino("some/model")
