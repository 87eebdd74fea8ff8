"""Model files: one safetensors file that says all about itself.

It holds the weights by name, and under "meta" in the header a JSON text: the network's sizes, how
images are ranged, what the classes are, and how it was trained. A file made during training also
holds what resuming needs. A sha256 over everything tells damage from a sound file; nothing is
pickled; the file is written whole or not at all.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device, device
from .errors import CheckpointError, ShapeError, UsageError
from .files.atomic import atomic_path
from .files.paths import shown
from .precision import settled
from .unet import UNet

FORMAT = 1
LARGEST_HEADER = 1 << 24  # bytes; ours are some ten thousand
ENTRIES = {"config": dict, "range": dict, "tile": int, "instances": bool}  # of every description
CONFIG = {"depth", "base", "in_channels", "classes", "dropout"}
_TYPES = {
    **{f"float{n}": f"F{n}" for n in (16, 32, 64)},
    **{f"int{n}": f"I{n}" for n in (8, 16, 32, 64)},
    **{f"uint{n}": f"U{n}" for n in (8, 16, 32, 64)},
    "bool": "BOOL",
}
_DAMAGE = (LookupError, OverflowError, RecursionError, TypeError, ValueError)  # of parsers


@dataclass
class Checkpoint:
    """weights: parameter name -> float32 array. training: optimizer state and averages, by name.

    meta: "config" (the arguments of UNet), "range" (ranges.Range), "tile" (input pixels),
    "instances" (labels were instance ids), and what the training command adds.
    """

    weights: Mapping[str, np.ndarray]
    meta: dict[str, Any]
    training: Mapping[str, np.ndarray] = field(default_factory=dict)

    def network(self, on: str | Device = "cpu", precision: str = "fp32") -> UNet:
        """The network with these weights; precision: as of UNet. Raises CheckpointError if they do
        not belong to it."""
        config, on = self.meta["config"], device(on) if isinstance(on, str) else on
        precision = settled(precision, on)
        try:
            if set(config) != CONFIG:
                raise UsageError(f"its config needs the entries {', '.join(sorted(CONFIG))}")
            # Before anything of the size that the config claims is allocated.
            widest = config["base"] << min(config["depth"], 16)
            bottom = self.weights["bottom.conv2.w"].shape
            if bottom != (3, 3, widest, widest):
                raise UsageError(f"bottom.conv2.w is {bottom}, its config says {widest} channels")
            net = UNet(**config, on=on, precision=precision)
            net.parameters.load(self.weights)
        except (ShapeError, UsageError, TypeError, ValueError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else shown(str(error))
            raise CheckpointError(f"the model file contradicts itself: {reason}") from error
        return net

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the file, atomically. Raises DataError where it cannot be written."""
        arrays = {**self.weights, **{f"training/{k}": v for k, v in self.training.items()}}
        ordered = sorted(arrays, key=lambda k: (-arrays[k].itemsize, k))  # so all are aligned
        arrays = {k: np.asarray(arrays[k], arrays[k].dtype.newbyteorder("<")) for k in ordered}
        text = json.dumps(self.meta, allow_nan=False, sort_keys=True)
        about = {"unetcu": str(FORMAT), "meta": text, "sha256": _digest(arrays, text)}
        header: dict[str, Any] = {"__metadata__": about}
        end = 0
        for name, a in arrays.items():
            start, end = end, end + a.nbytes
            where = [start, end]
            kind = _TYPES[a.dtype.name]
            header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": where}
        line = json.dumps(header, separators=(",", ":")).encode()
        line += b" " * (-len(line) % 8)
        # Not by safetensors' own save_file: it makes a second temporary file, which a killed
        # process leaves behind, and lets nobody else read the result.
        with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
            file.write(len(line).to_bytes(8, "little") + line)
            for a in arrays.values():
                file.write(a.tobytes())


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a model file. Raises CheckpointError, in one line, for anything but a sound one."""
    name = shown(path)
    data, about = _read(Path(path), name)
    if "unetcu" not in about:
        raise CheckpointError(f"{name} was not written by unetcu: its header does not say so")
    if about["unetcu"] != str(FORMAT):
        raise CheckpointError(
            f"{name} has format {str(about['unetcu'])[:20]!r} and this version reads {FORMAT}: "
            "update unetcu, or train again"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        arrays = parse(data)
        if about["sha256"] != _digest(arrays, about["meta"]):
            raise ValueError("its checksum does not fit; use a backup")
        meta = json.loads(about["meta"], object_pairs_hook=_once)
    except (SafetensorError, *_DAMAGE) as error:
        raise CheckpointError(f"{name} is damaged: {shown(str(error))}") from error
    for key, kind in ENTRIES.items():
        if not isinstance(meta, dict) or type(meta.get(key)) is not kind:
            raise CheckpointError(f"{name} lacks the entry {key!r} in its description: train again")
    weights = {k: a for k, a in arrays.items() if not k.startswith("training/")}
    training = {k.removeprefix("training/"): a for k, a in arrays.items() if k not in weights}
    for key, a in weights.items():
        if a.dtype != np.float32:
            raise CheckpointError(f"{name} holds {a.dtype} weights ({shown(key)}), not float32")
        if not np.isfinite(a).all():
            raise CheckpointError(f"{name} holds weights that are not finite: training diverged")
    return Checkpoint(weights, meta, training)


def _read(file: Path, name: str) -> tuple[bytes, dict[str, Any]]:
    """All bytes of a safetensors file, and the __metadata__ of its header.

    The header's length is looked at before anything is read, and the file is read once.
    """
    try:
        if stat.S_ISDIR((status := os.stat(file)).st_mode):
            raise CheckpointError(
                f"{name} is a folder: name the model file in it, best.safetensors"
            )
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{name} is not a regular file: give RUN/best.safetensors")
        with open(file, "rb") as f:
            size = int.from_bytes(f.read(8), "little")
            if not 2 <= size <= min(LARGEST_HEADER, status.st_size - 8):
                raise CheckpointError(
                    f"{name} is no safetensors file: unetcu reads the models it wrote"
                )
            f.seek(0)
            data = f.read()
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_once)
    except FileNotFoundError:
        raise CheckpointError(
            f"{name} is not there: give a model file, RUN/best.safetensors"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror}") from error
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{name} is no safetensors file, or damaged: {error}") from error
    about = header.get("__metadata__") if isinstance(header, dict) else None
    return data, about if isinstance(about, dict) else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ: of two values for one key, readers pick either."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """sha256 over names, types, shapes and bytes of the arrays and over the description."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"\n{name} {a.dtype.str} {a.shape}\n".encode())
        digest.update(a.tobytes())
    return digest.hexdigest()
