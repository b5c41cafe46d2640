"""Checkpoints from the Hub: its own client, over HTTP, against a server that speaks its protocol and fails as it may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hub as server
import pytest
import torch
from huggingface_hub import constants

import ddpm
from ddpm.checkpoint import CheckpointError, save_network
from ddpm.hub import HubError, Repository, Undelivered, for_app
from ddpm.networks import MLP, MLPConfig

SHIPPED = Path(__file__).parents[1] / "checkpoints"
NAME = server.NAME


def network(seed: int = 0) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(MLPConfig((2,), width=8, depth=1, embedding=8))


@pytest.fixture
def remote(remote, tmp_path):
    """The Hub with one network in a repository."""
    (tmp_path / "made").mkdir()
    remote.files["moons.safetensors"] = content(tmp_path / "made")
    return remote


def content(folder: Path, seed: int = 0) -> bytes:
    save_network(path := folder / "made.safetensors", network(seed), {"data": "moons"})
    return path.read_bytes()


def weights(found: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in found.state_dict().values()])


def downloads(remote) -> int:
    return sum(method == "GET" and "/resolve/" in path for method, path, _ in remote.requests)


def test_a_network_of_the_hub_has_the_weights_that_were_put_there(remote):
    loaded = ddpm.load(NAME)
    assert torch.equal(weights(loaded), weights(network()))
    assert not loaded.training


def test_a_second_load_downloads_nothing(remote):
    ddpm.load(NAME)
    ddpm.load(NAME)
    assert downloads(remote) == 1


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/1"])
def test_every_file_is_fetched_at_the_commit_that_the_revision_meant(remote, revision):
    remote.revisions |= {"v1", "refs/pr/1"}
    ddpm.load(f"{NAME}@{revision}")
    fetched = [path for _, path, _ in remote.requests if "/resolve/" in path]
    assert fetched and all(f"/resolve/{remote.commit}/" in path for path in fetched)


def test_a_new_commit_brings_new_weights(remote, tmp_path):
    ddpm.load(NAME)
    remote.commit, remote.files["moons.safetensors"] = "f" * 40, content(tmp_path, seed=1)
    assert torch.equal(weights(ddpm.load(NAME)), weights(network(1)))


def test_one_of_several_networks_is_chosen_by_its_name(remote, tmp_path):
    remote.files |= {"spiral.safetensors": content(tmp_path, seed=2), "moons-projection.safetensors": b"none"}
    assert torch.equal(weights(ddpm.load(NAME, "spiral")), weights(network(2)))
    with pytest.raises(HubError, match="holds moons, spiral; choose one"):
        ddpm.load(NAME)
    with pytest.raises(HubError, match="there is no 'cats'"):
        ddpm.load(NAME, "cats")


def test_a_folder_and_a_file_load_as_well(remote, tmp_path):
    save_network(tmp_path / "here" / "moons.safetensors", network(3), {})
    for source in (tmp_path / "here", str(tmp_path / "here"), tmp_path / "here" / "moons.safetensors"):
        assert torch.equal(weights(ddpm.load(source)), weights(network(3)))
    assert remote.requests == []


def test_a_file_that_is_no_checkpoint_is_refused(remote):
    remote.files["moons.safetensors"] = b"\x80\x04no tensors"
    with pytest.raises(CheckpointError):
        ddpm.load(NAME)


@pytest.mark.parametrize("text", ["", "digits", "a/b/c", "../x", "someone/digits@", "someone /digits", "http://x/y"])
def test_what_is_no_repository_is_refused_by_what_it_must_be(text):
    with pytest.raises(HubError, match="USER/NAME@REVISION"):
        Repository.parse(text)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_missing_repository_is_named_and_no_excuse_for_what_is_cached(remote):
    ddpm.load(NAME)
    remote.token = "secret"
    for source in ("someone/else", NAME):
        with pytest.raises(HubError, match=f"no repository {source} .*HF_TOKEN") as caught:
            ddpm.load(source)
        assert not isinstance(caught.value, Undelivered)


def test_a_private_repository_opens_with_its_token(remote, monkeypatch):
    remote.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))


def test_a_missing_revision_is_named(remote):
    with pytest.raises(HubError, match="no revision 'v9'"):
        ddpm.load(f"{NAME}@v9")


@pytest.mark.slow
def test_an_interrupted_download_goes_on_where_it_broke(remote):
    remote.cut = 1000
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))
    assert [begun for _, path, begun in remote.requests if begun] == ["bytes=1000-"]


@pytest.mark.slow
def test_a_download_that_never_ends_well_leaves_nothing_and_says_so(remote, tmp_path):
    remote.cut, remote.mends = 1000, False
    with pytest.raises(Undelivered, match=f"did not deliver {NAME}"):
        ddpm.load(NAME)
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert set(kept) <= {"CACHEDIR.TAG"}


def test_a_file_with_another_digest_is_refused_and_not_kept(remote, tmp_path):
    whole = remote.files["moons.safetensors"]
    remote.sent["moons.safetensors"] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(Undelivered, match="SHA-256 differs"):
        ddpm.load(NAME)
    remote.sent.clear()
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))


def test_a_cached_file_that_was_damaged_is_fetched_again(remote, tmp_path):
    ddpm.load(NAME)
    (blob,) = (tmp_path / "cache").glob("*/blobs/*")
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(Undelivered, match="SHA-256 differs"):
        ddpm.load(NAME)
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))


FAILURES = {
    "down": lambda remote: setattr(remote, "down", True),
    "silent": lambda remote: remote.silent.set(),
}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_without_the_hub_the_commit_that_came_last_serves(remote, fail, caplog):
    ddpm.load(NAME)
    fail(remote)
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))
    assert f"did not deliver {NAME}" in caplog.text and remote.commit[:7] in caplog.text


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_without_the_hub_and_a_cache_there_is_a_sentence(remote, fail):
    fail(remote)
    with pytest.raises(Undelivered, match=f"did not deliver {NAME}"):
        ddpm.load(NAME)


def test_offline_mode_asks_nobody(remote, monkeypatch):
    ddpm.load(NAME)
    remote.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))
    assert remote.requests == []


def test_a_cache_that_cannot_be_written_does_not_keep_the_files_from_use(remote, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert torch.equal(weights(ddpm.load(NAME)), weights(network()))
    assert "temporary folder" in caplog.text


# --- the app's --------------------------------------------------------------------------------------------------------

NAMES = ("moons", "spiral")


def test_the_app_takes_what_the_repository_has_and_ships_the_rest(remote):
    found = for_app(NAME, SHIPPED, NAMES)
    assert found.paths["moons"].read_bytes() == remote.files["moons.safetensors"]
    assert found.paths["spiral"] == SHIPPED / "spiral.safetensors"
    assert found.problem == ""


def test_the_app_takes_a_folder(tmp_path):
    save_network(tmp_path / "spiral.safetensors", network(), {})
    found = for_app(str(tmp_path), SHIPPED, NAMES)
    assert found.paths == {"moons": SHIPPED / "moons.safetensors", "spiral": tmp_path / "spiral.safetensors"}


@pytest.mark.parametrize("source", [None, ""])
def test_the_app_without_a_source_ships_everything(source):
    assert for_app(source, SHIPPED, NAMES).paths == {name: SHIPPED / f"{name}.safetensors" for name in NAMES}


def test_the_app_without_the_hub_says_which_networks_it_uses(remote, caplog):
    remote.down = True
    found = for_app(NAME, SHIPPED, NAMES)
    assert found.problem in caplog.text
    assert found.paths["moons"] == SHIPPED / "moons.safetensors" and "those of the app" in found.problem
    remote.down = False
    for_app(NAME, SHIPPED, NAMES)
    remote.down = True
    found = for_app(NAME, SHIPPED, NAMES)
    assert found.paths["moons"].read_bytes() == remote.files["moons.safetensors"]
    assert "did not deliver" in found.problem and remote.commit[:7] in found.problem


def test_the_app_refuses_a_repository_without_its_checkpoints(remote):
    with pytest.raises(HubError, match="none of the checkpoints that the app needs: spiral"):
        for_app(NAME, SHIPPED, ["spiral"])


def test_importing_ddpm_imports_no_torch():
    check = "import ddpm, sys; sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=SHIPPED.parent, check=False).returncode == 0
