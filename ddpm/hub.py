"""Checkpoints from the Hugging Face Hub, pinned to a commit, kept in its cache and checked; or from a local folder.

What the Hub lists of a commit, the SHA-256 of each file above all, is noted beside the cached files. So the files are
checked at every use, and without a connection the commit that came last is still known.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from ddpm.checkpoint import load_network
from ddpm.files import read_json, write_beside
from ddpm.networks import Configured

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that the Hub may be silent when it is asked what it has."""

SUFFIX = ".safetensors"
BESIDE = ("-projection", "-classifier")
"""Ends of the names of files that hold no network that generates."""

_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class HubError(ValueError):
    """A source of checkpoints that cannot be used; the message is one sentence for whoever named it."""


class Undelivered(HubError):
    """The Hub cannot be reached now, or what it sent is not what it lists; what came before may serve meanwhile."""


class Repository(NamedTuple):
    """A repository of models on the Hub, and the branch, tag or commit that is asked for."""

    name: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Repository:
        """The repository written as USER/NAME or USER/NAME@REVISION. Raises HubError for anything else."""
        match = re.fullmatch(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@(\S+))?", text)
        if not match:
            raise HubError(
                f"The source of checkpoints is {text[:200]!r}; it must be a folder, or a repository on the Hub "
                "as USER/NAME or USER/NAME@REVISION."
            )
        return cls(match[1], match[2] or "main")

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


class Listing(NamedTuple):
    """What a commit holds: the SHA-256 of each checkpoint, by its name without ".safetensors"."""

    commit: str
    digests: dict[str, str]


class Found(NamedTuple):
    """Checkpoints by their names, where they come from in words, and what stood in the way of newer ones, if anything."""

    paths: dict[str, Path]
    origin: str
    problem: str = ""


Choose = Callable[[Collection[str]], Collection[str]]
"""From the names that there are, those that are wanted."""


def load(source: str | Path, name: str | None = None) -> Configured:
    """The network of a checkpoint, in float32 and evaluation mode.

    ``source`` is USER/NAME or USER/NAME@REVISION on the Hub, a folder, or a file; ``name`` chooses among several
    checkpoints. Without a connection the files that came last are used, and the log says so. Raises HubError,
    CheckpointError or FileNotFoundError.
    """
    if (path := Path(source).expanduser()).is_file():
        return load_network(path).network

    def choose(names: Collection[str]) -> Collection[str]:
        networks = sorted(known for known in names if not known.endswith(BESIDE))
        if name is None and len(networks) == 1:
            return networks
        if name is None or name not in names:
            asked = "choose one by its name" if name is None else f"there is no {name!r}"
            raise HubError(f"{source} holds {', '.join(networks) or 'no checkpoint'}; {asked}.")
        return [name]

    found = find(source, choose)
    if found.problem:
        log.warning("%s So this is %s.", found.problem, found.origin)
    (chosen,) = found.paths.values()
    return load_network(chosen).network


def for_app(source: str | None, shipped: Path, names: Collection[str]) -> Found:
    """Where the app finds the checkpoints ``names``: in ``source`` as far as that has them, the others in ``shipped``.

    If the Hub does not deliver, all are those that came last, or the shipped ones; ``problem`` says so in a sentence
    or two. Raises HubError for a source that is not there, may not be read, or has none of ``names``.
    """
    here = {name: shipped / f"{name}{SUFFIX}" for name in names}
    if not source:
        return Found(here, "shipped with the app")

    def choose(known: Collection[str]) -> Collection[str]:
        if chosen := [name for name in names if name in known]:
            return chosen
        raise HubError(f"{source} holds none of the checkpoints that the app needs: {', '.join(names)}.")

    try:
        found = find(source, choose)
    except Undelivered as error:
        found = Found({}, "those of the app", str(error))
    if found.problem:
        found = found._replace(problem=f"{found.problem} Until the next start the networks are {found.origin}.")
        log.warning(found.problem)
    rest = sorted(here.keys() - found.paths.keys())
    log.info("%s: %s; shipped: %s", ", ".join(found.paths) or "none", found.origin, ", ".join(rest) or "none")
    return found._replace(paths=here | found.paths)


