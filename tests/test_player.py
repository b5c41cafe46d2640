import base64
import json
import math
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import read_in, script

from ddpm.lessons.pictures import screen as player
from ddpm.lessons.pictures.algorithm import Lines, lines
from ddpm.lessons.pictures.frames import Frame
from ddpm.lessons.pictures.page import within_share
from ddpm.lessons.pictures.run import Run
from ddpm.lessons.shown import shown
from ddpm.page.components import shared
from ddpm.process import noise_from_x0
from ddpm.projection import Projection
from ddpm.schedule import alpha_bar
from ddpm.serving.engine import QueuePosition

SHAPE = (1, 3, 2)
random = np.random.default_rng(0)
CLOUD = Projection(
    mean=random.normal(size=6).astype(np.float32),
    axes=random.normal(size=(2, 6)).astype(np.float32),
    explained=np.array([0.5, 0.25], np.float32),
    points=random.normal(size=(4, 2)).astype(np.float32),
    labels=np.array([0, 1, 0, 1]),
    names=("a", "b"),
)
HERE = Path(player.__file__).parent
SCRIPT = script(player, "shared.js", "clock.js", "save.js", "algorithm.js")


def step(index=3, count=4, log_snr=-1.25, adds=True):
    """A frame of ``count`` random pictures, the last of a run if the index is 0."""
    level = torch.tensor(log_snr if index else math.inf)
    x, x0, added = torch.from_numpy(random.normal(size=(3, count, *SHAPE))).float()
    noise = noise_from_x0(x, x0, level) if index else torch.zeros_like(x)
    numbers = lines(Run(eta=1.0), torch.stack([level, level + 1]))[0] if index else None
    pictures = [value.numpy() for value in (x, x0, noise)]
    rest = added.numpy() if adds and index else None
    return Frame(index, float(level), float(alpha_bar(level)), *pictures, numbers, rest, 0.1234567)


def pictures(message, count):
    """The pictures of a frame as the browser reads them, by name, and the points behind them."""
    header, payload = parts(message)
    length = 2 * count * math.prod(SHAPE)
    names, scales = ["x", header["predicts"], "added"], header["scales"]
    read = [np.frombuffer(payload[i * length : (i + 1) * length], "<i2") * scale for i, scale in enumerate(scales)]
    found = {name: value.reshape(count, *SHAPE) for name, value in zip(names, read)}
    if header["predicts"] == "noise":
        numbers = header["lines"]
        found["x0"] = (found["x"] - numbers["sigma"] * found["noise"]) / numbers["root"]
    elif header["lines"]:
        numbers = header["lines"]
        found["noise"] = (found["x"] - numbers["root"] * found["x0"]) / numbers["sigma"]
    return found, np.frombuffer(payload[len(scales) * length :], "<f4").reshape(2, count, 2)


def parts(message):
    """The header and the payload of a message; NaN and Infinity, which are no JSON, are refused."""
    header, payload = message.split("|", 1)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(header, parse_constant=refuse), base64.b64decode(payload, validate=True)


def read_by_script(name):
    return read_in(SCRIPT, name)


# --- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_snr", [-12.0, -1.25, 1.25, 12.0])
@pytest.mark.parametrize(("count", "adds"), [(1, True), (4, False)])
def test_a_frame_decodes_to_its_pictures_at_every_level_and_to_their_paths_in_the_plane(count, adds, log_snr):
    sent = step(count=count, log_snr=log_snr, adds=adds)
    found, paths = pictures(player.frame(sent, 7, CLOUD), count)
    assert found.keys() == {"x", "x0", "noise", *(["added"] if adds else [])}
    for name, received in found.items():
        value = getattr(sent, name)
        assert np.abs(received - value).max() <= 1e-4 * max(np.abs(value).max(), 1)
    for value, received in zip((sent.x, sent.x0), paths, strict=True):
        assert np.array_equal(received, CLOUD(value))


def test_pictures_of_any_size_travel_to_a_part_in_thirty_thousand():
    for size in (1e-3, 1.0, 100.0):
        sent = step(index=0)._replace(x=np.full((4, *SHAPE), -size, np.float32))
        found, _ = pictures(player.frame(sent, 0, CLOUD), 4)
        assert np.abs(found["x"] + size).max() <= 2e-5 * size


