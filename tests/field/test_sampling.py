"""Distances between the samples along rays."""

from dataclasses import replace

import torch
from tiny import small_settings

from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.kernels.backend import WarpBackend
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.sampling import RaySampler

CPU = torch.device("cpu")
CONFIG = replace(FieldConfig(**small_settings()["field"]), cone=0.1)


def test_a_spread_multiplies_near_and_far_distances() -> None:
    field = RadianceField(CONFIG, CPU)
    cells = CONFIG.occupancy_resolution
    occupancy = OccupancyGrid(torch.ones(1, cells, cells, cells, dtype=torch.bool), threshold=0.01)
    box = FieldBox(center=(0.0, 0.0, 0.0), radius=1.0, open=False, cascades=1, near=0.05)
    sampler = RaySampler(field, WarpBackend(field.levels, CPU), box, occupancy, CONFIG)
    origins, directions = torch.tensor([[-0.99, 0.1, 0.2]]), torch.tensor([[1.0, 0.0, 0.0]])
    for spread in (1.0, 2.0):
        samples = sampler.sample(origins, directions, quota=0.0, capacity=1000, spread=spread).samples
        start = samples.t - 0.5 * samples.step
        near, far = spread * CONFIG.step_size * 2.0 / cells, spread * CONFIG.cone * start
        assert (far < near).any() and (far > near).any()
        torch.testing.assert_close(samples.step, far.clamp(min=near))
        torch.testing.assert_close(samples.t.diff(), 0.5 * (samples.step[1:] + samples.step[:-1]))
