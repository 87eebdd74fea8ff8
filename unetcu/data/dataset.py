"""Images with their labels, as every command sees them; data.load makes one from files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.ranges import Range
from ..progress import progress


@dataclass
class Dataset:
    """Images with labels. Entry i of each sequence belongs to image i.

    images: (H, W, C) in the files' data type; sizes may differ, type and channels do not.
    labels: (H, W) int32: class ids, or ids of instances (0 = background) where `instances` is
    true; -1 where the pixel is ignored.
    names: "file" or "file[page]", pages from 0. files: number of the file that image i is from.
    classes: number of classes, background included. values: the stored value of each class, (0,
    255) for such masks; empty for instances. range: the normalisation. notes: remarks to print.
    """

    images: Sequence[NDArray[Any]]
    labels: list[NDArray[np.int32]]
    names: list[str]
    files: list[int]
    classes: int
    instances: bool
    range: Range
    values: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def digests(self) -> list[str]:
        """A fingerprint of each image: equal where size, type and all pixels are equal."""
        return [_digest(image) for image in progress(self.images, "comparing images")]

    def fingerprint(self) -> str:
        """One fingerprint of all images and labels, in their order."""
        parts = self.digests() + [_digest(labels) for labels in self.labels]
        return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def _digest(array: NDArray[Any]) -> str:
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.blake2b(f"{native.dtype.name} {native.shape}".encode(), digest_size=16)
    digest.update(native.view(np.uint8).data)
    return digest.hexdigest()
