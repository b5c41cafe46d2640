"""Let visitors come and go for an hour, and see that nothing is left behind: python scripts/soak.py --minutes 60.

Clients on this machine run to the end, leave half-way, and upload files that are no pictures or networks. Ends with 1 if
the server's memory grows by more than 5 % after the warm-up, if its temporary folder fills, or if a client meets an
error. With --chromium a page is opened before and used after, when all that visitors' files may keep has expired.
Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import _root  # noqa: F401
from _served import PATIENCE, Server, digits, messages, served
from memory import Left, left
from waiting import ANSWER, GENERATE, opened, ready

if TYPE_CHECKING:
    from typing import Self

SAMPLES = 60
"""How often the server is looked at."""

WARM_UP = 0.25
"""Share of the time until memory is to be flat."""

FILE_SECONDS = 20
"""For how long visitors' files are kept meanwhile, in place of an hour."""

MOST_CLIENTS = 32
MOST_TEMPORARY_KILOBYTES = 2**14

UPLOAD_EVERY = 3.0
"""Seconds from one upload to the next, of all clients: an address may leave 250 files in ten minutes."""

WRONG = [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"GIF89a" + b"\xff" * 999, b"\0" * 2**20]

ROW = "{:7.1f}{:7}{:10.1f}{:9}{:12}{:11}{:9.1f}{:8}"


class Seen(NamedTuple):
    """What is left of the clients' ``runs`` so far, after ``minutes``, and how many errors they have met."""

    minutes: float
    left: Left
    errors: int


def verdict(seen: Sequence[Seen], most_growth: float) -> list[str]:
    """What is wrong, a sentence each: memory after the warm-up against that at the end, the folder, errors."""
    after = [one.left.megabytes for one in seen if one.minutes >= WARM_UP * seen[-1].minutes]
    part = max(1, len(after) // 4)
    before, end = statistics.median(after[:part]), statistics.median(after[-part:])
    problems = []
    if end > before * (1 + most_growth):
        problems.append(f"Memory has grown by {end / before - 1:.1%}, from {before:.0f} to {end:.0f} MB.")
    if (kilobytes := max(one.left.temporary_kilobytes for one in seen)) > MOST_TEMPORARY_KILOBYTES:
        problems.append(
            f"The temporary folder had {kilobytes:,.0f} KB; at most {MOST_TEMPORARY_KILOBYTES:,} are expected."
        )
    if seen[-1].errors:
        problems.append(f"Clients met {seen[-1].errors} errors.")
    return problems


def file_events(url: str) -> list[int]:
    """The numbers of the events that take a file alone, by the app's own description of itself."""
    with urllib.request.urlopen(f"{url}/config", timeout=PATIENCE) as answer:
        config = json.load(answer)
    buttons = {each["id"] for each in config["components"] if each["type"] == "uploadbutton"}
    return [each["id"] for each in config["dependencies"] if each["inputs"] and set(each["inputs"]) <= buttons]


def post(url: str, body: bytes, kind: str) -> object:
    """The JSON that answers a POST. Raises OSError for an error."""
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=PATIENCE) as answer:
        return json.load(answer)


def upload(url: str, event: int, content: bytes, session: str) -> None:
    """Gives the app a file and waits until it has looked at it."""
    head = b'--soak\r\nContent-Disposition: form-data; name="files"; filename="wrong.png"\r\n\r\n'
    form = head + content + b"\r\n--soak--\r\n"
    [path] = post(f"{url}/gradio_api/upload", form, "multipart/form-data; boundary=soak")
    file = {"path": path, "orig_name": "wrong.png", "size": len(content), "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [file], "fn_index": event, "session_hash": session}
    post(f"{url}/gradio_api/queue/join", json.dumps(asked).encode(), "application/json")
    with closing(
        urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE)
    ) as told:
        if not any(b"process_completed" in line for line in told):
            raise OSError("An upload was not answered.")


