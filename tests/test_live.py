import itertools
import json
import pickle
from dataclasses import asdict, replace
from urllib.parse import parse_qsl, urlencode

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from ddpm.checkpoint import CheckpointError, load_tensors, save_network, save_tensors
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.points import DRAWN, FIELD, encode_points
from ddpm.lessons.train.run import Apprentice, Training, exact_field, exact_loss, look, shown_batches
from ddpm.lessons.train.sessions import Budget, NoRoom, VisitorSessions
from ddpm.lessons.trained import LARGEST_FILE, LEVELS, field, from_file, to_file
from ddpm.networks import MLP, MLPConfig, UNet, UNetConfig

SETTINGS = Training.allowed({})

TRIANGLE = encode_points(torch.tensor([[-0.8, -0.8], [0.8, -0.8], [0.0, 0.8]]))
SHORT = Training(batches=100, shown_steps=2)
DRAWING = Training(data=DRAWN, points=TRIANGLE, prediction="x0", scaling="standard", batches=300, shown_steps=7)


def weights_of(trained):
    return list(trained.network.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def unlimited():
    """The visit of somebody who may compute as much as they like."""
    return VisitorSessions(budget=torch.inf, shared=torch.inf).of("somebody")


def pass_steps(job, count):
    """Takes ``count`` steps of ``job`` and gives its frames."""
    return [frame for frame in itertools.islice(job, count) if frame]


@pytest.fixture(scope="module")
def finished():
    """A short training on a drawing, run to its end: the visit and its frames."""
    visit = unlimited()
    return visit, [frame for frame in visit.train(replace(DRAWING, batches=100)) if frame]


# --- the settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [Training(), SHORT, DRAWING], ids=["default", "short", "drawing"])
def test_a_training_comes_back_from_its_link_and_from_its_json(training):
    assert Training.from_query(dict(parse_qsl(urlencode(training.query()), keep_blank_values=True))) == (training, [])
    assert Training.from_json(training.json()) == training


def test_every_setting_says_what_it_may_be():
    assert asdict(Training()).keys() == SETTINGS.keys()


def test_drawn_data_without_a_point_is_refused_and_in_a_link_becomes_the_default():
    with pytest.raises(ValueError, match="no point"):
        Training(data=DRAWN)
    training, notes = Training.from_query({"data": DRAWN, "batches": "300"})
    assert training == Training(batches=300)
    assert len(notes) == 1 and "Nothing is drawn" in notes[0]


# --- training -------------------------------------------------------------------------------------------------------


def test_a_training_that_is_left_and_gone_on_with_ends_with_the_weights_of_one_that_is_not():
    straight, broken = unlimited(), unlimited()
    pass_steps(straight.train(SHORT), 10_000)
    pass_steps(broken.train(SHORT), 25)
    assert not broken.apprentice.finished
    pass_steps(broken.train(None), 17)
    pass_steps(broken.train(None), 10_000)
    assert broken.apprentice.finished
    assert same(broken.mine, straight.mine)


def test_a_training_shows_its_first_batch_and_its_last(finished):
    _, frames = finished
    batches = [frame.trained.batches for frame in frames]
    assert batches == sorted(shown_batches(100)) and batches[0] == 1 and batches[-1] == 100


def test_a_frame_has_the_arrays_that_it_promises(finished):
    for frame in finished[1]:
        assert frame.x.shape == (500, 2)
        assert frame.fields.shape == (3, 400, 2)


def test_the_network_that_learns_comes_nearer_to_the_exact_one(finished):
    _, frames = finished
    least = exact_loss(DRAWING.plane, DRAWING.scale, DRAWING.prediction)
    assert least < frames[-1].held_out < frames[0].held_out
    assert frames[-1].distance < frames[0].distance
    off = [(torch.from_numpy(frame.fields) - exact_field(DRAWING.plane)).square().mean() for frame in frames]
    assert off[-1] < 0.5 * off[0]


@pytest.mark.parametrize("scaling", ["unit", "standard", "none"])
def test_the_field_is_in_the_coordinates_of_the_data(scaling):
    """A network that has learned nothing answers 0: as x̂0, the middle of its coordinates."""
    training = Training(DRAWN, encode_points(torch.tensor([[0.5, -0.5]])), "x0", scaling)
    trained = Apprentice(training).trained()
    assert_close(field(trained), trained.scaling.back(torch.zeros(len(LEVELS), len(FIELD), 2)))


def test_the_scaling_makes_networks_see_the_same_of_a_small_drawing_and_of_a_large_one():
    small, large = (
        Apprentice(Training(DRAWN, encode_points(size * torch.tensor([[-0.9, -0.9], [0.9, 0.9]])), scaling="standard"))
        for size in (0.5, 1.0)
    )
    for one, other in zip(small.draw(3)[0].std(0), large.draw(3)[0].std(0), strict=True):
        assert_close(one, other, atol=0.02, rtol=0)


# --- what a visitor may use -----------------------------------------------------------------------------------------


class Clock:
    """Moves on by ``tick`` seconds whenever a step asks for the time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_budget_counts_what_passes_in_the_steps_and_not_between_them():
    clock = Clock()
    budget = Budget(10.0, clock)

    def steps():
        for number in itertools.count():
            clock.now += 3.0
            yield number

    taken = []
    for number in budget.within(steps()):
        taken.append(number)
        clock.now += 100.0  # somebody else's work
    assert taken == [0, 1, 2, 3]
    assert budget.left == 0
    assert list(budget.within(steps())) == []


def test_steps_that_end_early_leave_the_rest_of_the_budget():
    clock = Clock()
    budget = Budget(10.0, clock)
    assert list(budget.within(iter("abc"))) == list("abc")
    assert budget.left == 10.0


def test_a_visitor_has_one_budget_for_all_trainings():
    visit = VisitorSessions(budget=1e-9).of("one")
    assert pass_steps(visit.train(SHORT), 10) == []
    assert not visit.budget.left
    assert list(visit.train(SHORT)) == []


def test_a_network_knows_its_data_whatever_was_drawn_beside_it(finished):
    mine = finished[0].mine
    assert mine.has_seen(DRAWING.plane) and not mine.has_seen(Plane(data="moons", points=TRIANGLE))
    moons = mine._replace(plane=Training(points=TRIANGLE).plane)
    assert moons.has_seen(Plane(data="moons")) and not moons.has_seen(DRAWING.plane)


def test_two_visitors_share_no_budget_no_training_and_no_network():
    visits = VisitorSessions()
    one, other = visits.of("one"), visits.of("other")
    pass_steps(one.train(SHORT), 30)
    assert one.mine and one.apprentice and one.budget.left < one.budget.seconds
    assert other.mine is None and other.apprentice is None and other.budget.left == other.budget.seconds
    assert visits.of("one") is one and visits.find("other") is other and visits.find("a third") is None


def test_the_visitors_of_one_address_share_a_budget_which_an_hour_renews():
    clock = Clock()
    visits = VisitorSessions(lifetime=10.0, shared=1e-9, clock=clock)
    first, second = visits.of("first", "here"), visits.of("second", "here")
    assert pass_steps(first.train(SHORT), 10) == []
    assert first.spent and second.spent and second.budget.left == second.budget.seconds
    assert not visits.of("a third", "elsewhere").spent
    clock.now = 11.0
    assert not visits.of("a fourth", "here").spent


def with_network(visits, name, address=""):
    """The visit ``name``, which has begun to train."""
    visit = visits.of(name, address)
    pass_steps(visit.train(SHORT), 2)
    return visit


def test_a_visit_is_dropped_when_it_has_not_been_used_for_its_lifetime():
    clock = Clock()
    visits = VisitorSessions(lifetime=10.0, clock=clock)
    visit = with_network(visits, "one")
    clock.now = 9.0
    assert visits.find("one") is visit
    clock.now = 18.0
    assert visits.find("one") is visit
    clock.now = 29.0
    assert visits.find("one") is None


def test_who_has_no_network_takes_no_room():
    visits = VisitorSessions(most=2)
    mine = with_network(visits, "mine")
    assert [visits.of(str(number)).mine for number in range(64)] == [None] * 64
    assert visits.find("mine") is mine
    assert visits.find("63") is None


def test_two_requests_of_a_newcomer_at_once_are_of_one_visit():
    visits = VisitorSessions()
    first = visits.of("one")
    assert visits.of("one") is first and visits.find("one") is first


def test_a_newcomer_is_refused_before_somebody_loses_a_network():
    visits = VisitorSessions(most=2)
    kept = [with_network(visits, name) for name in ("first", "second")]
    with pytest.raises(NoRoom, match="all visitors"):
        visits.of("third")
    assert [visits.find("first"), visits.find("second")] == kept


def test_one_address_cannot_fill_the_room_of_all():
    visits = VisitorSessions(most=3, most_of_address=2)
    for name in ("first", "second"):
        with_network(visits, name, "here")
    with pytest.raises(NoRoom, match="your address"):
        visits.of("third", "here")
    assert with_network(visits, "third", "elsewhere") is visits.find("third")
    assert visits.of("first", "here") is visits.find("first")


def test_a_network_that_is_brought_is_kept(finished):
    visits = VisitorSessions()
    visits.of("one").bring(finished[0].mine)
    assert visits.find("one").mine is finished[0].mine


# --- as a file ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, finished):
    (path := tmp_path / "mine.safetensors").write_bytes(to_file(finished[0].mine))
    return path


def test_a_network_comes_back_from_its_file_with_its_data_and_its_scaling(path, finished):
    trained = from_file(path)
    assert same(trained, finished[0].mine)
    assert trained._replace(network=None) == finished[0].mine._replace(network=None)


def test_what_comes_back_makes_the_same_points(path, finished):
    *_, frame = look(from_file(path), 5)
    *_, expected = look(finished[0].mine, 5)
    assert (frame.x == expected.x).all()


def test_a_shipped_network_of_the_plane_can_be_loaded(pytestconfig):
    trained = from_file(pytestconfig.rootpath / "checkpoints" / "spiral.safetensors")
    assert trained.plane.data == "spiral"


def refused(path, reason):
    with pytest.raises(CheckpointError, match=reason) as error:
        from_file(path)
    message = str(error.value)
    assert message.endswith(".") and "\n" not in message and str(path) not in message and len(message) < 500


def test_a_network_whose_answers_overflow_is_refused(path):
    tensors, header = load_tensors(path)
    save_tensors(path, {name: torch.full_like(value, 1e30) for name, value in tensors.items()}, header)
    refused(path, "not finite")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    with (path := tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    refused(path, "at most 4")


class Bomb:
    """A pickle that would leave a mark when it is loaded."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    (path := tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    refused(path, "not a ddpm checkpoint")
    torch.save({"weight": Bomb(tmp_path / "mark")}, path)
    refused(path, "not a ddpm checkpoint")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"[" * 16], ids=range(4))
