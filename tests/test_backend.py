"""A backend answers as the network in PyTorch does, and no cache can change that."""

import logging
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.lessons.pictures.run import Run, perform
from ddpm.networks import MLP, MLPConfig, UNet, UNetConfig
from ddpm.process import seeded
from ddpm.serving import backend
from ddpm.serving.backend import (
    SIZES,
    BackendError,
    OnnxNetwork,
    TorchNetwork,
    export,
    fast,
    fastest_batch,
    smallest_near_best,
)

MNIST = Path(__file__).parents[1] / "checkpoints" / "mnist.safetensors"
CIFAR10 = UNetConfig((3, 32, 32), 10, channels=(32, 64, 128, 192), blocks=(1, 1, 2, 1), attention=2)
SMALL = UNetConfig((1, 8, 8), 2, channels=(8, 16), blocks=(1, 1))


def untrained(module: type[nn.Module], config: MLPConfig | UNetConfig, seed: int = 0) -> nn.Module:
    """A network none of whose layers is silent, so that all of them show in its answers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = module(config)
        for weight in network.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.02)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {
        "mnist": load_network(MNIST).network,
        "cifar10": untrained(UNet, CIFAR10),
        "points": untrained(MLP, MLPConfig((2,), num_classes=3)),
    }


@pytest.fixture(scope="module")
def served(networks, tmp_path_factory) -> dict[tuple[str, str], backend.Network]:
    """Each network on each backend."""
    cache = tmp_path_factory.mktemp("cache")
    return {
        (name, kind): fast(deepcopy(network), kind, 1, cache)
        for name, network in networks.items()
        for kind in backend.BACKENDS
    }


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return untrained(UNet, SMALL)


def inputs(network: nn.Module, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random x; noise levels in [−15, 15], which is more than the networks know; labels, "no label" among them."""
    random, config = seeded(rows, 7), network.config
    log_snr = 30 * torch.rand(rows, generator=random) - 15
    labels = torch.arange(config.num_classes, config.num_classes + rows) % (config.num_classes + 1)
    return torch.randn(rows, *config.shape, generator=random), log_snr, labels


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", backend.BACKENDS)
@pytest.mark.parametrize("name", ["mnist", "cifar10", "points"])
@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_a_backend_answers_as_the_network_does(networks, served, name, kind, rows):
    given = inputs(networks[name], rows)
    assert_same(served[name, kind](*given), networks[name](*given))


@pytest.mark.parametrize("kind", backend.BACKENDS)
def test_one_label_and_noise_level_serve_all_rows_as_in_the_network(networks, served, kind):
    x, log_snr, label = inputs(networks["mnist"], 3)
    given = x, log_snr[:1], label[:1]
    assert_same(served["mnist", kind](*given), networks["mnist"](*given))


@pytest.mark.parametrize("kind", backend.BACKENDS)
def test_the_order_of_x_in_memory_does_not_matter(networks, served, kind):
    x, log_snr, label = inputs(networks["cifar10"], 3)
    strided = x.to(memory_format=torch.channels_last)
    assert not strided.is_contiguous()
    assert_same(served["cifar10", kind](strided, log_snr, label), networks["cifar10"](x, log_snr, label))


def test_a_row_does_not_depend_on_its_company(networks, served):
    x, log_snr, label = inputs(networks["mnist"], 5)
    network = served["mnist", "onnx"]
    assert_same(network(x, log_snr, label)[3:4], network(x[3:4], log_snr[3:4], label[3:4]))


@pytest.mark.parametrize("kind", backend.BACKENDS)
def test_a_run_on_a_backend_ends_in_the_same_pictures(networks, served, kind):
    run = Run(count=3, steps=12, eta=0.5, guidance=1.0, seed=3)
    ours, theirs = (to_uint8(list(perform(run, net))[-1].x) for net in (served["mnist", kind], networks["mnist"]))
    assert abs(ours.int() - theirs.int()).max() <= 1


def test_the_graph_is_exported_once(small, tmp_path, monkeypatch):
    fast(small, "onnx", 1, tmp_path)
    monkeypatch.setattr(backend, "export", lambda network: pytest.fail("exported again"))
    fast(small, "onnx", 1, tmp_path)


def test_networks_of_other_weights_have_other_graphs(tmp_path):
    one, other = (untrained(UNet, SMALL, seed) for seed in (1, 2))
    fast(one, "onnx", 1, tmp_path)
    given = inputs(other, 4)
    assert_same(fast(other, "onnx", 1, tmp_path)(*given), other(*given))


