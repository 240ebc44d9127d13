"""A browser without a picture: it speaks viser's protocol, receives, and says where it looks from and clicks.

It costs next to nothing, so that what a server sends can be counted on a small machine.
"""

import threading
import time
from collections import Counter
from typing import Any

import msgspec
import viser
import zstandard
from websockets.sync.client import connect


class Bare:
    """Connects to a viewer and keeps the latest message of every kind."""

    def __init__(self, url: str, position: tuple, look_at: tuple, size: tuple[int, int] = (640, 480)) -> None:
        self.count: Counter[str] = Counter()
        self.latest: dict[str, Any] = {}
        self.notices: list[str] = []
        self._position, self._look_at, self._size = position, look_at, size
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
                    self.count[message["type"]] += 1
                    self.latest[message["type"]] = message
                    if message["type"] == "NotificationShowMessage" or "title" in message.get("props", {}):
                        self.notices.append(str(message.get("props", message).get("title")))
        except Exception:  # the server has gone, or we have
            return

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look(self, position: tuple, look_at: tuple) -> None:
        """Say where it looks from, z up."""
        import numpy as np
        from scipy.spatial.transform import Rotation

        forward = np.subtract(look_at, position) / np.linalg.norm(np.subtract(look_at, position))
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        turn = np.stack([right, np.cross(forward, right), forward], 1)
        x, y, z, w = Rotation.from_matrix(turn).as_quat().tolist()
        self._position, self._look_at = position, look_at
        self.send(
            "ViewerCameraMessage", wxyz=(w, x, y, z), position=tuple(map(float, position)), fov=0.9, near=0.01,
            far=1000.0, image_height=self._size[1], image_width=self._size[0], look_at=tuple(map(float, look_at)),
            up_direction=(0.0, 0.0, 1.0),
        )  # fmt: skip

    def click(self, target: tuple) -> None:
        """Click on what lies at a place."""
        import numpy as np

        direction = np.subtract(target, self._position)
        direction = tuple((direction / np.linalg.norm(direction)).tolist())
        self.send(
            "ScenePointerMessage", event_type="click", ray_origin=tuple(map(float, self._position)),
            ray_direction=direction, screen_pos=((0.5, 0.5),), modifier=None,
        )  # fmt: skip

    def pictures(self) -> int:
        """Background pictures so far."""
        return self.count["BackgroundImageMessage"]

    def close(self) -> None:
        self._socket.close()


def wait_until(true: Any, seconds: float = 20.0, what: str = "it") -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
