"""What the project is made with. Not in the wheel: run from the repository's root with `python -m scripts.PART.NAME`.

`training` makes every weight that ships, `benchmarks` every table and figure; `examples` shows the Python API.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
