"""Runs app.py as on a disk that cannot be written: python guard.py LOG; what is refused outside the temporary folder goes to LOG."""

from __future__ import annotations

import errno
import os
import runpy
import sys
import tempfile
from pathlib import Path

TEMPORARY = Path(tempfile.gettempdir()).resolve()
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,),
           "os.truncate": (0,), "os.chmod": (0,)}  # fmt: skip
"""Audit events that change the disk, and which of their arguments are paths."""


def is_written(event: str, arguments: tuple) -> list[object]:
    """The paths that an event of Python's audit would change."""
    if event == "open":
        path, mode, flags = arguments
        return [path] if (flags or 0) & WRITES or set(mode or "") & set("wax+") else []
    return [arguments[place] for place in CHANGES.get(event, ())]


def refuse(event: str, arguments: tuple) -> None:
    for path in is_written(event, arguments):
        if isinstance(path, int) or path is None:
            continue
        place = Path(os.fsdecode(path)).absolute()
        if place == Path(os.devnull) or place.is_relative_to(TEMPORARY) or place.is_relative_to("/dev/shm"):
            continue
        os.write(log, f"{event} {place}\n".encode())
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))


if __name__ == "__main__":
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
    sys.dont_write_bytecode = True
    sys.addaudithook(refuse)
    sys.argv, sys.path[0] = ["app.py"], os.getcwd()
    runpy.run_path("app.py", run_name="__main__")
