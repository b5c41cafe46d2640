"""What every script imports first: it makes ``ddpm`` importable, and output safe, wherever the script is called from."""

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if isinstance(sys.stdout, io.TextIOWrapper):
    # What a terminal's encoding lacks is written as \u03b5, as on stderr: a run that is done does not end as an error.
    sys.stdout.reconfigure(errors="backslashreplace")
