"""The viewer in a real browser: headless Chromium with WebGL in software, on playroom.

One browser serves all tests. It takes most of a small machine, so waits are long; what is checked is the scene's state
on the server and what the page says, and that the image arrived on pixels.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, Page, wait_for
from PIL import Image
from playroom import INSTANCES
from plyfile import PlyData

from ovseg3d.viewer import downloads, layers
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.pick import describe, find_spot

SIZE = (900, 560)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"), SIZE)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, viewer: Viewer) -> Iterator[Page]:
    made = browser.open(viewer.url)
    try:
        settle(made, viewer)
        yield made
    finally:
        made.leave()  # else it would come back to the next test's server


def settle(page: Page, viewer: Viewer) -> None:
    """Wait until the page is as it will stay: the panel makes the view narrower some time after it has come, and the
    remark that WebGL is drawn in software lies over it."""
    page.wait_text("Export")
    wait_for(lambda: len(viewer.sessions) == 1, "the server to greet the browser", lambda: str(viewer.sessions))
    session, seen = session_of(viewer), [None]
    page.dismiss_notices()

    def settled() -> bool:
        view, (width, height) = session.view.viewpoint, window(page)
        seen.append(view and (view, width, height))
        still = len(seen) > 5 and seen[-5:] == seen[-1:] * 5 and view is not None
        return still and width < SIZE[0] and abs(view.width / view.height - width / height) < 0.01

    wait_for(settled, "the view to have its size", lambda: str(seen[-5:]))


def window(page: Page) -> tuple[int, int]:
    """Width and height of the view, pixels of the screen. Where frames take long, viser draws fewer pixels than that,
    and tells the server their number instead."""
    width, height = page.js("(e => [e.clientWidth, e.clientHeight])(document.querySelector('canvas'))")
    return width, height


def session_of(viewer: Viewer):
    (only,) = viewer.sessions.values()
    return only


def on_screen(page: Page, session, xyz: list[float]) -> tuple[float, float]:
    """Where a place of the scene is on the screen."""
    view = session.view.viewpoint
    xy, z = view.camera(1e9).project(np.array([xyz], dtype=np.float64))
    assert z[0] > 0
    x, y = xy[0] / (view.width, view.height) * window(page)
    return float(x), float(y)


def pixels(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def wait_for_image(page: Page, session, layer: str) -> None:
    """Wait until the window shows the field, in colour or as depth: what is compared is the mean colour."""

    def means() -> tuple[np.ndarray, np.ndarray]:
        """Expected and shown, from where the browser looks by now."""
        view = session.view.viewpoint
        job = session.context.shared.render(view.camera(1e4))
        expected = layers.plain_layer(layer).image(session.context.shared, job).mean((0, 1))
        return expected, pixels(page)[50:, 20 : window(page)[0] - 20].mean((0, 1))

    wait_for(lambda: np.abs(np.subtract(*means())).max() < 12, f"an image of {layer}", lambda: str(means()))


def test_the_page_loads_and_shows_the_field(page: Page, viewer: Viewer, errors: list[str]) -> None:
    assert "playroom" in page.text() and "80 photos" in page.text()
    session = session_of(viewer)
    wait_for_image(page, session, layers.COLOUR)
    assert page.console == [] and errors == []


def test_a_phrase_typed_into_the_form_highlights_the_right_instance(
    page: Page, viewer: Viewer, errors: list[str]
) -> None:
    session = session_of(viewer)
    session.ask.display.opacity.value = 1.0
    page.type_into("Find", "teddy bear; an elephant")
    page.wait_text('"an elephant" is not in this scene.')
    page.wait_text('"teddy bear": 1 instance')
    points, _ = session.view.reply.found()
    wait_for(lambda: session.context.nodes.highlighted, "the points after the words")
    middle = np.median(session.context.shared.semantics.surface.xyz[points], axis=0)
    np.testing.assert_allclose(middle, INSTANCES["brown teddy bear"]["center"], atol=0.12)
    assert session.context.nodes.highlighted == len(points) > 0
    # On pixels: where the bear is, the browser now shows the phrase's colour.
    tint = session.view.reply.tints[0].astype(float)

    def tinted() -> bool:
        x, y = on_screen(page, session, INSTANCES["brown teddy bear"]["center"])
        patch = pixels(page)[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].reshape(-1, 3)
        alike = patch @ tint / np.maximum(np.linalg.norm(patch, axis=1) * np.linalg.norm(tint), 1)
        return bool((alike > 0.98).mean() > 0.3)

    wait_for(tinted, "the bear in its colour")
    assert errors == []


def test_a_click_names_the_clicked_instance(page: Page, viewer: Viewer, errors: list[str]) -> None:
    session = session_of(viewer)
    instance, place = seen_instance(page, session)
    page.mouse(*place)
    wait_for(lambda: session.view.selection is not None, f"the click at {place} to be answered", page.text)
    assert session.view.selection.name == instance["category"]
    np.testing.assert_allclose(session.view.selection.instance.center, instance["center"], atol=0.1)
    page.wait_text(f"instance {session.view.selection.instance.id}:")
    assert "best-matching phrases" in page.text() and errors == []


def seen_instance(page: Page, session) -> tuple[dict, tuple[float, float]]:
    """An instance whose middle is seen, and where on the screen that is."""
    eye, (width, height) = np.array(session.view.viewpoint.position), window(page)
    for instance in INSTANCES.values():
        x, y = on_screen(page, session, instance["center"]) if ahead(session, instance) else (0.0, 0.0)
        spot = find_spot(session.context.shared, eye, np.array(instance["center"]) - eye)
        near = spot is not None and np.linalg.norm(spot.xyz - instance["center"]) < 0.6 * np.linalg.norm(
            instance["size"]
        )
        alone = (
            near
            and describe(session.context.shared, spot, session.context.shared.scene.phrases).name
            == instance["category"]
        )
        if alone and 40 < x < width - 40 and 40 < y < height - 40:
            return instance, (x, y)
    raise AssertionError("nothing is in view")


def ahead(session, instance: dict) -> bool:
    camera = session.view.viewpoint.camera(1e9)
    return float((np.array(instance["center"]) - camera.position) @ camera.forward) > 0.3


def test_layers_switch(page: Page, viewer: Viewer, errors: list[str]) -> None:
    session = session_of(viewer)
    page.press("Layers")
    wait_for_image(page, session, layers.COLOUR)
    page.mouse(*page.middle("[...document.querySelectorAll('input')].find(e => e.value === 'Colour')"))
    page.press("Depth")
    wait_for(lambda: session.view.layer.name == layers.DEPTH, "the layer")
    wait_for_image(page, session, layers.DEPTH)
    page.mouse(*page.middle("[...document.querySelectorAll('input')].find(e => e.value === 'Depth')"))
    page.press("Labels")
    page.wait_text("surface points, and their share")
    page.press("Points")
    wait_for(lambda: session.layers.switches.points.value, "the switch")
    page.press("Detected objects")
    page.wait_text("arrows show the front of")
    assert errors == [] and session.context.messages == []


def test_an_export_downloads_and_reads_back(page: Page, viewer: Viewer, tmp_path: Path, errors: list[str]) -> None:
    session = session_of(viewer)
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=False)
    page.press("Export")
    page.press("cloud:")
    wait_for(lambda: session.export.jobs.saved, "the export", page.text)
    page.wait_text("--what cloud")
    link = "[...document.querySelectorAll('a')].find(e => e.href.startsWith('blob:') || e.download)"
    wait_for(lambda: page.js(f"!!{link}"), "the link", page.text)
    page.js(f"{link}.click()")
    wait_for((tmp_path / "cloud.zip").exists, "the file", lambda: str(list(tmp_path.iterdir())))
    _, whole = downloads.pack_files(viewer.shared.run.exports, session.export.jobs.saved)
    wait_for(lambda: (tmp_path / "cloud.zip").stat().st_size == len(whole), "the whole file")
    with zipfile.ZipFile(tmp_path / "cloud.zip") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("cloud.ply"))
        read = PlyData.read(io.BytesIO(archive.read(name)))["vertex"]
    surface = session.context.shared.semantics.surface
    assert len(read) == len(surface)
    got = np.stack([read["x"], read["y"], read["z"]], 1)
    np.testing.assert_allclose(np.sort(got, axis=0), np.sort(surface.xyz, axis=0), atol=1e-5)
    assert errors == []


def test_a_second_browser_is_independent(page: Page, viewer: Viewer, browser: Browser, errors: list[str]) -> None:
    first = session_of(viewer)
    other = browser.open(viewer.url)
    try:
        other.wait_text("Export")
        wait_for(lambda: len(viewer.sessions) == 2, "the second browser")
        (second,) = (session for session in viewer.sessions.values() if session is not first)
        other.type_into("Find", "sofa")
        other.wait_text('"sofa": 1 instance')
        wait_for(lambda: second.context.nodes.highlighted, "the points after the words")
        assert second.view.reply is not None and first.view.reply is None and first.context.nodes.highlighted == 0
        assert "1 instance" not in page.text()
    finally:
        other.leave()
    wait_for(lambda: len(viewer.sessions) == 1, "the second browser to be gone")
    assert errors == []


def test_a_broken_phrase_shows_a_message(page: Page, viewer: Viewer, errors: list[str]) -> None:
    page.type_into("Find", "x" * 400)
    page.wait_text("A phrase has 400 characters")
    page.type_into("Find", " ; ;")
    page.wait_text("There is nothing to look for")
    page.type_into("Find", "<img src=x onerror=alert(1)> sofa")
    page.wait_text("<img src=x")
    assert page.js("document.querySelectorAll('img[src=\"x\"]').length") == 0 and errors == []
