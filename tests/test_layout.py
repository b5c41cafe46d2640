"""The arrows of the layout: a room imports only from itself and from rooms above it, a lesson no other lesson."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import map as layout

LIBRARY = sorted(path for path in (ROOT / "ddpm").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
ROOMS = [room.replace("/", ".") for room in layout.ROOMS]
WITH_GRADIO = ("ddpm.page", "ddpm.lessons")


def imports(path: Path) -> set[str]:
    """The full names of all that ``path`` imports, wherever in the file, such as ``ddpm.process.posterior``."""
    names, package = set(), package_of(path)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> tuple[str, ...]:
    parts = path.with_suffix("").parts
    return parts[len(parts) - 1 - parts[::-1].index("ddpm") : -1] if "ddpm" in parts else ()


def room_of(name: str) -> str:
    """The room of a module's or a name's full name."""
    return next((room for room in reversed(ROOMS) if f"{name}.".startswith(f"{room}.")), "")


def lesson_of(name: str) -> str:
    parts = name.split(".")
    return parts[2] if room_of(name) == "ddpm.lessons" and (ROOT / "ddpm" / "lessons" / parts[2]).is_dir() else ""


def own_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_gradio(path: Path) -> bool:
    return any(name.split(".")[0] in ("gradio", "gradio_client") for name in imports(path))


@pytest.mark.parametrize("path", LIBRARY, ids=own_name)
def test_a_room_imports_only_from_itself_and_from_rooms_above_it(path):
    room = room_of(own_name(path))
    found = {room_of(name) for name in imports(path)} - {"", room}
    assert found <= set(ROOMS[: ROOMS.index(room)])
    apart = {(one.replace("/", "."), other.replace("/", ".")) for one, other in layout.APART}
    assert not {(room, other) for other in found} & apart


@pytest.mark.parametrize("path", LIBRARY, ids=own_name)
def test_a_lesson_imports_no_other_lesson(path):
    own = lesson_of(own_name(path))
    assert not own or {lesson_of(name) for name in imports(path)} <= {"", own}


@pytest.mark.parametrize("position", range(len(layout.CORE)), ids=layout.CORE)
def test_a_module_of_the_core_imports_only_those_before_it(position):
    names = imports(ROOT / "ddpm" / f"{layout.CORE[position]}.py")
    assert {name.split(".")[1] for name in names if name.startswith("ddpm.")} <= set(layout.CORE[:position])


def test_every_module_of_the_core_has_its_place():
    assert {path.stem for path in (ROOT / "ddpm").glob("*.py")} - {"__init__"} == set(layout.CORE)


@pytest.mark.parametrize("path", [*LIBRARY, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_only_pages_import_gradio(path):
    part_of_a_lesson = (
        path.stem in ("page", "screen", "tour") and lesson_of(own_name(path)) != "" or path.stem == "tour"
    )
    in_the_page = own_name(path).startswith("ddpm.page")
    if not (in_the_page or part_of_a_lesson):
        assert not imports_gradio(path)
        assert not any(room_of(name) == "ddpm.page" for name in imports(path))


def test_the_map_is_that_of_the_code():
    assert (ROOT / "docs" / "map.md").read_text("utf-8") == layout.drawn()


@pytest.mark.parametrize(
    "line",
    [
        "import ddpm.page",
        "import ddpm.page.builder as builder",
        "from ddpm import page",
        "from ddpm.page import builder",
        "from . import page",
        "from .page import builder",
        "def late():\n    from ddpm.page.components import picker",
    ],
)
def test_every_way_to_import_the_pages_is_seen(tmp_path, line):
    path = tmp_path / "ddpm" / "module.py"
    path.parent.mkdir()
    path.write_text(line)
    assert {room_of(name) for name in imports(path)} == {"ddpm.page"}


@pytest.mark.parametrize("line", ["import gradio", "import gradio as gr", "from gradio.themes import Soft"])
def test_every_way_to_import_gradio_is_seen(tmp_path, line):
    path = tmp_path / "module.py"
    path.write_text(line)
    assert imports_gradio(path)
