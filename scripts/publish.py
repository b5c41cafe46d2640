"""Put the app, or networks, on the Hugging Face Hub: python scripts/publish.py space USER/NAME.

Or python scripts/publish.py model USER/NAME checkpoints/mnist. The token comes from HF_TOKEN or `hf auth login`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import _root  # noqa: F401
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

from ddpm.checkpoint import CheckpointError, Loaded, load_network
from ddpm.evaluation.report import field_table, image_table, read_rows, toy_table
from ddpm.files import read_json
from ddpm.hub import HubError, Repository

ROOT = Path(__file__).resolve().parents[1]

SPACE = (
    "*.md",
    "LICENSE",
    "requirements.txt",
    "app.py",
    "ddpm/**/*",
    "checkpoints/*.safetensors",
    "checkpoints/*.md",
    "checkpoints/snapshots/*",
    "docs/*",
)
"""What a Space and the links of its README need, as patterns below the folder."""

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of its wheels without CUDA, which are far smaller."""

UNUSED = re.compile(r"__pycache__|-classifier\.safetensors$|/\.")
"""Of these, what the app never opens."""

DATA_SETS = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
"""The data sets' names on the Hub, where they have one."""


class Upload(NamedTuple):
    """What goes to a repository: contents by their paths there, and the folders that hold nothing else."""

    contents: Mapping[str, Path | bytes]
    owned: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        return {path: len(it) if isinstance(it, bytes) else it.stat().st_size for path, it in self.contents.items()}


def space(name: str, models: Sequence[str] = ()) -> Upload:
    """The files of the app, for the Space ``name``, which links to the repositories ``models``."""
    paths = sorted(path for pattern in SPACE for path in ROOT.glob(pattern) if path.is_file())
    known = {path.relative_to(ROOT).as_posix(): path for path in paths}
    contents: dict[str, Path | bytes] = {path: file for path, file in known.items() if not UNUSED.search(path)}
    texts = [(ROOT / name).read_text("utf-8") for name in ("requirements.txt", "constraints.txt")]
    contents["requirements.txt"] = pinned(*texts).encode()
    contents["README.md"] = introduced((ROOT / "README.md").read_text("utf-8"), name, models).encode()
    return Upload(contents, ("ddpm/", "checkpoints/"))


def pinned(requirements: str, constraints: str) -> str:
    """The requirements of a Space, in one file as it takes them: PyTorch's wheels for the CPU, and every package that the
    ``constraints`` name in that version."""
    lines = [line for line in constraints.splitlines() if not line.startswith("#")]
    named = {line.partition("==")[0].lower() for line in lines}
    others = [line for line in requirements.splitlines() if re.split("[=<>]", line)[0].lower() not in named]
    return "\n".join([f"--extra-index-url {CPU_WHEELS}", *others, *lines]) + "\n"


def introduced(readme: str, name: str, models: Sequence[str]) -> str:
    """``readme`` with what only the Space knows in its front matter: its picture's address, its models."""
    thumbnail = f"thumbnail: {HfApi().endpoint}/spaces/{name}/resolve/main/docs/page.png"
    lines = [thumbnail, *(["models:", *(f"- {model}" for model in models)] if models else [])]
    start, opening, text = readme.partition("---\n")
    head, closing, rest = text.partition("---\n")
    if start or not closing:
        raise ValueError("README.md does not begin with front matter between two lines of ---, which a Space needs.")
    return opening + head + "\n".join(lines) + "\n" + closing + rest


def model(repository: Repository, stems: Sequence[Path]) -> Upload:
    """Checkpoints given without their suffix, their results, and a card. Raises FileNotFoundError or CheckpointError."""
    contents: dict[str, Path | bytes] = {"README.md": card(repository.name, stems).encode()}
    for stem in stems:
        contents[f"{stem.name}.safetensors"] = stem.with_name(f"{stem.name}.safetensors")
        if (results := stem.with_name(f"{stem.name}.json")).is_file():
            contents[results.name] = results
    return Upload(contents)


# --- the model card ---------------------------------------------------------------------------------------------------


def card(name: str, stems: Sequence[Path]) -> str:
    """The README of a repository of checkpoints: what each is, how it was trained, how good it is, how to load it."""
    loaded = {stem.name: load_network(stem.with_name(f"{stem.name}.safetensors")) for stem in stems}
    for stem, one in zip(stems, loaded.values()):
        if not hasattr(one.network.config, "prediction") or not {"data", "samples", "steps"} <= one.about.keys():
            raise CheckpointError(f"{stem} is not a network that scripts/train.py has made.")
    sources = dict.fromkeys(DATA_SETS[one.about["data"]] for one in loaded.values() if one.about["data"] in DATA_SETS)
    head = ["---", "license: mit", "pipeline_tag: unconditional-image-generation", "tags:", "- diffusion", "- ddpm"]
    head += ["datasets:", *(f"- {source}" for source in sources)] if sources else []
    title = name.partition("/")[2]
    parts = ["\n".join([*head, "---"]), f"# {title}", _ABOUT, *(section(stem, loaded[stem.name]) for stem in stems)]
    several = f', "{stems[0].name}"' if len(stems) > 1 else ""
    return "\n\n".join([*parts, _LOAD.format(name=name, several=several), _LICENCE]) + "\n"


_ABOUT = """Denoising diffusion networks that are told the log signal-to-noise ratio of their input and not a step's number: one
network serves any number of steps and any noise schedule whose log-SNR lies within its range."""

