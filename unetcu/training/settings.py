"""Everything that decides how a training run goes, in one frozen record.

Each field is a command-line flag of `train`, a key of a run's config.toml (and of --config), and an
argument of the Python function; this table is the only place that names them.
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..augment import SYMMETRIES, Augment
from ..data.ranges import KINDS
from ..errors import UsageError
from ..files.paths import shown
from ..precision import FORMS, PRECISION_HELP
from ..tiles import border, nearest_valid
from ..training.config import DATA, Config, quoted, read_toml

_KINDS = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def _flag(default: Any, help: str, *names: str, kind: type = str, choices: Any = None) -> Any:
    facts = {"help": help, "names": names, "kind": kind, "choices": choices}
    facts["optional"] = default is None
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Settings:
    """The settings of one training run; defaults do well on cells and on membranes.

    Raises UsageError, naming the flag, for a value that makes no sense.
    """

    epochs: int | None = _flag(
        None,
        "passes over the data; a pass has as many tiles as cover every image, at least 50 "
        "(default: enough passes for 1000 steps). Each ends with scores; of a long run of given "
        "steps or minutes several do",
        "-e",
        kind=int,
    )
    steps: int | None = _flag(None, "length of the run in steps, instead of epochs", kind=int)
    minutes: float | None = _flag(
        None, "length of the run in minutes: measured first, then fixed as steps", kind=float
    )
    batch: int = _flag(1, "tiles a step (the paper: one large tile)", "-b", kind=int)
    lr: float = _flag(1e-3, "learning rate", "-l", kind=float)
    optimizer: str = _flag(
        "adamw", "adamw, or sgd with momentum as in the paper", choices=("adamw", "sgd")
    )
    momentum: float = _flag(0.99, "momentum of sgd", kind=float)
    precision: str = _flag("auto", PRECISION_HELP, choices=("auto", *FORMS))
    schedule: str = _flag(
        "cosine", "cosine: from half the run on, lr falls to 0", choices=("cosine", "constant")
    )
    average: float = _flag(
        0.99,
        "decay of the moving average of the weights, which is what is used; 0: none",
        kind=float,
    )
    tile: int = _flag(252, "input pixels of a tile, for height and width", kind=int)
    depth: int = _flag(3, "number of poolings (the paper: 4)", kind=int)
    base: int = _flag(16, "channels of the first level (the paper: 64)", kind=int)
    dropout: float = _flag(0.0, "drop-out rate at the end of the contracting path", kind=float)
    classes: int | None = _flag(None, "number of classes (default: from the labels)", kind=int)
    instances: bool = _flag(
        False, "labels number the objects: 0 background, 1, 2, 3 ...", kind=bool
    )
    ignore: int | None = _flag(None, "label value of pixels to leave out", kind=int)
    range: str = _flag("auto", "how gray values are scaled; see `check`", choices=("auto", *KINDS))
    val: str = _flag("auto", "validation images: a share such as 0.2, 'pages 18-23', or none", "-v")
    balance: float = _flag(
        0.0,
        "loss weights: 1, all classes weigh the same (the paper); 0, all pixels do",
        kind=float,
    )
    w0: float = _flag(
        5.0,
        "loss weights, equation 2: what background between two close objects weighs more "
        "(the paper: 10); 0: nothing",
        kind=float,
    )
    sigma: float = _flag(5.0, "how far that reaches, in pixels", kind=float)
    gap: int = _flag(1, "pixels of background put on each side where instances touch", kind=int)
    symmetry: str = _flag(
        "all",
        "flips and quarter turns the data allows (relief shading: none)",
        choices=tuple(SYMMETRIES),
    )
    elastic: float = _flag(
        10.0, "elastic deformation: displacement of the 3x3 grid in pixels", kind=float
    )
    scale: float = _flag(0.1, "largest random magnification", kind=float)
    gray: float = _flag(0.25, "largest random change of contrast, brightness and gamma", kind=float)
    warp: str = _flag(
        "auto",
        "where tiles are cut and deformed: auto, on the GPU that trains if it can hold the images; "
        "or cpu",
        choices=("auto", "cpu"),
    )
    seed: int = _flag(0, "same seed, same bytes", kind=int)
    patience: int | None = _flag(None, "stop after so many epochs without a new best", kind=int)

    def __post_init__(self) -> None:
        for f in fields(self):
            self._check_type(f.name, f.metadata)
        given = [n for n in ("epochs", "steps", "minutes") if getattr(self, n) is not None]
        if len(given) > 1:
            raise UsageError(f"--{given[0]} and --{given[1]} both give the length: choose one")
        for name in ("epochs", "steps", "minutes", "batch", "lr", "sigma", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise UsageError(f"--{name} {value} makes no sense: give a number above 0")
        for name in ("w0", "gap", "elastic", "scale", "gray"):
            if not 0 <= getattr(self, name) < 1e6:
                raise UsageError(f"--{name} {getattr(self, name)} makes no sense: give 0 or more")
        for name in ("momentum", "average", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} must be at least 0 and below 1")
        if not 0 <= self.balance <= 1:
            raise UsageError(f"--balance {self.balance} makes no sense: give 0 to 1")
        if self.lr > 10:
            raise UsageError(f"--lr {self.lr:g} cannot train: learning rates are around 0.001")
        if not 1 <= self.depth <= 8:
            raise UsageError(f"--depth {self.depth} is no U-Net: give 1 to 8 poolings")
        if self.batch > 4096:
            raise UsageError(f"--batch {self.batch} makes no sense: give at most 4096 tiles a step")
        if not 1 <= self.base <= 1024:
            raise UsageError(f"--base {self.base} makes no sense: give 1 to 1024 channels")
        if self.classes is not None and not 2 <= self.classes <= 256:
            raise UsageError(f"--classes {self.classes} makes no sense: give 2 to 256")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed} must be at least 0 and below 2^32")
        if self.tile > 16384:
            raise UsageError(f"--tile {self.tile} makes no sense: give at most 16384 pixels")
        below, above = nearest_valid(self.tile, self.depth)
        if below != self.tile:
            raise UsageError(
                f"--tile {self.tile} does not fit a U-Net of depth {self.depth}: "
                f"the nearest tiles are {below} and {above}"
            )

    def _check_type(self, name: str, facts: Mapping[str, Any]) -> None:
        value, kind = getattr(self, name), facts["kind"]
        fits = type(value) is kind or (kind is float and type(value) is int)
        fits |= value is None and facts["optional"]
        if not fits or (facts["choices"] and value not in facts["choices"]):
            wanted = " or ".join(facts["choices"]) if facts["choices"] else _KINDS[kind]
            raise UsageError(f"--{name.replace('_', '-')} {value!r} is not known: give {wanted}")

    @property
    def tile_out(self) -> int:
        """Output pixels of a tile."""
        return self.tile - 2 * border(self.depth)

    def idle(self) -> list[str]:
        """One line for each setting that was changed and changes nothing beside another."""
        unused = {"momentum": "optimizer"} if self.optimizer == "adamw" else {}
        if self.w0 == 0:
            unused["sigma"] = "w0"
        usual = {f.name: f.default for f in fields(self)}
        return [
            f"--{name} changes nothing with --{by} {getattr(self, by)}"
            for name, by in unused.items()
            if getattr(self, name) != usual[name]
        ]

    def augment(self) -> Augment:
        """The strengths of the augmentation."""
        gray = dict.fromkeys(("contrast", "brightness", "gamma"), self.gray)
        noise = self.gray / 5
        return Augment(
            symmetry=self.symmetry, scale=self.scale, elastic=self.elastic, noise=noise, **gray
        )

    def toml(self) -> str:
        """The text of config.toml; what is None is left out."""
        lines = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                text = str(value).lower() if isinstance(value, bool) else repr(value)
                lines.append(f"{f.name} = {quoted(value) if isinstance(value, str) else text}")
        return "\n".join(lines) + "\n"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag a setting. What the user leaves out is absent from the parsed arguments."""
    for f in fields(Settings):
        facts, name = f.metadata, "--" + f.name.replace("_", "-")
        text = facts["help"]
        if f.default is not None and facts["kind"] is not bool:
            text += f" (default: {f.default})"
        how: dict[str, Any] = {"help": text.replace("%", "%%"), "default": argparse.SUPPRESS}
        if facts["kind"] is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how["type"] = facts["kind"]
            how["metavar"] = {int: "N", float: "X", str: "WORD"}[facts["kind"]]
        if facts["choices"]:
            how["choices"], how["metavar"] = facts["choices"], None
        if f.name == "val":
            how["nargs"], how["metavar"] = "+", "WORD"
        parser.add_argument(*facts["names"], name, **how)


