"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where).

DDPM_CHECKPOINTS names a folder or a repository on the Hub (USER/NAME or USER/NAME@REVISION) whose networks replace the
shipped ones of the same names. DDPM_BACKEND=torch or onnx says what carries out the image networks (default: the faster),
DDPM_JOBS how many visitors' runs are under way at once (default: 32; further ones wait), DDPM_BATCH how many rows share a
forward pass at most (default: what is measured to be fastest). DDPM_ENGINE=ray has DDPM_REPLICAS processes (default: 2)
under Ray Serve carry them out.
DDPM_RATE is how many runs and uploads a second one address may ask for on average (default: 20; 0: no limit), 30 times as
many at once. Behind a proxy DDPM_TRUSTED_PROXY_HEADER names the header with the visitor's address, such as
X-Forwarded-For, and DDPM_TRUSTED_PROXY_HOPS how many proxies add to it (default: 1).
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import sys
from collections.abc import Mapping
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
from ddpm.checkpoint import CheckpointError, load_network, load_projection
from ddpm.data import Projection
from ddpm.engine import MOST_JOBS, Engine
from ddpm.hub import Found, for_app
from ddpm.learning import load_snapshots
from ddpm.line import NETWORK
from ddpm.live import Visits
from ddpm.networks import MLP, UNet
from ddpm.plane import NETWORKS
from ddpm.process import Network
from ddpm.remote import replicated
from ddpm.run import MODELS
from ddpm.ui import curves, guard, learning, likelihood, line, noising, pictures, plane, sessions, train

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

LEARNING = Page("Learning", "learning")

LIKELIHOOD = Page("Likelihood", "likelihood")

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
@media (min-width: 761px) { #to-settings { display: none; } }
@media (max-width: 760px) {
  #stage { flex-direction: column; }
  #label label { padding: 6px 10px; }
  #stage:has(#drawer) #settings { display: contents; }
  #drawer { order: -1; }
}
"""


def build_app() -> gr.Blocks:
    """The page on the checkpoints of DDPM_CHECKPOINTS, or the shipped ones.

    Raises HubError if that cannot be used, CheckpointError or FileNotFoundError if a checkpoint cannot, BackendError if
    DDPM_BACKEND cannot.
    """
    clouds = [f"{model}-projection" for model in PAGES]
    found = for_app(os.environ.get("DDPM_CHECKPOINTS"), CHECKPOINTS, [*PAGES, *clouds, *NETWORKS, NETWORK])
    drawn = {model: _pictures(found, model) for model in PAGES}
    networks, lanes = _served({model: network for model, (network, _) in drawn.items()})
    toys = {name: _points(found, name) for name in (*NETWORKS, NETWORK)}
    trained = {name: load_snapshots(CHECKPOINTS / "snapshots", name) for name in ("unet", "convolutions")}
    batch = _whole("DDPM_BATCH") or fastest_batch(networks["mnist"])
    engine, visits = Engine(batch, _whole("DDPM_JOBS") or MOST_JOBS, lanes), Visits()
    # Pictures and networks that programs ask for are files, which are gone an hour later.
    app = gr.Blocks(title="See a diffusion model work", analytics_enabled=False, delete_cache=(600, 3600))
    for model, (name, path) in PAGES.items():
        with app.route(name, path) if path else app:
            _top(found.problem)
            pictures.lesson(engine, model, networks[model], drawn[model][1])
    with app.route(*LINE):
        _top(found.problem)
        line.lesson(engine, toys[NETWORK])
    with app.route(*PLANE):
        _top(found.problem)
        plane.lesson(engine, {name: toys[name] for name in NETWORKS}, train.mine(visits))
    with app.route(*TRAIN):
        _top(found.problem)
        train.lesson(engine, visits)
    with app.route(*NOISING):
        _top(found.problem)
        noising.lesson(engine, networks)
    with app.route(*SCHEDULES):
        _top(found.problem)
        curves.lesson(engine, dict([*PAGES.values(), LINE, PLANE, NOISING]))
    with app.route(*LEARNING):
        _top(found.problem)
        learning.lesson(engine, trained)
    with app.route(*LIKELIHOOD):
        _top(found.problem)
        likelihood.lesson(engine, {**networks, **toys})
    return app


def _top(problem: str) -> None:
    """What stands above every lesson: the navigation, and a problem with the networks' source if there is one."""
    gr.Navbar(main_page_name=PAGES["mnist"].name)
    if problem:
        gr.Markdown(f"**Note.** {problem}", elem_id="problem")


def _pictures(found: Found, model: str) -> tuple[UNet, Projection]:
    """The network of ``model`` and the plane of its images, which must be of its size."""
    path = found.paths[model]
    network, cloud = load_network(path).network, load_projection(found.paths[f"{model}-projection"])
    fits = isinstance(network, UNet) and network.config.num_classes == len(MODELS[model])
    if not fits or math.prod(network.config.shape) != cloud.axes.shape[1]:
        raise CheckpointError(
            f"{path} is no network for the page {PAGES[model].name}: it must be a U-Net for pictures of "
            f"{cloud.axes.shape[1]} values in {len(MODELS[model])} classes."
        )
    return network, cloud


def _points(found: Found, name: str) -> MLP:
    """The network of the toy ``name``."""
    path, dimensions = found.paths[name], 1 if name == NETWORK else 2
    network = load_network(path).network
    if not isinstance(network, MLP) or network.config.shape != (dimensions,) or network.config.num_classes:
        raise CheckpointError(
            f"{path} is no network for {name}: it must be an MLP on points of {dimensions} dimensions."
        )
    return network


def _served(drawn: Mapping[str, UNet]) -> tuple[dict[str, Network], int]:
    """What carries out the image networks, by model, and how many forward passes it can carry out at the same time."""
    backend, engine = os.environ.get("DDPM_BACKEND") or None, os.environ.get("DDPM_ENGINE") or "local"
    if engine == "local":
        return {model: fast(network, backend) for model, network in drawn.items()}, 1
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
    if text and (not text.isdigit() or int(text) < 1):
        raise ValueError(f"{name} is {text!r}; it must be a whole number of at least 1.")
    return int(text) if text else None


def main() -> None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
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
    sys.setswitchinterval(0.0005)  # the engine has to take over from the page's thread after every forward pass
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
