"""What a run's settings may be, and a run as one frozen value: validated, to and from a link's query and JSON."""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddpm.files import parse_json
from ddpm.schedule import SCHEDULES, Constant, Cosine, Polynomial, Schedule, Sigmoid, Table

if TYPE_CHECKING:
    from typing import Self


class Setting(Protocol):
    """What one setting may be."""

    def problem(self, value: object) -> str | None:
        """What ``value`` must be, if it is not: the end of a sentence that begins with "it"."""
        ...

    def nearest(self, text: str) -> Any:
        """The allowed value nearest to what somebody wrote into a link, None if it is near nothing."""
        ...


def _quoted(option: str) -> str:
    """An option of several words, so that it is known for one."""
    return f"“{option}”" if " " in option else option


@dataclass(frozen=True)
class Choice:
    """A setting that is one of ``options``."""

    options: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        return None if value in self.options else f"must be one of {', '.join(map(_quoted, self.options))}"

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


def read(setting: Setting, text: str) -> str | float | int:
    """``text`` as the setting's kind; what is not of that kind stays as it is, to be refused or corrected.

    The one reader of links, files and command lines: a whole number may be written as 50.0 in all of them.
    """
    if not isinstance(setting, Number):
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if setting.whole and value.is_integer() else value


STEPS = Number(1, 1000, whole=True)
"""T of a run."""

SEED = Number(0, 2**31 - 1, whole=True)
"""What the noise of a run comes from."""


@dataclass(frozen=True)
class Declared:
    """What is said of a setting where it is declared: what it may be, and how a page asks for it.

    ``label`` and ``info`` stand at its control, ``names`` say how its options are called there; ``step`` is a slider's.
    ``look`` chooses another control than the usual one: "radio", "number", or "own" for one that the lesson makes itself.
    """

    allowed: Setting
    label: str = ""
    info: str = ""
    step: float = 1
    names: Mapping[str, str] = field(default_factory=dict)
    look: str = ""


def setting(default: Any, allowed: Setting, label: str = "", info: str = "", **more: Any) -> Any:
    """The field of a setting, which is declared here once: control, link, JSON and limits follow from it.

    ``more`` is what else ``Declared`` takes.
    """
    return field(default=default, metadata={"declared": Declared(allowed, label, info, **more)})


