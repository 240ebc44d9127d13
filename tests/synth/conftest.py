"""One tiny playroom for all tests of the synthetic world, with coarse light: seconds, not a minute."""

from pathlib import Path

import pytest

from ovseg3d.synth import Views, synthesise
from ovseg3d.synth.render import DRAFT

TINY = Views(train=6, test=4, width=48, height=36, depth="all")


@pytest.fixture(scope="session")
def playroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written scene folder."""
    out = tmp_path_factory.mktemp("synth") / "playroom"
    synthesise(out, room="playroom", views=TINY, detail=DRAFT)
    return out
