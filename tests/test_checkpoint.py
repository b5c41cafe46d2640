import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch.testing import assert_close

from ddpm.checkpoint import FORMAT, CheckpointError, load_network, load_tensors, save_network, save_tensors
from ddpm.files import write_beside
from ddpm.networks import MLP, MLPConfig, UNet, UNetConfig

ABOUT = {"data": "moons", "names": ["a", "b"]}


def mlp():
    return MLP(MLPConfig(shape=(2,), width=8, depth=1))


def unet():
    return UNet(UNetConfig(shape=(1, 4, 4), num_classes=2, channels=(8, 8), blocks=(1, 1), embedding=8))


def filled(network):
    """``network`` with every weight drawn from [−1, 1], so none is 0 by construction."""
    for weight in network.parameters():
        torch.nn.init.uniform_(weight, -1, 1)
    return network


@pytest.fixture
def path(tmp_path):
    """A good checkpoint of an MLP."""
    path = tmp_path / "mlp.safetensors"
    save_network(path, filled(mlp()), ABOUT)
    return path


@pytest.mark.parametrize("build", [mlp, unet])
@pytest.mark.parametrize(("half", "tolerance"), [(False, 0.0), (True, 1e-3)])
def test_a_network_comes_back_as_it_was(tmp_path, build, half, tolerance):
    network, path = filled(build()), tmp_path / "new" / "network.safetensors"
    save_network(path, network, ABOUT, half)
    loaded = load_network(path)
    assert loaded.about == ABOUT
    assert loaded.network.config == network.config
    assert_close(loaded.network.state_dict(), network.state_dict(), atol=tolerance, rtol=0)


def test_half_precision_halves_the_weights_on_disk(tmp_path):
    for half, dtype in ((False, torch.float32), (True, torch.float16)):
        save_network(tmp_path / "mlp", mlp(), ABOUT, half)
        assert {tensor.dtype for tensor in load_tensors(tmp_path / "mlp")[0].values()} == {dtype}


def test_a_loaded_network_is_ready_to_sample(path):
    network = load_network(path).network
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())


def test_loading_leaves_the_callers_random_state_alone(path):
    before = torch.get_rng_state()
    load_network(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        load_network(tmp_path / "nowhere.safetensors")


def refused(path, reason):
    """Checks that ``path`` is refused for ``reason`` in a message that names it."""
    with pytest.raises(CheckpointError, match=reason) as error:
        load_network(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "truncated")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"ddpm": "{"}])
def test_a_safetensors_file_that_is_not_ours_is_refused(tmp_path, metadata):
    save_file({"weight": torch.ones(1)}, tmp_path / "other.safetensors", metadata=metadata)
    refused(tmp_path / "other.safetensors", "not a ddpm checkpoint")


@pytest.mark.parametrize("depth", [60, 900, 100_000])
@pytest.mark.parametrize("before", ['{"format": 1, "kind": "mlp", "config": ', '{"format": ', ""])
def test_a_header_nested_deeply_is_refused_as_that(tmp_path, depth, before):
    nested = before + "[" * depth + "]" * depth + ("}" if before else "")
    save_file({"weight": torch.ones(1)}, tmp_path / "deep.safetensors", metadata={"ddpm": nested})
    refused(tmp_path / "deep.safetensors", "not a ddpm checkpoint .*nested more than 50 levels deep")


def test_a_file_whose_own_header_is_nested_deeply_is_refused(tmp_path):
    header = b'{"weight":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    (tmp_path / "deep.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(tmp_path / "deep.safetensors", "not a ddpm checkpoint")


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    path = tmp_path / "pickle.pt"
    torch.save(mlp().state_dict(), path)
    refused(path, "not a ddpm checkpoint")


def test_a_missing_tensor_is_refused(path):
    tensors, header = load_tensors(path)
    del tensors["enter.bias"]
    save_tensors(path, tensors, header)
    refused(path, "lacks the tensor enter.bias")


def test_an_unknown_tensor_is_refused(path):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors | {"extra": torch.ones(1)}, header)
    refused(path, "unknown tensor extra")


def test_a_tensor_of_another_shape_is_refused(path):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors | {"leave.bias": torch.ones(7)}, header)
    refused(path, r"leave.bias has the shape \(7,\), expected \(2,\)")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": FORMAT + 1}, f"version {FORMAT + 1}.*reads version {FORMAT}"),
        ({"kind": "transformer"}, "'transformer'; known are mlp, unet.*"),
        ({"config": {"shape": [2], "colour": 1}}, "unknown key 'colour'"),
        ({"config": {"width": 8}}, "config is not valid.*shape"),
        ({"config": [1]}, r"config is \[1\]; it must be an object"),
        ({"config": None}, "config is None; it must be an object"),
        ({"config": {"shape": [2], "width": "wide"}}, "config is not valid"),
        ({"config": {"shape": [2], "width": 8, "depth": 1, "prediction": "score"}}, "predicts 'score'.*noise, x0, v"),
        ({"kind": "unet", "config": {"shape": [1, 4, 4], "num_classes": 1, "blocks": [1]}}, "config is not valid"),
        ({"kind": "unet", "config": {"shape": [1, 4, 4], "num_classes": 1, "channels": [9]}}, "config is not valid"),
    ],
    ids=str,
)
def test_a_header_that_this_version_cannot_read_is_refused(path, change, reason):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, header | change)
    refused(path, reason)


def fail(*arguments):
    raise OSError("no space left")


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")])
def test_an_interrupted_write_leaves_the_old_file_whole_and_no_draft(tmp_path, monkeypatch, owner, call):
    path = tmp_path / "file"
    write_beside(path, b"old")
    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(OSError, match="no space left"):
        write_beside(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file_and_leaves_no_draft(tmp_path):
    path = tmp_path / "file"
    write_beside(path, b"old")
    write_beside(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


# --- what is not finite, and what is no file ---------------------------------------------------------------------------


@pytest.fixture
def moons(tmp_path):
    """A copy of a shipped checkpoint."""
    return Path(shutil.copy(Path(__file__).parents[1] / "checkpoints" / "moons.safetensors", tmp_path))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_network_with_a_weight_that_is_not_finite_is_not_loaded(moons, value):
    tensors, header = load_tensors(moons)
    tensors["leave.bias"][0] = value
    moons.write_bytes(save(tensors, metadata={"ddpm": json.dumps(header)}))
    with pytest.raises(
        CheckpointError, match="moons.safetensors: the numbers of the tensor leave.bias are not all finite"
    ):
        load_network(moons)


@pytest.mark.parametrize(("value", "half"), [(math.nan, False), (1e6, True)])
def test_a_network_that_is_not_finite_in_its_file_replaces_none(moons, value, half):
    network, before = load_network(moons).network, moons.read_bytes()
    network.leave.bias.data[0] = value
    with pytest.raises(CheckpointError, match="leave.bias"):
        save_network(moons, network, {}, half)
    assert moons.read_bytes() == before


def test_a_pointer_of_git_lfs_is_recognised(tmp_path):
    (path := tmp_path / "mnist.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3848386\n"
    )
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load_network(path)
