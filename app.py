"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where).

DDPM_BACKEND=torch or onnx says what carries out the image networks (default: the faster), DDPM_JOBS how many visitors'
runs are under way at once (default: 32); further ones wait.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

# Threads that spin while they wait take a busy neighbour's core: a step of 2 ms then takes 100.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gradio as gr

from ddpm.backend import fast
from ddpm.checkpoint import load_network, load_projection
from ddpm.engine import MOST_JOBS, Engine
from ddpm.line import NETWORK
from ddpm.live import Visits
from ddpm.plane import NETWORKS
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
.gradio-container { max-width: 1400px !important; margin: 0 auto; overflow: clip !important; }
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
    backend = os.environ.get("DDPM_BACKEND") or None
    networks = {model: fast(load_network(CHECKPOINTS / f"{model}.safetensors").network, backend) for model in PAGES}
    clouds = {model: load_projection(CHECKPOINTS / f"{model}-projection.safetensors") for model in PAGES}
    toys = {name: load_network(CHECKPOINTS / f"{name}.safetensors").network for name in NETWORKS}
    engine, visits = Engine(most=_jobs()), Visits()
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
    return app


def _jobs() -> int:
    text = os.environ.get("DDPM_JOBS") or str(MOST_JOBS)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"DDPM_JOBS is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def main() -> None:
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
