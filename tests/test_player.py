import base64
import json
import math
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ddpm.data import Projection
from ddpm.engine import Frame, Place
from ddpm.run import Run, shown
from ddpm.ui.components import player, shared
from ddpm.ui.components.player import VALUE_SCALE
from ddpm.ui.pictures import within_share

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
SCRIPT = "".join(
    (Path(player.__file__).parent / name).read_text("utf-8") for name in ("shared.js", "clock.js", "player.js")
)


def step(index=3, count=4, scale=2.0):
    x, x0 = random.normal(scale=scale, size=(2, count, *SHAPE)).astype(np.float32)
    return Frame(index, -1.25 if index else math.inf, 0.3 if index else 1.0, x, x0, 0.1234567)


def parts(message):
    """The header and the payload of a message; NaN and Infinity, which are no JSON, are refused."""
    header, payload = message.split("|", 1)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(header, parse_constant=refuse), base64.b64decode(payload, validate=True)


def read_by_script(pattern):
    """The names that the browser's script reads where ``pattern`` matches before them."""
    return set(re.findall(rf"(?<![\w.]){pattern}\.(\w+)", SCRIPT))


# --- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
def test_a_frame_decodes_to_its_pictures_and_to_their_paths_in_the_plane(count):
    sent = step(count=count)
    _, payload = parts(player.frame(sent, 7, CLOUD))
    pixels, paths = payload[: -16 * count], payload[-16 * count :]
    for value, received in zip((sent.x, sent.x0), np.frombuffer(pixels, "<i2").reshape(2, count, *SHAPE), strict=True):
        assert np.abs(received / VALUE_SCALE - value).max() <= 1 / 8192
    for value, received in zip((sent.x, sent.x0), np.frombuffer(paths, "<f4").reshape(2, count, 2), strict=True):
        assert np.array_equal(received, CLOUD(value))


def test_pixels_beyond_the_range_of_a_frame_are_clipped_not_wrapped():
    sent = step()._replace(x=np.full((1, *SHAPE), 100, np.float32), x0=np.full((1, *SHAPE), -100, np.float32))
    pixels = np.frombuffer(parts(player.frame(sent, 0, CLOUD))[1][:24], "<i2")
    assert pixels.tolist() == [32767] * 6 + [-32768] * 6


def test_the_header_of_a_frame_has_its_numbers():
    header, _ = parts(player.frame(step(), 7, CLOUD))
    expected = {"kind": "frame", "job": 7, "index": 3, "logSnr": -1.25, "alphaBar": 0.3, "seconds": 0.123}
    assert header == expected


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
        shared.waiting(Place(1, 2.0), 0),
    )
    start, frame, end, waiting = (parts(message)[0] for message in messages)
    assert read_by_script("header") <= start.keys() | frame.keys() | end.keys() | waiting.keys()
    assert read_by_script("run") == start.keys() - {"kind"}
    assert read_by_script("run.run") <= start["run"].keys()
    assert read_by_script("frame") <= frame.keys() | {"x", "x0", "path", "path0"}
    assert {"index", "logSnr", "alphaBar"} <= read_by_script("frame")


def test_the_player_is_set_up_with_all_that_the_script_reads():
    setup = json.loads(player.player(CLOUD, SHAPE).props["setup"])
    assert read_by_script("setup") == setup.keys()
    assert setup["shape"] == list(SHAPE)
    assert setup["scale"] == VALUE_SCALE
    assert [trace["name"] for trace in setup["plane"]["data"]] == ["a", "b"]


def test_a_run_beyond_a_visitors_share_gets_fewer_pictures_and_the_reason():
    run, notes = within_share(Run(count=25, steps=1000, guidance=2.0), ["Before."])
    assert run == Run(count=12, steps=1000, guidance=2.0)
    assert notes[0] == "Before."
    for part in ("50,000", "25,000", "12 are computed"):
        assert part in notes[1]
    assert within_share(Run(count=25, steps=1000), []) == (Run(count=25, steps=1000), [])
