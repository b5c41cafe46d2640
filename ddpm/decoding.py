"""From what a picture's file holds to eight bits of red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from PIL import Image, ImageFile, ImageOps

_SCALES: Mapping[object, float] = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
"""How Pillow scales pixels to 8 bits, by its name for what is in a PNG; the transparent colour it leaves as it is there."""


def opaque(image: ImageFile.ImageFile) -> Image.Image:
    """``image`` of any mode, opened and perhaps not decoded yet, in RGB: turned as its file says, on white where it is transparent."""
    return _on_white(_upright(_eight_bits(image)))


def _eight_bits(image: ImageFile.ImageFile) -> Image.Image:
    """``image``, decoded, with 8 bits a channel, and its transparent colour likewise."""
    scale = _SCALES.get(image.tile[0].args) if image.tile else None
    image.load()
    if image.mode.startswith("I;16"):
        return _coarse(image)
    if scale and "transparency" in image.info:
        clear = image.info["transparency"]
        scaled = tuple(int(value * scale) for value in clear) if image.mode == "RGB" else clear * scale
        image.info["transparency"] = scaled
    return image


def _coarse(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits in 8, with what ``image`` says of how it lies."""
    fine, notes = np.asarray(image), dict(image.info)
    clear = notes.pop("transparency", None)
    grey = (fine >> 8).astype(np.uint8)
    alpha = np.where(fine == clear, np.uint8(0), np.uint8(255))
    coarse = Image.fromarray(grey if clear is None else np.stack([grey, alpha], -1))
    coarse.info = notes
    return coarse


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # notes on how it lies that are broken say nothing of the pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    coloured, white = image.convert("RGBA"), Image.new("RGB", image.size, "white")
    white.paste(coloured, mask=coloured)
    return white
