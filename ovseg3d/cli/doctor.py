"""`ovseg3d doctor`: what this machine can run, and why other options are unavailable."""

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovseg3d.cli.flags import Json

PACKAGES = (
    "torch", "warp-lang", "numpy", "pillow", "pycolmap", "safetensors", "trimesh", "tyro", "rich",
    "imageio-ffmpeg", "open_clip_torch", "transformers", "scikit-image", "tensorboard", "tinycudann", "nerfacc",
)  # fmt: skip
_UNTESTED = "untested: nobody has run it"


@dataclass(frozen=True)
class Doctor:
    """Report what this machine can run: device, backends and why each is on or off, versions, free memory, caches.

    Example: ovseg3d doctor --json
    """

    json: Json = False
    clear_cache: bool = False
    """Delete the cached photo features and nothing else. They are recomputed when needed."""
    cache_dir: Path | None = None
    """The feature cache; by default OVSEG3D_CACHE_DIR, else the system's cache folder."""

    def main(self) -> None:
        """Examine the machine and report."""
        from ovseg3d.cli.console import format_bytes, get_console, print_json
        from ovseg3d.features.cache import FeatureCache

        cache = FeatureCache.at(self.cache_dir)
        if self.clear_cache:
            freed = cache.clear()
            if self.json:
                print_json({"cleared": cache.folder, "files": freed.files, "freed_bytes": freed.bytes})
            else:
                text = f"{format_bytes(freed.bytes)} freed: {freed.files} files of {cache.folder}"
                get_console().print(text, markup=False, soft_wrap=True)
            return
        found = examine(self.cache_dir)
        if self.json:
            print_json(found)
        else:
            _draw(get_console(), found)


def examine(cache_dir: Path | None = None) -> dict[str, Any]:
    """The whole report, as plain values."""
    from ovseg3d import __version__
    from ovseg3d.features.cache import installed_version
    from ovseg3d.limits import free_memory
    from ovseg3d.runs.devices import backend_status, cuda_status, resolve_device

    cuda = cuda_status()
    device = resolve_device("auto")
    backends = [asdict(status) for status in backend_status(device)]
    for backend in backends:
        # tcnn is marked as untested even where it is off, before anybody installs its packages.
        if backend["name"] == "tcnn":
            backend["why"] += f" ({_UNTESTED})"
    return {
        "ovseg3d": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "system_tested": platform.system() == "Linux",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "cuda": {"on": cuda.on, "why": cuda.why},
        "backends": backends,
        "packages": {name: installed_version(name) for name in PACKAGES},
        "ffmpeg": _ffmpeg(),
        "memory_free_bytes": free_memory(),
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        "kernel_cache": _kernel_cache(),
        "feature_cache": _feature_cache(cache_dir),
    }


def _ffmpeg() -> str | None:
    """Path of the ffmpeg that writes MP4 files, or None."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None


def _kernel_cache() -> dict[str, Any]:
    """Folder and size of Warp's kernel cache. An empty one costs the first run some seconds."""
    if importlib.util.find_spec("warp") is None:
        return {"folder": None, "writable": False, "modules": 0}
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):  # Warp prints a banner on stdout
        import warp

        warp.config.quiet = True  # pyright: ignore[reportAttributeAccessIssue]
        warp.init()
    folder = Path(str(warp.config.kernel_cache_dir))
    modules = sum(1 for _ in folder.glob("wp_*")) if folder.is_dir() else 0
    parent = next(part for part in (folder, *folder.parents) if part.exists())
    return {"folder": str(folder), "writable": os.access(parent, os.W_OK), "modules": modules}


def _feature_cache(folder: Path | None) -> dict[str, Any]:
    """Folder and size of the feature cache."""
    from ovseg3d.features.cache import FeatureCache

    cache = FeatureCache.at(folder)
    size = cache.size()
    return {
        "folder": str(cache.folder),
        "writable": cache.writable(),
        "files": size.files,
        "bytes": size.bytes,
    }


def _draw(console: Any, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ovseg3d.cli.console import format_bytes

    def state_of(part: dict[str, Any]) -> Text:
        return Text.assemble(("on   ", "green") if part["on"] else "off  ", part["why"])

    def size(count: int | None) -> str:
        return "unknown" if count is None else format_bytes(count)

    table = Table.grid(padding=(0, 2))
    system = found["system"] + ("" if found["system_tested"] else ", untested: only Linux is tested")
    table.add_row("ovseg3d", f"{found['ovseg3d']}, Python {found['python']}, {system}")
    table.add_row("device", Text.assemble((found["device"], "bold"), f", {found['cores']} cores"))
    table.add_row("GPU", state_of(found["cuda"]))
    for backend in found["backends"]:
        table.add_row(f"backend {backend['name']}", state_of(backend))
    cache = found["kernel_cache"]
    state = (
        f"{cache['modules']} compiled modules" if cache["modules"] else "empty: the first run compiles for some seconds"
    )
    writable = "" if cache["writable"] else "; not writable: a temporary one is used"
    table.add_row("kernel cache", f"{cache['folder']} ({state}{writable})")
    features = found["feature_cache"]
    state = f"{features['files']} files, {size(features['bytes'])}" if features["files"] else "empty"
    writable = "" if features["writable"] else "; not writable: choose another one with --cache-dir"
    table.add_row("feature cache", f"{features['folder']} ({state}{writable})")
    table.add_row("memory free", size(found["memory_free_bytes"]))
    table.add_row("disk free here", size(found["disk_free_bytes"]))
    table.add_row("MP4 output", "on" if found["ffmpeg"] else "off: pip install imageio-ffmpeg")
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in found["packages"].items())
    table.add_row("packages", versions)
    console.print(table, markup=False)
