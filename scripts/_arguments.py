"""What an option of a script may be, as argparse's ``type``."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def keep_state(state: Path) -> None:
    """Raises ValueError if a training that begins anew would replace the ``state`` of another."""
    if state.exists():
        raise ValueError(f"{state} holds the state of a training: go on with --resume, or begin anew with --overwrite.")
