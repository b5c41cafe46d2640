"""Links that people have kept: what they give is stored, and still so."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "links.py"


@pytest.mark.slow
def test_every_stored_link_gives_what_it_gave():
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=600, check=False)
    if "of another machine" in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout
