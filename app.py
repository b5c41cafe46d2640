"""The app: python app.py serves it on port 7860 (GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change where)."""

from __future__ import annotations

import os
from pathlib import Path

# Threads that spin while they wait take a busy neighbour's core: a step of 2 ms then takes 100.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gradio as gr
import torch

from ddpm.checkpoint import CheckpointError, load_network, load_projection
from ddpm.engine import Engine
from ddpm.ui import digits

CHECKPOINTS = Path(__file__).parent / "checkpoints"

CSS = """
:root, .dark { --body-text-color-subdued: #5b6270; --block-info-text-color: #5b6270; }
.dark { --body-text-color-subdued: #a9b0bd; --block-info-text-color: #a9b0bd; }
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
#ask { align-items: stretch; }
@media (min-width: 761px) { #to-settings { display: none; } }
@media (max-width: 760px) {
  #stage { flex-direction: column; }
  #label label { padding: 6px 10px; }
}
"""


def build_app() -> gr.Blocks:
    """The page on the shipped checkpoints. Raises CheckpointError or FileNotFoundError if one cannot be used."""
    network = load_network(CHECKPOINTS / "mnist.safetensors").network
    network.to(memory_format=torch.channels_last)
    cloud = load_projection(CHECKPOINTS / "mnist-projection.safetensors")
    engine = Engine({"mnist": network}.__getitem__)
    with gr.Blocks(title="See a diffusion model work", analytics_enabled=False) as page:
        digits.lesson(engine, cloud, network.config.shape)
    return page


def main() -> None:
    try:
        page = build_app()
    except (CheckpointError, FileNotFoundError) as error:
        raise SystemExit(f"app.py: {error}") from error
    page.queue(max_size=64).launch(
        max_threads=64, ssr_mode=False, css=CSS, theme=gr.themes.Default(), run_history=False, show_error=False
    )


if __name__ == "__main__":
    main()
