"""The HTML page: it contains the cloud, and loads nothing from elsewhere."""

import base64
import json
import re
from pathlib import Path

import numpy as np
from shapes import COLOURS, PHRASES, in_world, sphere_cloud

from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.page import NO_LABEL, ROW, save_page


def read(path: Path) -> tuple[str, dict, np.ndarray]:
    """The page, its facts and its points."""
    page = path.read_text(encoding="utf-8")
    meta = re.search(r'<script type="application/json" id="meta">(.*?)</script>', page, re.S)
    data = re.search(r'<script type="text/plain" id="data">(.*?)</script>', page, re.S)
    return page, json.loads(meta[1]), np.frombuffer(base64.b64decode(data[1]), ROW)


def unfolded(normal: np.ndarray) -> np.ndarray:
    """Octahedral bytes as unit vectors, as the page's shader has it."""
    flat = normal / 127.0 - 1
    z = 1 - np.abs(flat).sum(1)
    sign = np.where(flat >= 0, 1, -1)
    flat = np.where(z[:, None] < 0, (1 - np.abs(flat[:, ::-1])) * sign, flat)
    made = np.concatenate([flat, z[:, None]], 1)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def check(path: Path, cloud: LabelledCloud) -> None:
    _, meta, rows = read(path)
    xyz = np.array(meta["low"]) + rows["xyz"] * np.array(meta["step"])
    assert len(rows) == meta["count"] == len(cloud)
    # The order has no meaning: each row is the point that it lies on.
    from scipy.spatial import cKDTree

    apart, near = cKDTree(cloud.surface.xyz).query(xyz)
    assert apart.max() < 2e-5 * np.ptp(cloud.surface.xyz) and len(set(near.tolist())) == len(cloud)
    np.testing.assert_array_equal(rows["label"], cloud.label[near])
    np.testing.assert_array_equal(rows["instance"], cloud.instance[near])
    np.testing.assert_array_equal(rows["rgb"], cloud.surface.rgb[near])
    assert (unfolded(rows["normal"]) * cloud.surface.normal[near]).sum(1).min() > np.cos(np.radians(1.5))


def test_points_come_back(tmp_path: Path) -> None:
    for name, cloud in (("input", sphere_cloud()), ("world", in_world(sphere_cloud()))):
        save_page(tmp_path / f"{name}.html", cloud)
        check(tmp_path / f"{name}.html", cloud)
        meta = read(tmp_path / f"{name}.html")[1]
        assert meta["frame"] == name
        np.testing.assert_allclose(np.array(meta["upright"]) @ cloud.surface.up, [0, 1, 0], atol=1e-9)


def test_labels_and_instances_are_read_back_and_text_is_escaped(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    save_page(tmp_path / "page.html", cloud)
    page, meta, _ = read(tmp_path / "page.html")
    assert [label["phrase"] for label in meta["labels"]] == [None, *PHRASES]
    assert [label["points"] for label in meta["labels"]] == [0, 2000, 0, 2000]
    assert [label["colour"] for label in meta["labels"]] == [list(NO_LABEL), *COLOURS[1:].tolist()]
    assert [(instance["id"], instance["label"]) for instance in meta["instances"]] == [(4, 1)]
    assert page.count("</script>") == page.count("<script") == 3, "the phrase that closes a script closes none"
    assert "<b>" not in page.replace('.appendChild(document.createElement("b"))', "")


def test_nothing_is_fetched(tmp_path: Path) -> None:
    save_page(tmp_path / "page.html", sphere_cloud())
    page = read(tmp_path / "page.html")[0]
    page = re.sub(r'(id="data">)[^<]*', r"\1", page)
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:https?:)?//[a-z]|\bsrc=|\bhref=|@import|\bimport\b|fetch\(|XMLHttp", page)


def test_nothing_no_phrases_and_one_point_are_pages_too(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    save_page(tmp_path / "nothing.html", cloud.take(cloud.label == 2))
    _, meta, rows = read(tmp_path / "nothing.html")
    assert meta["count"] == len(rows) == 0 and not meta["instances"]
    save_page(tmp_path / "plain.html", sphere_cloud(phrases=()))
    assert read(tmp_path / "plain.html")[1]["labels"] == [{"phrase": None, "colour": list(NO_LABEL), "points": 4000}]
    save_page(tmp_path / "one.html", cloud.take(np.array([5])))
    check(tmp_path / "one.html", cloud.take(np.array([5])))


def test_of_small_clumps_the_largest_are_no_strays(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    order = np.argsort(cloud.surface.xyz[:, 2])
    save_page(tmp_path / "page.html", cloud.take(np.concatenate([order[:15], order[-16:]])))
    assert read(tmp_path / "page.html")[1]["steady"] == 16


def test_what_is_put_in_is_not_searched_again(tmp_path: Path) -> None:
    from dataclasses import replace

    save_page(tmp_path / "page.html", replace(sphere_cloud(), name="__DATA__ <i>"))
    page, meta, _ = read(tmp_path / "page.html")
    assert meta["scene"] == "__DATA__ <i>" and "<title>__DATA__ &lt;i&gt;, by ovseg3d</title>" in page
