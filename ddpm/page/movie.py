"""A run's drawn pictures as one file that moves: GIF or WebP."""

from __future__ import annotations

import io
import zipfile

from PIL import Image

KINDS = {"gif": {}, "webp": {"lossless": True, "quality": 0, "method": 0}}
"""The kinds of file, each with what Pillow is told; WebP without loss, for its pixels and because that is the faster."""

MOST_BYTES, MOST_PICTURES, MOST_PIXELS = 32 * 2**20, 101, 80_000_000
"""Of what is sent for one file: bytes, pictures, and pixels of all of them."""

LAST = 1500
"""Milliseconds for which the last picture stands before the first comes again."""

LEAST = 20
"""Milliseconds a picture: browsers take a GIF's shorter ones for an error and show them for 100."""


class MovieError(ValueError):
    """What was sent makes no file, in a sentence for the visitor."""


def movie(archive: bytes, kind: str, rate: float) -> bytes:
    """The PNG pictures in a zip without compression, in their order, as a file of ``kind`` with ``rate`` pictures a second.

    Raises MovieError for a kind, a rate or an archive that is not allowed, or cannot be read.
    """
    if kind not in KINDS:
        raise MovieError(f"The kind of file is {kind[:20]!r}; it must be {' or '.join(KINDS)}.")
    if not 1 <= rate <= 60:
        raise MovieError(f"The rate is {rate:g} pictures a second; it must be from 1 to 60.")
    if len(archive) > MOST_BYTES:
        raise MovieError(
            f"The pictures have more than {MOST_BYTES // 2**20} MB in all; please make the window smaller."
        )
    try:
        return _encode(_pictures(archive), kind, max(1000 / rate, LEAST))
    except MovieError:
        raise
    except Exception as error:  # zipfile and Pillow raise many kinds for what is broken
        raise MovieError("The pictures cannot be read; they must be PNG files in a zip without compression.") from error


def _pictures(archive: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        entries = file.infolist()
        if not 1 <= len(entries) <= MOST_PICTURES:
            raise MovieError(f"There are {len(entries)} pictures; there must be 1 to {MOST_PICTURES}.")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise MovieError("The zip is compressed; it must not be.")
        if sum(entry.file_size for entry in entries) > len(archive):  # entries that share their bytes
            raise MovieError("The zip has more bytes inside than outside; its pictures must lie one after the other.")
        pictures = [file.read(entry) for entry in entries]
    sizes = [_open(picture).size for picture in pictures]  # without decoding them yet
    if len(set(sizes)) > 1:
        raise MovieError(f"The pictures differ in size: {sizes[0]} and {next(s for s in sizes if s != sizes[0])}.")
    if (pixels := sum(width * height for width, height in sizes)) > MOST_PIXELS:
        raise MovieError(f"The pictures have {pixels:,} pixels in all; {MOST_PIXELS:,} are allowed.")
    return pictures


def _open(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture), formats=["PNG"])


def _encode(pictures: list[bytes], kind: str, milliseconds: float) -> bytes:
    decoded = (_open(picture).convert("RGB") for picture in pictures)
    durations = [round(milliseconds)] * (len(pictures) - 1) + [LAST]
    file = io.BytesIO()
    next(decoded).save(file, kind, save_all=True, append_images=decoded, duration=durations, loop=0, **KINDS[kind])
    return file.getvalue()
