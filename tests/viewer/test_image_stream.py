"""Image streams: the newest request wins, and no error ends a stream. Only the order of events is tested."""

import threading
import time

import numpy as np
import pytest

from ovseg3d.errors import RunError
from ovseg3d.viewer.fair_lock import FairLock
from ovseg3d.viewer.image_stream import COARSE_PIXELS, ImageStream, RenderRate
from ovseg3d.viewer.viewpoint import Viewpoint, ray_camera, strip_camera
from scripts.benchmarks.viewer_client import PATIENCE, wait_until


class Easel:
    """Records what is drawn; sharp images take some strips."""

    def __init__(self) -> None:
        self.drawn: list[tuple[object, float]] = []
        self.on_start: list[object] = []
        self.hold = threading.Event()
        self.hold.set()
        self.errors: list[Exception] = []
        self.pause_after = 0
        """Hold once so many are drawn; 0: never."""

    def draw(self, request: object, pixels: float, unwanted) -> float | None:
        self.on_start.append(request)
        if request == "bad":
            raise RuntimeError("cannot draw this")
        for _ in range(3):
            self.hold.wait(PATIENCE)
            if unwanted():
                return None
        self.drawn.append((request, pixels))
        if len(self.drawn) == self.pause_after:
            self.hold.clear()
        return 0.01


def stream(easel: Easel, sharp: float = 200_000.0) -> ImageStream:
    return ImageStream(easel.draw, easel.errors.append, RenderRate(), sharp)


def test_a_still_camera_gets_coarse_then_sharper_then_sharp() -> None:
    easel = Easel()
    made = stream(easel)
    made.request("here")
    assert made.wait_idle(PATIENCE)
    pixels = [pixels for _, pixels in easel.drawn]
    assert pixels[0] >= COARSE_PIXELS and pixels == sorted(pixels) and pixels[-1] == 200_000 and len(pixels) >= 2
    made.close()


def test_the_newest_request_wins_and_old_ones_are_never_drawn() -> None:
    easel = Easel()
    easel.hold.clear()
    made = stream(easel)
    made.request(0)
    wait_until(lambda: easel.on_start == [0])
    for request in range(1, 50):
        made.request(request)
    easel.hold.set()
    assert made.wait_idle(PATIENCE)
    assert [request for request, _ in easel.drawn][:2] == [0, 49], "a coarse image is finished, then the newest comes"
    assert easel.drawn[-1] == (49, 200_000.0)
    made.close()


def test_a_sharp_image_is_given_up_for_a_newer_request() -> None:
    easel = Easel()
    easel.pause_after = 1
    made = stream(easel)
    made.request("first")
    wait_until(lambda: len(easel.on_start) == 2)
    made.request("second")
    easel.hold.set()
    assert made.wait_idle(PATIENCE)
    assert [request for request, _ in easel.drawn].count("first") == 1, "what was started is not finished"
    assert easel.drawn[-1] == ("second", 200_000.0)
    assert made.drawn == len(easel.drawn) == len(easel.on_start) - 1, "what was given up does not count"
    assert easel.errors == []
    made.close()


def test_an_error_is_told_and_the_next_wish_is_drawn() -> None:
    easel = Easel()
    made = stream(easel)
    made.request("bad")
    wait_until(lambda: easel.errors)
    made.request("good")
    assert made.wait_idle(PATIENCE)
    assert easel.drawn[-1][0] == "good" and len(easel.errors) == 1
    made.close()
    made.request("after the end")
    time.sleep(0.05)
    assert easel.drawn[-1][0] == "good"


def test_slow_machines_get_few_pixels_first_and_fast_ones_many() -> None:
    slow, fast = RenderRate(20_000.0), RenderRate(5e6)
    assert slow.resolutions(200_000.0)[0] == COARSE_PIXELS and slow.resolutions(200_000.0)[-1] == 200_000
    assert fast.resolutions(200_000.0) == [200_000], "no coarse image where the sharp one takes no time"
    slow.learn(50_000.0, 0.5)
    assert 20_000 < slow.pixels_per_second < 100_000


