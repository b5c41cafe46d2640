"""The arrows of the layout: a module imports only modules above it, and nothing below the pages imports gradio."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    *("schedule", "process", "exact", "networks", "denoiser", "scaling", "sampling", "decoding", "data", "files"),
    *("checkpoint", "hub", "machine"),
    *(
        "backend",
        "remote",
        "parallel",
        "training",
        "distillation",
        "settings",
        "picture",
        "run",
        "algorithm",
        "engine",
        "classifier",
    ),
    *("evaluate", "plane", "live", "line", "noising", "curves", "likelihood", "learning", "models", "program", "movie"),
    *("report", "plots"),
]
"""The modules of ddpm/, each below those it may import."""

LIBRARY = sorted((ROOT / "ddpm").glob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
OUTSIDE_UI = [*LIBRARY, *SCRIPTS]


def imports(path: Path) -> set[str]:
    """The full names of all that ``path`` imports, wherever in the file, such as ``ddpm.process.posterior``."""
    names, package = set(), path.relative_to(path.parent.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def ddpm_modules(path: Path) -> set[str]:
    """The modules of ddpm that ``path`` imports, such as ``process``."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("ddpm.")}


def imports_gradio(path: Path) -> bool:
    return any(name.split(".")[0] in ("gradio", "gradio_client") for name in imports(path))


@pytest.mark.parametrize("position", range(len(ORDER)), ids=ORDER)
def test_a_module_imports_only_modules_above_it(position):
    assert ddpm_modules(ROOT / "ddpm" / f"{ORDER[position]}.py") <= set(ORDER[:position])


def test_every_module_has_its_place():
    assert {path.stem for path in LIBRARY} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", OUTSIDE_UI, ids=lambda path: path.name)
def test_nothing_outside_the_pages_imports_them_or_gradio(path):
    assert "ui" not in ddpm_modules(path)
    assert not imports_gradio(path)


@pytest.mark.parametrize(
    "line",
    [
        "import ddpm.ui",
        "import ddpm.ui.player as player",
        "from ddpm import ui",
        "from ddpm.ui import player",
        "from . import ui",
        "from .ui import player",
        "def late():\n    from ddpm.ui.components import player",
    ],
)
def test_every_way_to_import_the_pages_is_seen(tmp_path, line):
    path = tmp_path / "ddpm" / "module.py"
    path.parent.mkdir()
    path.write_text(line)
    assert ddpm_modules(path) == {"ui"}


@pytest.mark.parametrize("line", ["import gradio", "import gradio as gr", "from gradio.themes import Soft"])
def test_every_way_to_import_gradio_is_seen(tmp_path, line):
    path = tmp_path / "module.py"
    path.write_text(line)
    assert imports_gradio(path)