def find(source: str | Path, choose: Choose) -> Found:
    """The checkpoints that ``choose`` picks from a folder or from the Hub. Raises HubError, or Undelivered."""
    if (folder := Path(source).expanduser()).is_dir():
        known = {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
        return Found({name: known[name] for name in choose(known)}, f"those in {folder}")
    repository = Repository.parse(str(source))
    try:
        listing = _ask(repository)
        paths = _download(repository, listing, choose)
    except Undelivered as error:
        before = _recall(repository)
        if before is None:
            raise
        try:
            paths = _download(repository, before, choose, offline=True)
        except HubError:
            raise error from None
        return Found(paths, f"those of {repository.name} at {before.commit[:7]}, from the cache", str(error))
    _remember(repository, listing)
    return Found(paths, f"those of {repository.name} at {listing.commit[:7]}")


# --- what the Hub says ------------------------------------------------------------------------------------------------


def _ask(repository: Repository) -> Listing:
    """What ``repository`` holds now, at one commit."""
    try:
        name, revision = repository
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=PATIENCE)
    except (HTTPError, OSError, ValueError) as error:
        raise problem(error, repository) from error
    files = [file for file in info.siblings or () if file.rfilename.endswith(SUFFIX) and "/" not in file.rfilename]
    return Listing(info.sha or revision, {Path(file.rfilename).stem: file.lfs.sha256 for file in files if file.lfs})


def problem(error: Exception, repository: Repository) -> HubError:
    """What an error of the Hub's client means, in one sentence: Undelivered if it may pass by itself."""
    name, revision = repository
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return HubError(f"{name} on the Hub is gated: ask for access there, and set HF_TOKEN to a token that has it.")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"The Hub shows no repository {name} to this program; check the name, or, if it is private, set HF_TOKEN "
            "to a token that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{name} on the Hub has no revision {revision!r}.")
    if isinstance(error, HFValidationError):
        return HubError(f"{name!r} is no name of a repository on the Hub.")
    if status is not None and status < 500 and status not in (408, 429):
        told = "the token in HF_TOKEN is not valid" if status == 401 else f"HTTP status {status}"
        return HubError(f"The Hub refuses {name} ({told}).")
    told = f"HTTP status {status}" if status else type(error).__name__
    return Undelivered(f"The Hugging Face Hub did not deliver {name} ({told}).")


# --- files ------------------------------------------------------------------------------------------------------------


def _download(repository: Repository, listing: Listing, choose: Choose, offline: bool = False) -> dict[str, Path]:
    """The chosen files of a commit, each with the digest that the commit lists; from the cache alone if ``offline``."""
    return {name: _checked(repository, listing, name, offline) for name in choose(listing.digests)}


def _checked(repository: Repository, listing: Listing, name: str, offline: bool) -> Path:
    path = _fetch(repository, listing.commit, f"{name}{SUFFIX}", offline)
    if hashlib.sha256(path.read_bytes()).hexdigest() == listing.digests[name]:
        return path
    path.resolve().unlink(missing_ok=True)  # the cache's own copy, which it would hand out again
    path.unlink(missing_ok=True)
    raise Undelivered(f"{name}{SUFFIX} of {repository.name} is not what the Hub lists: its SHA-256 differs.")


def _fetch(repository: Repository, commit: str, file: str, offline: bool) -> Path:
    def to(folder: Path) -> Path:
        return Path(
            HfApi().hf_hub_download(
                repository.name,
                file,
                revision=commit,
                cache_dir=folder,
                local_files_only=offline,
                etag_timeout=PATIENCE,
            )
        )

    try:
        try:
            return to(Path(constants.HF_HUB_CACHE))
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            log.warning("The cache of the Hub cannot be written (%s); files go to a temporary folder.", error)
            return to(_passing())
    except (HTTPError, OSError, ValueError) as error:
        raise problem(error, repository) from error


@cache
def _passing() -> Path:
    """A folder for downloads that ends with the program."""
    folder = Path(tempfile.mkdtemp(prefix="ddpm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _note(repository: Repository) -> Path:
    folder = repo_folder_name(repo_id=repository.name, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / f"ddpm-{quote(repository.revision, safe='')}.json"


def _remember(repository: Repository, listing: Listing) -> None:
    try:
        write_beside(_note(repository), json.dumps(listing._asdict()).encode())
    except OSError as error:
        log.warning("What the Hub lists is not noted, so the next start needs a connection: %s", error)


def _recall(repository: Repository) -> Listing | None:
    """What the Hub listed last of ``repository``, None if nothing is noted."""
    try:
        return Listing(**read_json(_note(repository)))
    except (OSError, ValueError, TypeError):
        return None
