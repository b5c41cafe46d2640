"""The package: what it needs is said once, and what is installed of it works."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ddpm import command
from ddpm.lessons.tour import LESSONS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def required(name):
    """The packages that a requirements file names, without those of the file that it builds on."""
    return {line for line in (ROOT / name).read_text("utf-8").splitlines() if line and line[0] not in "-#"}


def extra(*names):
    return {each for name in names for each in PROJECT["optional-dependencies"][name] if not each.startswith("ddpm")}


def test_the_requirements_are_those_of_the_package():
    needed = {*PROJECT["dependencies"], *extra("app"), "torchvision==0.29.1"}
    assert required("requirements.txt") == needed
    assert required("requirements-dev.txt") == extra("dev") | {"tensorboard>=2.20"}
    assert required("requirements-mcp.txt") == extra("mcp") and required("requirements-ray.txt") == extra("ray")


def test_the_constraints_allow_what_is_required():
    pinned = dict(line.lower().split("==") for line in required("constraints.txt"))
    exact = dict(line.split("==") for line in required("requirements.txt") if "==" in line)
    assert all(pinned.get(name, version) == version for name, version in exact.items())
    assert {"starlette", "fastapi", "uvicorn", "gradio", "numpy"} <= pinned.keys()


def test_the_changelog_begins_with_the_version():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions == [PROJECT["version"], "0.1.0"]


def test_every_command_is_a_program_of_the_checkout():
    assert command.folder() == ROOT
    assert all((ROOT / program).is_file() for program in command.COMMANDS.values())


@pytest.mark.parametrize(("words", "said"), [((), "Its commands are serve"), (("paint",), "'paint' is no command")])
def test_another_command_is_refused_in_one_sentence(words, said):
    run = subprocess.run(
        [sys.executable, "-m", "ddpm.command", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1 and said in run.stderr and len(run.stderr.splitlines()) == 1


@pytest.mark.slow
def test_what_is_installed_imports_and_draws(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--prefix", str(tmp_path), str(ROOT)]
    subprocess.run(install, check=True, cwd=tmp_path)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    found = "import ddpm, ddpm.lessons.tour; print(ddpm.__file__, len(ddpm.lessons.tour.LESSONS))"
    said = subprocess.run(
        [sys.executable, "-c", found], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == [str(packages / "ddpm" / "__init__.py"), str(len(LESSONS))], said.stderr
    assert (tmp_path / "share" / "ddpm" / "checkpoints" / "mnist.safetensors").is_file()
    drawn = [sys.executable, str(tmp_path / "share" / "ddpm" / "scripts" / "sample.py"), "--steps", "2"]
    subprocess.run([*drawn, "--out", str(tmp_path / "a.png")], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "a.png").is_file()
