"""Training a small network while somebody watches: its settings, the job, the visitor's budget, the file it leaves as."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.checkpoint import CheckpointError, load_network, load_tensors, save_network
from ddpm.denoiser import unlabelled
from ddpm.lessons.plane.run import DRAWN, FIELD, Plane, distances, draw, known, source
from ddpm.lessons.plane.run import SETTINGS as PLANE_SETTINGS
from ddpm.networks import MLP, MLPConfig
from ddpm.process import FROM_X0, Denoise, Prediction, loss, seeded
from ddpm.sampling import as_one, sample
from ddpm.scaling import AS_IT_IS, SCALINGS, Scaling
from ddpm.schedule import Cosine, grid
from ddpm.settings import Choice, Number, Setting, Settings
from ddpm.training.loop import Recipe, Trainer, fixed_noise, mean_loss, toy_draw

if TYPE_CHECKING:
    from typing import Self

BUDGET = 60.0
"""Seconds of computation that a visitor may spend on training."""

SHARED_BUDGET = 30 * BUDGET
"""Seconds that all visitors of one address may spend on training in an hour."""

TRAINING, AT_ONCE = "training", 2
"""The engine's name for the jobs that train, and how many of them are under way at once; who comes later waits."""

PARTICLES = 500
"""Shown of what the network generates."""

LEVELS = torch.tensor([-3.0, 0.0, 3.0])
"""The log-SNRs at which the field is shown: much noise, as much as signal, little."""

LARGEST_FILE = 4 * 2**20
"""Bytes of a network that a visitor may load."""

_FIT, _HELD_OUT = 51, 52
"""Second parts of generator keys, apart from those that the plane draws with."""

T = TypeVar("T")


# --- the settings ---------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Setting] = {
    "data": PLANE_SETTINGS["data"],
    "points": PLANE_SETTINGS["points"],
    "prediction": Choice(get_args(Prediction)),
    "scaling": Choice(tuple(SCALINGS)),
    "batches": Number(100, 5000, whole=True),
    "shown_steps": Number(1, 100, whole=True),
}
"""What each setting of a training may be."""


@dataclass(frozen=True)
class Training(Settings):
    """Every setting of a training: the same value gives the same network.

    ``shown_steps`` is T of the runs that show what the network has learned so far. Raises ValueError, in one sentence,
    for a setting that is not allowed, and for drawn data without a point.
    """

    data: str = "moons"
    points: str = ""
    prediction: str = "v"
    scaling: str = "unit"
    batches: int = 1000
    shown_steps: int = 20

    @classmethod
    def allowed(cls, given: Mapping[str, Any]) -> Mapping[str, Setting]:
        return SETTINGS

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plane  # refuses drawn data without a point

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """As of every run; the data is corrected as that of a run in the plane."""
        plane, notes = Plane.from_query({name: query[name] for name in ("data", "points") if name in query})
        training, more = super().from_query({**query, "data": plane.data, "points": plane.points})
        return training, notes + more

    @property
    def plane(self) -> Plane:
        """The run in the plane that has the same data."""
        return _data_of(self.data, self.points)

    @property
    def seen(self) -> Tensor:
        """The points (2000, 2) that the scaling is fitted to."""
        return draw(self.plane, 2000, _FIT)

    @property
    def scale(self) -> Scaling:
        """The scaling of its data."""
        return SCALINGS[self.scaling](self.seen)

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return Recipe(self.batches, 256, lr=3e-3, warmup=50, ema=0.995, label_dropout=0.0, density="uniform")


def _data_of(data: str, points: str) -> Plane:
    """The run in the plane that has this data; of other data than a drawing the points mean nothing."""
    return Plane(data=data, points=points if data == DRAWN else "")


# --- a network and what it makes ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A network in evaluation mode, the scaling of its coordinates, and a run in the plane with the data it has seen."""

    network: nn.Module
    scaling: Scaling
    plane: Plane
    batches: int

    @property
    def denoise(self) -> Denoise:
        """The denoiser in the network's own coordinates."""
        return unlabelled(self.network)

    def has_seen(self, plane: Plane) -> bool:
        """Whether it was trained on the data of ``plane``."""
        return self.plane == _data_of(plane.data, plane.points)