def test_a_wrong_file_is_refused(tmp_path, content):
    (path := tmp_path / "other.txt").write_bytes(content)
    refused(path, "not a ddpm checkpoint")


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "truncated")


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    save_file({"weight": torch.ones(1)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "not a ddpm checkpoint")


def test_a_network_of_images_is_refused(tmp_path):
    save_network(tmp_path / "unet", UNet(UNetConfig((1, 4, 4), 2, (8, 8), (1, 1), embedding=8)), {"data": "moons"})
    refused(tmp_path / "unet", "network of points")


def test_points_of_another_dimension_are_refused(tmp_path):
    save_network(tmp_path / "line", MLP(MLPConfig((1,), width=8, depth=1)), {"data": "mixture1d"})
    refused(tmp_path / "line", r"shape \[1\]; it must be \[2\]")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 10**9}, "width is 1000000000; it must be a whole number from 8 to 256"),
        ({"depth": 10**6}, "depth is 1000000"),
        ({"embedding": 2.5}, "embedding is 2.5"),
        ({"num_classes": 10**8}, "num_classes"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"log_snr_max": "x" * 10**5}, "log_snr_max"),
        ({"prediction": "score"}, "predicts 'score'"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"width": 32}, "has the shape"),
        ({"depth": 2}, "unknown tensor"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_network_of_other_or_excessive_numbers_is_refused_before_it_is_built(path, changes, reason):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, header | {"config": header["config"] | changes})
    refused(path, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": []}, "network of points"),
        ({"about": None}, "network of points"),
        ({"kind": "classifier"}, "network of points"),
        ({"about": {"batches": 1}}, "which data"),
        ({"about": {"data": "mixture1d", "batches": 1}}, "which data.*mixture1d"),
        ({"about": {"data": [], "batches": 1}}, "which data"),
        ({"about": {"data": "drawn", "points": "A", "batches": 1}}, "which data.*base64url"),
        ({"about": {"data": "moons"}}, "number of batches is None"),
        ({"about": {"data": "moons", "batches": 1, "scaling": {"shift": [0, 0], "scale": 0}}}, "scaling must be"),
        ({"about": {"data": "moons", "batches": 1, "scaling": {"shift": [0, "a"], "scale": 1}}}, "scaling must be"),
        ({"about": {"data": "moons", "batches": 1, "scaling": [1, 2]}}, "scaling must be"),
    ],
    ids=range(11),
)
def test_a_header_that_says_something_else_is_refused(path, changes, reason):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, header | changes)
    refused(path, reason)


def test_a_header_that_is_too_deep_is_refused(path):
    tensors, _ = load_tensors(path)
    save_file(tensors, path, metadata={"ddpm": "[" * 10**5})
    refused(path, "not a ddpm checkpoint")


@pytest.mark.parametrize("value", [torch.full((2,), torch.nan), torch.ones(2, dtype=torch.int64)], ids=["nan", "int"])
def test_weights_that_are_no_finite_numbers_are_refused(path, value):
    tensors, header = load_tensors(path)
    save_file(tensors | {"leave.bias": value}, path, {"ddpm": json.dumps(header)})
    refused(path, "leave.bias must hold finite numbers")
