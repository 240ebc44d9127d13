"""Training of tables and networks: rates, Adam for dense gradients, scaled gradients, and the first values."""

import pytest
import torch

from ovseg3d.field.levels import GridLevels
from ovseg3d.field.networks import first_parameters
from ovseg3d.field.operators import AdamStep
from ovseg3d.field.optimizer import Schedule, adam, scale_gradient


def test_rates_rise_linearly_and_fall_exponentially() -> None:
    schedule = Schedule({"table": 0.1, "network": 0.02}, decay=0.01, warmup=10)
    assert [schedule.at("table", step, 0.0).rate for step in (0, 4, 9, 50)] == pytest.approx([0.01, 0.05, 0.1, 0.1])
    assert [schedule.at("network", 50, share).rate for share in (0.5, 1.0)] == pytest.approx([0.002, 0.0002])
    assert schedule.at("table", 0, 0.0).step == 1, "Adam counts from 1"


def test_adam_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(50, generator=generator, dtype=torch.float64)
    other = own.clone().requires_grad_()
    mean, square = torch.zeros_like(own), torch.zeros_like(own)
    reference = torch.optim.Adam([other], lr=0.1, betas=(0.9, 0.99), eps=1e-15)
    for step in range(1, 6):
        grad = torch.randn(50, generator=generator, dtype=torch.float64)
        other.grad = grad.clone()
        reference.step()
        adam(own, grad, mean, square, AdamStep(0.1, step))
    torch.testing.assert_close(own, other.detach())


def test_scaled_gradients_leave_the_values() -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    scaled = scale_gradient(x, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(scaled, x)
    assert torch.autograd.grad(scaled.square().sum(), x)[0].tolist() == [0.0, 2.0, 6.0]


def test_first_values_fill_their_ranges() -> None:
    """Of layers: the uniform distribution whose variance is 2 / (inputs + outputs)."""
    shapes = [(32, 64), (64, 16)]
    table, network = first_parameters(GridLevels.build(4, 2, 12, 4, 32), shapes, seed=0)
    assert 0.99e-4 < table.max() <= 1e-4 and -1e-4 <= table.min() < -0.99e-4
    for layer, (inputs, outputs) in zip(network.split([a * b for a, b in shapes]), shapes):
        assert layer.var().item() == pytest.approx(2 / (inputs + outputs), rel=0.1)
        assert layer.abs().max().item() == pytest.approx((6 / (inputs + outputs)) ** 0.5, rel=0.01)
    again, other = (first_parameters(GridLevels.build(4, 2, 12, 4, 32), shapes, seed=seed)[1] for seed in (0, 1))
    assert torch.equal(network, again) and not torch.equal(network, other)