class Frame(NamedTuple):
    """What ``trained`` does: particles x (500, 2) that it generates and their sliced Wasserstein distance to held-out
    data, beside that of fresh data; the field's x̂0 at LEVELS and FIELD (3, 400, 2); its loss on held-out data and the
    mean ``loss`` of the batches since the last frame, if there were any.
    """

    trained: Trained
    x: np.ndarray
    fields: np.ndarray
    distance: float
    floor: float
    held_out: float
    loss: float | None = None


@torch.no_grad()
def look(trained: Trained, steps: int) -> Iterator[Frame | None]:
    """Generates particles in T = ``steps`` DDIM steps of the cosine schedule, None after each, and then gives the frame.

    The run is the network's own: it begins with standard noise in the scaled coordinates, and its end is scaled back.
    """
    noise = torch.randn(1, PARTICLES, 2, generator=seeded(2))
    run = sample(as_one(trained.denoise), grid(Cosine(), steps), noise, eta=0)
    for step in run:
        z = step.x[0]
        yield None
    x = trained.scaling.back(z)
    distance, floor = distances(trained.plane)
    yield Frame(trained, x.numpy(), field(trained).numpy(), distance(x), floor, held_out_loss(trained))


@torch.no_grad()
def field(trained: Trained) -> Tensor:
    """x̂0 in the data's coordinates at LEVELS and FIELD, (3, 400, 2)."""
    denoise = trained.scaling.around(trained.denoise)
    return torch.stack([denoise(FIELD, level) for level in LEVELS])


def exact_field(plane: Plane) -> Tensor:
    """x̂0 of the exact denoiser at LEVELS and FIELD, (3, 400, 2)."""
    denoise, _ = known(plane)
    return torch.stack([denoise(FIELD, level) for level in LEVELS])


def held_out(plane: Plane, scaling: Scaling) -> Tensor:
    """Points (500, 2) that no training has drawn, in the network's coordinates."""
    return scaling.into(draw(plane, 500, _HELD_OUT))


def held_out_loss(trained: Trained) -> float:
    """The network's loss on held-out data."""
    points = held_out(trained.plane, trained.scaling)
    return mean_loss(trained.network, points, torch.zeros(len(points), dtype=torch.long), Training().recipe)


def exact_loss(plane: Plane, scaling: Scaling, prediction: Prediction) -> float:
    """The loss of the exact denoiser on the same data and noise: about what no network comes below."""
    points = held_out(plane, scaling)
    exact, _ = known(plane)
    denoise = scaling.inverse.around(exact)

    def network(x: Tensor, log_snr: Tensor, label: Tensor) -> Tensor:
        return FROM_X0[prediction](x, denoise(x, log_snr), log_snr)

    noise, log_snr = fixed_noise(points, Training().recipe)
    return loss(network, prediction, points, noise, log_snr, torch.zeros(len(points))).mean().item()


# --- training -------------------------------------------------------------------------------------------------------


def shown_batches(batches: int) -> frozenset[int]:
    """The at most 40 batches after which a frame is worth showing: closer at the start, where the network learns most."""
    return frozenset(max(1, round(batches * (k / 40) ** 2)) for k in range(1, 41))


class Apprentice:
    """A network in training, which can be left after any step and gone on with."""

    def __init__(self, training: Training):
        self.training, self.scaling, points = training, training.scale, source(training.plane)
        spread = float(self.scaling.into(training.seen).square().mean().sqrt())
        config = MLPConfig((2,), scale=max(spread, 0.05), width=64, prediction=training.prediction)
        with torch.random.fork_rng():
            torch.manual_seed(training.recipe.seed)
            self.trainer = Trainer(MLP(config), training.recipe)
        self.draw = toy_draw(lambda count, generator: self.scaling.into(points(count, generator)), training.recipe)

    def learn(self) -> Iterator[Frame | None]:
        """The job: goes on to the last batch; a frame after each batch worth one, and None for every other step."""
        worth_showing, losses = shown_batches(self.training.batches), []
        for step, value in self.trainer.run(self.draw):
            losses.append(value)
            yield None
            if step in worth_showing:
                for frame in look(self.trained(), self.training.shown_steps):
                    yield frame and frame._replace(loss=float(torch.stack(losses).mean()))
                losses.clear()

    @property
    def finished(self) -> bool:
        """Whether the last batch is behind it."""
        return self.trainer.step >= self.training.batches

    def trained(self) -> Trained:
        """The network as it is now, with averaged weights."""
        network = self.trainer.averaged().requires_grad_(False)
        return Trained(network, self.scaling, self.training.plane, self.trainer.step)


