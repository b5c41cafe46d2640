"""Measure how good a checkpoint's samples are: python scripts/evaluate.py mnist --data-dir DIR.

Results go to the JSON file beside the checkpoint, row by row; rows that are there already are not measured again.
``classifier`` trains the network that judges the images of --data, ``likelihood`` bounds the likelihood of its test
images, ``--settings frontier`` measures quality against
the number of steps, ``readme`` writes the results into the tables of docs/results.md and draws the frontier.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import _root  # noqa: F401
import torch
from _arguments import positive
from torch import Tensor, nn
from tqdm import tqdm

from ddpm.checkpoint import CheckpointError, load_network, save_network
from ddpm.data import IMAGES, Images, both_parts
from ddpm.evaluation import judges as evaluate
from ddpm.evaluation.classifier import RECIPES, classified, train_classifier
from ddpm.evaluation.frontier import figure, frontier, frontier_path
from ddpm.evaluation.judges import ImageMeasures, Judge, PointMeasures, Setting
from ddpm.evaluation.report import digest, fill_likelihood, fill_readme, is_measured, merged, read_rows, write_report
from ddpm.files import read_json, write_beside
from ddpm.lessons.likelihood.run import bounds, carried_out, of_images
from ddpm.networks import Classifier
from ddpm.schedule import SCHEDULES, grid
from ddpm.toys import TOYS


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    names = [*IMAGES, *TOYS, "toys", "classifier", "likelihood", "readme"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=names, help="what to evaluate; or classifier, likelihood or readme")
    parser.add_argument(
        "--data", choices=IMAGES, default="mnist", help="the data set of a new classifier, or of likelihood"
    )
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="the folder of the checkpoints")
    parser.add_argument("--samples", type=positive, help="samples of a full row (default: 2000 images, 20000 points)")
    parser.add_argument("--settings", choices=evaluate.EXTENTS, default="standard", help="how many rows and samples")
    parser.add_argument("--only", type=_filter, default={}, metavar="T=25,eta=0", help="only rows with these values")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there already")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of every draw")
    parser.add_argument("--batch", type=positive, help="samples a network call (default: 50 images, 2,000 points)")
    parser.add_argument("--epochs", type=positive, help="passes over the data for a new classifier")
    parser.add_argument("--inception", type=Path, help="weights of torch-fidelity's Inception, for the standard FID")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--readme", type=Path, default=Path("docs/results.md"), help="the file whose tables are written"
    )
    return parser.parse_args(arguments)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


FIELDS = {
    "T": ("steps", int),
    "schedule": ("schedule", str),
    "sampler": ("sampler", str),
    "eta": ("eta", float),
    "w": ("guidance", float),
}


def _filter(text: str) -> dict[str, int | float | str]:
    """``T=25,eta=0`` as the fields of a Setting."""
    chosen = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        try:
            field, kind = FIELDS[key]
            chosen[field] = kind(value)
        except (KeyError, ValueError):
            known = ", ".join(FIELDS)
            raise argparse.ArgumentTypeError(f"{part!r} is not KEY=VALUE with a key of {known}") from None
    return chosen


# --- the classifier -------------------------------------------------------------------------------------------------


def write_classifier(name: str, path: Path, train: Images, test: Images, options: argparse.Namespace) -> None:
    """Trains the judge of the image data ``name`` and writes it to ``path``, its test accuracy inside."""
    recipe = replace(RECIPES[name], epochs=options.epochs or RECIPES[name].epochs)
    with tqdm(desc=f"classifier of {name}", unit=" images", unit_scale=True, mininterval=1) as bar:
        for progress in train_classifier(train, recipe, options.seed):
            bar.total = progress.steps * recipe.batch
            bar.set_postfix_str(f"loss {progress.loss:.4f}", refresh=False)
            bar.update(recipe.batch)
    found = classified(progress.classifier, test.images)[1]
    about = {"data": name, "names": list(train.names), "epochs": recipe.epochs, "seed": options.seed}
    about["accuracy"] = evaluate.agreement(found, test.labels)
    save_network(path, progress.classifier, about, half=True)
    print(f"Wrote {path}. It is right on {about['accuracy']:.2%} of the test set.")


# --- the rows -------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What to measure one checkpoint with; ``about`` opens its report, ``made_with`` holds the digests of weights."""

    judge: Judge
    measures: frozenset[str]
    settings: list[Setting]
    batch: int
    made_with: dict[str, str]
    about: dict[str, Any]


