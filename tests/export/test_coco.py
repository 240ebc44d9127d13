"""COCO annotations: decoded by hand, they equal the label images."""

from dataclasses import replace

import numpy as np

from ovseg3d.export.coco import annotations_of, coco, run_lengths
from ovseg3d.instances.records import Instance


def decoded(segmentation: dict) -> np.ndarray:
    """COCO's uncompressed run lengths, as its format says: 0s first, column by column."""
    values = np.repeat(np.arange(len(segmentation["counts"])) % 2, segmentation["counts"])
    h, w = segmentation["size"]
    return values.reshape(w, h).T.astype(bool)


def test_run_lengths_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    # Column by column: 00 11 10.
    assert run_lengths(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert run_lengths(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert run_lengths(np.zeros((2, 2), bool))["counts"] == [4] and run_lengths(np.ones((2, 2), bool))["counts"] == [
        0,
        4,
    ]


def test_masks_come_back() -> None:
    masks = np.random.default_rng(1).random((20, 13, 7)) < 0.4
    for mask in masks:
        np.testing.assert_array_equal(decoded(run_lengths(mask)), mask)


def test_instances_and_other_labels_of_a_view() -> None:
    label = np.array([[1, 1, 2, 0], [1, 3, 2, 0], [1, 3, 3, 0]])
    instance = np.array([[0, 0, 7, 7], [0, 9, 7, 7], [5, 9, 9, 0]])
    found = annotations_of(1, label, instance, {7: 2, 9: 3, 5: 0})
    assert [(a["category_id"], a["iscrowd"], a.get("instance_id")) for a in found] == [
        (2, 0, 7),
        (3, 0, 9),
        (1, 1, None),
    ]
    np.testing.assert_array_equal(decoded(found[0]["segmentation"]), instance == 7)
    np.testing.assert_array_equal(decoded(found[2]["segmentation"]), label == 1)
    assert found[0]["bbox"] == [2, 0, 2, 2] and found[0]["area"] == 4 and found[1]["bbox"] == [1, 1, 2, 2]
    assert annotations_of(1, np.zeros((2, 2), int), np.zeros((2, 2), int), {}) == []


def test_the_whole_file() -> None:
    made = coco([{"id": 1, "file_name": "a.png", "width": 4, "height": 3}], [{"image_id": 1}], ("椅子",), "room")
    assert made["categories"] == [{"id": 1, "name": "椅子"}] and made["annotations"] == [{"id": 1, "image_id": 1}]


def test_instances_have_their_box_and_pose_in_a_stated_frame() -> None:
    pose = {"rotation_wxyz": [0.0, 0.0, 0.0, 1.0], "front": [0.0, 1.0, 0.0], "symmetry_order": 1, "score": 0.9}
    chair = Instance(
        7, "chair", 1.0, (1.0, 2.0, 0.5), (0.5, 0.6, 1.0), (0.0, 0.0, 0.0, 1.0), np.pi, "input", 99, None, pose
    )
    shelf = replace(chair, id=8, pose=None)
    annotations = [{"instance_id": 7, "iscrowd": 0}, {"iscrowd": 1}, {"instance_id": 8, "iscrowd": 0}]
    made = coco([], annotations, ("chair",), "room", [chair, shelf], 1.0)
    assert made["info"]["frame"] == "input" and made["info"]["metric"] is True
    posed, crowd, boxed = made["annotations"]
    record = chair.record()
    assert posed == {"id": 1, **annotations[0], "pose": pose} | {
        key: record[key] for key in ("center", "size", "rotation_wxyz", "yaw_rad")
    }
    assert crowd == {"id": 2, "iscrowd": 1} and boxed["pose"] is None and boxed["rotation_wxyz"] == [0, 0, 0, 1]
