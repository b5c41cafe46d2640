from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ddpm.checkpoint import CheckpointError, load_tensors, save_tensors
from ddpm.data import to_uint8, to_unit
from ddpm.networks import MLP, MLPConfig, UNet, UNetConfig
from ddpm.schedule import Linear, alpha_bar, grid
from ddpm.toys import TOYS
from ddpm.training.loop import Diverged, Trainer, image_draw, mean_loss, rate, simple_loss, toy_draw
from ddpm.training.recipe import Recipe

POINTS = MLPConfig(shape=(2,), scale=0.55, width=32, depth=2)
PICTURES = UNetConfig(shape=(1, 8, 8), num_classes=3, channels=(8, 16), blocks=(1, 1), embedding=16)
RECIPE = Recipe(steps=6, batch=4, lr=1e-2, warmup=2)

IMAGES = torch.randint(256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(20) % 3
CONSTANT = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 1, 8, 8)
"""Images that are told apart by any of their pixels: number n is of the colour n."""


@pytest.fixture(autouse=True)
def global_generator():
    """Seeds the generator that initial weights and dropout draw from, and puts it back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def unet_trainer(recipe=RECIPE, config=PICTURES):
    return Trainer(UNet(config), recipe)


def mlp_trainer(recipe):
    return Trainer(MLP(POINTS), recipe)


def randomise(network):
    """Gives random values to the weights that begin at 0, through which no gradient passes."""
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)


def pictures(recipe):
    return image_draw(IMAGES, LABELS, recipe)


def train(trainer, draw, until=None):
    """Trains up to the step ``until`` and gives the losses."""
    losses = []
    for step, loss in trainer.run(draw):
        losses.append(loss)
        if step == until:
            break
    return losses


# --- learning -------------------------------------------------------------------------------------------------------


def test_the_loss_falls_on_a_toy():
    recipe = Recipe(steps=150, batch=128, lr=3e-3, warmup=10, label_dropout=0.0, density="uniform")
    trainer = mlp_trainer(recipe)
    held_out = TOYS["moons"](500, torch.Generator().manual_seed(1)), torch.zeros(500, dtype=torch.long)
    before = mean_loss(trainer.network, *held_out, recipe)
    losses = train(trainer, toy_draw(TOYS["moons"], recipe))
    assert len(losses) == trainer.step == 150
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    assert mean_loss(trainer.averaged(), *held_out, recipe) < 0.9 * before


def test_the_losses_are_those_of_each_step():
    assert [step for step, _ in unet_trainer().run(pictures(RECIPE))] == [1, 2, 3, 4, 5, 6]


def test_muon_moves_hidden_convolutions_and_linear_layers_and_nothing_else():
    """With AdamW's learning rate at 0, what moves was moved by Muon."""
    trainer = unet_trainer(replace(RECIPE, lr=0.0, matrix_lr=1e-2))
    randomise(trainer.network)
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    train(trainer, pictures(RECIPE), until=3)
    moved = {name for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])}
    outside = ("enter", "leave", "label")
    assert moved == {name for name, value in before.items() if value.ndim >= 2 and not name.startswith(outside)}
    assert any(before[name].ndim == 4 for name in moved)


def test_muon_shrinks_its_weights_by_their_decay_beside_its_step():
    """One step from the same weights, with decay and without, differs by lr · decay · weight."""
    plain, shrunk = (unet_trainer(replace(RECIPE, matrix_lr=1e-2, matrix_decay=decay)) for decay in (0.0, 0.5))
    for trainer in (plain, shrunk):
        torch.manual_seed(0)
        randomise(trainer.network)
    before = {name: value.detach().clone() for name, value in plain.network.named_parameters()}
    for trainer in (plain, shrunk):
        train(trainer, pictures(RECIPE), until=1)
    after, moved = dict(shrunk.network.named_parameters()), dict(plain.network.named_parameters())
    outside = ("enter", "leave", "label")
    for name, value in before.items():
        hidden = value.ndim >= 2 and not name.startswith(outside)
        less = rate(0, RECIPE) * 1e-2 * 0.5 * value if hidden else torch.zeros_like(value)
        torch.testing.assert_close(after[name], moved[name] - less, rtol=0, atol=1e-6)


def test_every_weight_moves_when_both_optimizers_learn():
    trainer = unet_trainer(replace(RECIPE, matrix_lr=1e-2))
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    train(trainer, pictures(RECIPE))
    assert [name for name, value in trainer.network.named_parameters() if torch.equal(value, before[name])] == []