# --- what a visitor may use -----------------------------------------------------------------------------------------


class Budget:
    """Seconds of computation that are left; ``clock`` counts the computation of the thread that asks it."""

    def __init__(self, seconds: float = BUDGET, clock: Callable[[], float] = time.thread_time):
        self.seconds, self.left, self.clock = seconds, seconds, clock

    def within(self, steps: Iterator[T]) -> Iterator[T]:
        """``steps`` until nothing is left; what passes between them does not count."""
        end = object()
        while self.left > 0:
            begun = self.clock()
            step = next(steps, end)
            self.left = max(self.left - (self.clock() - begun), 0.0)
            if step is end:
                return
            yield step


class Visit:
    """What one visitor has: a budget, perhaps a training, perhaps a network of their own.

    What they compute counts against ``shared``, too, which is the budget of all visitors of their ``address``.
    """

    def __init__(self, address: str, seconds: float, shared: Budget, keep: Callable[[Visit], None]):
        self.address, self.budget, self.shared, self._keep = address, Budget(seconds), shared, keep
        self.apprentice: Apprentice | None = None
        self.mine: Trained | None = None

    @property
    def spent(self) -> bool:
        """Whether there is no computation left for a training."""
        return not (self.budget.left and self.shared.left)

    def train(self, training: Training | None) -> Iterator[Frame | None]:
        """The job of a new training, or, if it is None, of what is left of the last."""
        return self.shared.within(self.budget.within(self._learn(training)))

    def bring(self, network: Trained) -> None:
        """Makes ``network`` the visitor's own."""
        self.mine = network
        self._keep(self)

    def _learn(self, training: Training | None) -> Iterator[Frame | None]:
        if training:
            self.apprentice = Apprentice(training)
            self._keep(self)
        for frame in self.apprentice.learn():
            if frame:
                self.mine = frame.trained
            yield frame


class NoRoom(ValueError):
    """There is no room for another visitor's network; the message is one sentence for the visitor."""


