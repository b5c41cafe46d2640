"""What a run's settings may be, and a run as one frozen value: validated, to and from a link's query and JSON."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self

from ddpm.schedule import SCHEDULES, Schedule


class Setting(Protocol):
    """What one setting may be."""

    def problem(self, value: object) -> str | None:
        """What ``value`` must be, if it is not: the end of a sentence that begins with "it"."""
        ...

    def nearest(self, text: str) -> Any:
        """The allowed value nearest to what somebody wrote into a link, None if it is near nothing."""
        ...


@dataclass(frozen=True)
class Choice:
    """A setting that is one of ``options``."""

    options: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        return None if value in self.options else f"must be one of {', '.join(self.options)}"

    def nearest(self, text: str) -> str | None:
        close = difflib.get_close_matches(text.strip().lower(), self.options, n=1)
        return close[0] if close else None


@dataclass(frozen=True)
class Number:
    """A setting between ``low`` and ``high``, a whole number if ``whole``."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: object) -> str | None:
        kind = int if self.whole else (int, float)
        if isinstance(value, kind) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"must be a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:.10g}"

    def nearest(self, text: str) -> float | int | None:
        try:
            value = float(text)
        except ValueError:
            return None
        if math.isnan(value):
            return None
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value


@dataclass(frozen=True)
class Settings:
    """The base of a run's settings. Raises ValueError, in one sentence, for a setting that is not allowed."""

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> Mapping[str, Setting]:
        """What each setting may be; it may depend on what is ``given`` for another, which may itself be wrong."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        for name, setting in self.allowed(asdict(self)).items():
            value = getattr(self, name)
            if problem := setting.problem(value):
                raise ValueError(f"The {name} is {value!r}; it {problem}.")

    def query(self) -> dict[str, str]:
        """The settings as a link's query: every one, as text."""
        return {name: str(value).removesuffix(".0") for name, value in asdict(self).items()}

    def json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The run that ``json`` wrote. Raises ValueError for anything else."""
        given = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError(f"A run's JSON must be an object, not {type(given).__name__}.")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(given.keys() - set(known)):
            raise ValueError(f"The run has the unknown setting {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**given)

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The run that a link asks for, and one sentence for each value that had to be corrected to an allowed one.

        Keys that are no setting are ignored: links carry others (Gradio's ``__theme``, for one).
        """
        values, corrections = {}, []
        defaults = {field.name: field.default for field in fields(cls)}
        for name, setting in cls.allowed(query).items():
            if name not in query:
                continue
            text = str(query[name])
            nearest = setting.nearest(text)
            value = defaults[name] if nearest is None else nearest
            values[name] = value
            if nearest is None or _differs(text, value):
                shown = text[:40] or "nothing"
                corrections.append(f"{name} = {shown}: it {setting.problem(text)}, so {value} is used.")
        return cls(**values), corrections


SCHEDULE: dict[str, Setting] = {
    "schedule": Choice(tuple(SCHEDULES)),
    "s": Number(0, 0.2),
    "p": Number(0.5, 5),
    "reach": Number(0.5, 8),
    "c": Number(0.5, 20),
}
"""What a schedule and the parameters of all schedules may be."""


@dataclass(frozen=True)
class Scheduled(Settings):
    """The base of settings that have those of SCHEDULE among them; each parameter belongs to one schedule."""

    @property
    def curve(self) -> Schedule:
        """The schedule with its parameter."""
        kind = SCHEDULES[self.schedule]
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


def _differs(text: str, value: object) -> bool:
    return float(text) != value if isinstance(value, (int, float)) else text != value