def image_plan(name: str, network: nn.Module, options: argparse.Namespace) -> Plan:
    """The rows of images; trains their classifier if there is none."""
    train, test = both_parts(name, options.data_dir)
    path = options.folder / f"{name}-classifier.safetensors"
    if not path.is_file():
        write_classifier(name, path, train, test, options)
    classifier, about = load_network(path)
    if not isinstance(classifier, Classifier) or "accuracy" not in about:
        raise CheckpointError(f"{path} holds no classifier of known accuracy; move it away to have one trained.")
    inception = options.inception and inception_with_bar(options.inception)
    judge = evaluate.judge_images(classifier.to(memory_format=torch.channels_last), train, test, inception)
    measures = frozenset(field.name for field in fields(ImageMeasures)) - (set() if inception else {"fid"})
    settings = evaluate.image_settings(options.samples or 2000, options.settings)
    about = {"data": name, "accuracy": about["accuracy"]}
    return Plan(judge, measures, settings, options.batch or 50, {"classifier": digest(path)}, about)


def inception_with_bar(weights: Path) -> Callable[[Tensor], Tensor]:
    """Inception's features of images, under a progress bar that counts images."""
    bar = tqdm(desc="Inception", unit=" images", unit_scale=True, mininterval=1)
    return evaluate.inception_features(weights, bar.update)


def toy_plan(name: str, network: nn.Module, options: argparse.Namespace) -> Plan:
    settings = evaluate.toy_settings(options.samples or 20_000, options.settings)
    measures = frozenset(field.name for field in fields(PointMeasures))
    about = {"data": name, "field": asdict(evaluate.field_error(network, TOYS[name], options.seed))}
    return Plan(evaluate.judge_points(TOYS[name]), measures, settings, options.batch or 2000, {}, about)


def load_generator(path: Path, name: str) -> nn.Module:
    """The network of ``path``. Raises CheckpointError if it cannot generate ``name`` or, for images, has no labels."""
    network, about = load_network(path)
    if isinstance(network, Classifier) or about.get("data") != name:
        raise CheckpointError(
            f"{path} holds a {type(network).__name__} of {about.get('data')}; not one that makes {name}."
        )
    if name in IMAGES and network.config.num_classes != len(about.get("names", ())):
        raise CheckpointError(f"{path} does not know the names of its {network.config.num_classes} classes.")
    return network.to(memory_format=torch.channels_last)


def evaluate_checkpoint(name: str, options: argparse.Namespace) -> None:
    """Measures the chosen rows of one checkpoint and merges each into its report as soon as it is done."""
    few = options.settings == "few"
    path = options.folder / f"{name}{'-student' if few else ''}.safetensors"
    network = load_generator(path, name)
    plan = (toy_plan if name in TOYS else image_plan)(name, network, options)
    made_with, report = {"checkpoint": digest(path), **plan.made_with}, path.with_suffix(".json")
    about = plan.about | ({"student": True} if few else {})
    for setting in chosen(plan.settings, options.only):
        rows = read_rows(report)
        if not options.again and is_measured(setting, options.seed, made_with, plan.measures, rows):
            print(f"{name}, {setting}: measured already (--again repeats it)")
            continue
        samples, labels = draw(network, setting, options.seed, plan.batch)
        print(f"{name}, {setting}: judging {len(samples):,} samples")
        measures = asdict(plan.judge(samples, labels, options.seed))
        row = {**asdict(setting), "seed": options.seed, "made_with": made_with, **measures}
        write_report(report, about, merged(read_rows(report), row))
        print(f"{name}, {setting}: {', '.join(f'{k} {v:.4g}' for k, v in measures.items() if isinstance(v, float))}")
    write_report(report, about, read_rows(report))


# --- the bound on the likelihood ----------------------------------------------------------------------------------------

BOUNDS = "likelihood.json"
"""The report of the bounds, one row a data set and schedule, in the folder of the checkpoints."""


ROUNDS, EACH = 50, 4
"""Of an estimate of the bound, as ddpm.lessons.likelihood.run.bounds takes them."""


