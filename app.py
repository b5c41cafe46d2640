"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where).

DDPM_BACKEND=torch or onnx says what carries out the image networks (default: the faster), DDPM_JOBS how many visitors'
runs are under way at once (default: 32; further ones wait), DDPM_BATCH how many rows share a forward pass at most (default:
what is measured to be fastest). DDPM_ENGINE=ray has DDPM_REPLICAS processes (default: 2) under Ray Serve carry them out.
DDPM_RATE is how many runs and uploads a second one address may ask for on average (default: 20; 0: no limit), 30 times as
many at once. Behind a proxy DDPM_TRUSTED_PROXY_HEADER names the header with the visitor's address, such as
X-Forwarded-For, and DDPM_TRUSTED_PROXY_HOPS how many proxies add to it (default: 1).
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

# Threads that spin while they wait take a busy neighbour's core: a step of 2 ms then takes 100.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nothing is told to the makers of the packages, who ask what is used, by whom, and whether it is their newest.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
os.environ |= {"DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
# Whom to believe about visitors' addresses is said by DDPM_TRUSTED_PROXY_HEADER; the server by itself believes loopback.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

import gradio as gr
from starlette.middleware import Middleware

from ddpm.backend import fast, fastest_batch
from ddpm.checkpoint import load_network, load_projection
from ddpm.engine import MOST_JOBS, Engine
from ddpm.line import NETWORK
from ddpm.live import Visits
from ddpm.plane import NETWORKS
from ddpm.process import Network
from ddpm.remote import replicated
from ddpm.ui import curves, guard, line, noising, pictures, plane, sessions, train

CHECKPOINTS = Path(__file__).parent / "checkpoints"


class Page(NamedTuple):
    """A lesson's name in the navigation and its path below the app's address."""

    name: str
    path: str


PAGES = {"mnist": Page("Digits", ""), "cifar10": Page("Colour pictures", "colour")}
"""By the model that draws on it."""

LINE, PLANE = Page("On the line", "line"), Page("In the plane", "plane")

TRAIN = Page("Train it yourself", "train")

NOISING, SCHEDULES = Page("Noising", "noising"), Page("Schedules", "schedules")

CSS = """
:root, .dark { --body-text-color-subdued: #5b6270; --block-info-text-color: #5b6270; }
.dark { --body-text-color-subdued: #a9b0bd; --block-info-text-color: #a9b0bd; }
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
#ask { align-items: stretch; }
@media (min-width: 761px) { #to-settings { display: none; } }
@media (max-width: 760px) {
  #stage { flex-direction: column; }
  #label label { padding: 6px 10px; }
  #stage:has(#drawer) #settings { display: contents; }
  #drawer { order: -1; }
}
"""


def build_app() -> gr.Blocks:
    """The page on the shipped checkpoints.

    Raises CheckpointError or FileNotFoundError if one cannot be used, BackendError if DDPM_BACKEND cannot.
    """
    networks, lanes = _networks()
    clouds = {model: load_projection(CHECKPOINTS / f"{model}-projection.safetensors") for model in PAGES}
    toys = {name: load_network(CHECKPOINTS / f"{name}.safetensors").network for name in NETWORKS}
    batch = _whole("DDPM_BATCH") or fastest_batch(networks["mnist"])
    engine, visits = Engine(batch, _whole("DDPM_JOBS") or MOST_JOBS, lanes), Visits()
    app = gr.Blocks(title="See a diffusion model work", analytics_enabled=False)
    for model, (name, path) in PAGES.items():
        with app.route(name, path) if path else app:
            gr.Navbar(main_page_name=PAGES["mnist"].name)
            pictures.lesson(engine, model, networks[model], clouds[model])
    with app.route(*LINE):
        gr.Navbar(main_page_name=PAGES["mnist"].name)
        line.lesson(engine, load_network(CHECKPOINTS / f"{NETWORK}.safetensors").network)
    with app.route(*PLANE):
        gr.Navbar(main_page_name=PAGES["mnist"].name)
        plane.lesson(engine, toys, train.mine(visits))
    with app.route(*TRAIN):
        gr.Navbar(main_page_name=PAGES["mnist"].name)
        train.lesson(engine, visits)
    with app.route(*NOISING):
        gr.Navbar(main_page_name=PAGES["mnist"].name)
        noising.lesson(engine, networks)
    with app.route(*SCHEDULES):
        gr.Navbar(main_page_name=PAGES["mnist"].name)
        curves.lesson(engine, dict([*PAGES.values(), LINE, PLANE, NOISING]))
    return app


def _networks() -> tuple[dict[str, Network], int]:
    """The image networks by model, and how many forward passes they can carry out at the same time."""
    backend, engine = os.environ.get("DDPM_BACKEND") or None, os.environ.get("DDPM_ENGINE") or "local"
    shipped = {model: load_network(CHECKPOINTS / f"{model}.safetensors").network for model in PAGES}
    if engine == "local":
        return {model: fast(network, backend) for model, network in shipped.items()}, 1
    if engine != "ray":
        raise ValueError(f"DDPM_ENGINE is {engine!r}; allowed are local and ray.")
    replicas, until_exit = _whole("DDPM_REPLICAS") or 2, ExitStack()
    atexit.register(until_exit.close)
    try:
        return until_exit.enter_context(replicated(shipped, replicas, backend)), replicas
    except ImportError as error:
        raise ValueError(f"DDPM_ENGINE=ray needs pip install -r requirements-ray.txt ({error}).") from error


def _whole(name: str) -> int | None:
    """The number in the environment's ``name``, None if it is not set."""
    text = os.environ.get(name)
    if text and (not text.isdigit() or int(text) < 1):
        raise ValueError(f"{name} is {text!r}; it must be a whole number of at least 1.")
    return int(text) if text else None


def main() -> None:
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("ddpm").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what is to be done at exit is done
    guard.own_folder()
    atexit.register(guard.remove_folder)
    try:
        limits = guard.Limits.from_environment(os.environ)
        page = build_app()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"app.py: {error}") from error
    sessions.lighten()
    guard.stay_home()
    page.queue(max_size=64, api_open=False).launch(
        app_kwargs={"middleware": [Middleware(guard.Guard, limits=limits)], "openapi_url": None},
        max_threads=64,
        max_file_size=guard.MOST_FILE_BYTES,
        state_session_capacity=1000,
        ssr_mode=False,
        css=CSS,
        theme=gr.themes.Default(),
        run_history=False,
        show_error=False,
    )


if __name__ == "__main__":
    main()
