"""Visitors' files: where they lie, how many they may be, and when they go."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gradio.utils import get_upload_folder

from ddpm.page.shares import Full

UPLOAD_SECONDS = 600.0
"""How long a file that nobody took is kept."""

SWEEP_SECONDS = 30.0
"""From one look through the files to the next."""

MOST_STORED_BYTES, MOST_STORED_FILES = 2**29, 1000
"""That all visitors' files may hold, and how many they may be; an address may have left a quarter of either."""


def own_folder() -> None:
    """Has Gradio keep visitors' files in a new folder, which nobody else on this machine can read, in its usual place."""
    above = os.environ.get("GRADIO_TEMP_DIR") or None
    if above:
        Path(above).mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="ddpm-", dir=above)


def remove_folder() -> None:
    """Removes what ``own_folder`` has made."""
    shutil.rmtree(get_upload_folder(), ignore_errors=True)


class Stored(NamedTuple):
    """What lies in a folder."""

    files: int
    bytes: int


def sweep(folder: Path, began: float) -> Stored:
    """Removes what has lain in ``folder`` for UPLOAD_SECONDS; returns what stays.

    What lay there before ``began``, in seconds since 1970, is the app's own, such as its icons, and stays uncounted.
    """
    files, kept, now = 0, 0, time.time()
    for path in list(folder.rglob("*")) if folder.is_dir() else []:
        try:
            about = path.stat()
            if about.st_mtime < began:
                continue
            if now - about.st_mtime <= UPLOAD_SECONDS:
                files, kept = files + path.is_file(), kept + about.st_size
            elif path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        except OSError:  # Gradio was quicker, or the folder is not empty
            continue
    return Stored(files, kept)


class Upload(NamedTuple):
    """A file that an address has left: when, in the clock's seconds, who, and its bytes."""

    at: float
    who: str
    bytes: int


class Shelf:
    """Counts visitors' files by address and in all, and sweeps ``folder`` now and then.

    In all there is what the last sweep found, and what has come since.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic):
        self._folder, self._began, self._clock = folder, time.time(), clock
        self._swept_at, self._found = clock(), Stored(0, 0)
        self._recent: deque[Upload] = deque()

    def start(self) -> None:
        """Sweeps every SWEEP_SECONDS from now on, in a thread that ends with the process."""

        def keep_sweeping() -> None:
            while True:
                time.sleep(SWEEP_SECONDS)
                self.sweep()

        threading.Thread(target=keep_sweeping, name="sweep", daemon=True).start()

    def sweep(self) -> None:
        begun = self._clock()
        found = sweep(self._folder, self._began)
        self._swept_at, self._found = begun, found

    def take(self, who: str, size: int) -> None:
        """Counts a file of ``size`` bytes that ``who`` leaves. Raises Full if there is no room for it."""
        now = self._clock()
        while self._recent and now - self._recent[0].at > UPLOAD_SECONDS:
            self._recent.popleft()
        own = [upload.bytes for upload in self._recent if upload.who == who]
        if 4 * (len(own) + 1) > MOST_STORED_FILES or 4 * (sum(own) + size) > MOST_STORED_BYTES:
            raise Full(429, "Your address has sent as many files as it may for now; please try again in some minutes.")
        since = [upload.bytes for upload in self._recent if upload.at >= self._swept_at]
        files = max(self._found.files + len(since), len(self._recent)) + 1
        if files > MOST_STORED_FILES or self._found.bytes + sum(since) + size > MOST_STORED_BYTES:
            raise Full(503, "There is no room for more files just now; please try again in some minutes.")
        self._recent.append(Upload(now, who, size))
