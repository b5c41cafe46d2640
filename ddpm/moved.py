"""The modules' names of version 0.1, under which programs and notebooks that people have kept import them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED: dict[str, tuple[str, ...]] = {
    "backend": ("serving.backend",),
    "curves": ("lessons.schedules.run",),
    "engine": ("serving.engine",),
    "evaluate": ("evaluation.judges", "distances"),
    "learning": ("lessons.learning.run", "lessons.models"),
    "likelihood": ("lessons.likelihood.run",),
    "line": ("lessons.line.run", "lessons.models"),
    "live": ("lessons.train.run", "lessons.train.sessions", "lessons.trained"),
    "models": ("lessons.models",),
    "noising": ("lessons.noising.run",),
    "plane": ("lessons.plane.run", "lessons.points", "lessons.models"),
    "run": ("lessons.pictures.run", "lessons.shown", "lessons.models"),
}
"""Where what they held is now, below this package."""

SPLIT: dict[str, tuple[str, ...]] = {"data": ("toys", "projection"), "training": ("training.loop", "training.recipe")}
"""Modules that are still there, and where what they held besides is now."""


class Finder(MetaPathFinder, Loader):
    """Finds the moved modules by their old names."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        return ModuleSpec(name, self) if package == "ddpm" and old in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__getattr__"] = _from(MOVED[module.__name__.partition(".")[2]])


def _from(places: Sequence[str]):
    """What gives a module the names of others."""

    def lookup(name: str) -> object:
        for place in places:
            found = import_module(f"ddpm.{place}")
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(f"{name} is in none of {', '.join(f'ddpm.{place}' for place in places)}.")

    return lookup


def split(name: str):
    """The ``__getattr__`` of the module ``name``, which gives what it held of other subjects."""
    return _from(SPLIT[name])


def install() -> None:
    """Has Python find the moved modules."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
