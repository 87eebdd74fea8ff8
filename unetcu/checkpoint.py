"""Model files: one safetensors file that says all about itself.

It holds the weights by name, and under "meta" in the header a JSON text: the network's sizes, how
images are ranged, what the classes are, and how it was trained. A file made during training also
holds what resuming needs. A sha256 over everything tells damage from a sound file; nothing is
pickled; the file is written whole or not at all.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import atomic_path
from .device import Cpu
from .errors import CheckpointError, ShapeError, UsageError
from .paths import shown
from .unet import UNet

FORMAT = 1
LARGEST_HEADER = 1 << 24  # bytes; ours are some ten thousand


@dataclass
class Checkpoint:
    """weights: parameter name -> array. training: optimizer state and averages, name -> array.

    meta: "config" (the arguments of UNet), "range" (ranges.Range), "tile" (input pixels),
    "instances" (labels were instance ids), and what the training command adds.
    """

    weights: Mapping[str, np.ndarray]
    meta: dict[str, Any]
    training: Mapping[str, np.ndarray] = field(default_factory=dict)

    def network(self, on: str | Cpu = "cpu") -> UNet:
        """The network with these weights. Raises CheckpointError if they do not belong to it."""
        try:
            net = UNet(**self.meta["config"], on=on)
            net.parameters.load(self.weights)
        except (ShapeError, UsageError, TypeError) as error:
            raise CheckpointError(f"the model file contradicts itself: {error}") from error
        return net

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the file, atomically. Raises DataError where it cannot be written."""
        from safetensors.numpy import save_file

        arrays = {**self.weights, **{f"training/{k}": v for k, v in self.training.items()}}
        arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        text = json.dumps(self.meta, allow_nan=False, sort_keys=True)
        header = {"unetcu": str(FORMAT), "meta": text, "sha256": _digest(arrays, text)}
        with atomic_path(path, overwrite=overwrite) as temporary:
            save_file(arrays, temporary, header)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a model file. Raises CheckpointError, in one line, for anything but a sound one."""
    name, file = shown(path), Path(path)
    if file.is_dir():
        raise CheckpointError(f"{name} is a folder: name the model file in it, best.safetensors")
    if not file.is_file():
        raise CheckpointError(f"{name} is not there: give a model file, RUN/best.safetensors")
    header = _header(file, name)
    if "unetcu" not in header:
        raise CheckpointError(f"{name} was not written by unetcu: its header does not say so")
    if header["unetcu"] != str(FORMAT):
        raise CheckpointError(
            f"{name} has format {header['unetcu']!r} and this version reads {FORMAT}: "
            "update unetcu, or train again"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        arrays = parse(file.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError, OSError, OverflowError) as error:
        raise CheckpointError(f"{name} is damaged: {error}") from error
    if header.get("sha256") != _digest(arrays, header.get("meta", "")):
        raise CheckpointError(f"{name} is damaged: its checksum does not fit; use a backup")
    meta = json.loads(header["meta"])
    for key in ("config", "range", "tile"):
        if not isinstance(meta, dict) or key not in meta:
            raise CheckpointError(f"{name} lacks the entry {key!r} in its description")
    weights = {k: a for k, a in arrays.items() if not k.startswith("training/")}
    training = {k.removeprefix("training/"): a for k, a in arrays.items() if k not in weights}
    if not all(np.isfinite(a).all() for a in weights.values()):
        raise CheckpointError(f"{name} holds weights that are not finite: the training diverged")
    return Checkpoint(weights, meta, training)


def _header(file: Path, name: str) -> dict[str, str]:
    """The __metadata__ of a safetensors file, read with bounds before anything is trusted."""
    try:
        with open(file, "rb") as f:
            start = f.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= size <= min(LARGEST_HEADER, file.stat().st_size - 8):
                raise CheckpointError(
                    f"{name} is no safetensors file: unetcu reads the models it wrote"
                )
            described = json.loads(f.read(size))
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is no safetensors file, or damaged: {error}") from error
    metadata = described.get("__metadata__", {}) if isinstance(described, dict) else {}
    return metadata if isinstance(metadata, dict) else {}


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """sha256 over names, types, shapes and bytes of the arrays and over the description."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"\n{name} {a.dtype.str} {a.shape}\n".encode())
        digest.update(a.tobytes())
    return digest.hexdigest()
