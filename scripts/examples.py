"""Make the sheets of examples that the lessons ship with: python scripts/examples.py mnist --data-dir DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

import _root  # noqa: F401
import torch
from PIL import Image
from torch import Tensor

from ddpm.data import IMAGES, DataError, Images
from ddpm.picture import EACH, HELD_OUT, SHEETS


def sheet(data: Images, first: int, each: int) -> Tensor:
    """``each`` pictures of every class from its ``first`` on, (H each, W classes, C) uint8: a column a class."""
    columns = [
        torch.cat([*data.images[data.labels == label][first : first + each]], 1) for label in range(len(data.names))
    ]
    return torch.cat(columns, 2).permute(1, 2, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(IMAGES), help="the data set; its test pictures are used")
    parser.add_argument("--data-dir", type=Path, help="an existing copy of the data set (default: download to ./data)")
    parser.add_argument("--out", type=Path, default=SHEETS, help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    data = IMAGES[options.name](options.data_dir, False)
    for name, first, each in ((options.name, 0, EACH), (f"{options.name}-test", EACH, HELD_OUT[options.name])):
        path = options.out / f"{name}.png"
        Image.fromarray(sheet(data, first, each).numpy().squeeze()).save(path, optimize=True)
        print(f"Wrote {path}: {path.stat().st_size:,} bytes.")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        raise SystemExit(f"examples.py: {error}") from error
