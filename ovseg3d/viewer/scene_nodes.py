"""The nodes of one browser's 3D view: points, cameras, highlights, boxes, names, arrows.

Every browser has its own nodes (`client.scene`), so sessions do not affect each other. Nodes are replaced as a whole;
an existing node of the same name is removed first.
"""

from collections.abc import Callable, Sequence

import numpy as np
import viser
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from ovseg3d.geometry.rotations import from_wxyz, to_wxyz
from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose import likely_front
from ovseg3d.instances.records import Instance
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.viewpoint import vertical_fov

MAX_POINTS = 1_000_000
"""More points make a browser slow; then only every second, third, ... is shown."""
MAX_CAMERAS = 300
CAMERA_SIZE = 0.035
"""Size of a camera, as a share of `SharedScene.extent`."""
ARROW_SHARE = 0.5
"""Length of an arrow, as a share of the mean of a box's sides."""
_EDGES = np.array([(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit])


class SceneNodes:
    """One browser's nodes."""

    def __init__(self, client: viser.ClientHandle, shared: SharedScene) -> None:
        self._client, self._shared = client, shared
        self._points: viser.PointCloudHandle | None = None
        self._points_of: object = None
        """The semantics whose surface the points are."""
        self._stride = 1
        self._colours: np.ndarray | None = None
        """Current colours of the points."""
        self._point_size: tuple[object, float] | None = None
        self._cameras: list[viser.CameraFrustumHandle] = []
        self._groups: dict[str, Sequence[viser.SceneNodeHandle]] = {}
        self.highlighted = 0
        """Number of highlighted points."""

    # -- points --------------------------------------------------------------------------------------------------

    def show_points(self, colours: UInt8[np.ndarray, "points 3"], visible: bool) -> None:
        """Show or hide the point cloud, in these colours; it is sent to the browser when first visible."""
        if self._points is None and not visible:
            return
        semantics, (xyz, _) = self._shared.semantics, self._shared.cloud
        # Colours of another length belong to a surface that has just been replaced.
        if not len(xyz) or len(colours) != len(xyz):
            return
        if self._points is None or self._points_of is not semantics:
            self._points_of = semantics
            self._stride = -(-len(xyz) // MAX_POINTS)
            self._points = self._client.scene.add_point_cloud(
                "/points", xyz[:: self._stride].astype(np.float32), colours[:: self._stride],
                point_size=self.point_size(), precision="float32", point_shape="circle", point_shading="flat",
            )  # fmt: skip
            self._colours = colours
        elif visible and colours is not self._colours:
            self._points.colors = colours[:: self._stride]
            self._colours = colours
        self._points.visible = visible

    def point_size(self) -> float:
        """Size at which points form a closed surface, input units."""
        semantics = self._shared.semantics
        if semantics is None:
            return self._shared.extent * 0.004
        if self._point_size is None or self._point_size[0] is not semantics:
            self._point_size = semantics, float(np.median(semantics.surface.cell)) * 0.5
        return self._point_size[1]

    # -- cameras -------------------------------------------------------------------------------------------------

    def show_cameras(self, visible: bool, eye: Float[np.ndarray, "3"] | None, clicked: Callable[[int], None]) -> None:
        """Show or hide the photos' cameras; they are sent to the browser when first visible.

        Args:
            visible: whether cameras are shown.
            eye: the user's position; cameras close to it are hidden, since they would fill the view.
            clicked: called with the number of the frame.
        """
        if not self._cameras and visible:
            frames = self._shared.scene.frames
            step = -(-len(frames) // MAX_CAMERAS)
            for number in range(0, len(frames), step):
                self._cameras.append(self._frustum(number, clicked))
        for camera in self._cameras:
            far = eye is None or float(np.linalg.norm(camera.position - eye)) > 6 * CAMERA_SIZE * self._shared.extent
            if camera.visible != (visible and far):
                camera.visible = visible and far

    def _frustum(self, number: int, clicked: Callable[[int], None]) -> viser.CameraFrustumHandle:
        frame = self._shared.scene.frames[number]
        held_out = number in self._shared.scene.test
        frustum = self._client.scene.add_camera_frustum(
            f"/cameras/{number}", vertical_fov(frame.camera), frame.camera.width / frame.camera.height,
            scale=self._shared.extent * CAMERA_SIZE, thickness=1.5, thickness_units="screen",
            color=(232, 89, 12) if held_out else (28, 126, 214), image=self._shared.thumbnail(number), jpeg_quality=75,
            wxyz=to_wxyz(Rotation.from_matrix(frame.camera.c2w[:3, :3])), position=frame.camera.position,
            cast_shadow=False, receive_shadow=False,
        )  # fmt: skip
        frustum.on_click(lambda _: clicked(number))
        return frustum

    # -- answers -------------------------------------------------------------------------------------------------

    def highlight(self, xyz: Float[np.ndarray, "found 3"], tints: UInt8[np.ndarray, "found 3"]) -> None:
        """Highlight surface points; empty: remove the highlight."""
        self.clear("highlight")
        self.highlighted = len(xyz)
        if len(xyz):
            handle = self._client.scene.add_point_cloud(
                "/highlight", xyz.astype(np.float32), tints, point_size=self.point_size(), precision="float32",
                point_shape="circle", point_shading="flat",
            )  # fmt: skip
            self._groups["highlight"] = [handle]

    def tint_highlight(self, tints: UInt8[np.ndarray, "found 3"]) -> None:
        """Change the colours of the highlighted points."""
        for handle in self._groups.get("highlight", ()):
            if isinstance(handle, viser.PointCloudHandle):
                handle.colors = tints

    def boxes(
        self, group: str, instances: Sequence[Instance | Detection], tints: UInt8[np.ndarray, "instances 3"]
    ) -> None:
        """Replace the group's boxes and arrows: a wire box around each instance or detection, and an arrow out of the
        middle of its front side where the front is known."""
        for kind in ("boxes", "arrows"):
            self.clear(f"{group}-{kind}")
        lines, shades = [], []
        for instance, tint in zip(instances, tints):
            lines.append(box_corners(instance)[_EDGES])
            shades.append(np.broadcast_to(tint, (len(_EDGES), 2, 3)))
        if lines:
            handle = self._client.scene.add_line_segments(
                f"/{group}-boxes", np.concatenate(lines).astype(np.float32), np.concatenate(shades).astype(np.uint8),
                thickness=3.0, thickness_units="screen",
            )  # fmt: skip
            self._groups[f"{group}-boxes"] = [handle]
        known = [(arrow, tint) for one, tint in zip(instances, tints) if (arrow := front_arrow(one)) is not None]
        if known:
            arrows = np.stack([arrow for arrow, _ in known])
            length = float(np.median(np.linalg.norm(arrows[:, 1] - arrows[:, 0], axis=1)))
            handle = self._client.scene.add_arrows(
                f"/{group}-arrows", arrows.astype(np.float32), np.stack([tint for _, tint in known]),
                shaft_radius=0.03 * length, head_radius=0.1 * length, head_length=0.3 * length,
            )  # fmt: skip
            self._groups[f"{group}-arrows"] = [handle]

    def names(self, group: str, positions: Sequence[Float[np.ndarray, "3"]], texts: Sequence[str]) -> None:
        """Replace the group's names by texts at positions of the input frame."""
        self.clear(f"{group}-names")
        self._groups[f"{group}-names"] = [
            self._client.scene.add_label(
                f"/{group}-names/{i}", text, position=np.asarray(position, np.float64), anchor="bottom-center"
            )
            for i, (position, text) in enumerate(zip(positions, texts))
        ]

    def show(self, group: str, visible: bool) -> None:
        """Show or hide a group."""
        for handle in self._groups.get(group, ()):
            handle.visible = visible

    def clear(self, group: str) -> None:
        """Remove a group."""
        for handle in self._groups.pop(group, ()):
            handle.remove()


def box_corners(instance: Instance | Detection) -> Float[np.ndarray, "8 3"]:
    """The corners of a box; corner i has + along axis k where bit k of i is set."""
    signs = np.array([[1 if i >> axis & 1 else -1 for axis in range(3)] for i in range(8)])
    rotation = from_wxyz(instance.rotation_wxyz)
    return rotation.apply(signs * np.array(instance.size) / 2) + np.array(instance.center)


def front_arrow(boxed: Instance | Detection) -> Float[np.ndarray, "2 3"] | None:
    """Where an arrow begins, in the middle of the front side of a box, and where it ends; None: no likely front."""
    known = likely_front(boxed) if isinstance(boxed, Detection) else None if boxed.pose is None else boxed.pose["front"]
    if known is None:
        return None
    front = np.array(known)
    start = np.array(boxed.center) + front * boxed.size[1] / 2  # the front is -y of the box
    return np.stack([start, start + front * ARROW_SHARE * float(np.mean(boxed.size))])


def top_of(instance: Instance | Detection, up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """A position slightly above a box."""
    heights = (box_corners(instance) - np.array(instance.center)) @ up
    return np.array(instance.center) + up * float(heights.max()) * 1.05