@dataclass(frozen=True)
class Settings:
    """The base of a run's settings. Raises ValueError, in one sentence, for a setting that is not allowed."""

    @classmethod
    def declared(cls) -> dict[str, Declared]:
        """What is said of each setting, in the order in which links and programs have them."""
        return {each.name: each.metadata["declared"] for each in fields(cls)}

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> Mapping[str, Setting]:
        """What each setting may be; it may depend on what is ``given`` for another, which may itself be wrong."""
        return {name: declared.allowed for name, declared in cls.declared().items()}

    def __post_init__(self) -> None:
        for name, setting in self.allowed(asdict(self)).items():
            value = getattr(self, name)
            if problem := setting.problem(value):
                raise ValueError(f"The {name} is {value!r}; it {problem}.")

    def values(self) -> dict[str, Any]:
        """The settings by name, in the order of ``allowed``."""
        given = asdict(self)
        return {name: given[name] for name in self.allowed(given)}

    def query(self) -> dict[str, str]:
        """The settings as a link's query: every one, as text."""
        return {name: str(value).removesuffix(".0") for name, value in self.values().items()}

    def json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(self.values(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The run that ``json`` wrote, its values read as those of a link. Raises ValueError for anything else."""
        given = parse_json(text)
        if not isinstance(given, dict):
            raise ValueError(f"A run's JSON must be an object, not {type(given).__name__}.")
        known = cls.allowed(given)
        if unknown := sorted(given.keys() - known.keys()):
            raise ValueError(f"The run has the unknown setting {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**{name: read(known[name], _written(name, value)) for name, value in given.items()})

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The run that a link asks for, and one sentence for each value that had to be corrected to an allowed one.

        Keys that are no setting are ignored: links carry others (Gradio's ``__theme``, for one).
        """
        values, corrections = {}, []
        defaults = {each.name: each.default for each in fields(cls)}
        for name, setting in cls.allowed(query).items():
            if name not in query:
                continue
            text = str(query[name])
            values[name] = read(setting, text)
            if problem := setting.problem(values[name]):
                nearest = setting.nearest(text)
                values[name] = setting.nearest(str(defaults[name])) if nearest is None else nearest
                shown, used = text[:40] or "nothing", str(values[name])[:40]
                corrections.append(f"{name} = {shown}: it {problem}, so {used} is used.")
        return cls(**values), corrections


# --- schedules --------------------------------------------------------------------------------------------------------

TABLE = "table"
"""The schedule that is a table of β."""

DEFAULT_TABLE = "0.05 0.1 0.2 0.4 0.7 0.98"

MOST_BETAS, LEAST_BETA, LEAST_SIGNAL, MOST_TEXT = 1000, 1e-6, 1e-10, 3000

_LOGIT = 13.8
"""Of the largest β in an encoded table, minus that of the smallest: 1.02e-6."""


def encode_betas(betas: Iterable[float]) -> str:
    """A table of β as text for a link: up to 40 as numbers, to 6 digits; more as "~" and base64url, to 0.02 %.

    A β below 1e-6 becomes 1e-6, and one that is as near to 1 likewise.
    """
    clipped = np.clip(list(betas), LEAST_BETA, 1 - LEAST_BETA)
    if len(clipped) <= 40:
        return " ".join(f"{beta:.6g}" for beta in clipped)
    logits = np.clip(np.log(clipped / (1 - clipped)), -_LOGIT, _LOGIT)
    codes = np.rint((logits / _LOGIT + 1) * 32767.5).astype("<u2")
    return "~" + base64.urlsafe_b64encode(codes.tobytes()).decode().rstrip("=")


def decode_betas(text: str) -> tuple[float, ...]:
    """The table of β that ``encode_betas`` wrote, or somebody typed or pasted. Raises ValueError for anything else."""
    if not text.startswith("~"):
        return tuple(float(part) for part in re.split(r"[\s,;]+", text.strip(" \n\t,;[]()")))
    code = base64.b64decode(text[1:] + "=" * (-len(text[1:]) % 4), altchars=b"-_", validate=True)
    logits = (np.frombuffer(code, "<u2") / 32767.5 - 1) * _LOGIT
    return tuple((1 / (1 + np.exp(-logits))).tolist())


@dataclass(frozen=True)
class Betas:
    """A setting that is a table of β as text: numbers, or what ``encode_betas`` wrote."""

    def problem(self, value: object) -> str | None:
        if isinstance(value, str) and len(value) <= MOST_TEXT and self._is_table(value):
            return None
        return (
            f"must be 1 to {MOST_BETAS:,} numbers from {LEAST_BETA:g} to {1 - LEAST_BETA:g}, in at most {MOST_TEXT:,} "
            f"characters, that leave at least {LEAST_SIGNAL:g} of the signal"
        )

    def nearest(self, text: str) -> str | None:
        return None if self.problem(text) else text

    @staticmethod
    def _is_table(text: str) -> bool:
        try:
            betas = decode_betas(text)
        except ValueError:
            return False
        allowed = 1 <= len(betas) <= MOST_BETAS and all(LEAST_BETA <= beta <= 1 - LEAST_BETA for beta in betas)
        return allowed and -sum(map(math.log1p, (-beta for beta in betas))) <= -math.log(LEAST_SIGNAL)


def parameters(schedule: str) -> tuple[str, ...]:
    """The names of the settings that belong to one schedule."""
    return (TABLE,) if schedule == TABLE else tuple(each.name for each in fields(SCHEDULES[schedule]))


_CURVES = Choice((*SCHEDULES, TABLE))

_PARAMETERS = ("s", "p", "reach", "c", "table")


def scheduled(default: str) -> Any:
    """The field of a ``schedule``."""
    info, names = "How the noise is shared out over the steps.", {TABLE: "your own table"}
    return setting(default, _CURVES, "Noise schedule", info, names=names)


@dataclass(frozen=True, kw_only=True)
class Scheduled(Settings):
    """The base of settings with a ``schedule``: the parameter of each schedule, ``table`` being the visitor's own."""

    if TYPE_CHECKING:

        @property
        def schedule(self) -> str:
            """The chosen schedule: a field of each kind of settings, which has its own default and place for it."""
            ...

    s: float = setting(
        Cosine.s,
        Number(0, 0.2),
        "Offset s",
        "Of the cosine schedule: how much noise even the first step adds.",
        step=0.001,
    )
    p: float = setting(
        Polynomial.p,
        Number(0.5, 5),
        "Power p",
        "Of the polynomial schedule ᾱ = 1 − (t/T)ᵖ: more keeps the data for longer.",
        step=0.1,
    )
    reach: float = setting(
        Sigmoid.reach,
        Number(0.5, 8),
        "Reach",
        "Of the sigmoid schedule: more spends more steps at both ends.",
        step=0.1,
    )
    c: float = setting(
        Constant.c,
        Number(0.5, 20),
        "Rate c",
        "Of the constant schedule ᾱ = exp(−c t/T): less leaves more signal at the end.",
        step=0.1,
    )
    table: str = setting(
        DEFAULT_TABLE,
        Betas(),
        "Your own β, from data to noise",
        "Numbers between 0 and 1 with spaces between, stretched over the T steps; then press Enter. The page "
        "Schedules draws one.",
    )

    @classmethod
    def declared(cls) -> dict[str, Declared]:
        """As of all settings, the parameters behind their ``schedule``."""
        found = super().declared()
        parameters = {name: found.pop(name) for name in _PARAMETERS}
        behind = {"schedule": parameters}
        return {name: one for key, said in found.items() for name, one in {key: said, **behind.get(key, {})}.items()}

    @property
    def curve(self) -> Schedule:
        """The schedule with its parameter."""
        return self.curve_of(self.schedule)

    def curve_of(self, schedule: str) -> Schedule:
        """Another schedule, with the parameter that it has here."""
        if schedule == TABLE:
            return Table(decode_betas(self.table))
        return SCHEDULES[schedule](**{name: getattr(self, name) for name in parameters(schedule)})


SCHEDULE: dict[str, Setting] = {
    "schedule": _CURVES,
    **{each.name: each.metadata["declared"].allowed for each in fields(Scheduled)},
}
"""What a schedule and the parameters of all schedules may be."""


def _written(name: str, value: object) -> str:
    """A setting's value in JSON as a link would have it."""
    if isinstance(value, (dict, list)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise ValueError(f"The {name} is {kind}; it must be text or a number.")
    return value if isinstance(value, str) else json.dumps(value)