# --- resuming -------------------------------------------------------------------------------------------------------


def state_of(trainer):
    return {**trainer.network.state_dict(), **{f"ema.{name}": value for name, value in trainer.ema.items()}}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("matrix_lr", [0.0, 1e-2], ids=["adamw", "muon"])
def test_a_resumed_training_ends_with_the_weights_of_one_that_was_not_interrupted(tmp_path, matrix_lr, dropout):
    recipe, config = replace(RECIPE, matrix_lr=matrix_lr), replace(PICTURES, dropout=dropout)
    draw, start = pictures(recipe), torch.get_rng_state()
    straight = unet_trainer(recipe, config)
    losses = train(straight, draw)

    torch.set_rng_state(start)
    first = unet_trainer(recipe, config)
    train(first, draw, until=3)
    first.save(tmp_path / "state")
    torch.manual_seed(99)
    resumed = unet_trainer(recipe, config)
    resumed.restore(tmp_path / "state")
    assert resumed.step == 3
    assert train(resumed, draw) == losses[3:]
    for (name, ours), theirs in zip(state_of(resumed).items(), state_of(straight).values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.fixture
def state(tmp_path):
    """The state of a U-Net after one step of ``RECIPE``."""
    trainer = unet_trainer()
    train(trainer, pictures(RECIPE), until=1)
    trainer.save(tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("batch", 5),
            ("lr", 0.5),
            ("matrix_lr", 0.1),
            ("matrix_decay", 0.1),
            ("warmup", 3),
            ("cooldown", 0.5),
            ("ema", 0.9),
            ("seed", 1),
        ),
        *(("label_dropout", 0.2), ("density", "uniform"), ("clip_norm", 2.0), ("bfloat16", True)),
    ],
)
def test_a_state_of_another_recipe_is_refused_with_the_setting_and_both_values(state, name, value):
    sentence = rf"state.* {name} = {getattr(RECIPE, name)}, not {value}\.$"
    with pytest.raises(CheckpointError, match=sentence):
        unet_trainer(replace(RECIPE, **{name: value})).restore(state)


@pytest.mark.parametrize(("name", "value"), [("num_classes", 4), ("channels", (16, 16)), ("prediction", "noise")])
def test_a_state_of_another_network_is_refused_with_the_setting(state, name, value):
    with pytest.raises(CheckpointError, match=f"state.* {name} = "):
        unet_trainer(config=replace(PICTURES, **{name: value})).restore(state)


def test_a_refused_state_leaves_the_trainer_as_it_was(state):
    trainer = unet_trainer(replace(RECIPE, lr=0.5))
    before = {name: value.clone() for name, value in state_of(trainer).items()}
    with pytest.raises(CheckpointError):
        trainer.restore(state)
    assert trainer.step == 0
    assert all(torch.equal(value, before[name]) for name, value in state_of(trainer).items())


def test_a_resumed_training_may_be_given_more_steps(state):
    trainer = unet_trainer(replace(RECIPE, steps=9))
    trainer.restore(state)
    train(trainer, pictures(RECIPE))
    assert trainer.step == 9


@pytest.mark.parametrize(("clip_norm", "accepted"), [(1.0, True), (2.0, False)])
def test_a_setting_that_a_state_is_too_old_to_hold_counts_as_its_default(state, clip_norm, accepted):
    tensors, header = load_tensors(state)
    del header["recipe"]["clip_norm"], header["config"]["dropout"]
    save_tensors(state, tensors, header)
    trainer = unet_trainer(replace(RECIPE, clip_norm=clip_norm))
    if accepted:
        trainer.restore(state)
        assert trainer.step == 1
    else:
        with pytest.raises(CheckpointError, match=r"clip_norm = 1.0, not 2.0\.$"):
            trainer.restore(state)


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [pictures(RECIPE), toy_draw(TOYS["moons"], RECIPE)], ids=["images", "toy"])
def test_the_batch_of_a_step_is_the_same_whenever_it_is_asked_for_and_that_of_another_differs(draw):
    later, first = draw(7), draw(0)
    for value, again in zip(draw(7), later, strict=True):
        assert torch.equal(value, again)
    assert not torch.equal(first[0], later[0])


