"""Programs that people have kept: those of version 0.1, in tests/programs/, run as they are and give the same."""

import math
from pathlib import Path

import pytest
import torch

from ddpm import moved
from ddpm.lessons.learning.run import Learning
from ddpm.lessons.likelihood.run import Likelihood
from ddpm.lessons.line.run import Line
from ddpm.lessons.noising.run import Noising
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.schedules.run import Curves
from ddpm.lessons.tour import LESSONS
from ddpm.lessons.train.run import Training

ROOT = Path(__file__).parent.parent
KEPT = {
    "pictures": (Run(count=2, steps=3, eta=1.0), "x"),
    "line": (Line(steps=10, count=200, sampler="heun"), "x"),
    "line_exact": (Line(steps=10, count=200, denoiser="exact"), "x"),
    "plane": (Plane(steps=5, count=100), "x"),
    "plane_exact": (Plane(steps=5, count=100, denoiser="exact", sampler="dpm-solver++"), "x"),
    "plane_chain": (Plane(direction="chain", steps=10, count=100), "x"),
    "training": (Training(batches=100, shown_steps=3), "x"),
    "noising": (Noising(steps=20, t=8), "predicted_x0"),
    "curves": (Curves(steps=20), "pictures"),
    "learning": (Learning("100"), "samples"),
    "likelihood": (Likelihood("moons", steps=5), "total"),
    "likelihood_pictures": (Likelihood("mnist", of="one", steps=2), "total"),
}
"""By file: the settings that it was made of, and the name of what it computes."""


def executed(text):
    names = {}
    exec(compile(text, "the program", "exec"), names)  # noqa: S102  # our own text
    return names


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_program_gives_what_the_one_of_today_gives(name, tmp_path, monkeypatch):
    settings, result = KEPT[name]
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    program = next(lesson.program for lesson in LESSONS if type(lesson.first) is type(settings))
    kept = executed((ROOT / "tests" / "programs" / f"{name}.py").read_text("utf-8"))[result]
    today = executed(program(settings))[result]
    torch.testing.assert_close(kept, today, rtol=0, atol=0)
    assert all(math.isfinite(float(each.float().abs().sum())) for each in (kept if isinstance(kept, list) else [kept]))


@pytest.mark.parametrize("old", [*moved.MOVED, *moved.SPLIT])
def test_an_unknown_name_of_a_moved_module_is_refused(old):
    with pytest.raises(ImportError, match="nothing_like_it"):
        executed(f"from ddpm.{old} import nothing_like_it")
