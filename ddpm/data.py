"""Images as tensors in [−1, 1], and the folders and files that they are read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm import moved
from ddpm.decoding import opaque
from ddpm.process import seeded


class Images(NamedTuple):
    """Images (N, C, H, W) uint8 with their labels (N,) int64 and the classes' names."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


def to_unit(images: Tensor) -> Tensor:
    """uint8 0 … 255 to float32 in [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """[−1, 1] to uint8 0 … 255; what lies outside is clipped."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# --- images ---------------------------------------------------------------------------------------------------------


class DataError(ValueError):
    """Training or test data that does not fit; the message is one sentence that names the file or folder."""


SHAPES: dict[str, tuple[int, int, int]] = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""(C, H, W) of each data set's pictures."""

CLASSES = 10
"""Of each of them."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of pictures end in a folder; other files in it are left out."""

BATCHES = "cifar-10-batches-py"
"""The folder that torchvision keeps CIFAR-10 in."""


def mnist(data_dir: Path | None, train: bool) -> Images:
    """MNIST from ``data_dir`` (which holds MNIST/raw), or downloaded there; ``None`` means ./data.

    Raises FileNotFoundError if ``data_dir`` is given and holds no MNIST, OSError if the download fails, DataError if a
    file cannot be read or does not fit.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.mnist import read_image_file, read_label_file

    if data_dir is None:
        try:
            MNIST("data", train=train, download=True)
        except RuntimeError as error:
            raise OSError(f"MNIST could not be downloaded ({error}).") from error
    raw, part = (data_dir or Path("data")) / "MNIST" / "raw", "train" if train else "t10k"
    pictures, digits = raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte"
    images, labels = _idx(pictures, read_image_file), _idx(digits, read_label_file)
    if len(images) != len(labels):
        raise DataError(
            f"{digits} has {len(labels):,} labels; it must have one for each of the {len(images):,} pictures."
        )
    data = Images(images[:, None], labels, tuple("0123456789"))
    return _fitting(data, SHAPES["mnist"], pictures)


def _idx(path: Path, read: Callable[[str], Tensor]) -> Tensor:
    """What ``read`` finds in an IDX file of MNIST's."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no MNIST file {path}.")
    try:
        return read(str(path))
    except Exception as error:  # torchvision's reader asserts, or fails in numpy
        raise DataError(f"{path} is truncated or not a file of MNIST's in the IDX format.") from error


def cifar10(data_dir: Path | None, train: bool) -> Images:
    """CIFAR-10 from the class folders of ``data_dir``/train and /test, from torchvision's own folder there, or downloaded to ./data.

    Any pictures in ten class folders will do. Raises FileNotFoundError if a folder or its pictures are missing, OSError
    if the download fails, DataError if a file cannot be read or does not fit.
    """
    if data_dir is None or (data_dir / BATCHES).is_dir():
        data = _batches(data_dir or Path("data"), train, download=data_dir is None)
    else:
        data = image_folder(data_dir / ("train" if train else "test"))
    return _fitting(data, SHAPES["cifar10"], data_dir or Path("data"))


def _batches(folder: Path, train: bool, download: bool) -> Images:
    """CIFAR-10 as torchvision keeps it: pickles, which it opens only if they have the published digests."""
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(folder), train=train, download=download)
    except RuntimeError as error:
        if download:
            raise OSError(f"CIFAR-10 could not be downloaded ({error}).") from error
        raise DataError(f"{folder / BATCHES} does not hold CIFAR-10 as it was published ({error}).") from error
    return Images(torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets), tuple(data.classes))


def image_folder(folder: Path) -> Images:
    """Every picture of ``folder``/<class>/, all of one size, in red, green and blue as ``ddpm.decoding.opaque`` makes them.

    Hidden names are left out at every level. The order mixes the classes, so that the first pictures stand for all, and
    is the same at every call. Raises FileNotFoundError if a folder has none, DataError for a file that is no picture or
    of another size than the first.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; --data-dir must hold one folder of images a class.")
    classes = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not classes:
        raise FileNotFoundError(f"{folder} has no folders; it must have one of pictures for each class.")
    files = [(path, label) for label, each in enumerate(classes) for path in _pictures_in(each)]
    mixed = [files[i] for i in torch.randperm(len(files), generator=seeded(len(files))).tolist()]
    images = np.stack(_of_one_size([path for path, _ in mixed]))
    labels = torch.tensor([label for _, label in mixed])
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2), labels, tuple(each.name for each in classes))


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures of a class. Raises FileNotFoundError if there are none."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise FileNotFoundError(
            f"{folder} has no pictures; every class must have some, in {', '.join(SUFFIXES)} files."
        )
    return found


def _of_one_size(paths: Sequence[Path]) -> list[np.ndarray]:
    """The pictures (H, W, 3) uint8. Raises DataError for the first that is none, or of another size than the first."""
    pixels: list[np.ndarray] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pixels.append(np.array(opaque(image)))
        except Exception as error:  # Pillow's decoders raise many kinds for files that are broken
            raise DataError(f"{path} cannot be read as a picture.") from error
        if pixels[-1].shape != pixels[0].shape:
            (height, width), (high, wide) = pixels[-1].shape[:2], pixels[0].shape[:2]
            raise DataError(f"{path} has {width} × {height} pixels; it must have {wide} × {high}, as {paths[0]} has.")
    return pixels


def _fitting(data: Images, shape: tuple[int, int, int], where: Path) -> Images:
    """``data``, if its pictures have the ``shape`` and it has CLASSES. Raises DataError if not."""
    (_, height, width), found = shape, tuple(data.images.shape[1:])
    if not len(data.images):
        raise DataError(f"{where} has no pictures.")
    if found != shape:
        raise DataError(
            f"The pictures of {where} have {found[2]} × {found[1]} pixels; they must have {width} × {height}."
        )
    if len(data.names) != CLASSES or not 0 <= int(data.labels.min()) <= int(data.labels.max()) < CLASSES:
        have = max(len(data.names), int(data.labels.max()) + 1)
        named = f" ({', '.join(data.names)})" if have < 20 else ""
        raise DataError(f"{where} has {have} classes{named}; it must have {CLASSES}.")
    return data


IMAGES: dict[str, Callable[[Path | None, bool], Images]] = {"mnist": mnist, "cifar10": cifar10}


def both_parts(name: str, data_dir: Path | None) -> tuple[Images, Images]:
    """The training and the test images of ``name``. Raises as IMAGES do, and DataError if their classes differ."""
    train, test = (IMAGES[name](data_dir, part) for part in (True, False))
    if train.names != test.names:
        missing = sorted(set(train.names) ^ set(test.names))
        raise DataError(
            f"The classes {', '.join(missing)} are in one of the parts train and test alone; both must have the same."
        )
    return train, test


__getattr__ = moved.split("data")