def test_the_batches_of_another_seed_differ():
    one, other = (pictures(replace(RECIPE, seed=seed))(0)[0] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("batch", [4, 6, 20])
def test_an_epoch_shows_each_image_at_most_once_and_the_next_in_another_order(batch):
    draw, batches = image_draw(CONSTANT, LABELS, replace(RECIPE, batch=batch)), 20 // batch
    epochs = []
    for epoch in range(3):
        colours = [to_uint8(draw(epoch * batches + i)[0])[:, 0, 0, 0] for i in range(batches)]
        epochs.append(torch.cat(colours).tolist())
        assert len(set(epochs[-1])) == batches * batch
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_image_is_drawn_with_its_label_and_in_the_unit_range():
    x0, label = pictures(RECIPE)(3)
    for image, its_label in zip(x0, label, strict=True):
        (number,) = (n for n in range(20) if torch.equal(to_unit(IMAGES[n]), image))
        assert its_label == LABELS[number]


def test_flipping_mirrors_about_half_of_the_images_and_changes_nothing_else():
    recipe = replace(RECIPE, batch=20)
    plain, flipping = (image_draw(IMAGES, LABELS, recipe, flip) for flip in (False, True))
    mirrored = 0
    for step in range(20):
        for image, drawn in zip(plain(step)[0], flipping(step)[0], strict=True):
            mirrored += torch.equal(drawn, image.flip(-1))
            assert torch.equal(drawn, image) != torch.equal(drawn, image.flip(-1))
    assert mirrored / 400 == pytest.approx(0.5, abs=5 * (0.25 / 400) ** 0.5)


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"21.*20.*\.$"):
        image_draw(IMAGES, LABELS, replace(RECIPE, batch=21))


# --- the parts of a step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe(1000, 1, warmup=100, cooldown=0.2), Recipe(1000, 1, warmup=1, cooldown=1)])
def test_the_rate_rises_over_the_warm_up_stays_and_falls_to_0_over_the_cool_down(recipe):
    factors = [rate(step, recipe) for step in range(1001)]
    falls_from = round(recipe.steps * (1 - recipe.cooldown))
    assert factors[: recipe.warmup] == pytest.approx([(step + 1) / recipe.warmup for step in range(recipe.warmup)])
    assert factors[recipe.warmup : falls_from + 1] == [1] * (falls_from + 1 - recipe.warmup)
    assert factors[falls_from:] == pytest.approx(
        [(1000 - step) / (1000 - falls_from) for step in range(falls_from, 1001)]
    )
    assert 0 < factors[999] < 0.01
    assert factors[1000] == 0


def test_the_learning_rates_follow_the_rate():
    trainer, draw = unet_trainer(replace(RECIPE, matrix_lr=0.5)), pictures(RECIPE)
    for step, _ in trainer.run(draw):
        factor = rate(step - 1, RECIPE)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        assert rates == pytest.approx([1e-2 * factor, 0.5 * factor])


def test_the_average_of_constant_weights_is_the_weights():
    """After 60 steps the random start weighs at most 0.9 ** 60 < 0.002."""
    trainer = unet_trainer(Recipe(steps=60, batch=2, ema=0.9))
    for value in trainer.ema.values():
        value.zero_()
    for step in range(1, 61):
        trainer.step = step
        trainer._average()
    for name, value in trainer.network.named_parameters():
        assert_close(trainer.ema[name], value.detach(), rtol=0.002, atol=0)


def test_the_average_is_one_of_the_weights_so_far():
    """Written out for one weight: each step's share is 1 − decay, with the decay (1 + n) / (10 + n) at step n."""
    trainer = unet_trainer()
    expected = trainer.network.enter.bias.detach().clone()
    for step, _ in trainer.run(pictures(RECIPE)):
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * trainer.network.enter.bias.detach()
    assert_close(trainer.ema["enter.bias"], expected)


def test_the_averaged_network_is_in_evaluation_mode_and_has_a_life_of_its_own():
    trainer, draw = unet_trainer(), pictures(RECIPE)
    train(trainer, draw, until=2)
    averaged = trainer.averaged()
    assert trainer.network.training
    assert not any(module.training for module in averaged.modules())
    before = {name: value.detach().clone() for name, value in averaged.named_parameters()}
    assert all(torch.equal(value, trainer.ema[name]) for name, value in before.items())
    train(trainer, draw)
    assert all(torch.equal(value, before[name]) for name, value in averaged.named_parameters())
    ema = {name: value.clone() for name, value in trainer.ema.items()}
    for value in averaged.parameters():
        nn.init.zeros_(value)
    assert all(torch.equal(value, ema[name]) for name, value in trainer.ema.items())


