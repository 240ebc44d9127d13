"""Scripts outside the wheel. Run them from the repository's root with `python -m scripts.PART.NAME`.

`training` makes all shipped weights, `benchmarks` all tables and figures; `examples` shows the Python API.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
