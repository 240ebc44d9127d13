"""Constants of the decision path, counted in source text."""

from pathlib import Path

import ovseg3d
from scripts.benchmarks.code_figures import DECISION_PATH, _constants

SOURCE = '''
SHARE, COUNT = 0.7, 16
"""3 is no constant in a sentence."""

def f(x, most=4):
    made = np.zeros((5, 3)).reshape(-1, 3)
    return x[7] * 0.5 + x.sum(axis=3) + max(x, 1e-9) + 2 * x - 1
'''


def test_numbers_that_decide_are_counted() -> None:
    assert sorted(_constants(SOURCE)) == [0.5, 0.7, 4, 16]


def test_the_decision_path_names_modules_that_exist() -> None:
    package = Path(ovseg3d.__file__).parent
    missing = [f"{part}/{name}" for part, names in DECISION_PATH.items() for name in names
               if not (package / part / f"{name}.py").is_file()]  # fmt: skip
    assert not missing
