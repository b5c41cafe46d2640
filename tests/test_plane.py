import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
import torch
from torch.testing import assert_close

from ddpm.checkpoint import load_network
from ddpm.lessons.models import NETWORKS
from ddpm.lessons.plane.run import MINE, Plane, frames
from ddpm.lessons.points import AXIS, DRAWN, FIELD, FIELD_AXIS, MOST_POINTS, STD, decode_points, encode_points, sketch
from ddpm.lessons.shown import shown
from ddpm.process import seeded
from ddpm.schedule import SCHEDULES
from ddpm.settings import Number

SETTINGS = Plane.allowed({})

TRIANGLE = encode_points(torch.tensor([[-0.8, -0.8], [0.8, -0.8], [0.0, 0.8]]))
RUNS = [
    Plane(),
    Plane(data=DRAWN, points=TRIANGLE, direction="chain", count=5000, steps=1000, schedule="constant", c=0.5, seed=7),
    Plane(data="spiral", points=TRIANGLE, denoiser="exact", schedule="polynomial", p=2.5, sampler="heun", eta=1 / 3),
]
every_run = pytest.mark.parametrize("plane", RUNS, ids=range(len(RUNS)))
SMALL = Plane(count=200, steps=12, denoiser="exact")


@pytest.fixture(scope="module")
def network():
    return load_network(Path(__file__).parents[1] / "checkpoints" / "moons.safetensors").network


def carried_out(plane, network=None, **options):
    return [frame for frame in frames(plane, network, **options) if frame is not None]


# --- the settings ---------------------------------------------------------------------------------------------------


def test_every_setting_says_what_it_may_be_and_the_defaults_are_allowed():
    assert asdict(Plane()).keys() == SETTINGS.keys()
    assert all(SETTINGS[name].problem(value) is None for name, value in asdict(Plane()).items())


@every_run
def test_a_run_comes_back_from_its_link_and_from_its_json(plane):
    assert Plane.from_query(dict(parse_qsl(urlencode(plane.query()), keep_blank_values=True))) == (plane, [])
    assert Plane.from_json(plane.json()) == plane


@pytest.mark.parametrize("value", ["1e999", "", "nan", "\ud800", None, 2.5, [], DRAWN, "AAA", "é" * 9], ids=repr)
def test_a_link_gives_a_run_whatever_it_holds(value):
    plane, notes = Plane.from_query(dict.fromkeys(SETTINGS, value))
    assert Plane.from_query(plane.query()) == (plane, [])
    assert all(note.endswith(".") for note in notes)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_takes_its_own_parameter_and_no_other(schedule):
    others = {"s": 0.1, "p": 3.0, "reach": 5.0, "c": 9.0}
    curve = Plane(schedule=schedule, **others).curve
    assert isinstance(curve, SCHEDULES[schedule])
    assert vars(curve) == {name: value for name, value in others.items() if name in vars(curve)}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("end", ["low", "high"])
def test_the_limits_of_a_parameter_give_a_curve_that_falls(schedule, end):
    limits = {name: float(getattr(SETTINGS[name], end)) for name in ("s", "p", "reach", "c")}
    levels = Plane(schedule=schedule, **limits).curve.log_snr(torch.arange(1, 1001) / 1000)
    assert levels.isfinite().all()
    assert (levels.diff() < 0).all()


# --- a drawing ------------------------------------------------------------------------------------------------------


def test_a_drawing_comes_back_from_its_text_to_a_255th():
    points = 2 * torch.rand(80, 2, generator=seeded(1)) - 1
    assert_close(decode_points(encode_points(points)), points, atol=1 / 255, rtol=0)


def test_a_text_comes_back_from_its_points():
    assert encode_points(decode_points(TRIANGLE)) == TRIANGLE


def test_the_largest_drawing_takes_1334_characters_of_a_link():
    text = encode_points(torch.zeros(MOST_POINTS, 2))
    assert len(text) == 1334
    assert Plane(data=DRAWN, points=text).points == text


def test_a_larger_drawing_is_refused_and_in_a_link_cut():
    text = encode_points(torch.linspace(-1, 1, 2 * MOST_POINTS + 2).reshape(-1, 2))
    with pytest.raises(ValueError, match="at most 500 points"):
        Plane(points=text)
    plane, notes = Plane.from_query({"points": text})
    assert torch.equal(decode_points(plane.points), decode_points(text)[:MOST_POINTS])
    assert len(notes) == 1


@pytest.mark.parametrize("text", ["A", "AAAA", "AAA=", "AA+A", "AA A", "AAB", "<b>"])
def test_a_text_that_is_no_drawing_is_refused(text):
    with pytest.raises(ValueError, match="base64url"):
        Plane(points=text)