class Clients:
    """A bounded number of clients, in threads of their own, until they are told to stop."""

    def __init__(self, server: Server, count: int, steps: int):
        self.runs, self.errors = 0, []
        self._server, self._steps, self._events = server, steps, file_events(server.url)
        self._enough, self._lock, self._uploaded_at = threading.Event(), threading.Lock(), 0.0
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _work(self, client: int) -> None:
        for number in itertools.count(client):
            if self._enough.is_set():
                return
            try:
                self._visit(client, number)
            except (OSError, ValueError) as error:
                with self._lock:
                    self.errors.append(f"client {client}: {error}")
                self._enough.wait(1)
            with self._lock:
                self.runs += 1

    def _may_upload(self) -> bool:
        with self._lock:
            may = time.monotonic() >= self._uploaded_at + UPLOAD_EVERY
            if may:
                self._uploaded_at = time.monotonic()
        return may

    def _visit(self, client: int, number: int) -> None:
        kind = number % 3
        if kind == 2 and self._may_upload():
            event, content = self._events[number % len(self._events)], WRONG[number % len(WRONG)]
            return upload(self._server.url, event, content, f"soak{client}x{number}")
        with closing(messages(self._server.url, digits(2, self._steps, number))) as kinds:
            for _ in itertools.islice(kinds, self._steps // 2 if kind == 1 else None):
                pass


def watch(clients: Clients, server: Server, folder: Path, minutes: float) -> Iterator[Seen]:
    """What is seen SAMPLES times in ``minutes``."""
    begun = time.monotonic()
    for sample in range(1, SAMPLES + 1):
        time.sleep(max(0.0, begun + 60 * minutes * sample / SAMPLES - time.monotonic()))
        passed = (time.monotonic() - begun) / 60
        yield Seen(passed, left(clients.runs, server, folder), len(clients.errors))


@contextmanager
def page_before(chromium: Path | None, url: str) -> Iterator[Callable[[], list[str]]]:
    """Opens the first page; yields what uses it afterwards and says what is wrong then. Nothing without a browser."""
    if chromium is None:
        yield list
        return
    with opened(chromium, url) as page:
        ready(page, "/")
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)

        def use() -> list[str]:
            rests = "d.state === 'finished' && d.job !== before.job && d.frames > 0"
            page.evaluate(ANSWER, [GENERATE, rests])
            ready(page, "/noising")
            page.reload()
            broken = page.evaluate(
                "[...document.images].filter(one => one.currentSrc && one.complete && !one.naturalWidth).length"
            )
            return [
                *(f"The page opened before was refused {address}." for address in refused),
                *([f"The page has {broken} broken pictures."] if broken else []),
            ]

        yield use


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--clients", type=int, default=6, help=f"at once, at most {MOST_CLIENTS} (default: 6)")
    parser.add_argument("--steps", type=int, default=10, help="T of each run, of two digits (default: 10)")
    parser.add_argument("--most-growth", type=float, default=5, metavar="PERCENT", help="of memory (default: 5)")
    parser.add_argument("--chromium", type=Path, help="the executable of a browser that has a page open meanwhile")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.minutes <= 0 or options.steps < 2 or not 1 <= options.clients <= MOST_CLIENTS:
        parser.error(f"minutes are more than 0, steps at least 2, clients 1 to {MOST_CLIENTS}")
    if sys.platform != "linux":
        parser.error(f"this machine is {sys.platform}; /proc, which is read, is there on linux only")
    titles = f"{'minutes':>7}{'runs':>7}{'RSS MB':>10}{'threads':>9}{'open files':>12}{'temporary':>11}{'KB':>9}{'errors':>8}"
    print(titles)
    seen: list[Seen] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served({"TMPDIR": folder, "DDPM_RATE": "0", "DDPM_FILE_SECONDS": str(FILE_SECONDS)}) as server,
        page_before(options.chromium, server.url) as use_page,
    ):
        with Clients(server, options.clients, options.steps) as clients:
            for one in watch(clients, server, Path(folder), options.minutes):
                seen.append(one)
                print(ROW.format(one.minutes, *one.left, one.errors), flush=True)
        wrong_page = use_page()
    if options.json:
        rows = [{"minutes": one.minutes, **one.left._asdict(), "errors": one.errors} for one in seen]
        options.json.write_text(json.dumps(rows, indent=1), "utf-8")
    for error in clients.errors[:10]:
        print(error)
    if problems := verdict(seen, options.most_growth / 100) + wrong_page:
        raise SystemExit(" ".join(problems))
    print("Memory is flat, the temporary folder is bounded, and no client met an error.")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"soak.py: {error}") from error
