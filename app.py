"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where, and
GRADIO_ROOT_PATH says below which path a proxy shows it).

DDPM_CHECKPOINTS names a folder or a repository on the Hub (USER/NAME or USER/NAME@REVISION) whose networks replace the
shipped ones of the same names. DDPM_BACKEND=torch or onnx says what carries out the networks (default: the faster),
DDPM_JOBS how many visitors' runs are under way at once (default: 32; further ones wait), DDPM_BATCH how many rows share a
forward pass at most (default: what is measured to be fastest). DDPM_ENGINE=ray has DDPM_REPLICAS processes (default: 2)
under Ray Serve carry them out.
DDPM_FILE_SECONDS is for how long the files that visitors bring and programs get are kept (default: 3600).
DDPM_RATE is how many runs and uploads a second one address may ask for on average (default: 20; 0: no limit), 30 times as
many at once. Behind a proxy DDPM_TRUSTED_PROXY_HEADER names the header with the visitor's address, such as
X-Forwarded-For, and DDPM_TRUSTED_PROXY_HOPS how many proxies add to it (default: 1). It is believed of connections from
DDPM_TRUSTED_PROXIES alone, networks with commas between (default: this machine and private networks).
DDPM_HOSTS names the hosts under which visitors reach the app, such as diffusion.example.org or *.example.org, with commas
between; IP addresses, local names and a Space's own are known.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

