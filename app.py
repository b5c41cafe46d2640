"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where).

DDPM_CHECKPOINTS names a folder or a repository on the Hub (USER/NAME or USER/NAME@REVISION) whose networks replace the
shipped ones of the same names. DDPM_BACKEND=torch or onnx says what carries out the image networks (default: the faster),
DDPM_JOBS how many visitors' runs are under way at once (default: 32); further ones wait.
"""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

# Threads that spin while they wait take a busy neighbour's core: a step of 2 ms then takes 100.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gradio as gr

from ddpm.backend import fast
from ddpm.checkpoint import CheckpointError, load_network, load_projection
from ddpm.data import Projection
from ddpm.engine import MOST_JOBS, Engine
from ddpm.hub import Found, for_app
from ddpm.line import NETWORK
from ddpm.live import Visits
from ddpm.networks import MLP, UNet
from ddpm.plane import NETWORKS
from ddpm.run import MODELS
from ddpm.ui import line, pictures, plane, train

CHECKPOINTS = Path(__file__).parent / "checkpoints"


class Page(NamedTuple):
    """A lesson's name in the navigation and its path below the app's address."""

    name: str
    path: str


PAGES = {"mnist": Page("Digits", ""), "cifar10": Page("Colour pictures", "colour")}
"""By the model that draws on it."""

LINE, PLANE = Page("On the line", "line"), Page("In the plane", "plane")

TRAIN = Page("Train it yourself", "train")

CSS = """
:root, .dark { --body-text-color-subdued: #5b6270; --block-info-text-color: #5b6270; }
.dark { --body-text-color-subdued: #a9b0bd; --block-info-text-color: #a9b0bd; }
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
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
    backend = os.environ.get("DDPM_BACKEND") or None
    clouds = [f"{model}-projection" for model in PAGES]
    found = for_app(os.environ.get("DDPM_CHECKPOINTS"), CHECKPOINTS, [*PAGES, *clouds, *NETWORKS, NETWORK])
    drawn = {model: _pictures(found, model) for model in PAGES}
    toys = {name: _points(found, name) for name in (*NETWORKS, NETWORK)}
    engine, visits = Engine(most=_jobs()), Visits()
    # Pictures and networks that programs ask for are files, which are gone an hour later.
    app = gr.Blocks(title="See a diffusion model work", analytics_enabled=False, delete_cache=(600, 3600))
    for model, (name, path) in PAGES.items():
        with app.route(name, path) if path else app:
            _top(found.problem)
            network, cloud = drawn[model]
            pictures.lesson(engine, model, fast(network, backend), cloud)
    with app.route(*LINE):
        _top(found.problem)
        line.lesson(engine, toys[NETWORK])
    with app.route(*PLANE):
        _top(found.problem)
        plane.lesson(engine, {name: toys[name] for name in NETWORKS}, train.mine(visits))
    with app.route(*TRAIN):
        _top(found.problem)
        train.lesson(engine, visits)
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


def _jobs() -> int:
    text = os.environ.get("DDPM_JOBS") or str(MOST_JOBS)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"DDPM_JOBS is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def main() -> None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ddpm").setLevel(logging.INFO)
    try:
        page = build_app()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"app.py: {error}") from error
    page.queue(max_size=64).launch(
        max_threads=64,
        max_file_size="16mb",
        ssr_mode=False,
        css=CSS,
        theme=gr.themes.Default(),
        run_history=False,
        show_error=False,
    )


if __name__ == "__main__":
    main()
