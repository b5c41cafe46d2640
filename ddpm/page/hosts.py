"""For which hosts the app answers: those whose name nobody far away can point here, and those that are configured."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL = ("localhost", "local", "internal", "home.arpa")
"""Domains that are not in the public name service, so that a page of somebody else's cannot lead to them under its own name."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", re.IGNORECASE)
_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)


def name_of(host: str) -> str | None:
    """The name or address in a ``Host``, without its port, in lower case; None if it is neither."""
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").removesuffix(".").lower() if match else None


@dataclass(frozen=True)
class Hosts:
    """The ``configured`` hosts, "*.example.org" for all below one and "*" for all; IP addresses and local names besides.

    Raises ValueError, in one sentence, for what is no host.
    """

    configured: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for one in self.configured:
            if not _PATTERN.fullmatch(one) and not _is_address(one):
                raise ValueError(
                    f"DDPM_HOSTS has {one!r}; it must be names such as diffusion.example.org or *.example.org, "
                    "without port, with commas between."
                )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Hosts:
        """What DDPM_HOSTS says, a Space's own (SPACE_HOST), the machine's, and where the app is told to be.

        Raises ValueError for nonsense.
        """
        given = [*environment.get("DDPM_HOSTS", "").split(","), *environment.get("SPACE_HOST", "").split(",")]
        root = urlsplit(environment.get("GRADIO_ROOT_PATH", "")).netloc
        own = map(name_of, (socket.gethostname(), environment.get("GRADIO_SERVER_NAME", ""), root))
        return cls(frozenset(name.strip().lower() for name in (*given, *filter(None, own)) if name.strip()))

    def __contains__(self, host: str) -> bool:
        """Whether the app answers for this ``Host``."""
        name = name_of(host)
        if not name:
            return False
        local = "." not in name or name.endswith(tuple(f".{domain}" for domain in LOCAL))
        return local or _is_address(name) or any(_fits(name, one) for one in self.configured)


def _fits(name: str, pattern: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