# Threads that spin while they wait take a busy neighbour's core, and a step of 2 ms then takes 100; those that sleep at
# once halve the speed of small steps. So they spin for about a tenth of a millisecond.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Nothing is told to the makers of the packages, who ask what is used, by whom, and whether it is their newest.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
os.environ |= {"DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
# Whom to believe about visitors' addresses is said by DDPM_TRUSTED_PROXY_HEADER; the server by itself believes loopback.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

from ddpm.page import place

try:
    WHERE = place.Where.from_environment(os.environ)
except ValueError as error:
    raise SystemExit(f"app.py: {error}") from error
# Gradio reads them, too, at its import, and makes less of them.
os.environ[place.ROOT] = WHERE.root
for _name in (place.NAME, place.PORT):
    os.environ.pop(_name, None)

import gradio as gr
import torch
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from ddpm import machine
from ddpm.lessons.models import Models, load_models, serve
from ddpm.lessons.tour import LESSONS
from ddpm.lessons.train.page import mine
from ddpm.lessons.train.run import AT_ONCE, TRAINING
from ddpm.lessons.train.sessions import VisitorSessions
from ddpm.networks import Configured
from ddpm.page import gradio_patches, guard, uploads
from ddpm.page.blocks import Blocks
from ddpm.page.builder import House, Page
from ddpm.page.components.lecture import PAGE_CSS, lecture
from ddpm.page.hosts import Hosts
from ddpm.page.missing import answer_where_nothing_is
from ddpm.page.routes import routes
from ddpm.page.still import Still
from ddpm.process import Network
from ddpm.serving.backend import fastest_batch
from ddpm.serving.engine import MOST_IN_ALL, MOST_JOBS, Engine
from ddpm.serving.remote import replicated

CHECKPOINTS = Path(__file__).parent / "checkpoints"

MOST_EVENTS = MOST_IN_ALL + 128
"""Of visitors that Gradio carries out at once: all that the engine takes, so that the events of one address, of which the
engine takes fewer, leave room for those of others, and some that ask the engine for nothing."""

FONT = (gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif")
"""Gradio's own, whose file of the weight 600 has few letters."""

CSS = """
:root, .dark { --body-text-color-subdued: #5b6270; --block-info-text-color: #5b6270; }
.dark { --body-text-color-subdued: #a9b0bd; --block-info-text-color: #a9b0bd; }
:root, .dark { --button-primary-background-fill: #c2410c; --button-primary-background-fill-hover: #9a3412; }
html, body { background: var(--body-background-fill); }
.katex { white-space: normal !important; }
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { animation-duration: 0.01ms !important; transition-duration: 0.01ms !important; }
}
.gradio-container { max-width: 1400px !important; margin: 0 auto; overflow: clip !important; }
#problem { border-left: 4px solid #d97706; padding: 4px 12px; }
#ask { align-items: stretch; }
#dice::before { content: ""; width: 1.2em; height: 1.2em; margin-right: 0.4em; flex: none;
  background: url("data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 24 24%22%3E%3Crect x=%222%22 y=%222%22 width=%2220%22 height=%2220%22 rx=%224%22 fill=%22%23888%22/%3E%3Cg fill=%22%23fff%22%3E%3Ccircle cx=%227.5%22 cy=%227.5%22 r=%222%22/%3E%3Ccircle cx=%2216.5%22 cy=%227.5%22 r=%222%22/%3E%3Ccircle cx=%2212%22 cy=%2212%22 r=%222%22/%3E%3Ccircle cx=%227.5%22 cy=%2216.5%22 r=%222%22/%3E%3Ccircle cx=%2216.5%22 cy=%2216.5%22 r=%222%22/%3E%3C/g%3E%3C/svg%3E") center / contain no-repeat; }
@media (min-width: 761px) { #to-settings { display: none; } }
@media (max-width: 760px) {
  #stage { flex-direction: column; }
  #label label { padding: 6px 10px; }
  #stage:has(#drawer) #settings { display: contents; }
  #drawer { order: -1; }
}
"""


PAGES = {lesson.path: lesson.name for lesson in LESSONS}
"""The names of the pages by their paths, below the app's address."""


def build_app() -> tuple[gr.Blocks, Engine]:
    """The pages on the checkpoints of DDPM_CHECKPOINTS, or the shipped ones, and the engine that they ask.

    Raises HubError if that cannot be used, CheckpointError or FileNotFoundError if a checkpoint cannot, BackendError if
    DDPM_BACKEND cannot, ValueError for another variable that is wrong.
    """
    loaded = load_models(os.environ.get("DDPM_CHECKPOINTS"), CHECKPOINTS)
    networks, parallel_batches = _served(loaded.pictures)
    points = serve(loaded.points, os.environ.get("DDPM_BACKEND") or None)
    models = Models(networks, loaded.clouds, points, loaded.snapshots, loaded.problem)
    batch = _whole("DDPM_BATCH") or fastest_batch(networks["mnist"])
    engine = Engine(batch, _whole("DDPM_JOBS") or MOST_JOBS, parallel_batches, {TRAINING: AT_ONCE})
    atexit.register(engine.close)
    visits = VisitorSessions()
    house = House(engine, models, visits, mine(visits), LESSONS)
    # Pictures and networks that programs ask for are files, which are gone some time later.
    seconds = _whole("DDPM_FILE_SECONDS") or 3600
    expiry = max(1, seconds // 6), seconds
    app = Blocks(title="See a diffusion model work", analytics_enabled=False, delete_cache=expiry)
    for lesson in LESSONS:
        with app.route(lesson.name, lesson.path) if lesson.path else app:
            gr.Navbar(main_page_name=LESSONS[0].name)
            lecture({one.path: one.first for one in LESSONS})
            if models.problem:
                gr.Markdown(f"**Note.** {models.problem}", elem_id="problem")
            Page(lesson, house).build()
    return app, engine


def _served(drawn: Mapping[str, Configured]) -> tuple[Mapping[str, Network], int]:
    """What carries out the image networks, by model, and how many forward passes it can carry out at the same time."""
    backend, engine = os.environ.get("DDPM_BACKEND") or None, os.environ.get("DDPM_ENGINE") or "local"
    if engine == "local":
        return serve(drawn, backend), 1
    if engine != "ray":
        raise ValueError(f"DDPM_ENGINE is {engine!r}; allowed are local and ray.")
    replicas, until_exit = _whole("DDPM_REPLICAS") or 2, ExitStack()
    atexit.register(until_exit.close)
    try:
        return until_exit.enter_context(replicated(drawn, replicas, backend)), replicas
    except ImportError as error:
        raise ValueError(f"DDPM_ENGINE=ray needs pip install -r requirements-ray.txt ({error}).") from error


def _whole(name: str) -> int | None:
    """The number in the environment's ``name``, None if it is not set."""
    text = os.environ.get(name)
    return place.whole(text, name) if text else None


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ddpm").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what is to be done at exit is done
    uploads.own_folder()
    atexit.register(uploads.remove_folder)
    torch.set_num_threads(machine.threads())
    try:
        gradio_patches.check_version()
        WHERE.check()
        limits, hosts = (
            guard.Limits.from_environment(os.environ),
            Hosts.from_environment({**os.environ, place.NAME: WHERE.host}),
        )
        page, engine = build_app()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"app.py: {error}") from error
    page.queue(max_size=64, api_open=False)
    gradio_patches.patch_gradio_sessions(page)
    gradio_patches.forbid_outgoing_requests()
    gradio_patches.answer_own_origin_alone()
    gradio_patches.take_one_file_an_upload()
    shelf = uploads.Shelf(Path(get_upload_folder()))
    shelf.start()
    sys.setswitchinterval(0.0005)  # the engine has to take over from the page's thread after every forward pass
    page.launch(
        app_kwargs={
            "middleware": [
                Middleware(guard.Guard, limits=limits, hosts=hosts, full=engine.full, shelve=shelf.take),
                Middleware(Still, pages=frozenset(PAGES)),
            ],
            "routes": routes(PAGES),
            "exception_handlers": {404: answer_where_nothing_is(PAGES)},
            "openapi_url": None,
        },
        server_name=WHERE.name,
        server_port=WHERE.port,
        root_path=WHERE.root,
        max_threads=MOST_EVENTS,
        max_file_size=guard.MOST_FILE_BYTES,
        state_session_capacity=1000,
        ssr_mode=False,
        css=CSS + PAGE_CSS,
        theme=gr.themes.Default(font=FONT),
        run_history=False,
        show_error=False,
        prevent_thread_lock=True,
    )
    gradio_patches.drop_the_deaf(page)
    gc.freeze()  # else all that has been made so far is searched for garbage now and then, and everybody waits
    page.block_thread()


if __name__ == "__main__":
    main()
