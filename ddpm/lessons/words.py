"""What settings of several lessons are called on their pages, and what is said of them."""

from __future__ import annotations

from ddpm.schedule import Schedule, alpha_bar, grid

MODEL_NAMES = {"mnist": "digits", "cifar10": "colour pictures"}
"""The image models."""

SAMPLER_NAMES = {
    "ddim": "DDIM … DDPM (by η)",
    "ddpm-beta": "DDPM with the variance β",
    "dpm-solver++": "DPM-Solver++ (2M)",
    "heun": "Heun (asks twice a step)",
    "few-steps": "Few steps: the student",
}
"""The samplers."""

STEPS_INFO = "From noise to data: fewer are faster, more are more accurate."

MOVED_BY = "What predicts x̂₀: the network, or the exact formula."

EXAMPLE_INFO = "The number of the example, which is of class number modulo 10."

NO_ETA = "η belongs to the sampler DDIM … DDPM; the one chosen has none."


def left_over(curve: Schedule) -> list[str]:
    """One sentence if ``curve`` ends before pure noise, from which a run starts all the same."""
    left = float(alpha_bar(grid(curve, 1)[0]))
    if left <= 1e-3:
        return []
    unreached = f"This schedule never reaches pure noise: at t = T, ᾱ = {left:.1%} of the signal's variance is left"
    return [f"{unreached}, but the run starts from pure noise. See what that costs."]
