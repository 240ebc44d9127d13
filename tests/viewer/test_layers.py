"""Colours of the image and of the points in each layer, without a browser, on playroom."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playroom import INSTANCES, inside, is_taken

from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.palette import colours
from ovseg3d.viewer import layers
from ovseg3d.viewer.answers import Question, ask
from ovseg3d.viewer.shared_scene import SharedScene
from scripts.benchmarks.viewer_client import wait_until

MEETING = ("sofa", "thing 29")
"""Two phrases that would have one colour."""


def test_labels_have_lasting_colours_and_counts(shared: SharedScene) -> None:
    labelling = layers.make_labelling(shared, shared.scene.phrases)
    assert labelling.counts.sum() == len(shared.semantics.surface)
    floor = shared.scene.phrases.index("floor") + 1
    low = shared.semantics.surface.xyz[labelling.labels == floor]
    assert len(low) > 1000 and (np.abs(low[:, 2]) < 0.05).mean() > 0.9
    shown = layers.label_layer(labelling, 1.0).point_colours(shared)
    tint = colours(shared.scene.phrases)[floor].astype(float)
    seen = shown[labelling.labels == floor].astype(float)
    spread = seen / seen.max(1, keepdims=True) - tint / tint.max()
    assert np.abs(spread).max() < 0.05, "one hue, in the light of the image"
    assert "floor" in layers.label_html(labelling) and "<script" not in layers.label_html(
        layers.make_labelling(shared, ["<script>"])
    )


def test_labels_are_of_the_current_engine(shared: SharedScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One taken before the lock could be that of an earlier surface."""
    need, held = shared.need_engine, []

    def engine() -> QueryEngine:
        held.append(is_taken(shared.query_lock))
        return need()

    monkeypatch.setattr(shared, "need_engine", engine)
    layers.make_labelling(shared, shared.scene.phrases)
    assert held == [True]


def test_a_phrase_of_the_scene_has_one_colour_in_answers_and_labels(shared: SharedScene) -> None:
    shared.scene = replace(shared.scene, phrases=MEETING)
    tints = colours(MEETING)[1:]
    assert (colours(MEETING[1:])[1] == tints[0]).all(), "alone, the second has the first one's colour"
    np.testing.assert_array_equal(ask(shared, Question(MEETING[1:])).tints, tints[1:])
    np.testing.assert_array_equal(layers.make_labelling(shared, MEETING[::-1]).tints[1:], tints[::-1])


def test_the_image_and_the_points_agree(shared: SharedScene) -> None:
    camera = shared.scene.frames[3].camera.scaled(160, 120)
    job = shared.render(camera)
    rendered = job.rendered
    reply = ask(shared, Question(("sofa",)))
    layer = layers.answer_layer(reply.relevancies, reply.tints, 0.5, 1.0)
    image = layer.image(shared, job).astype(int)
    met = rendered["depth_z"] > 0
    origins, directions = camera.rays(camera.pixel_centres())
    along = rendered["depth_z"].ravel() / (directions @ camera.forward)
    hits = (origins + directions * along[:, None]).reshape(120, 160, 3)
    sofa = INSTANCES["blue sofa"]
    there = np.array([inside(row, sofa, 0.02) for row in hits.reshape(-1, 1, 3)]).reshape(120, 160) > 0
    length = np.linalg.norm(image, axis=-1) * np.linalg.norm(reply.tints[0].astype(float))
    coloured = (image @ reply.tints[0].astype(float)) / np.maximum(length, 1) > 0.998
    # Cushions are in the sofa's box, and no sofa.
    assert there.sum() > 300 and coloured[there & met].mean() > 0.7 and coloured[~there & met].mean() < 0.05
    plain = layers.plain_layer(layers.DEPTH).image(shared, job)
    assert plain.shape == (120, 160, 3)


def test_a_layer_of_an_earlier_surface_paints_nothing(shared: SharedScene) -> None:
    """The image may be drawn after a new surface was read and before the session has been told."""
    job = shared.render(shared.scene.frames[3].camera.scaled(40, 30))
    layer = layers.relevancy_layer(np.ones(len(shared.semantics.surface) + 1), 1.0)
    np.testing.assert_array_equal(layer.image(shared, job), layers.plain_layer(layers.COLOUR).image(shared, job))


def test_opacity_goes_from_the_field_to_the_layer(shared: SharedScene) -> None:
    job = shared.render(shared.scene.frames[3].camera.scaled(80, 60))
    reply = ask(shared, Question(("sofa",)))
    labelling = layers.make_labelling(shared, shared.scene.phrases)
    plain = layers.plain_layer(layers.COLOUR)
    for make in (
        lambda opacity: layers.answer_layer(reply.relevancies, reply.tints, 0.5, opacity),
        lambda opacity: layers.relevancy_layer(reply.relevancies[:, 0], opacity),
        lambda opacity: layers.label_layer(labelling, opacity),
        lambda opacity: layers.feature_layer(shared, opacity),
    ):
        none, half, full = (make(opacity) for opacity in (0.0, 0.5, 1.0))
        for seen in (lambda layer: layer.image(shared, job), lambda layer: layer.point_colours(shared)):
            clear, veiled, hidden = (seen(layer).astype(int) for layer in (none, half, full))
            np.testing.assert_array_equal(clear, seen(plain))
            assert np.abs(hidden - clear).mean() > 10, none.name
            assert np.abs(2 * veiled - clear - hidden).max() <= 2, "half way, but for rounding"


def test_the_opacity_slider_reaches_the_browsers_image(connect) -> None:
    bare, session = connect()
    shared = session.context.shared
    session.layers.layer.value = layers.LABELS
    job = shared.render(session.view.viewpoint.camera(1e9))
    field = layers.plain_layer(layers.COLOUR).image(shared, job).astype(int)
    labels = layers.label_layer(session.view.labelling, 1.0).image(shared, job).astype(int)

    def off(expected: np.ndarray) -> float:
        """How far the newest image is from what is expected, mean levels; JPEG is to blame for a few."""
        image = Image.open(io.BytesIO(bare.latest["BackgroundImageMessage"]["rgb_data"]))
        return float(np.abs(np.asarray(image.resize(expected.shape[1::-1])) - expected).mean())

    assert np.abs(labels - field).mean() > 20
    wait_until(lambda: bare.images() > 0, "an image")
    for opacity, expected in ((0.0, field), (1.0, labels), (0.5, (field + labels) / 2)):
        session.ask.display.opacity.value = opacity
        wait_until(lambda expected=expected: off(expected) < 5, f"an image with opacity {opacity}")
    assert session.context.messages == []
