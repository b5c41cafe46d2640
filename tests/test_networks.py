import dataclasses
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from ddpm.networks import MLP, NETWORKS, MLPConfig, UNet, UNetConfig

SMALL = {"channels": (8, 16), "blocks": (1, 1), "embedding": 16}
CONFIGS = [
    MLPConfig(shape=(1,), scale=4.0, width=16, depth=1),
    MLPConfig(shape=(2,), width=16, depth=2, num_classes=3),
    UNetConfig(shape=(1, 28, 28), num_classes=2, channels=(8, 16, 32), blocks=(1, 2, 1), embedding=16),
    UNetConfig(shape=(3, 32, 32), num_classes=2, dropout=0.5, **SMALL),
    UNetConfig(shape=(1, 12, 4), num_classes=0, channels=(8, 40, 72), blocks=(1, 1, 1), attention=2, embedding=16),
    UNetConfig(shape=(1, 4, 4), num_classes=0, channels=(104,), blocks=(1,), embedding=16),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{type(c).__name__}{c.shape}")


def build(config) -> torch.nn.Module:
    """The config's network in evaluation mode, its weights drawn at random: fresh ones answer 0 to everything."""
    (module,) = (module for config_class, module in NETWORKS.values() if isinstance(config, config_class))
    network, generator = module(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return network.eval().requires_grad_(False)


def inputs(config, count: int = 3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, *config.shape, generator=generator)
    return x, torch.linspace(-10, 10, count), torch.arange(count) % (config.num_classes + 1)


@every_config
def test_the_answer_has_the_shape_of_the_input(config):
    x, log_snr, label = inputs(config)
    assert build(config)(x, log_snr, label).shape == x.shape


@every_config
def test_a_fresh_network_answers_0(config):
    x, log_snr, label = inputs(config)
    network = UNet(config) if isinstance(config, UNetConfig) else MLP(config)
    assert_close(network(x, log_snr, label), torch.zeros_like(x))


@every_config
def test_a_row_is_answered_the_same_alone_and_in_a_batch(config):
    network, batch = build(config), inputs(config)
    alone = [network(*(value[row : row + 1] for value in batch)) for row in range(len(batch[0]))]
    assert_close(network(*batch), torch.cat(alone), atol=1e-5, rtol=1e-5)


@every_config
@pytest.mark.parametrize(("edge", "beyond"), [(12.0, 30.0), (12.0, float("inf")), (-12.0, -12.5), (-12.0, -100.0)])
def test_a_level_outside_the_range_is_answered_like_the_range_end(config, edge, beyond):
    network, (x, log_snr, label) = build(config), inputs(config)
    at_edge, outside = (network(x, torch.full_like(log_snr, level), label) for level in (edge, beyond))
    assert torch.equal(at_edge, outside)


@every_config
def test_the_answer_depends_on_the_level(config):
    network, (x, log_snr, label) = build(config), inputs(config)
    assert not torch.allclose(network(x, log_snr, label), network(x, log_snr + 0.1, label))


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.num_classes], ids=lambda c: f"{type(c).__name__}{c.shape}")
def test_the_answer_depends_on_the_label_and_no_label_is_one_more(config):
    network, (x, log_snr, label) = build(config), inputs(config)
    answers = [network(x, log_snr, torch.full_like(label, number)) for number in range(config.num_classes + 1)]
    for one, other in pairwise(answers):
        assert not torch.allclose(one, other)


@every_config
def test_a_config_is_frozen(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 5


def test_an_image_that_cannot_be_halved_often_enough_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        UNetConfig(shape=(1, 28, 30), num_classes=2, channels=(8, 16, 32))
