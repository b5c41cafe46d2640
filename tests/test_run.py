import importlib
import itertools
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
import torch
from torch.testing import assert_close

from ddpm.lessons.models import MODELS
from ddpm.lessons.pictures.run import Run, perform
from ddpm.lessons.shown import shown
from ddpm.networks import UNet, UNetConfig
from ddpm.sampling import SAMPLERS
from ddpm.schedule import SCHEDULES, Table, grid
from ddpm.settings import (
    LEAST_BETA,
    MOST_TEXT,
    SCHEDULE,
    Choice,
    Number,
    decode_betas,
    encode_betas,
    parameters,
)

RUNS = [
    Run(),
    Run(label="3", count=25, steps=1000, schedule="constant", eta=1.0, guidance=8.0, seed=2**31 - 1),
    Run(label="any", count=1, steps=1, schedule="linear", eta=1 / 3, guidance=0.1 + 0.2, seed=1),
    Run(eta=1e-9, guidance=7.9),
    Run(eta=1, guidance=0),
    Run(schedule="table", table="0.1, 0.5 0.99", steps=3),
    Run(schedule="table", table=encode_betas(torch.linspace(1e-4, 0.02, 1000).tolist()), steps=1000),
    Run(schedule="sigmoid", reach=1.5),
]
every_run = pytest.mark.parametrize("run", RUNS, ids=range(len(RUNS)))

SETTINGS = Run.allowed({"model": "mnist"})
every_model = pytest.mark.parametrize("model", MODELS)
NUMBERS = [name for name, setting in SETTINGS.items() if isinstance(setting, Number)]
CHOICES = [name for name, setting in SETTINGS.items() if isinstance(setting, Choice)]


def wrong_numbers(name):
    setting = SETTINGS[name]
    yield from (setting.low - 1, setting.high + 1, 10**400, math.nan, math.inf, -math.inf, True, None, "1", [1])
    if setting.whole:
        yield from (setting.low + 0.5, float(setting.low))


WRONG = [
    *((name, value) for name in NUMBERS for value in wrong_numbers(name)),
    *((name, value) for name in CHOICES for value in ("", "nothing", SETTINGS[name].options[0].upper() + " ", 0, None)),
]


# --- one value ------------------------------------------------------------------------------------------------------


def test_the_defaults_are_allowed():
    assert all(SETTINGS[name].problem(value) is None for name, value in asdict(Run()).items())


def test_every_setting_of_a_run_says_what_it_may_be():
    assert asdict(Run()).keys() == SETTINGS.keys()


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:12])
def test_a_setting_that_is_not_allowed_is_refused_with_the_value_and_what_is_allowed(name, value):
    with pytest.raises(ValueError) as refusal:
        Run(**{name: value})
    assert str(refusal.value) == f"The {name} is {value!r}; it {SETTINGS[name].problem(value)}."


@pytest.mark.parametrize("name", NUMBERS)
def test_the_limits_of_a_number_are_allowed_and_named_in_its_refusal(name):
    setting = SETTINGS[name]
    for limit in (setting.low, setting.high):
        assert getattr(Run(**{name: limit}), name) == limit
        assert str(limit) in setting.problem(setting.high + 1)


def test_labels_that_take_each_class_begin_again_after_the_last():
    assert Run(label="each", count=12).labels == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1)


def test_one_label_is_the_class_of_that_name_for_all():
    assert Run(label="7", count=3).labels == (7, 7, 7)


def test_any_label_is_the_number_of_classes_for_all():
    assert Run(label="any", count=2).labels == (len(MODELS["mnist"]),) * 2


# --- its views ------------------------------------------------------------------------------------------------------


@every_run
def test_a_run_comes_back_from_its_link(run):
    assert Run.from_query(dict(parse_qsl(urlencode(run.query())))) == (run, [])


@every_run
def test_a_run_comes_back_from_its_json(run):
    assert Run.from_json(run.json()) == run


