"""Single pictures: the shipped examples, visitors' files, and pictures as text."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.lessons.models import MODELS
from ddpm.picture import (
    DRAWING,
    EACH,
    MOST_BYTES,
    MOST_PIXELS,
    SHAPES,
    UPLOAD,
    PictureError,
    Pixels,
    decode,
    encode,
    examples,
    fitted,
    from_file,
)
from ddpm.process import seeded


def file(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def halves(width=80, height=40):
    """Left of the middle red, right of it blue, with black beyond the middle square."""
    image = Image.new("RGB", (width, height))
    image.paste("red", (width // 2 - height // 2, 0, width // 2, height))
    image.paste("blue", (width // 2, 0, width // 2 + height // 2, height))
    return image


@pytest.mark.parametrize("model", MODELS)
def test_every_class_of_a_model_has_its_examples_and_no_two_are_alike(model):
    found = examples(model)
    assert found.shape == (EACH * len(MODELS[model]), *SHAPES[model]) and found.dtype == torch.uint8
    assert len({picture.numpy().tobytes() for picture in found}) == len(found)
    assert fitted(found[0], model).shape == SHAPES[model]


@pytest.mark.parametrize(
    "options", [{}, {"name": "a.jpg", "quality": 95}, {"name": "a.webp", "lossless": True}], ids=str
)
def test_of_a_file_the_middle_square_is_kept(tmp_path, options):
    pixels = from_file(file(tmp_path, halves(), **options)).int()
    assert pixels.shape == UPLOAD
    for columns, colour in ((slice(0, 15), (255, 0, 0)), (slice(17, 32), (0, 0, 255))):
        part = pixels[:, :, columns].float().mean((1, 2))
        assert torch.allclose(part, torch.tensor(colour).float(), atol=12)


def test_a_photograph_that_lies_on_its_side_is_set_upright(tmp_path):
    image = halves(40, 40)
    image.getexif()[0x0112] = 6  # turn clockwise by a quarter
    pixels = from_file(file(tmp_path, image, exif=image.getexif()))
    assert pixels[0, :15].float().mean() > 250 and pixels[2, 17:].float().mean() > 250


def test_what_is_transparent_becomes_white(tmp_path):
    assert (from_file(file(tmp_path, Image.new("RGBA", (50, 50), (0, 0, 0, 0)))) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_usual_kind_of_picture_is_read(tmp_path, mode):
    image = halves().convert(mode)
    pixels = from_file(file(tmp_path, image, "a.jpg" if mode == "CMYK" else "a.png")).float()
    assert pixels.shape == UPLOAD
    for columns, x in ((slice(0, 15), 30), (slice(17, 32), 50)):
        colour = torch.tensor(
            image.convert("RGB").crop((x - 8, 12, x + 8, 28)).resize((1, 1), Image.BOX).getpixel((0, 0))
        )
        assert torch.allclose(pixels[:, 8:24, columns].mean((1, 2)), colour.float(), atol=12)


def test_a_grey_picture_of_sixteen_bits_is_that_of_eight(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint16), (256, 1))
    fine = from_file(file(tmp_path, Image.fromarray(ramp * 257), "fine.png"))
    assert torch.equal(fine, from_file(file(tmp_path, Image.fromarray(ramp.astype(np.uint8)), "coarse.png")))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(side, depth=8, colour=2, pixels=b"", notes=b""):
    """A PNG of ``side``² pixels, ``depth`` bits a channel, grey (0) or in colour (2), with ``notes`` before its pixels."""
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + notes + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png():
    held = io.BytesIO()
    Image.effect_noise((90, 90), 90).save(held, "PNG")
    return held.getvalue()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA"])
def test_a_thin_line_of_a_large_picture_is_as_faint_in_every_kind_as_in_grey(tmp_path, mode):
    line = np.full((3000, 3000), 255, np.uint8)
    line[:, 1450:1452] = 0
    image = Image.fromarray(line)
    grey, other = (from_file(file(tmp_path, one)).int() for one in (image, image.convert(mode)))
    assert grey.min() == 249 and abs(other - grey).max() <= 1


def test_a_grey_picture_of_sixteen_bits_is_set_upright_and_stands_on_white(tmp_path):
    ramp = np.tile(np.arange(32, dtype=np.uint16) * 2048, (32, 1))
    image = Image.fromarray(ramp)
    image.getexif()[0x0112] = 6  # turn clockwise by a quarter
    pixels = from_file(file(tmp_path, image, exif=image.getexif(), transparency=5 * 2048))
    expected = torch.tensor(ramp[0].astype(int) >> 8).clone()
    expected[5] = 255
    assert torch.equal(pixels[0].int(), expected[:, None].expand(32, 32).int())


@pytest.mark.parametrize(
    ("depth", "colour", "pixel", "clear"),
    [
        (1, 0, b"\xff", (1,)),
        (2, 0, b"\xaa", (2,)),
        (4, 0, b"\x55", (5,)),
        (8, 0, b"\x40", (64,)),
        (16, 0, b"\x40\x01", (0x4001,)),
        (8, 2, b"\1\2\3", (1, 2, 3)),
        (16, 2, b"\1\0\2\0\3\0", (256, 512, 768)),
    ],
    ids=lambda value: str(value),
)
def test_the_transparent_colour_of_a_png_becomes_white_whatever_its_depth(tmp_path, depth, colour, pixel, clear):
    length = 8 * depth * (3 if colour else 1) // 8
    rows = (b"\0" + (pixel * length)[:length]) * 8
    for notes, white in ((b"", depth == 1), (chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)), True)):
        (tmp_path / "a.png").write_bytes(raw_png(8, depth, colour, rows, notes))
        assert (from_file(tmp_path / "a.png") == 255).all() == white


@pytest.mark.parametrize(
    "notes",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iCCP", b"Profile\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000))) * 70,
        chunk(b"tEXt", b"Comment\0" + bytes(2_000_000)),
        chunk(b"eXIf", b"broken"),
    ],
    ids=["compressed", "international", "colour profile", "many", "plain", "broken EXIF"],
)
@pytest.mark.parametrize("place", [33, -12], ids=["before the pixels", "after"])
def test_notes_beside_the_pixels_keep_no_picture_from_being_read(tmp_path, notes, place):
    plain = png()
    (tmp_path / "plain.png").write_bytes(plain)
    (tmp_path / "noted.png").write_bytes(plain[:place] + notes + plain[place:])
    assert torch.equal(from_file(tmp_path / "noted.png"), from_file(tmp_path / "plain.png"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as a picture"),
        (b"hello", "cannot be read as a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as a picture"),
        (png()[:900], "cannot be read as a picture"),
        (raw_png(100), "cannot be read as a picture"),
        (raw_png(6000), r"6,000 × 6,000 pixels; 30 million"),
        (raw_png(50_000), "million|cannot be read"),
        (bytes(MOST_BYTES + 1), r"10\.0 MB; a picture may have 10 MB"),
    ],
    ids=["empty", "text", "svg", "cut off", "no pixels", "large", "bomb", "long"],
)
def test_a_file_that_is_no_picture_or_too_large_is_refused_in_one_sentence(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PictureError, match=reason) as refusal:
        from_file(tmp_path / "a.png")
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
    assert 6000**2 > MOST_PIXELS


def test_a_format_that_is_not_allowed_is_refused_though_pillow_could_read_it(tmp_path):
    halves().save(tmp_path / "a.eps", "EPS")
    with pytest.raises(PictureError, match="cannot be read"):
        from_file(tmp_path / "a.eps")


@pytest.mark.parametrize(("shape", "bits", "length"), [(DRAWING, 4, 523), (UPLOAD, 8, 4096)])
def test_a_picture_comes_back_from_its_text(shape, bits, length):
    pixels = torch.randint(256 if bits == 8 else 16, shape, generator=seeded(1)).to(torch.uint8) * (
        1 if bits == 8 else 17
    )
    text = encode(pixels, bits)
    assert len(text) == length and torch.equal(decode(text, shape, bits), pixels)
    assert Pixels(shape, bits).problem(text) is None and Pixels(shape, bits).nearest(text) == text


@pytest.mark.parametrize("text", [None, 3, "A", "A" * 522, "A" * 522 + "+", "A" * 522 + "\n", "A" * 524, "Ä" * 523])
def test_a_text_that_is_no_picture_is_refused_and_in_a_link_left_out(text):
    assert "28 × 28 pixels" in Pixels(DRAWING, 4).problem(text)
    assert Pixels(DRAWING, 4).nearest(str(text)) is None


def test_grey_becomes_three_equal_colours_and_colours_become_their_brightness():
    grey = torch.full(DRAWING, 51, dtype=torch.uint8)
    assert fitted(grey, "cifar10").shape == UPLOAD and fitted(grey, "cifar10").unique().numel() == 1
    red = torch.zeros(UPLOAD, dtype=torch.uint8)
    red[0] = 255
    assert torch.allclose(fitted(red, "mnist"), torch.full(DRAWING, 0.299 * 2 - 1), atol=1e-5)