def test_black_pictures_travel_without_a_division_by_zero():
    sent = step(index=0)._replace(x=np.zeros((4, *SHAPE), np.float32))
    assert not pictures(player.frame(sent, 0, CLOUD), 4)[0]["x"].any()


def test_the_header_of_a_frame_has_its_numbers():
    header, _ = parts(player.frame(sent := step(), 7, CLOUD))
    expected = {"kind": "frame", "job": 7, "index": 3, "logSnr": -1.25, "seconds": 0.123, "predicts": "x0"}
    assert {name: header[name] for name in expected} == expected
    assert header["alphaBar"] == pytest.approx(1 / (1 + math.exp(1.25)))
    assert Lines(**header["lines"]) == sent.lines


def test_the_last_frame_has_no_lines():
    assert parts(player.frame(step(index=0), 7, CLOUD))[0]["lines"] is None


def test_the_infinite_log_snr_of_the_last_frame_is_null():
    header, _ = parts(player.frame(step(index=0), 7, CLOUD))
    assert header["logSnr"] is None
    assert header["alphaBar"] == 1


# --- start and end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [Run(), Run(label="any", count=7, steps=300, eta=0.5)], ids=["default", "other"])
def test_the_start_tells_the_run_in_all_its_views(run):
    header, payload = parts(player.start(run, 3, ["One note.", 'Another "|" note.']))
    assert payload == b""
    assert (header["kind"], header["job"]) == ("start", 3)
    assert header["run"] == asdict(run)
    assert header["query"] == run.query()
    assert header["notes"] == ["One note.", 'Another "|" note.']
    assert header["frames"] == len(shown(run.steps))
    assert len(header["labels"]) == run.count
    assert all(header["names"][label] for label in header["labels"])


def test_the_name_after_the_last_class_is_that_of_no_label():
    header, _ = parts(player.start(Run(label="any", count=1), 0, []))
    assert [header["names"][label] for label in header["labels"]] == ["no label"]


def test_the_end_tells_its_run_and_its_problem():
    assert parts(shared.end(5)) == ({"kind": "end", "job": 5, "problem": ""}, b"")
    assert parts(shared.end(5, "It failed."))[0]["problem"] == "It failed."


# --- both ends of the wire ------------------------------------------------------------------------------------------


def test_the_headers_hold_all_that_the_script_reads():
    messages = (
        player.start(Run(), 0, []),
        player.frame(step(), 0, CLOUD),
        shared.end(0),
        shared.waiting(QueuePosition(1, 2.0), 0),
    )
    start, frame, end, waiting = (parts(message)[0] for message in messages)
    assert read_by_script("header") <= start.keys() | frame.keys() | end.keys() | waiting.keys()
    assert read_by_script("run") == start.keys() - {"kind"}
    assert read_by_script("run.run") <= start["run"].keys()
    assert read_by_script("frame") <= frame.keys() | {"x", "x0", "noise", "added", "path", "path0"}
    assert {"index", "logSnr", "alphaBar"} <= read_by_script("frame")
    shown = set(re.findall(r'data-value="(\w+)"', (HERE / "algorithm.html").read_text("utf-8")))
    assert read_by_script("lines") | shown - {"t", "log_snr", "eta"} <= set(Lines._fields)


def test_the_player_is_set_up_with_all_that_the_script_reads():
    setup = json.loads(player.player(CLOUD, SHAPE).props["setup"])
    assert read_by_script("setup") == setup.keys()
    assert setup["shape"] == list(SHAPE)
    assert [trace["name"] for trace in setup["plane"]["data"]] == ["a", "b"]


def test_a_run_beyond_a_visitors_share_gets_fewer_pictures_and_the_reason():
    run, notes = within_share(Run(count=25, steps=1000, guidance=2.0), ["Before."])
    assert run == Run(count=12, steps=1000, guidance=2.0)
    assert notes[0] == "Before."
    for part in ("50,000", "25,000", "12 are computed"):
        assert part in notes[1]
    assert within_share(Run(count=25, steps=1000), []) == (Run(count=25, steps=1000), [])