def test_drawn_data_without_a_point_is_refused_and_in_a_link_becomes_the_default():
    with pytest.raises(ValueError, match="no point"):
        Plane(data=DRAWN)
    for points in ({}, {"points": ""}, {"points": "?"}):
        plane, notes = Plane.from_query({"data": DRAWN, "steps": "5", **points})
        assert plane == Plane(steps=5)
        assert "Nothing is drawn" in notes[-1]


def test_a_drawing_is_shown_as_it_is():
    assert torch.equal(sketch(Plane(data=DRAWN, points=TRIANGLE)), decode_points(TRIANGLE))


# --- carried out ----------------------------------------------------------------------------------------------------


def test_the_field_lies_on_every_fifth_cell_of_the_density_first_coordinate_fastest():
    assert FIELD.shape == (400, 2)
    assert torch.equal(FIELD[:20, 0], FIELD_AXIS) and (FIELD[:20, 1] == FIELD_AXIS[0]).all()
    assert_close(FIELD_AXIS, -FIELD_AXIS.flip(0))
    assert_close(AXIS, -AXIS.flip(0), atol=1e-6, rtol=0)
    assert_close(FIELD_AXIS.diff(), torch.full((19,), 0.25))


@pytest.mark.parametrize(("direction", "order"), [("generate", -1), ("chain", 1), ("jump", 1)])
@pytest.mark.parametrize("steps", [1, 130])
def test_the_frames_are_the_shown_steps_from_noise_to_data_or_back(direction, order, steps):
    found = [frame.index for frame in carried_out(replace(SMALL, direction=direction, steps=steps))]
    assert found == sorted(shown(steps), reverse=order < 0)


def test_a_frame_has_the_arrays_that_it_promises(network):
    for frame in carried_out(replace(SMALL, steps=2), network):
        assert frame.x.shape == (200, 2)
        assert frame.learned.shape == frame.exact.shape == (400, 2)
        assert frame.density.shape == (100, 100)


def test_the_same_settings_give_the_same_particles_and_another_seed_others():
    first, again, other = (
        carried_out(plane)[-1].x for plane in (replace(SMALL, eta=1.0), replace(SMALL, eta=1.0), replace(SMALL, seed=1))
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("data", NETWORKS)
def test_the_exact_denoiser_carries_noise_to_the_data(data):
    last = carried_out(replace(SMALL, data=data, count=500, steps=60))[-1]
    assert last.distance < 1.6 * last.floor


def test_the_learned_denoiser_carries_noise_to_the_data_along_another_way(network):
    plane = replace(SMALL, denoiser="learned", count=500, steps=60)
    learned, exact = carried_out(plane, network)[-1], carried_out(replace(plane, denoiser="exact"), network)[-1]
    assert learned.distance < 1.6 * learned.floor
    assert (learned.x != exact.x).any()


def test_the_visitors_network_moves_the_particles_as_a_shipped_one_would(network):
    learned, mine = (carried_out(replace(SMALL, denoiser=name), network)[-1] for name in ("learned", MINE))
    assert (learned.x == mine.x).all()


def test_a_drawing_is_generated_without_a_network_and_ends_on_its_points():
    plane = replace(SMALL, data=DRAWN, points=TRIANGLE, denoiser="learned", steps=60)
    last = carried_out(plane)[-1]
    assert last.learned is None
    nearest = torch.cdist(torch.from_numpy(last.x), decode_points(TRIANGLE)).min(1).values
    assert nearest.max() < 6 * STD


@pytest.mark.parametrize("direction", ["chain", "jump"])
def test_the_forward_process_ends_in_standard_noise(direction):
    first, *_, last = carried_out(Plane(direction=direction, count=5000, steps=20))
    assert first.distance < 1.6 * first.floor < last.distance
    x = torch.from_numpy(last.x)
    assert_close(x.mean(0), torch.zeros(2), atol=0.06, rtol=0)
    assert_close(x.T.cov(), torch.eye(2), atol=0.08, rtol=0)


def test_the_density_of_every_step_is_one_in_all():
    for frame in carried_out(replace(SMALL, steps=4)):
        area = float(AXIS[1] - AXIS[0]) ** 2
        inside = math.erf(2.5 / math.sqrt(2)) ** 2  # of the noise, the widest of all
        assert inside - 0.01 < frame.density.sum() * area < 1.01


def test_without_particles_the_field_and_the_density_are_those_of_the_run(network):
    with_particles, without = carried_out(SMALL, network), carried_out(SMALL, network, particles=False)
    for one, other in zip(with_particles, without, strict=True):
        assert (one.index, one.log_snr, len(other.x), other.distance) == (other.index, other.log_snr, 0, None)
        for name in ("learned", "exact", "density"):
            assert_close(getattr(one, name), getattr(other, name))


def test_every_number_has_a_default_within_its_limits_in_json():
    given = json.loads(Plane().json())
    assert all(
        limits.low <= given[name] <= limits.high for name, limits in SETTINGS.items() if isinstance(limits, Number)
    )