@pytest.mark.parametrize(("dropout", "trained"), [(1.0, {3}), (0.0, {0, 1, 2})])
def test_label_dropout_puts_no_label_in_the_place_of_labels(dropout, trained):
    trainer = unet_trainer(replace(RECIPE, label_dropout=dropout))
    rows, table = set(), trainer.network.label.weight
    randomise(trainer.network)
    table.register_hook(lambda gradient: rows.update(gradient.abs().sum(1).nonzero().flatten().tolist()))
    train(trainer, pictures(RECIPE))
    assert rows == trained


def test_a_part_of_the_labels_is_hidden_when_the_dropout_lies_between():
    recipe = Recipe(steps=20, batch=20, label_dropout=0.3)
    seen = []

    class Listening(nn.Module):
        config = SimpleNamespace(num_classes=3, prediction="v")

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x, log_snr, label):
            seen.append(label)
            return self.weight * x

    train(Trainer(Listening(), recipe), pictures(recipe))
    hidden = (torch.cat(seen) == 3).double().mean().item()
    assert hidden == pytest.approx(0.3, abs=5 * (0.21 / 400) ** 0.5)


def test_the_mean_loss_is_the_same_at_every_call_and_for_any_batch_and_moves_no_generator():
    network, before = MLP(POINTS), torch.get_rng_state()
    nn.init.normal_(network.leave.weight)
    held_out = TOYS["moons"](50, torch.Generator().manual_seed(0)), torch.zeros(50, dtype=torch.long)
    first = mean_loss(network, *held_out, RECIPE)
    assert mean_loss(network, *held_out, RECIPE) == first
    assert mean_loss(network, *held_out, RECIPE, batch=7) == pytest.approx(first, rel=1e-5)
    assert all(value.grad is None for value in network.parameters())
    nn.init.normal_(MLP(POINTS).leave.weight)
    torch.set_rng_state(before)
    mean_loss(network, *held_out, RECIPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_simple_loss_of_silence_is_the_mean_signal_left_over_the_thousand_linear_steps():
    """With v̂ = 0 the error of ε̂ = σ x is α² ε − α σ x0: for x0 = ±1 of mean square α⁴ + α² σ² = ᾱ."""

    class Silent(nn.Module):
        config = SimpleNamespace(num_classes=0, prediction="v")

        def forward(self, x, log_snr, label):
            return torch.zeros_like(x)

    x0 = torch.randint(2, (1000, 200), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    label = torch.zeros(1000, dtype=torch.long)
    expected = alpha_bar(grid(Linear(), 1000)[:-1]).mean().item()
    assert simple_loss(Silent(), x0, label) == pytest.approx(expected, abs=0.005)
    assert simple_loss(Silent(), x0, label, batch=7) == pytest.approx(simple_loss(Silent(), x0, label), rel=1e-5)


# --- what is not finite -----------------------------------------------------------------------------------------------


def test_a_training_stops_at_the_first_loss_that_is_not_finite_and_changes_no_weight():
    trainer = unet_trainer()
    train(trainer, pictures(RECIPE), until=2)
    with torch.no_grad():
        trainer.weights[0].fill_(torch.inf)
    before = [weight.detach().clone() for weight in trainer.weights]
    with pytest.raises(Diverged, match="The loss of step 3 is nan"):
        train(trainer, pictures(RECIPE))
    assert trainer.step == 2
    assert all(torch.equal(weight, other) for weight, other in zip(trainer.weights, before))


@pytest.mark.parametrize("what", ["weights", "ema", "moments"])
def test_a_state_with_a_number_that_is_not_finite_replaces_none(tmp_path, what):
    trainer, path = unet_trainer(), tmp_path / "state"
    train(trainer, pictures(RECIPE), until=2)
    trainer.save(path)
    before = path.read_bytes()
    moments = next(iter(trainer.optimizers[0].state.values()))["exp_avg"]
    of = {"weights": trainer.weights[0].data, "ema": next(iter(trainer.ema.values())), "moments": moments}
    of[what].view(-1)[0] = torch.nan
    with pytest.raises(CheckpointError, match="not all finite"):
        trainer.save(path)
    assert path.read_bytes() == before
