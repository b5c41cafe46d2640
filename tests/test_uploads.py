"""Visitors' files: nobody else on the machine reads them, no address leaves more than its share, and they go in time."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from gradio import route_utils
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from ddpm.page import gradio_patches, uploads
from ddpm.page.shares import Full, Places
from ddpm.page.uploads import MOST_STORED_BYTES, MOST_STORED_FILES, UPLOAD_SECONDS, Shelf, Stored, sweep


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    uploads.own_folder()
    yield Path(os.environ["GRADIO_TEMP_DIR"])
    uploads.remove_folder()
    assert list(tmp_path.iterdir()) == []


def test_visitors_files_lie_in_a_folder_that_others_on_the_machine_cannot_read(folder, tmp_path):
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0


def test_an_upload_is_removed_in_time_and_what_is_the_apps_stays(folder):
    now = time.time()
    for name, age in {"icon": 5000, "old": 3000, "new": 1}.items():
        (folder / name).write_bytes(b"123")
        os.utime(folder / name, (now - age, now - age))
    assert sweep(folder, began=now - 4000) == Stored(files=1, bytes=3)
    assert sorted(path.name for path in folder.iterdir()) == ["icon", "new"]


# --- the shelf ------------------------------------------------------------------------------------------------------


def leave(shelf: Shelf, count: int, size: int = 1, who: str = "a") -> None:
    for _ in range(count):
        shelf.take(who, size)


@pytest.mark.parametrize(("size", "count"), [(1, MOST_STORED_FILES // 4), (MOST_STORED_BYTES // 40, 10)])
def test_an_address_may_leave_a_quarter_of_the_files_or_bytes_and_others_still_have_room(folder, size, count):
    shelf = Shelf(folder)
    leave(shelf, count, size)
    with pytest.raises(Full, match="Your address") as full:
        shelf.take("a", size)
    assert full.value.status == 429
    shelf.take("b", size)


@pytest.mark.parametrize(("size", "count"), [(1, MOST_STORED_FILES // 4), (MOST_STORED_BYTES // 40, 10)])
def test_many_addresses_together_leave_so_many_files_or_bytes_and_not_one_more(folder, size, count):
    shelf = Shelf(folder)
    for who in "abcd":
        leave(shelf, count, size, who)
    with pytest.raises(Full, match="no room") as full:
        shelf.take("e", size)
    assert full.value.status == 503


def test_a_share_is_free_again_once_the_files_are_gone(folder):
    now = [0.0]
    shelf = Shelf(folder, clock=lambda: now[0])
    leave(shelf, MOST_STORED_FILES // 4)
    now[0] = UPLOAD_SECONDS + 1
    leave(shelf, MOST_STORED_FILES // 4)


def test_files_that_nobody_has_uploaded_count_once_they_are_found(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_STORED_BYTES", 40)
    shelf = Shelf(folder)
    (folder / "file").write_bytes(b"0" * 40)
    shelf.take("a", 1)
    shelf.sweep()
    with pytest.raises(Full, match="no room"):
        shelf.take("b", 1)


# --- places ---------------------------------------------------------------------------------------------------------


def test_an_address_has_so_many_places_all_have_so_many_and_who_leaves_makes_room():
    places = Places(each=1, in_all=2)
    with places.taken("a"):
        with pytest.raises(Full, match="Your address") as own, places.taken("a"):
            pass
        with places.taken("b"), pytest.raises(Full, match="Many people") as all_, places.taken("c"):
            pass
        with places.taken("c"):
            pass
    with places.taken("a"):
        pass
    assert (own.value.status, all_.value.status) == (429, 503)


# --- Gradio's parser ------------------------------------------------------------------------------------------------


def part(name: str, content: str = "1") -> str:
    return f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n{content}\r\n'


def parsed(folder: Path, body: str, breaks_off: bool = False):
    async def stream():
        yield body.encode()
        if breaks_off:
            raise ClientDisconnect

    headers = Headers({"Content-Type": "multipart/form-data; boundary=x"})
    parser = route_utils.GradioMultiPartParser(
        headers, stream(), max_files=1000, max_fields=1000, upload_dir=folder, max_file_size=100
    )
    return asyncio.run(parser.parse())


@pytest.fixture
def one_at_a_time(monkeypatch):
    monkeypatch.setattr(route_utils, "GradioMultiPartParser", route_utils.GradioMultiPartParser)
    gradio_patches.take_one_file_an_upload()


def test_an_upload_brings_one_file(folder, one_at_a_time):
    assert len(parsed(folder, part("a.png") + "--x--\r\n").getlist("files")) == 1


@pytest.mark.parametrize("count", [2, 1000])
def test_an_upload_of_more_files_is_refused_and_leaves_none_behind(folder, one_at_a_time, count):
    with pytest.raises(route_utils.MultiPartException, match="Maximum number of files is 1"):
        parsed(folder, "".join(part(f"{i}") for i in range(count)) + "--x--\r\n")
    assert list(folder.iterdir()) == []


def test_an_upload_that_is_broken_off_leaves_nothing_behind(folder, one_at_a_time):
    with pytest.raises(ClientDisconnect):
        parsed(folder, part("a.png").rstrip(), breaks_off=True)
    assert list(folder.iterdir()) == []
