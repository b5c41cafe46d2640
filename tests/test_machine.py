"""As many threads compute as the system and a container's quota allow."""

import math
import os

import pytest
import torch

from ddpm import machine


@pytest.fixture
def group(tmp_path):
    """Makes a process that is in control groups, by their lines and the files in their folders."""

    def make(lines, **files):
        (own := tmp_path / "cgroup").write_text("\n".join(lines))
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("cpu_", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return machine.quota(own, tmp_path / "groups")

    return make


@pytest.mark.parametrize(("text", "cores"), [("100000 100000", 1), ("250000 100000", 2.5), ("max 100000", math.inf)])
def test_the_second_version_s_quota_is_read(group, text, cores):
    assert group(["0::/app"], app__cpu_max=text) == cores


def test_the_tightest_of_the_groups_above_counts(group):
    quota = group(["0::/host/pod/app"], host__cpu_max="800000 100000", host__pod__cpu_max="150000 100000")
    assert quota == 1.5


def test_in_a_container_the_group_at_the_root_counts(group):
    assert group(["0::/../../outside"], cpu_max="200000 100000") == 2


@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
def test_the_first_version_s_quota_is_read(group, controllers):
    files = {f"{controllers}__app__cpu_cfs_quota_us": "50000", f"{controllers}__app__cpu_cfs_period_us": "100000"}
    assert group([f"4:{controllers}:/app", "3:memory:/app"], **files) == 0.5


def test_no_quota_of_the_first_version_limits_nothing(group):
    assert group(["4:cpu:/"], cpu__cpu_cfs_quota_us="-1", cpu__cpu_cfs_period_us="100000") == math.inf


@pytest.mark.parametrize("text", ["", "nonsense", "1 0", "a b"])
def test_what_cannot_be_read_limits_nothing(group, text):
    assert group(["0::/"], cpu_max=text) == math.inf


def test_where_there_are_no_groups_nothing_is_limited(tmp_path):
    assert machine.quota(tmp_path / "nothing") == math.inf


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.9, 1), (math.inf, 2)])
def test_the_cores_are_those_of_the_quota_and_of_the_affinity(monkeypatch, quota, cores):
    monkeypatch.setattr(machine, "quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert machine.cores() == cores


def test_there_are_no_more_threads_than_torch_is_told(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 64)
    assert machine.threads() == torch.get_num_threads()
    monkeypatch.setattr(machine, "cores", lambda: 1)
    assert machine.threads() == 1
