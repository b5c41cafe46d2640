"""Compute the plane on which the page draws trajectories: python scripts/projection.py mnist --data-dir DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

import _root  # noqa: F401
from _arguments import positive

from ddpm.checkpoint import save_projection
from ddpm.data import IMAGES, DataError
from ddpm.projection import principal_plane


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(IMAGES), help="the data set")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder to write to")
    parser.add_argument("--keep", type=positive, default=1500, help="real images to show in the plane")
    options = parser.parse_args()
    projection = principal_plane(IMAGES[options.name](options.data_dir, True), options.keep)
    path = options.out / f"{options.name}-projection.safetensors"
    save_projection(path, projection)
    print(f"Wrote {path}: the two components hold {projection.explained.sum():.1%} of the variance.")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        raise SystemExit(f"projection.py: {error}") from error
