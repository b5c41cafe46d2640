"""A run's pictures as a file that moves, and the answers of the app beside Gradio's own."""

import io
import struct
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import qrcode
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ddpm.page import movie as module
from ddpm.page.movie import LAST, MovieError, movie
from ddpm.page.routes import MOST_LINK, routes

random = np.random.default_rng(0)


def noise(count=5, height=8, width=12):
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def archive(pictures, compression=zipfile.ZIP_STORED, format="PNG"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for i, picture in enumerate(pictures):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, format)
            zipped.writestr(f"{i:03}.{format.lower()}", content.getvalue())
    return file.getvalue()


def decoded(file):
    """The pictures of a moving file, and the milliseconds of each."""
    with Image.open(io.BytesIO(file)) as image:
        pictures, durations = [], []
        for i in range(image.n_frames):
            image.seek(i)
            pictures.append(np.array(image.convert("RGB")))
            durations.append(image.info["duration"])
        return np.array(pictures), durations


@pytest.mark.parametrize("count", [1, 5])
def test_a_webp_holds_every_pixel_of_every_picture_in_order(count):
    pictures = noise(count)
    assert np.array_equal(decoded(movie(archive(pictures), "webp", 20))[0], pictures)


def test_a_gif_holds_pictures_of_up_to_256_colours_exactly_and_others_nearly():
    grey = np.repeat(noise()[..., :1], 3, -1)
    assert np.array_equal(decoded(movie(archive(grey), "gif", 20))[0], grey)
    coloured = noise(3, 8, 32)
    assert np.array_equal(decoded(movie(archive(coloured), "gif", 20))[0], coloured)
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    many = np.stack([across, down, 255 - across], -1).round().astype(np.uint8)[None]
    held = decoded(movie(archive(many), "gif", 20))[0]
    assert len(np.unique(many.reshape(-1, 3), axis=0)) > 5000 and len(np.unique(held.reshape(-1, 3), axis=0)) <= 256
    assert np.abs(held.astype(int) - many).mean() < 16


@pytest.mark.parametrize(("rate", "milliseconds"), [(5, 200), (20, 50), (60, 20)])
def test_the_pictures_move_at_the_rate_asked_for_and_the_last_one_stands(rate, milliseconds):
    assert decoded(movie(archive(noise()), "gif", rate))[1] == [milliseconds] * 4 + [LAST]


@pytest.mark.parametrize(
    ("sent", "kind", "rate", "says"),
    [
        (archive(noise(1)), "mp4", 20, "gif or webp"),
        (archive(noise(1)), "gif", 0, "from 1 to 60"),
        (archive(noise(1)), "gif", float("nan"), "from 1 to 60"),
        (b"no zip", "gif", 20, "PNG files in a zip"),
        (archive([]), "gif", 20, "1 to 101"),
        (archive(noise(102, 1, 1)), "gif", 20, "102 pictures"),
        (archive(noise(1), zipfile.ZIP_DEFLATED), "gif", 20, "compressed"),
        (archive(noise(1), format="GIF"), "gif", 20, "PNG files"),
        (archive([*noise(1), *noise(1, 9)]), "gif", 20, "differ in size"),
        (archive(noise(1))[:-30], "gif", 20, "PNG files"),
    ],
)
def test_what_makes_no_file_is_refused_in_one_sentence(sent, kind, rate, says):
    with pytest.raises(MovieError, match=says) as refusal:
        movie(sent, kind, rate)
    assert str(refusal.value).count(". ") == 0


def test_pictures_that_share_their_bytes_are_refused():
    one = archive(noise(1, 50, 50))
    directory, end = one[one.index(b"PK\x01\x02") : one.index(b"PK\x05\x06")], bytearray(one[-22:])
    end[8:12] = struct.pack("<HH", 3, 3)
    end[12:16] = struct.pack("<I", 3 * len(directory))
    with pytest.raises(MovieError, match="one after the other"):
        movie(one[:-22] + 2 * directory + bytes(end), "gif", 20)


def test_bytes_and_pixels_are_bounded(monkeypatch):
    sent = archive(noise(2))
    monkeypatch.setattr(module, "MOST_PIXELS", 2 * 8 * 12 - 1)
    with pytest.raises(MovieError, match="192 pixels in all"):
        movie(sent, "gif", 20)
    monkeypatch.setattr(module, "MOST_BYTES", len(sent) - 1)
    with pytest.raises(MovieError, match="MB in all"):
        movie(sent, "gif", 20)


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client():
    with TestClient(Starlette(routes=routes(()))) as client:
        yield client


def test_pictures_that_are_posted_come_back_as_a_file(client):
    pictures = noise()
    answer = client.post("/movie/webp?rate=10", content=archive(pictures))
    assert answer.headers["content-type"] == "image/webp"
    assert np.array_equal(decoded(answer.content)[0], pictures)


@pytest.mark.parametrize(
    ("path", "says"), [("/movie/gif", "PNG files"), ("/movie/exe", "gif or webp"), ("/movie/gif?rate=x", "number")]
)
def test_a_refusal_over_http_is_a_sentence(client, path, says):
    answer = client.post(path, content=b"nonsense")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/plain; charset=utf-8")
    assert says in answer.text


def test_the_qr_code_is_that_of_the_link(client):
    link = "http://127.0.0.1:7860/plane?steps=10&schedule=linear"
    answer = client.get("/qr", params={"link": link})
    assert answer.headers["content-type"] == "image/svg+xml"
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L)
    code.add_data(link)
    dark = sum(map(sum, code.get_matrix()))
    path = next(one for one in ElementTree.fromstring(answer.content).iter() if one.tag.endswith("path"))
    assert path.get("d").upper().count("M") == dark


@pytest.mark.parametrize(
    ("link", "size"), [("", 0), ("x" * (MOST_LINK + 1), MOST_LINK + 1), ("€" * MOST_LINK, 3 * MOST_LINK)]
)
def test_a_link_that_is_no_link_or_too_long_gets_no_code(client, link, size):
    answer = client.get("/qr", params={"link": link})
    assert answer.status_code == 422 and f"{size:,} bytes" in answer.text
