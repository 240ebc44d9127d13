"""Warp is started once, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import warp as wp

from ovseg3d.start_warp import start_warp

start_warp()
start_warp()
print(wp.config.kernel_cache_dir, wp.config.enable_backward)
"""


def test_a_home_that_cannot_be_written_to_costs_only_the_cache(tmp_path: Path) -> None:
    """And nothing is said, and kernels of others keep their gradients."""
    (tmp_path / "home").write_text("")
    place = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    environment = {key: value for key, value in os.environ.items() if key != "WARP_CACHE_PATH"} | place
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    folder, backward = done.stdout.split()
    assert folder.startswith(f"{tmp_path}{os.sep}ovseg3d-warp-") and backward == "True" and done.stderr == ""
