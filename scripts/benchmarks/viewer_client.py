"""A viewer client that draws nothing: it speaks viser's protocol, sends its camera and clicks, and keeps messages.

It costs next to nothing, so that what a server sends can be counted on a small machine. For benchmark_viewer.py, and
for the tests of the viewer.
"""

import io
import threading
import time
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from scipy.spatial.transform import Rotation
from websockets.sync.client import connect

from ovseg3d.geometry.rotations import to_wxyz

PATIENCE = 120.0
"""Seconds until a step counts as failed; the machine may be slow and busy."""


class Bare:
    """Connects to a viewer and keeps the latest message of every kind."""

    def __init__(
        self, url: str, position: tuple, look_at: tuple, size: tuple[int, int] = (640, 480), up: tuple = (0.0, 0.0, 1.0)
    ) -> None:
        self.count: Counter[str] = Counter()
        self.latest: dict[str, Any] = {}
        self.notices: list[str] = []
        self._nodes: Counter[str] = Counter()
        self._controls: dict[str, str] = {}
        self._sizes: list[tuple[int, int]] = []
        self._position, self._look_at, self._size, self._up = position, look_at, size, up
        self._socket = connect(
            url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None
        )
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        self.look(position, look_at)

    def _receive(self) -> None:
        try:
            for packet in self._socket:
                size = int.from_bytes(packet[8:16], "little")
                inner = zstandard.ZstdDecompressor().decompress(
                    packet[16 : 16 + size], max_output_size=int.from_bytes(packet[:8], "little")
                )
                for message in msgspec.msgpack.decode(inner)["messages"]:
                    if message["type"] == "BackgroundImageMessage" and message["rgb_data"] is None:
                        continue  # that there is none
                    if message["type"] == "BackgroundImageMessage":
                        self._sizes.append(Image.open(io.BytesIO(message["rgb_data"])).size)
                    if "uuid" in message and "label" in message.get("props", {}):
                        self._controls[message["props"]["label"]] = message["uuid"]
                    # Counted last: what has been counted is there to be read.
                    self.latest[message["type"]] = message
                    if "props" in message and "name" in message:
                        self._nodes[message["name"]] += 1
                    self.count[message["type"]] += 1
                    if message["type"] == "NotificationShowMessage" or "title" in message.get("props", {}):
                        self.notices.append(str(message.get("props", message).get("title")))
        except Exception:  # the server has gone, or we have
            return

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look(self, position: tuple, look_at: tuple) -> None:
        """Send the camera."""
        forward = np.subtract(look_at, position) / np.linalg.norm(np.subtract(look_at, position))
        right = np.cross(forward, self._up)
        right /= np.linalg.norm(right)
        turn = np.stack([right, np.cross(forward, right), forward], 1)
        self._position, self._look_at = position, look_at
        self.send(
            "ViewerCameraMessage", wxyz=to_wxyz(Rotation.from_matrix(turn)), position=tuple(map(float, position)),
            fov=0.9, near=0.01, far=1000.0, image_height=self._size[1], image_width=self._size[0],
            look_at=tuple(map(float, look_at)), up_direction=tuple(map(float, self._up)),
        )  # fmt: skip

    def click(self, target: tuple) -> None:
        """Click on what lies at a place."""
        direction = np.subtract(target, self._position)
        direction = tuple((direction / np.linalg.norm(direction)).tolist())
        self.send(
            "ScenePointerMessage", event_type="click", ray_origin=tuple(map(float, self._position)),
            ray_direction=direction, screen_pos=((0.5, 0.5),), modifier=None,
        )  # fmt: skip

    def press(self, label: str) -> None:
        """Press the button with this label, once it has come; of several the newest."""
        self.set(label, True)

    def set(self, label: str, value: Any) -> None:
        """Set the control with this label, once it has come; of several the newest."""
        wait_until(lambda: label in self._controls, f"the control {label!r}")
        self.send("GuiUpdateMessage", uuid=self._controls[label], updates={"value": value})

    def images(self) -> int:
        """Number of background images so far."""
        return self.count["BackgroundImageMessage"]

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each of them."""
        return list(self._sizes)

    def received(self, node: str) -> int:
        """Messages so far that put something at a place of the scene, such as "/points"."""
        return self._nodes[node]

    def close(self) -> None:
        self._socket.close()


def wait_until(true: Any, what: str = "it") -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)
