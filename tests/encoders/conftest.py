"""A tiny architecture that open_clip knows, with weights."""

from pathlib import Path

import pytest
import torch
from tiny_models import add_architecture, clip_config, random_clip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration and the weights of an architecture that open_clip knows as `tiny-named`."""
    folder = tmp_path_factory.mktemp("named")
    model = random_clip(add_architecture(folder, "tiny-named", clip_config()))
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder
