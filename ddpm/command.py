"""The command ddpm: ddpm serve, sample, train, evaluate and publish run the app and the scripts of a checkout or an installation."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

COMMANDS = {
    "serve": "app.py",
    "sample": "scripts/sample.py",
    "train": "scripts/train.py",
    "evaluate": "scripts/evaluate.py",
    "publish": "scripts/publish.py",
}
"""The programs by the names of the commands, below the folder that holds them."""


def folder() -> Path:
    """Where the programs are: the checkout that this module is in, or what was installed with it.

    Raises FileNotFoundError if they are in neither.
    """
    places = Path(__file__).resolve().parents[1], Path(sysconfig.get_path("data")) / "share" / "ddpm"
    for place in places:
        if (place / COMMANDS["sample"]).is_file():
            return place
    raise FileNotFoundError(f"The programs of ddpm are in neither {places[0]} nor {places[1]}; install it anew.")


def main() -> None:
    """Runs the program that the command line names, in the place of this process."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        wanted = f"{name[:40]!r} is no command of it; they are" if name else "Its commands are"
        sys.exit(f"ddpm {{{','.join(COMMANDS)}}} … : {wanted} {', '.join(COMMANDS)}.")
    program = str(folder() / COMMANDS[name])
    os.execv(sys.executable, [sys.executable, program, *sys.argv[2:]])  # no shell


if __name__ == "__main__":
    main()