def bound_likelihood(options: argparse.Namespace) -> None:
    """Bounds the likelihood of --data's test images at T = 1,000 by the linear and the cosine schedule."""
    path, report = options.folder / f"{options.data}.safetensors", options.folder / BOUNDS
    network = load_generator(path, options.data)
    data = of_images(IMAGES[options.data](options.data_dir, False).images)
    rows = read_json(report) if report.is_file() else []
    for schedule in ("linear", "cosine"):
        work = bounds(data, grid(SCHEDULES[schedule](), 1000), network, options.seed, ROUNDS, EACH)
        for found in tqdm(carried_out(work), desc=f"{options.data}, {schedule}", total=ROUNDS):
            total = found.total
        row = {"data": options.data, "steps": 1000, "schedule": schedule, "checkpoint": digest(path)}
        row |= {"evaluations": found.evaluations, "prior": found.prior.value, "matching": found.matching.value}
        row |= {"reconstruction": found.reconstruction.value, "total": total.value, "error": total.error}
        rows = [one for one in rows if (one["data"], one["schedule"]) != (options.data, schedule)] + [row]
        write_beside(report, (json.dumps(rows, indent=1) + "\n").encode())
        print(f"{options.data}, {schedule}: at most {total.value:.3f} ± {total.error:.3f} bits per dimension")


def chosen(settings: list[Setting], only: dict[str, int | float | str]) -> list[Setting]:
    """The settings that have every value of ``only``."""
    rows = [row for row in settings if all(getattr(row, field) == value for field, value in only.items())]
    if not rows:
        raise ValueError(f"No row matches --only; the rows are {'; '.join(map(str, settings))}.")
    return rows


def draw(network: nn.Module, setting: Setting, seed: int, batch: int) -> tuple[Tensor, Tensor]:
    """The samples of a setting and their labels, under a progress bar that counts denoised samples."""
    total = setting.samples * setting.steps
    with tqdm(total=total, desc=str(setting), unit=" x0", unit_scale=True, mininterval=1) as bar:
        return evaluate.generate(network, setting, seed, batch, bar.update)


def write_readme(options: argparse.Namespace) -> None:
    """Puts the results of every report into the tables of the document, and draws the frontiers that they refer to."""
    if not options.readme.is_file():
        raise FileNotFoundError(f"There is no file {options.readme}; --readme names the one to write the tables into.")
    reports = []
    for name in [*(each for data in IMAGES for each in (data, f"{data}-student")), *TOYS]:
        checkpoint = options.folder / f"{name}.safetensors"
        report = checkpoint.with_suffix(".json")
        if rows := read_rows(report):
            if any(row["made_with"]["checkpoint"] != digest(checkpoint) for row in rows):
                raise ValueError(
                    f"{report} was measured with other weights than {checkpoint}'s; evaluate {name} first."
                )
            reports.append({**read_json(report), "rows": rows})
    if not reports:
        raise ValueError(f"There is no report in {options.folder}; evaluate a checkpoint first.")
    for report in reports:
        if curves := frontier(report["rows"]):
            drawn = figure(curves, f"Quality against the number of steps on {report['data']}")
            write_beside(options.readme.parent / frontier_path(report["data"]), drawn.encode())
    text = fill_readme(options.readme.read_text("utf-8"), reports)
    if (found := options.folder / BOUNDS).is_file():
        rows = sorted(read_json(found), key=lambda row: list(IMAGES).index(row["data"]))
        for row in rows:
            if row["checkpoint"] != digest(options.folder / f"{row['data']}.safetensors"):
                raise ValueError(
                    f"{found} was measured with other weights of {row['data']}; bound its likelihood first."
                )
        text = fill_likelihood(text, rows)
    write_beside(options.readme, text.encode())
    print(f"Wrote the results of {', '.join(report['data'] for report in reports)} into {options.readme}.")


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.name == "readme":
        write_readme(options)
    elif options.name == "likelihood":
        bound_likelihood(options)
    elif options.name == "classifier":
        train, test = both_parts(options.data, options.data_dir)
        write_classifier(options.data, options.folder / f"{options.data}-classifier.safetensors", train, test, options)
    else:
        for name in TOYS if options.name == "toys" else [options.name]:
            evaluate_checkpoint(name, options)


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"evaluate.py: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("\nStopped; the rows done so far are kept.") from None