class Visits:
    """The visits by the visitors' secret names, each for ``lifetime`` seconds after its last use.

    A visit is kept once it has a network, and no newcomer displaces it: of one address at most ``most_of_address`` are
    kept, of all ``most``. ``budget`` are the seconds of computation of a visitor, ``shared`` those of an address.
    """

    def __init__(
        self,
        most: int = 256,
        most_of_address: int = 64,
        lifetime: float = 3600.0,
        budget: float = BUDGET,
        shared: float = SHARED_BUDGET,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.most, self.most_of_address, self.lifetime = most, most_of_address, lifetime
        self.budget, self.shared, self.clock = budget, shared, clock
        self._kept: dict[str, tuple[Visit, float]] = {}
        self._new: WeakValueDictionary[str, Visit] = WeakValueDictionary()
        """Those without a network, for as long as somebody works with them."""
        self._budgets: dict[str, tuple[Budget, float]] = {}
        """Of the addresses, and when each began: after a lifetime it is renewed."""
        self._lock = threading.RLock()

    def find(self, visitor: str) -> Visit | None:
        """The visit of ``visitor``, if there is one; this is a use of it."""
        with self._lock:
            now = self.clock()
            self._kept = {name: kept for name, kept in self._kept.items() if now - kept[1] <= self.lifetime}
            if visitor not in self._kept:
                return self._new.get(visitor)
            visit, _ = self._kept[visitor]
            self._kept[visitor] = visit, now
            return visit

    def of(self, visitor: str, address: str = "") -> Visit:
        """The visit of ``visitor``, a new one of ``address`` if there is none. Raises NoRoom if that cannot be kept."""
        with self._lock:
            if visit := self.find(visitor):
                return visit
            of_address = sum(visit.address == address for visit, _ in self._kept.values())
            if of_address >= self.most_of_address or len(self._kept) >= self.most:
                whose = "your address" if of_address >= self.most_of_address else "all visitors"
                raise NoRoom(f"The networks of {whose} fill the room there is; please try again within an hour.")
            keep = lambda visit: self._keep(visitor, visit)
            visit = self._new[visitor] = Visit(address, self.budget, self._shared_budget(address), keep)
            return visit

    def _keep(self, visitor: str, visit: Visit) -> None:
        with self._lock:
            self._new.pop(visitor, None)
            self._kept[visitor] = visit, self.clock()

    def _shared_budget(self, address: str) -> Budget:
        now = self.clock()
        self._budgets = {who: one for who, one in self._budgets.items() if now - one[1] <= self.lifetime}
        return self._budgets.setdefault(address, (Budget(self.shared), now))[0]


# --- as a file ------------------------------------------------------------------------------------------------------


def to_file(trained: Trained) -> bytes:
    """The safetensors file of a network: its config, its data and its scaling inside."""
    about = {"data": trained.plane.data, "points": trained.plane.points, "names": [], "batches": trained.batches}
    about["scaling"] = asdict(trained.scaling)
    with tempfile.TemporaryDirectory() as folder:
        save_network(path := Path(folder) / "mine", trained.network, about)
        return path.read_bytes()


MOST_WORDS = 300
"""Characters of a sentence about a visitor's file, which may quote what the file holds."""

CONFIG: dict[str, Setting] = {
    "width": Number(8, 256, whole=True),
    "depth": Number(1, 8, whole=True),
    "embedding": Number(8, 256, whole=True),
    "num_classes": Number(0, 0, whole=True),
    "scale": Number(0.01, 100),
    "log_snr_min": Number(-40, -1),
    "log_snr_max": Number(1, 40),
}
"""What the numbers of a visitor's network may be."""


def from_file(path: Path) -> Trained:
    """A network that somebody has brought: what ``to_file`` wrote, or a shipped one of the plane.

    Nothing of the file is executed, and nothing is built before its numbers are known to be small. Raises
    CheckpointError, in one sentence that does not name ``path``, for anything else.
    """
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise CheckpointError(f"The file has {size / 2**20:.1f} MB; it may have at most {LARGEST_FILE / 2**20:.0f}.")
    try:
        tensors, header = load_tensors(path)
        _check(tensors, header)
        network, about = load_network(path)
    except CheckpointError as error:
        sentence = str(error).replace(str(path), "The file")
        raise CheckpointError(re.sub(r"(not a ddpm checkpoint) .*", r"\1.", sentence)[:MOST_WORDS]) from error
    try:
        plane = _data_of(about["data"], about.get("points", ""))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"The file does not say which data in the plane it was trained on ({error}).") from error
    trained = Trained(network, _scaling(about.get("scaling")), plane, _whole(about.get("batches", about.get("steps"))))
    if not field(trained).isfinite().all():
        raise CheckpointError("The network's answers are not finite numbers.")
    return trained


def _check(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    config, about = header.get("config"), header.get("about")
    if header.get("kind") != "mlp" or not isinstance(config, dict) or not isinstance(about, dict):
        raise CheckpointError("The file does not hold a network of points with its config.")
    if config.get("shape") != [2]:
        raise CheckpointError(
            f"The network's points have the shape {config.get('shape')!r:.40}; it must be [2]: the plane."
        )
    for name, setting in CONFIG.items():
        if name in config and (problem := setting.problem(config[name])):
            raise CheckpointError(f"The network's {name} is {config[name]!r:.40}; it {problem}.")
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float16, torch.float32) or not tensor.isfinite().all():
            raise CheckpointError(f"The tensor {name[:40]} must hold finite numbers of 16 or 32 bits.")


def _scaling(given: Any) -> Scaling:
    if given is None:
        return AS_IT_IS
    known, problem = Number(-1000, 1000), "The file's scaling must be a shift of two numbers and a scale above 0."
    if not isinstance(given, dict) or given.keys() != {"shift", "scale"} or not isinstance(given["shift"], list):
        raise CheckpointError(problem)
    if len(given["shift"]) != 2 or any(known.problem(value) for value in given["shift"]):
        raise CheckpointError(problem)
    if Number(1e-3, 1000).problem(given["scale"]):
        raise CheckpointError(problem)
    return Scaling(tuple(given["shift"]), given["scale"])


def _whole(value: Any) -> int:
    if problem := Number(0, 2**31, whole=True).problem(value):
        raise CheckpointError(f"The file's number of batches is {value!r:.40}; it {problem}.")
    return value
