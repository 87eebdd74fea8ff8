"""The folder of a training run: what is in it, and how it is written.

report.html         scores, curves, pictures of every validation image: open it in a browser
config.toml         the settings; `train --config` makes the same run again
best.safetensors    the weights that did best on the validation images: use this one
last.safetensors    the newest state, with all that `train -o RUN --resume` needs
history.csv         one row an epoch          log.txt   what was printed
progress.png        loss and scores over time
samples/            validation.png: image | truth | probability | errors; weight_map.png
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..files.atomic import atomic_path, remove_stale
from ..files.paths import shown
from ..training.config import DATA, quoted

COLUMNS = (
    "epoch", "step", "loss", "val_loss", "iou", "pixel_error", "matched", "lr", "seconds",
    "tiles_per_second", "best",
)  # fmt: skip


class RunFolder:
    """Paths of a run's files; every file is written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.log = path / "config.toml", path / "log.txt"
        self.best, self.last = path / "best.safetensors", path / "last.safetensors"
        self.history, self.progress = path / "history.csv", path / "progress.png"
        self.report = path / "report.html"
        self.samples = path / "samples"
        self.validation = self.samples / "validation.png"
        self.weight_map = self.samples / "weight_map.png"

    @classmethod
    def create(cls, out: str | os.PathLike[str] | None, name: str) -> "RunFolder":
        """A new folder: `out`, which must not be there yet, or else the next runs/NAME-N."""
        if out is not None:
            cls.refuse_existing(out)
            return cls._made(Path(out))
        number = 1
        while os.path.lexists(Path("runs", f"{name}-{number}")):
            number += 1
        return cls._made(Path("runs", f"{name}-{number}"))

    @staticmethod
    def refuse_existing(out: str | os.PathLike[str]) -> None:
        """UsageError if something is at `out`: no run is written over."""
        if os.path.lexists(out):
            raise UsageError(
                f"{shown(out)} is there already: choose a new folder, or continue the run in it "
                "with --resume"
            )

    @classmethod
    def _made(cls, path: Path) -> "RunFolder":
        try:
            (path / "samples").mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be made: {error.strerror}") from error
        return cls(path)

    @classmethod
    def existing(cls, out: str | os.PathLike[str] | None) -> "RunFolder":
        """The folder of a run to resume; DataError if there is nothing to resume from."""
        if out is None:
            raise UsageError("--resume needs the run to continue: train -o RUN --resume")
        run = cls(Path(out))
        for file in (run.config, run.last):
            if not file.is_file():
                raise DataError(
                    f"{shown(out)} cannot be resumed: {file.name} is not in it; "
                    "start anew without --resume"
                )
        for file in (run.best, run.last, run.history, run.report):
            remove_stale(file)
        run.samples.mkdir(exist_ok=True)
        return run

    def write_config(self, settings: str, *files: str | None) -> None:
        """config.toml: the settings, after the files they were used with, in the order of DATA."""
        data = [f"{k} = {quoted(v)}" for k, v in zip(DATA, files, strict=False) if v]
        head = "# unetcu train --config THIS_FILE makes this run again"
        self.write(self.config, "\n".join([head, *data, settings]))

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """history.csv, all of it."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        self.write(self.history, text.getvalue())

    def write(self, path: Path, text: str) -> None:
        """A text file, replacing the one before it."""
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def note(self, *lines: str) -> None:
        """Add lines to log.txt."""
        with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(line + "\n" for line in lines)
