"""The soak: its verdict on what it has seen, and a short one on the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "scripts"))

from memory import Left
from soak import MOST_TEMPORARY_KILOBYTES, Seen, verdict


def seen(megabytes, kilobytes=1.0, errors=0):
    rows = enumerate(megabytes, 1)
    return [Seen(minute, Left(10 * minute, each, 9, 20, 3, kilobytes), errors) for minute, each in rows]


def test_memory_that_grows_in_the_warm_up_alone_is_flat():
    assert verdict(seen([100, 300, 500, 500] + [500] * 12), 0.05) == []


@pytest.mark.parametrize(("end", "problems"), [(520, 0), (540, 1)])
def test_memory_may_grow_by_five_percent_and_no_more(end, problems):
    assert len(verdict(seen([500] * 16 + [end] * 8), 0.05)) == problems


def test_a_peak_in_between_is_no_growth():
    assert verdict(seen([500] * 10 + [800] + [500] * 10), 0.05) == []


def test_a_full_folder_and_errors_are_told():
    assert "KB" in verdict(seen([500] * 9, kilobytes=MOST_TEMPORARY_KILOBYTES + 1), 0.05)[0]
    assert verdict(seen([500] * 9, errors=3), 0.05) == ["Clients met 3 errors."]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the soak reads /proc")
def test_visitors_who_run_leave_and_upload_wrong_files_meet_no_error(tmp_path):
    report = tmp_path / "soak.json"
    options = ["--minutes", "0.5", "--clients", "3", "--most-growth", "50", "--json", report]  # too short to be flat
    command = [sys.executable, ROOT / "scripts" / "soak.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads(report.read_text())
    assert rows[-1]["runs"] >= 6
    assert rows[-1]["errors"] == 0
    assert rows[-1]["temporary_kilobytes"] < 2**11  # the largest upload has 2**10, and all alike are one file
