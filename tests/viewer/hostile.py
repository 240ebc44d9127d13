"""What a hostile program sends to the viewer: seeded messages, and a client that sends them."""

import random
import threading
from collections.abc import Iterable, Iterator

import msgspec.msgpack
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

CAMERA = {
    "type": "ViewerCameraMessage", "wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 0.0, 1.0], "fov": 1.0, "near": 0.01,
    "far": 100.0, "image_height": 240, "image_width": 320, "look_at": [0.0, 1.0, 1.0], "up_direction": [0.0, 0.0, 1.0],
}  # fmt: skip
_VALID = (
    CAMERA,
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": 0.5}},
    {"type": "GuiFormSubmitMessage", "uuid": "a"},
    {"type": "SceneNodeClickMessage", "name": "/points", "instance_index": None, "ray_origin": [0, 0, 0],
     "ray_direction": [0, 0, 1], "screen_pos": [0.5, 0.5], "modifier": None, "owner": ""},
    {"type": "ScenePointerMessage", "event_type": "click", "ray_origin": [0, 0, 0], "ray_direction": [0, 0, 1],
     "screen_pos": [[0.5, 0.5]], "modifier": None},
)  # fmt: skip
_REFUSED = (
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"update_cb": "x" * 40_000}},
    {"type": "FileTransferStartUpload", "source_component_uuid": "a", "transfer_uuid": "b", "filename": "c",
     "mime_type": "d", "part_count": 1, "size_bytes": 2**40},
    {"type": "FileTransferPart", "source_component_uuid": "a", "transfer_uuid": "b", "part_index": 0, "content": b"x"},
    {"type": "GetRenderResponseMessage", "payload": b"x", "render_uuid": "a"},
    {"type": "ShareUrlRequest"}, {"type": "Message"}, {"type": "GuiFormDirtyMessage", "uuid": "a"}, {"type": None},
)  # fmt: skip
_ODD = (
    None, True, -1, 0, 2**31 - 1, 10**12, 2**63, 1e300, float("nan"), float("inf"), "", "\x1b[2J", "\ud7ff", "x" * 3000,
    [], [0, 0, 0, 0], [1e300, 0, 0], ["a"] * 4, {}, {"value": {"value": 1}}, {"value": [[[[]]]]}, {"update_cb": 1},
)  # fmt: skip


def messages(seed: int, count: int) -> Iterator[bytes]:
    """`count` messages: valid ones with odd fields, such as no browser sends, damaged and nested bytes, large ones."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.random()
        if kind < 0.6:
            message = dict(rng.choice(_VALID))
            for name in rng.sample(sorted(message), rng.randint(0, 2)):
                if name != "type" or rng.random() < 0.1:
                    message[name] = rng.choice(_ODD)
            yield msgspec.msgpack.encode(message)
        elif kind < 0.8:
            yield msgspec.msgpack.encode(rng.choice(_REFUSED))
        elif kind < 0.9:
            data = bytearray(msgspec.msgpack.encode(rng.choice(_VALID)))
            for place in rng.sample(range(len(data)), 3):
                data[place] = rng.randrange(256)
            yield bytes(data)
        elif kind < 0.97:
            yield b"\x91" * rng.choice((10, 1000, 60_000)) + b"\x90"
        else:
            yield rng.randbytes(rng.choice((0, 1, 1000, 100_000)))


def come(url: str, **options: object) -> ClientConnection:
    """A client of viser's that has not said anything yet."""
    return connect(
        url.replace("http", "ws", 1), subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None,
        **options,
    )  # fmt: skip


def attack(url: str, payloads: Iterable[bytes]) -> None:
    """Send all of them, each text too; comes back when it is thrown out."""
    client = None
    for payload in payloads:
        try:
            if client is None:
                client = come(url)
                threading.Thread(target=_read_all, args=(client,), daemon=True).start()
                client.send(msgspec.msgpack.encode(CAMERA))
            client.send(payload)
        except (ConnectionClosed, OSError):
            client = None
    if client is not None:
        client.close()


def greeted(url: str, seconds: float = 5.0) -> bool:
    """Whether an honest client gets its panel."""
    with come(url) as client:
        client.send(msgspec.msgpack.encode(CAMERA))
        try:
            return len(client.recv(timeout=seconds)) > 0
        except TimeoutError:
            return False


def _read_all(client: ClientConnection) -> None:
    try:
        for _ in client:
            pass
    except (ConnectionClosed, OSError):
        pass
