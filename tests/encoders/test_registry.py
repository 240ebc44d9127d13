"""Names of encoders: suggestions, registration, entry points, and a hub that is or is not there."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder, save_dino

from ovseg3d.encoders import (
    Preprocess,
    TextImageEncoder,
    TokenEncoder,
    hub,
    load_clip,
    load_dino,
    register_clip,
    register_dino,
    registry,
)
from ovseg3d.encoders.cache import FeatureCache
from ovseg3d.encoders.lazy import lazy_dino
from ovseg3d.errors import EncoderError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, a hub that does not exist, and no memory of it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_answers", {})
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration and the weights of an architecture that open_clip knows as `tiny-named`."""
    folder = tmp_path_factory.mktemp("named")
    model = random_clip(add_architecture(folder, "tiny-named", clip_config()))
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder


@pytest.mark.parametrize(
    ("load", "name", "hint"),
    [
        (load_clip, "ViT-B16:openai", "ViT-B-16"),
        (load_clip, "ViT-B-16:laion2b_s34b_b88", "laion2b_s34b_b88k"),
        (load_clip, "ViT-B-16", "ViT-B-16:TAG"),
        (load_clip, "bulitin", "builtin"),
        (load_dino, "dinov2-smal", "facebook/dinov2-small"),
        (load_dino, "bulitin", "builtin"),
    ],
)
def test_unknown_names_get_a_suggestion(load, name: str, hint: str) -> None:
    with pytest.raises(EncoderError) as raised:
        load(name)
    assert hint in (raised.value.fix or "")


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (load_clip, "local-dir:/nowhere/at/all", "does not exist"),
        (load_clip, "/nowhere/at/all", "no folder"),
        (load_clip, "tiny-named:/nowhere/weights.pt", "no such file"),
        (load_dino, "/nowhere/at/all", "no such folder"),
        (load_dino, "local-dir:/nowhere", "no such folder"),
        (load_clip, "x" * 300, "Unknown model"),
        (load_clip, "tiny-named:" + "x" * 300, "no weights called"),
        (load_dino, "x" * 300, "Unknown model"),
        (load_dino, "/" + "x" * 300, "no such folder"),
    ],
)
def test_paths_that_are_not_there(tiny: Path, load, name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load(name)


def test_weights_alone_do_not_say_their_architecture(tiny: Path) -> None:
    for load in (load_clip, load_dino):
        with pytest.raises(EncoderError, match="which architecture"):
            load(str(tiny / "weights.pt"))


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


def test_a_checkpoint_of_another_architecture_names_what_differs(tiny: Path, tmp_path: Path) -> None:
    add_architecture(tmp_path, "tiny-wider", clip_config(width=64))
    with pytest.raises(EncoderError, match="another architecture than tiny-wider") as raised:
        load_clip(f"tiny-wider:{tiny / 'weights.pt'}")
    assert "[48]" in raised.value.what and "[64]" in raised.value.what
    # open_clip gives up on this one before it compares anything.
    config = clip_config({"width": 64})
    add_architecture(tmp_path, "tiny-wider-text", config)
    with pytest.raises(EncoderError, match="another architecture than tiny-wider-text") as raised:
        load_clip(f"tiny-wider-text:{tiny / 'weights.pt'}")
    assert "[16, 32] there and [16, 64] in the model" in raised.value.what
    add_architecture(tmp_path, "tiny-deeper", clip_config(layers=4))
    with pytest.raises(EncoderError, match="missing"):
        load_clip(f"tiny-deeper:{tiny / 'weights.pt'}")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_positions_are_not_stretched_in_silence(tiny: Path, tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    add_architecture(tmp_path, "tiny-larger", clip_config(image_size=96))
    path = tmp_path / f"weights{suffix}"
    state = torch.load(tiny / "weights.pt")
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    with pytest.raises(EncoderError, match=r"positional_embedding is \[17, 48\] there and \[37, 48\]"):
        load_clip(f"tiny-larger:{path}")
    load_clip(f"tiny-named:{path}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("open_clip_model.safetensors", b"not weights", "cannot be read"),
        ("open_clip_model.safetensors", None, "no weights"),
        ("open_clip_config.json", b"{", "not valid JSON"),
        ("open_clip_config.json", b"{}", "cannot be read"),
        ("open_clip_config.json", None, "holds no open_clip model"),
    ],
)
def test_broken_folders_are_refused(tiny: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = save_clip_folder(tmp_path / "broken", clip_config(), random_clip("tiny-named"))
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        load_clip(str(folder))


def test_the_weights_that_are_loaded_are_the_ones_that_are_checked(tiny: Path, tmp_path: Path) -> None:
    """Folders of the hub hold the same weights for transformers too, under other names."""
    from safetensors.torch import save_file

    folder = save_clip_folder(tmp_path / "two", clip_config(), random_clip("tiny-named"))
    before = load_clip(str(folder)).weight_hash
    save_file({"vision_model.other": torch.zeros(3)}, folder / "model.safetensors")
    assert load_clip(str(folder)).weight_hash == before
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 96
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="positional_embedding"):
        load_clip(str(folder))


def test_a_folder_without_its_tokenizer(tmp_path: Path) -> None:
    text = {"hf_tokenizer_name": "anything", "vocab_size": 12}
    add_architecture(tmp_path, "tiny-wordless", {**clip_config(text), "custom_text": True})
    folder = save_clip_folder(
        tmp_path / "wordless", {**clip_config(text), "custom_text": True}, random_clip("tiny-wordless")
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(EncoderError, match="The tokenizer cannot be read"):
        load_clip(str(folder))


def test_the_hash_is_of_the_content(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.pt"
    copy.write_bytes((tiny / "weights.pt").read_bytes())
    first, second = (load_clip(f"tiny-named:{path}").weight_hash for path in (tiny / "weights.pt", copy))
    assert first == second and len(first) == 16
    torch.save(random_clip("tiny-named", seed=1).state_dict(), copy)
    assert load_clip(f"tiny-named:{copy}").weight_hash != first


def test_no_name_is_taken_for_the_hash(tmp_path: Path) -> None:
    """The hub's cache calls a file by its SHA-256; one that was cut or exchanged later still has that name."""
    from ovseg3d.encoders.weights import hash_files

    path, other = tmp_path / ("a" * 64), tmp_path / "other"
    path.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert hash_files([path]) == hash_files([other])
    path.write_bytes(b"others.")
    assert hash_files([path]) != hash_files([other])


def test_a_card_may_choose_the_dense_path(tiny: Path, tmp_path: Path) -> None:
    folder = save_clip_folder(tmp_path / "carded", clip_config(), random_clip("tiny-named"))
    plain, images = load_clip(str(folder)), torch.rand(1, 3, 32, 32)
    expected = load_clip(str(folder), dense_path="maskclip")
    assert expected.id == f"{plain.id}+maskclip"
    (folder / "card.json").write_text('{"dense_path": "maskclip", "calibration": {"slope": 2.0}}')
    carded = load_clip(str(folder))
    assert carded.calibration == {"slope": 2.0}
    torch.testing.assert_close(carded.encode_dense(images), expected.encode_dense(images))
    assert carded.id == plain.id and carded.weight_hash != plain.weight_hash
    assert load_clip(str(folder), dense_path="auto").id == f"{plain.id}+auto"
    with pytest.raises(EncoderError, match="no dense path"):
        load_clip(str(folder), dense_path="best")


def test_the_builtin_ones_are_found_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    for load, kind in ((load_clip, "CLIP"), (load_dino, "DINO")):
        with pytest.raises(EncoderError, match=f"built-in {kind} is not in this installation"):
            load("builtin")
    add_architecture(tmp_path, "tiny-named", clip_config())
    save_clip_folder(tmp_path / "builtin" / "clip", clip_config(), random_clip("tiny-named"))
    save_dino(tmp_path / "builtin" / "dino", "dinov2")
    assert load_clip("builtin").id == "builtin"
    assert load_dino("builtin").id == "builtin"


class Colours:
    """The smallest encoder: the mean colour of every patch."""

    id, weight_hash, dim, patch = "colours", "0" * 16, 3, 4
    preprocess = Preprocess(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode_dense(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(images, self.patch), dim=1)


def test_an_encoder_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_dinos", {})
    monkeypatch.setattr(registry, "_clips", {})
    register_dino("colours", Colours)
    assert load_dino("colours", "cpu").encode_dense(torch.rand(1, 3, 8, 8)).shape == (1, 3, 2, 2)
    with pytest.raises(EncoderError) as raised:
        load_dino("colors")
    assert "colours" in raised.value.fix
    assert registry.names("dino") == ["colours"]
    register_dino("broken", lambda device: 1 // 0)
    with pytest.raises(EncoderError, match="broken.*ZeroDivisionError"):
        load_dino("broken")
    register_clip("ViT-B-16", Colours)
    with pytest.raises(EncoderError, match="'ViT-B-16' lacks .*encode_text"):
        load_clip("ViT-B-16")
    with pytest.raises(EncoderError, match="cannot be called"):
        register_clip("builtin", lambda device: None)


class MyClip(Colours):
    """What a text-image encoder has to have, and nothing more."""

    dense, logit_scale, logit_bias = True, 10.0, None

    def encode_text(self, phrases: list[str]) -> torch.Tensor:
        return torch.eye(3)[: len(phrases)]

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)), dim=1)


def test_a_clip_of_ones_own_needs_only_what_features_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_clips", {})
    register_clip("my-clip", MyClip)
    loaded = load_clip("my-clip")
    assert isinstance(loaded, TextImageEncoder) and not isinstance(loaded, TokenEncoder)
    with pytest.raises(EncoderError, match="no --dense-path"):
        load_clip("my-clip", dense_path="plain")
    monkeypatch.setattr(registry, "_dinos", {"colours": Colours})
    with pytest.raises(EncoderError, match="no --facet"):
        load_dino("colours", facet="keys")


def test_an_entry_point_needs_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is only installed: a module and the entry points in its metadata."""
    (tmp_path / "others_encoders.py").write_text("from test_registry import Colours as make\n")
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ovseg3d.clip]\nbroken = others_nothing:make\n[ovseg3d.dino]\ntheir-dino = others_encoders:make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_dino("their-dino").id == "colours"
    assert "their-dino" in registry.names("dino")
    with pytest.raises(EncoderError, match="broken.*cannot be loaded"):
        load_clip("broken")
    with pytest.raises(EncoderError) as raised:
        load_dino("their-din")
    assert "their-dino" in raised.value.fix


def test_importing_is_light() -> None:
    code = (
        "import sys, ovseg3d.encoders; from ovseg3d.encoders import load_clip, load_dino\n"
        "print([m for m in ('open_clip', 'transformers', 'timm', 'torchvision') if m in sys.modules])\n"
        "import ovseg3d.encoders as e; del e\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"