_LOAD = """## How to load

With the code of the app beside it (`ddpm/`, and what its `requirements.txt` names):

```python
import ddpm
network = ddpm.load("{name}"{several})  # a torch module: network(x, log_snr, label) -> its prediction
```

or start the app on it: `DDPM_CHECKPOINTS={name} python app.py`. The files are safetensors; their metadata holds the
network's config."""

_LICENCE = """## Licence

MIT, for the weights. The data that they were trained on has terms of its own."""


def section(stem: Path, loaded: Loaded) -> str:
    """What the card says of one checkpoint."""
    config, about = loaded.network.config, loaded.about
    size = sum(value.numel() for value in loaded.network.state_dict().values())
    facts = {
        "network": f"{type(loaded.network).__name__}, {size / 1e6:.2f} million weights",
        "works on": " × ".join(map(str, config.shape)),
        "predicts": {"v": "v = α ε − σ x₀", "noise": "the noise ε", "x0": "the clean x₀"}[config.prediction],
        "log-SNR": f"from {config.log_snr_min:g} to {config.log_snr_max:g}",
        "classes": ", ".join(about.get("names", ())) or "none",
        "trained on": f"{about['data']}, {about['samples']:,} samples in {about['steps']:,} batches",
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in facts.items())])
    parts = [f"## {stem.name}", table, story(stem), results(stem)]
    return "\n\n".join(part for part in parts if part)


def story(stem: Path) -> str:
    """What the README beside a checkpoint says of how it was made; nothing if it says nothing."""
    readme = stem.with_name("README.md")
    text = readme.read_text("utf-8") if readme.is_file() else ""
    for heading, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        if stem.name in heading.split(", "):
            return f"### How it was trained\n\n{body.strip()}"
    return ""


def results(stem: Path) -> str:
    """The tables of the JSON of results beside a checkpoint; nothing if it was not evaluated. Raises ValueError."""
    path = stem.with_name(f"{stem.name}.json")
    rows = read_rows(path)
    if not rows:
        return ""
    report = {**read_json(path), "rows": rows}
    if "accuracy" in report:
        table = re.sub(r"\n!\[.*?\n", "\n", image_table(report))  # a figure that is not in the repository
    else:
        table = "\n".join([toy_table([report]), *([field_table([report])] if "field" in report else [])])
    return f"### How good it is\n\n{table.strip()}"


# --- the Hub ----------------------------------------------------------------------------------------------------------


def describe(upload: Upload) -> str:
    """The files and their sizes, and the sum."""
    lines = [f"{size:>12,}  {path}" for path, size in upload.sizes.items()]
    return "\n".join([*lines, f"{sum(upload.sizes.values()):>12,}  bytes in {len(lines)} files"])


def send(kind: str, repository: Repository, upload: Upload) -> str:
    """Creates the repository if need be, and makes it hold ``upload`` in one commit; returns its address.

    Files in folders that the upload owns, and that it no longer has, are deleted; others stay.
    """
    api, name = HfApi(), repository.name
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    created = api.create_repo(name, repo_type=kind, exist_ok=True, **sdk)
    there = api.list_repo_files(name, repo_type=kind)
    stale = [path for path in there if path.startswith(upload.owned) and path not in upload.contents]
    operations = [CommitOperationAdd(path, content) for path, content in upload.contents.items()]
    operations += [CommitOperationDelete(path) for path in stale]
    api.create_commit(name, operations, commit_message=f"Publish the {kind}", repo_type=kind)
    return str(created)


def problem(error: Exception, name: str) -> str:
    """What an error of the Hub's client means for whoever publishes, in one sentence."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return "The Hub does not know who you are: set HF_TOKEN to a token that may write, or run `hf auth login`."
    if status in (403, 404):
        return f"This token may not write to {name}; it needs the right to, and you the right to that name."
    if status is not None:
        return f"The Hub refused {name} (HTTP status {status}: {error.server_message or 'no reason given'})."
    return f"The Hub could not be reached ({type(error).__name__}); nothing was published."


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, about in {"space": "the app, as a Space", "model": "checkpoints, with a card"}.items():
        own = kinds.add_parser(kind, help=about)
        own.add_argument("repository", metavar="USER/NAME")
        if kind == "model":
            own.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE", help="such as checkpoints/mnist")
        else:
            own.add_argument("--model", action="append", default=[], help="a repository of networks that it links to")
        own.add_argument("--dry-run", action="store_true", help="only show what would be uploaded")
        own.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def main() -> None:
    options = parse()
    repository = Repository.parse(options.repository)
    if repository != (repository.name, "main"):
        raise HubError(f"The repository is {options.repository!r}; published is to USER/NAME, without a revision.")
    if options.kind == "space":
        upload = space(repository.name, [Repository.parse(model).name for model in options.model])
    else:
        stems = [path.with_suffix("") if path.suffix == ".safetensors" else path for path in options.checkpoints]
        upload = model(repository, stems)
    print(describe(upload))
    if options.dry_run:
        return
    if not options.yes and input(f"Publish these to the {options.kind} {repository.name}? [y/N] ").lower() != "y":
        raise HubError("Nothing is published.")
    try:
        print(f"Published at {send(options.kind, repository, upload)}.")
    except (HTTPError, OSError) as error:
        raise HubError(problem(error, repository.name)) from error


if __name__ == "__main__":
    try:
        main()
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"publish.py: {error}") from error
    except (KeyboardInterrupt, EOFError):
        raise SystemExit("\nNothing is published.") from None
