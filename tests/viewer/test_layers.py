"""What the picture and the points show, layer by layer, without a browser: on playroom."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playroom import THINGS, inside, is_taken

from ovseg3d.query.engine import Asker
from ovseg3d.render.palette import colours
from ovseg3d.viewer import layers
from ovseg3d.viewer.ask import Question, ask
from ovseg3d.viewer.exhibit import Exhibit
from scripts.benchmarks.viewer_client import wait_until

MEETING = ("sofa", "thing 29")
"""Two phrases that would have one colour."""


def test_labels_have_lasting_colours_and_counts(exhibit: Exhibit) -> None:
    labelling = layers.make_labelling(exhibit, exhibit.scene.phrases)
    assert labelling.counts.sum() == len(exhibit.semantics.surface)
    floor = exhibit.scene.phrases.index("floor") + 1
    low = exhibit.semantics.surface.xyz[labelling.labels == floor]
    assert len(low) > 1000 and (np.abs(low[:, 2]) < 0.05).all()
    shown = layers.label_layer(labelling, 1.0).point_colours(exhibit)
    tint = colours(exhibit.scene.phrases)[floor].astype(float)
    seen = shown[labelling.labels == floor].astype(float)
    spread = seen / seen.max(1, keepdims=True) - tint / tint.max()
    assert np.abs(spread).max() < 0.05, "one hue, in the light of the picture"
    assert "floor" in layers.label_html(labelling) and "<script" not in layers.label_html(
        layers.make_labelling(exhibit, ["<script>"])
    )


def test_labels_are_of_the_asker_of_the_moment(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    """One taken before the lock could be that of an earlier surface."""
    need, held = exhibit.need_asker, []

    def asker() -> Asker:
        held.append(is_taken(exhibit.asking))
        return need()

    monkeypatch.setattr(exhibit, "need_asker", asker)
    layers.make_labelling(exhibit, exhibit.scene.phrases)
    assert held == [True]


def test_a_phrase_of_the_scene_has_one_colour_in_answers_and_labels(exhibit: Exhibit) -> None:
    exhibit.scene = replace(exhibit.scene, phrases=MEETING)
    tints = colours(MEETING)[1:]
    assert (colours(MEETING[1:])[1] == tints[0]).all(), "alone, the second has the first one's colour"
    np.testing.assert_array_equal(ask(exhibit, Question(MEETING[1:])).tints, tints[1:])
    np.testing.assert_array_equal(layers.make_labelling(exhibit, MEETING[::-1]).tints[1:], tints[::-1])


def test_the_picture_and_the_points_agree(exhibit: Exhibit) -> None:
    camera = exhibit.scene.frames[3].camera.scaled(160, 120)
    sheet = exhibit.render(camera)
    rendered = sheet.rendered
    reply = ask(exhibit, Question(("sofa",)))
    layer = layers.answer_layer(reply.relevancies, reply.tints, 0.5, 1.0)
    picture = layer.picture(exhibit, sheet).astype(int)
    met = rendered["depth_z"] > 0
    origins, directions = camera.rays(camera.pixel_centres())
    along = rendered["depth_z"].ravel() / (directions @ camera.forward)
    hits = (origins + directions * along[:, None]).reshape(120, 160, 3)
    sofa = THINGS["blue sofa"]
    there = np.array([inside(row, sofa, 0.02) for row in hits.reshape(-1, 1, 3)]).reshape(120, 160) > 0
    length = np.linalg.norm(picture, axis=-1) * np.linalg.norm(reply.tints[0].astype(float))
    coloured = (picture @ reply.tints[0].astype(float)) / np.maximum(length, 1) > 0.998
    # Cushions are in the sofa's box, and no sofa.
    assert there.sum() > 300 and coloured[there & met].mean() > 0.7 and coloured[~there & met].mean() < 0.05
    plain = layers.plain_layer(layers.DEPTH).picture(exhibit, sheet)
    assert plain.shape == (120, 160, 3)


def test_a_layer_of_an_earlier_surface_paints_nothing(exhibit: Exhibit) -> None:
    """The picture may be drawn after a new surface was read and before the visitor has been told."""
    sheet = exhibit.render(exhibit.scene.frames[3].camera.scaled(40, 30))
    layer = layers.relevancy_layer(np.ones(len(exhibit.semantics.surface) + 1), 1.0)
    np.testing.assert_array_equal(
        layer.picture(exhibit, sheet), layers.plain_layer(layers.COLOUR).picture(exhibit, sheet)
    )


def test_opacity_goes_from_the_field_to_the_layer(exhibit: Exhibit) -> None:
    sheet = exhibit.render(exhibit.scene.frames[3].camera.scaled(80, 60))
    reply = ask(exhibit, Question(("sofa",)))
    labelling = layers.make_labelling(exhibit, exhibit.scene.phrases)
    plain = layers.plain_layer(layers.COLOUR)
    for make in (
        lambda opacity: layers.answer_layer(reply.relevancies, reply.tints, 0.5, opacity),
        lambda opacity: layers.relevancy_layer(reply.relevancies[:, 0], opacity),
        lambda opacity: layers.label_layer(labelling, opacity),
        lambda opacity: layers.feature_layer(exhibit, opacity),
    ):
        none, half, full = (make(opacity) for opacity in (0.0, 0.5, 1.0))
        for seen in (lambda layer: layer.picture(exhibit, sheet), lambda layer: layer.point_colours(exhibit)):
            clear, veiled, hidden = (seen(layer).astype(int) for layer in (none, half, full))
            np.testing.assert_array_equal(clear, seen(plain))
            assert np.abs(hidden - clear).mean() > 10, none.name
            assert np.abs(2 * veiled - clear - hidden).max() <= 2, "half way, but for rounding"


def test_the_opacity_slider_reaches_the_browsers_picture(visit) -> None:
    bare, visitor = visit()
    exhibit, panel = visitor.exhibit, visitor.panel
    panel.layer.value = layers.LABELS
    sheet = exhibit.render(visitor.pictures.viewpoint.camera(1e9))
    field = layers.plain_layer(layers.COLOUR).picture(exhibit, sheet).astype(int)
    labels = layers.label_layer(visitor.pictures.labelling, 1.0).picture(exhibit, sheet).astype(int)

    def off(expected: np.ndarray) -> float:
        """How far the newest picture is from what is expected, mean levels; JPEG is to blame for a few."""
        picture = Image.open(io.BytesIO(bare.latest["BackgroundImageMessage"]["rgb_data"]))
        return float(np.abs(np.asarray(picture.resize(expected.shape[1::-1])) - expected).mean())

    assert np.abs(labels - field).mean() > 20
    wait_until(lambda: bare.pictures() > 0, "a picture")
    for opacity, expected in ((0.0, field), (1.0, labels), (0.5, (field + labels) / 2)):
        panel.opacity.value = opacity
        wait_until(lambda expected=expected: off(expected) < 5, f"a picture with opacity {opacity}")
    assert visitor.messages == []