@pytest.mark.parametrize("spoil", ["truncated", "of another network", "a folder"])
def test_a_cached_graph_that_is_wrong_is_replaced(small, tmp_path, caplog, spoil):
    fast(small, "onnx", 1, tmp_path)
    (path,) = tmp_path.glob("*.onnx")
    right = path.read_bytes()
    path.write_bytes(right[:1000] if spoil == "truncated" else export(untrained(UNet, SMALL, seed=9)))
    if spoil == "a folder":
        path.unlink()
        path.mkdir()
    given = inputs(small, 4)
    assert_same(fast(small, "onnx", 1, tmp_path)(*given), small(*given))
    assert spoil == "a folder" or path.read_bytes() == right
    assert "again" in caplog.text


def test_a_cache_that_cannot_be_written_costs_only_the_next_start(small, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert isinstance(fast(small, "onnx", 1, tmp_path / "file" / "cache"), OnnxNetwork)
    assert "not kept" in caplog.text


def test_a_graph_that_answers_otherwise_is_refused(small):
    with pytest.raises(BackendError, match="from PyTorch's; allowed is 0.0001"):
        OnnxNetwork(small, export(untrained(UNet, SMALL, seed=9)), 1)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_onnx_pytorch_serves_and_the_log_says_why(small, tmp_path, monkeypatch, caplog, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(fast(small, None, 1, tmp_path), TorchNetwork)
    assert len(caplog.messages) == 1
    assert missing in caplog.text


def test_onnx_that_was_asked_for_and_cannot_serve_is_an_error(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="cannot serve here"):
        fast(small, "onnx", 1, tmp_path)


def test_a_machine_with_a_gpu_gets_pytorch(small, monkeypatch):
    monkeypatch.setattr(backend, "TorchNetwork", lambda network: "on the GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fast(small) == "on the GPU"


def test_an_unknown_backend_is_refused(small):
    with pytest.raises(BackendError, match="The backend is 'jax'; allowed are onnx and torch"):
        fast(small, "jax")


def test_the_batch_that_is_measured_to_be_fastest_is_one_of_the_sizes_and_logged(small, caplog):
    with caplog.at_level(logging.INFO):
        size = fastest_batch(small, seconds=0)
    assert size in SIZES
    assert f"at most {size} rows" in caplog.text


class Wasteful(nn.Module):
    """Counts its calls by their rows; any but those of 16 rows do the work 20 times."""

    config = SMALL

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, Counter()

    def forward(self, *given):
        self.calls[len(given[0])] += 1
        for _ in range(1 if len(given[0]) == 16 else 20):
            answer = self.network(*given)
        return answer


def test_every_size_is_measured_equally_often_and_the_cheapest_row_wins(small):
    network = Wasteful(small)
    assert fastest_batch(network, seconds=0) == 16
    assert set(network.calls) == set(SIZES)
    assert len(set(network.calls.values())) == 1


@pytest.mark.parametrize(
    ("cost", "size"),
    [({4: 1.0, 8: 1.0, 16: 1.0}, 4), ({4: 1.1, 8: 1.04, 16: 1.0}, 8), ({4: 3.0, 8: 2.0, 16: 1.0}, 16)],
)
def test_of_sizes_that_cost_about_the_same_the_smallest_is_taken(cost, size):
    assert smallest_near_best(cost) == size


@pytest.mark.slow
def test_the_newer_exporter_gives_a_graph_that_answers_as_the_network_does():
    """So that the tracing one can be left once it is gone."""
    network = load_network(MNIST).network
    rows = torch.export.Dim("rows", min=1)
    given = (torch.randn(3, 1, 28, 28), torch.tensor([-6.0, 0.0, 6.0]), torch.tensor([1, 2, 10]))
    shapes = ({0: rows}, {0: rows}, {0: rows})
    names = {"input_names": list(backend.INPUTS), "output_names": [backend.OUTPUT]}
    made = torch.onnx.export(network, given, dynamo=True, dynamic_shapes=shapes, opset_version=backend.OPSET, **names)
    graph = made.model_proto.SerializeToString()
    served = OnnxNetwork(network, graph, 1)
    for count in (1, 2, 5):
        x, log_snr = torch.randn(count, 1, 28, 28, generator=seeded(count)), torch.linspace(-8, 8, count)
        label = torch.arange(count)
        with torch.inference_mode():
            assert (served(x, log_snr, label) - network(x, log_snr, label)).abs().max() < 1e-4
