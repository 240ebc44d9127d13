"""The feature field before any training; how it learns is tested with its stages."""

import torch

from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape

CPU = torch.device("cpu")
CONFIG = FeatureFieldConfig(levels=6, features=2, log2_table=12, max_resolution=64, hidden=32)


def test_an_untaught_field_says_the_scenes_mean():
    field = FeatureField(CONFIG, FieldShape(8), CPU)
    field.mean.copy_(torch.arange(8.0))
    assert (field.at(torch.rand(10, 3)) - torch.arange(8.0)).abs().max() < 1e-2


def test_each_head_has_its_own_width():
    field = FeatureField(CONFIG, FieldShape(8, 5, 3), CPU)
    x = torch.rand(7, 3)
    assert [field.at(x, head).shape for head in ("clip", "dino", "scales")] == [(7, 8), (7, 5), (7, 3)]
