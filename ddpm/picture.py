"""Single pictures for the lessons: the examples that the app ships with, a visitor's own file, and both as text."""

from __future__ import annotations

import base64
import io
import re
import threading
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from ddpm.data import SHAPES, to_unit
from ddpm.decoding import opaque

SHEETS = Path(__file__).parent / "examples"
"""One PNG a model: a column a class, as scripts/examples.py makes it."""

EACH = 4
"""Examples a class, the rows of a sheet; example i is of class i mod 10."""

EXAMPLES = 10 * EACH
"""Examples of each model."""

HELD_OUT: dict[str, int] = {"mnist": 25, "cifar10": 10}
"""Test pictures a class that losses and likelihoods are averaged over, in a sheet of their own, NAME-test.png."""

DRAWING, UPLOAD = SHAPES["mnist"], SHAPES["cifar10"]
"""(C, H, W) of a visitor's drawing and of an uploaded picture, as they are kept."""

MOST_BYTES, MOST_PIXELS = 10 * 2**20, 30_000_000
"""Of an uploaded file: larger ones are refused before they are decoded."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_DECODING = threading.Lock()
"""One file is decoded at a time: a large one takes some 250 MB meanwhile."""

_NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG that hold text or a colour profile, which Pillow unpacks, and refuses the file if they are large."""


class PictureError(ValueError):
    """What is wrong with a visitor's file, in one sentence for them."""


@cache
def examples(model: str) -> Tensor:
    """The examples of ``model``, (40, C, H, W) uint8."""
    return _pictures(model, model)


@cache
def held_out(model: str) -> Tensor:
    """Test pictures of ``model`` that losses and likelihoods are averaged over, (N, C, H, W) uint8; number i is of class i mod 10."""
    return _pictures(f"{model}-test", model)


def _pictures(sheet: str, model: str) -> Tensor:
    channels, height, width = SHAPES[model]
    with Image.open(SHEETS / f"{sheet}.png") as image:
        pixels = torch.from_numpy(np.array(image)).reshape(image.height // height, height, -1, width, channels)
    return pixels.permute(0, 2, 4, 1, 3).flatten(0, 1)


def from_file(path: Path) -> Tensor:
    """The picture in a visitor's file, its middle square as UPLOAD (3, 32, 32) uint8, on white where it is transparent.

    Raises PictureError for a file that is too large or no picture.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise PictureError(
            f"The file has {size / 2**20:.1f} MB; a picture may have {MOST_BYTES // 2**20} MB at most: please scale it down."
        )
    try:
        with _DECODING:
            return _read(path.read_bytes())
    except PictureError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for files that are broken
        raise PictureError(
            f"The file cannot be read as a picture; {', '.join(_FORMATS[:-1])} and {_FORMATS[-1]} files can."
        ) from error


def _read(content: bytes) -> Tensor:
    try:
        return _decoded(content)
    except ValueError:  # among others for large notes beside the pixels, which may themselves be fine
        return _decoded(_without_notes(content))


def _without_notes(png: bytes) -> bytes:
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")  # its length, its kind, what it holds, a checksum
        if png[at + 4 : at + 8] not in _NOTES:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _decoded(content: bytes) -> Tensor:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise PictureError(
                f"The picture has {image.width:,} × {image.height:,} pixels; {MOST_PIXELS / 1e6:.0f} million at most "
                "are allowed: please scale it down."
            )
        image.draft("RGB", (256, 256))  # a JPEG is decoded at a fraction of its size
        pixels = opaque(image)
    pixels.thumbnail((1024, 1024))
    square = ImageOps.fit(pixels, (UPLOAD[2], UPLOAD[1]), Image.Resampling.BOX)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def fitted(pixels: Tensor, model: str) -> Tensor:
    """A picture (C, H, W) uint8 as x0 of ``model`` in [−1, 1]: scaled, and grey or in three equal colours where need be."""
    channels, height, width = SHAPES[model]
    x0 = to_unit(pixels)[None]
    if x0.shape[1] > channels:
        x0 = torch.einsum("nchw,c->nhw", x0, torch.tensor([0.299, 0.587, 0.114]))[:, None]  # luma, ITU-R BT.601
    if x0.shape[2:] != (height, width):
        x0 = interpolate(x0, (height, width), mode="bilinear", antialias=True)
    return x0[0].expand(channels, -1, -1).clamp(-1, 1).contiguous()


# --- pictures as text -----------------------------------------------------------------------------------------------


def encode(pixels: Tensor, bits: int) -> str:
    """Pixels uint8 of any shape as base64url, ``bits`` (4 or 8) each: of 4 bits two in a byte, the first one high."""
    values = pixels.flatten().numpy()
    if bits == 4:
        levels = np.rint(values / 17).astype(np.uint8)
        values = levels[::2] << 4 | levels[1::2]
    return base64.urlsafe_b64encode(values.tobytes()).decode().rstrip("=")


def decode(text: str, shape: tuple[int, int, int], bits: int) -> Tensor:
    """What ``encode`` wrote, ``shape`` uint8; black for an empty text."""
    if not text:
        return torch.zeros(shape, dtype=torch.uint8)
    values = np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), np.uint8)
    if bits == 4:
        values = np.stack([values >> 4, values & 15], 1).ravel() * 17
    return torch.from_numpy(values.reshape(shape).copy())


@dataclass(frozen=True)
class Pixels:
    """A setting that is a picture of ``shape`` as ``encode`` writes it with ``bits`` a pixel; empty if there is none."""

    shape: tuple[int, int, int]
    bits: int

    def problem(self, value: object) -> str | None:
        if isinstance(value, str) and (not value or self._is_picture(value)):
            return None
        return f"must be a picture of {self.shape[1]} × {self.shape[2]} pixels, {self.bits} bits each, in base64url"

    def nearest(self, text: str) -> str | None:
        return None if self.problem(text) else text

    def _is_picture(self, text: str) -> bool:
        return len(text) == -(-prod(self.shape) * self.bits // 6) and bool(re.fullmatch(r"[A-Za-z0-9_-]+", text))