def test_turns_go_round() -> None:
    """A plain lock lets one thread take it again and again; two who share get it in turn."""
    turns, order, inside, alone = FairLock(), [], [], []
    asking, done = {name: threading.Event() for name in "ab"}, []

    def work(name: str, other: str) -> None:
        for _ in range(5):
            asking[name].set()
            with turns:
                asking[name].clear()
                order.append(name)
                inside.append(name)
                # Whoever has it holds it until the other asks for it, and a moment longer.
                wait_until(lambda: asking[other].is_set() or other in done, f"{other} to ask")
                time.sleep(0.02)
                alone.append(inside.pop() == name and not inside)
        done.append(name)

    threads = [threading.Thread(target=work, args=names) for names in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(order) == list("aaaaabbbbb") and all(alone)
    assert sum(first != second for first, second in zip(order, order[1:])) >= 7


@pytest.mark.parametrize("pixels", [200.0, 5_000.0, 1e9])
def test_a_camera_of_a_window_sees_the_same_at_every_size(pixels: float) -> None:
    seen = Viewpoint((0.9, 0.1, -0.3, 0.2), (1.0, 2.0, 3.0), 0.9, 641, 377)
    camera, full = seen.camera(pixels), seen.camera(1e9)
    assert (full.width, full.height) == (641, 377) and camera.width * camera.height <= 1.2 * pixels
    corners = np.array([[0.0, 0.0], [1.0, 0.3], [1.0, 1.0]])
    _, a = camera.rays(corners * (camera.width, camera.height))
    _, b = full.rays(corners * (641, 377))
    np.testing.assert_allclose(a, b, atol=1e-9)
    # The vertical field of view, from edge to edge.
    _, edge = full.rays(np.array([[320.5, 0.0], [320.5, 377.0]]))
    assert np.arccos(edge[0] @ edge[1]) == pytest.approx(0.9)


def test_the_pose_of_a_viewpoint_is_that_of_its_quaternion() -> None:
    # A quarter turn about y takes the camera's z, its forward axis, to x of the input frame.
    pose = Viewpoint((2**-0.5, 0.0, 2**-0.5, 0.0), (1.0, 2.0, 3.0), 1.0, 10, 10).c2w
    np.testing.assert_allclose(pose, [[0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]], atol=1e-12)


def test_strips_are_parts_of_the_image() -> None:
    camera = Viewpoint((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, 40, 30).camera(1e9)
    whole = camera.rays(camera.pixel_centres())[1].reshape(30, 40, 3)
    strip = strip_camera(camera, 20, 10)
    np.testing.assert_allclose(strip.rays(strip.pixel_centres())[1].reshape(10, 40, 3), whole[20:])


def test_a_ray_is_a_camera_of_one_pixel() -> None:
    origin, direction = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.6, -0.8])
    camera = ray_camera(origin, 5 * direction)
    places, directions = camera.rays(camera.pixel_centres())
    np.testing.assert_allclose(places[0], origin)
    np.testing.assert_allclose(directions[0], direction, atol=1e-12)
    assert np.linalg.det(camera.c2w[:3, :3]) == pytest.approx(1.0)


def test_nobody_gets_a_turn_that_was_closed() -> None:
    turns, told = FairLock(), []

    def work() -> None:
        with pytest.raises(RunError, match="closed"), turns:
            pass
        told.append("waited")

    waiting = threading.Thread(target=work, daemon=True)
    with turns:
        waiting.start()
        wait_until(lambda: turns._next == 2, "the other to wait")
        turns.close()
        waiting.join(PATIENCE)
        assert told == ["waited"], "before it is let go"
    with pytest.raises(RunError, match="closed"), turns:
        pass