def from_flags(args: argparse.Namespace, *files: Config | None) -> Settings:
    """Settings from TOML files, later ones first in rank, overridden by the flags typed."""
    known = {f.name for f in fields(Settings)}
    length = {"epochs", "steps", "minutes"}
    values: dict[str, Any] = {}
    for file in files:
        if file is None:
            continue
        table = {k: v for k, v in read_toml(Path(file)).items() if k not in DATA}
        unknown = sorted(set(table) - known)
        if unknown:
            raise UsageError(f"{shown(file)} has the unknown setting {unknown[0]!r}")
        values = _over(values, table, length)
    typed = {k: v for k, v in vars(args).items() if k in known}
    if "val" in typed:
        first, *rest = typed["val"]
        surplus = [w for w in rest if first != "pages" or not re.fullmatch(r"[\d,-]+", w)]
        if surplus:  # the flag takes all words that follow it
            raise UsageError(f"--val {first} does not go with {surplus[0]!r}: name files before it")
        typed["val"] = " ".join(typed["val"])
    return Settings(**_over(values, typed, length))


def _over(below: dict[str, Any], above: dict[str, Any], length: set[str]) -> dict[str, Any]:
    """Settings on top of others; a length replaces one given in another way."""
    if length & above.keys():
        below = {k: v for k, v in below.items() if k not in length}
    return {**below, **above}