@pytest.fixture(scope="module")
def sample_script():
    """scripts/sample.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
        return importlib.import_module("sample")


@every_run
def test_a_run_comes_back_from_the_command_line(sample_script, run):
    arguments = [f"--{name}={value}" for name, value in run.query().items()]
    assert sample_script.run_of(sample_script.parse(arguments)) == (run, [])


@every_run
@pytest.mark.parametrize("address", ["https://a.example/page?{}", "http://localhost:7860/?__theme=dark&{}#top", "{}"])
def test_the_command_line_takes_a_run_from_a_link_or_its_query(sample_script, run, address):
    link = address.format(urlencode(run.query()))
    assert sample_script.run_of(sample_script.parse(["--link", link])) == (run, [])


def test_settings_on_the_command_line_override_those_of_a_file_and_of_a_link(sample_script, tmp_path):
    run = RUNS[1]
    (tmp_path / "run.json").write_text(run.json())
    for source in (["--run", str(tmp_path / "run.json")], ["--link", urlencode(run.query())]):
        options = sample_script.parse([*source, "--label", "5", "--eta", "0.5"])
        assert sample_script.run_of(options) == (replace(run, label="5", eta=0.5), [])


def test_an_address_without_settings_stands_for_the_defaults(sample_script):
    assert sample_script.run_of(sample_script.parse(["--link", "https://a.example/"])) == (Run(), [])
    run, (note,) = sample_script.run_of(sample_script.parse(["--link", "https://a.example/page"]))
    assert run == Run() and "/page" in note  # which may be where the app is served


@pytest.mark.parametrize(
    "given", [{"steps": 50.0}, {"steps": "50.0"}, {"steps": "5e1", "label": 3}, {"seed": 7.0, "eta": "0.5"}], ids=str
)
def test_what_is_written_means_the_same_in_a_link_in_a_file_and_on_the_command_line(sample_script, given):
    asked, notes = Run.from_query({name: str(value) for name, value in given.items()})
    assert notes == [] and all(float(getattr(asked, name)) == float(value) for name, value in given.items())
    for text in (json.dumps(given), f"\ufeff{json.dumps(given, indent=1)}\r\n"):
        assert Run.from_json(text) == asked
    assert sample_script.run_of(sample_script.parse([f"--{name}={value}" for name, value in given.items()])) == (
        asked,
        [],
    )


@pytest.mark.parametrize("value", ['{"a": 1}', "[3]", "[" * 45 + "]" * 45])
def test_a_setting_in_a_file_that_is_no_single_value_is_refused_by_its_kind(value):
    with pytest.raises(ValueError, match=r"^The steps is (a list|an object); it must be text or a number\.$"):
        Run.from_json(f'{{"steps": {value}}}')


@pytest.mark.parametrize("depth", [60, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"steps":', "}")])
def test_json_nested_deeply_is_refused_as_that(opening, closing, depth):
    with pytest.raises(ValueError, match="nested more than 50 levels deep"):
        Run.from_json(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '{"steps": "five"}', '{"eta": NaN}', '{"steps": 1e999}', '{"pace": 1}']
)
def test_json_that_is_no_run_is_refused(text):
    with pytest.raises(ValueError):
        Run.from_json(text)


def test_the_refusal_of_an_unknown_setting_names_it_and_the_known_ones():
    with pytest.raises(ValueError, match=r"'pace'.*steps.*\.$"):
        Run.from_json(json.dumps({"steps": 5, "pace": 1}))


# --- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULE["schedule"].options)
def test_the_schedule_of_a_run_follows_its_own_parameters_and_no_others(schedule):
    other = {"s": 0.1, "p": 3.0, "reach": 2.0, "c": 7.0, "table": "0.2 0.9"}
    own = parameters(schedule)
    levels = grid(Run(schedule=schedule).curve, 10)
    foreign = Run(schedule=schedule, **{name: value for name, value in other.items() if name not in own})
    assert torch.equal(grid(foreign.curve, 10), levels)
    for name in own:
        assert not torch.equal(grid(Run(schedule=schedule, **{name: other[name]}).curve, 10), levels)


def test_every_parameter_of_a_schedule_belongs_to_one():
    owned = [name for schedule in SCHEDULE["schedule"].options for name in parameters(schedule)]
    assert sorted([*owned, "schedule"]) == sorted(SCHEDULE) and {*SCHEDULES, "table"} == {*SCHEDULE["schedule"].options}


@pytest.mark.parametrize("count", [1, 3, 40, 41, 1000])
def test_a_table_of_betas_comes_back_from_its_text(count):
    table = torch.logspace(-5.9, -1.7 if count > 41 else -1e-6, count, dtype=torch.float64).tolist()
    text = encode_betas(table)
    assert len(text) <= MOST_TEXT and re.fullmatch(r"[0-9e. -]+|~[A-Za-z0-9_-]+", text)
    back = Run(schedule="table", table=text).curve.betas
    assert back == pytest.approx(table, rel=2.5e-4)
    assert decode_betas(encode_betas(back)) == pytest.approx(back, rel=1e-6)


@pytest.mark.parametrize("text", ["[0.1, 0.2,\n 0.3]", "0.1;0.2;0.3", " .1\t2e-1 0.3 ", "(0.1, 0.2, 0.3,)"])
def test_numbers_may_be_written_as_people_and_programs_do(text):
    assert Run(schedule="table", table=text).curve == Table((0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    "text",
    ["", "1", "0", "-0.1 0.2", "nan", "0.1 inf", "0.1 x", "~", "~A", "~AA*A", "~é", "0.1 " * 1000, "0.9 " * 30]
    + ["0 1" * 10, f"{LEAST_BETA / 2}", "0." + "1" * MOST_TEXT],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_no_table_is_refused_in_one_sentence_and_in_a_link_replaced(text):
    with pytest.raises(ValueError, match="The table is .*; it must be 1 to 1,000 numbers"):
        Run(table=text)
    run, corrections = Run.from_query({"table": text, "schedule": "table"})
    assert run == Run(schedule="table") and len(corrections) == 1


# --- links that somebody has typed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "nearest"),
    [
        ("steps", "2000", 1000),
        ("steps", "-5", 1),
        ("steps", "12.6", 13),
        ("steps", "1e999", 1000),
        ("steps", "9" * 400, 1000),
        ("seed", "-1", 0),
        ("count", "0", 1),
        ("eta", "1.5", 1),
        ("eta", "-inf", 0),
        ("guidance", "100", 8),
        ("schedule", "cosin", "cosine"),
        ("schedule", " Linear", "linear"),
        ("label", "EACH", "each"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_value_of_a_link_is_corrected_to_the_nearest_allowed_one_and_one_sentence_says_so(name, text, nearest):
    run, corrections = Run.from_query({name: text})
    assert run == Run(**{name: nearest})
    assert len(corrections) == 1
    for part in (name, text[:40], SETTINGS[name].problem(text), str(nearest)):
        assert part in corrections[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *itertools.product(SETTINGS, ["", "∞", "0x10", "<script>", "None", "\x00", "²", "--"]),
        *itertools.product(NUMBERS, ["nan", "NaN"]),
    ],
)
def test_text_that_is_near_nothing_becomes_the_default_and_one_sentence_says_so(name, text):
    run, corrections = Run.from_query({name: text})
    assert run == Run()
    assert len(corrections) == 1


def test_every_wrong_value_of_a_link_gets_its_own_sentence():
    run, corrections = Run.from_query({"steps": "0", "eta": "2", "label": "3", "schedule": "?"})
    assert run == Run(steps=1, eta=1.0, label="3")
    assert [sentence.split()[0] for sentence in corrections] == ["steps", "schedule", "eta"]


def test_keys_that_are_no_setting_are_ignored():
    assert Run.from_query({"__theme": "dark", "view": "api", "steps": "7"}) == (Run(steps=7), [])


@pytest.mark.parametrize(
    "value", ["1e999", "-5", "9" * 400, "٣", "1_0", " 5 ", "\ud800", "5;drop", None, 3, 2.5, True, [], b"5"], ids=repr
)
def test_a_link_gives_a_run_whatever_it_holds(value):
    run, corrections = Run.from_query(dict.fromkeys(SETTINGS, value))
    assert isinstance(run, Run)
    assert all(re.fullmatch(r".+\.", sentence, re.DOTALL) for sentence in corrections)
    assert Run.from_query(run.query()) == (run, [])


# --- which steps are shown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 50, 98, 99, 100, 101, 150, 199, 1000])
def test_the_steps_shown_are_at_most_100_evenly_spaced_from_T_to_0(steps):
    indices = sorted(shown(steps))
    gaps = {b - a for a, b in itertools.pairwise(indices)}
    assert len(indices) == min(steps + 1, 100)
    assert (indices[0], indices[-1]) == (0, steps)
    assert max(gaps) - min(gaps) <= 1


# --- carried out ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """A tiny U-Net for ten classes, every weight random: an untrained one answers 0 to all."""
    config = UNetConfig(shape=(1, 4, 4), num_classes=10, channels=(8, 8), blocks=(1, 1), embedding=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(config).eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return network


def pictures(run, network):
    *_, step = perform(run, network)
    return step.x


@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_of_T_steps_has_T_plus_1_states_of_count_pictures(network, steps):
    states = list(perform(Run(steps=steps, count=3), network))
    assert [state.index for state in states] == list(range(steps, -1, -1))
    assert all(state.x.shape == state.x0.shape == (3, 1, 4, 4) for state in states)


@pytest.mark.parametrize(("eta", "guidance"), [(0.0, 0.0), (1.0, 2.0)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_pictures_of_a_run_are_the_first_of_a_larger_one(network, sampler, eta, guidance):
    run = Run(steps=5, sampler=sampler, eta=eta, guidance=guidance, count=12, seed=4)
    many = pictures(run, network)
    assert torch.equal(pictures(run, network), many)
    for count in (1, 3):
        assert_close(pictures(replace(run, count=count), network), many[:count], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"label": "4"}, {"guidance": 2.0}, {"eta": 1.0}, {"schedule": "linear"}, {"s": 0.1}]
    + [{"sampler": name} for name in SAMPLERS if name != Run.sampler],
)
def test_another_value_of_a_setting_gives_other_pictures(network, change):
    run = Run(steps=5, count=2)
    assert (pictures(run, network) - pictures(replace(run, **change), network)).abs().amax((1, 2, 3)).min() > 1e-3


def test_pictures_of_one_run_differ_though_their_label_does_not(network):
    first, second = pictures(Run(steps=5, count=2, label="3"), network)
    assert (first - second).abs().max() > 1e-3


@every_model
def test_every_class_of_a_model_may_be_asked_for_and_comes_back_from_the_link(model):
    for index, name in enumerate(MODELS[model]):
        run = Run(model=model, label=name, count=2)
        assert run.labels == (index, index)
        assert Run.from_query(run.query()) == (run, [])


def test_a_class_of_another_model_is_refused_and_in_a_link_corrected():
    with pytest.raises(ValueError, match="The label is 'frog'"):
        Run(label="frog")
    run, corrections = Run.from_query({"label": "7", "model": "cifar10"})
    assert (run.model, run.label) == ("cifar10", "each")
    assert len(corrections) == 1


def test_a_link_may_name_its_model():
    assert Run.from_query({"steps": "5", "model": "cifar10"}) == (Run(model="cifar10", steps=5), [])


class Counting(torch.nn.Module):
    """Answers 0 and counts the rows that it is asked about."""

    config = UNetConfig(shape=(1, 4, 4), num_classes=10, channels=(8, 8), blocks=(1, 1))
    rows = 0

    def forward(self, x, log_snr, label):
        self.rows += len(x)
        return torch.zeros_like(x)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("label", "guidance"), [("each", 0.0), ("3", 2.0), ("any", 2.0)])
def test_a_run_knows_how_often_it_asks_the_network(sampler, label, guidance):
    run, network = Run(label=label, count=3, steps=5, sampler=sampler, guidance=guidance), Counting()
    pictures(run, network)
    assert network.rows == run.count * run.rows_each
