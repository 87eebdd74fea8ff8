"""A training run from its first or its resumed step to its end: epochs, scores, files."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from ..device import Fetched
from ..errors import TrainingError
from ..files.paths import shown
from ..training.advice import advice
from ..training.interrupts import Interrupts
from ..training.prepare import epoch_steps
from ..training.rundir import RunFolder
from ..training.samples import Batch, Example, Tiles
from ..training.state import over, saved_state
from ..training.trainer import Trainer
from ..training.validation import Scores, validate
from ..unet import UNet

SAVE_SECONDS = 60  # work lost to a power cut, at most
PICTURE_SECONDS = 10  # curves take half a second to draw


class Loop:
    """Runs `trainer` over the tiles, validates after every epoch, and keeps the run's folder.

    meta: what a model file says beside the state of training (see checkpoint.Checkpoint).
    """

    def __init__(
        self,
        trainer: Trainer,
        tiles: Tiles,
        validation: Sequence[Example],
        run: RunFolder,
        meta: dict[str, Any],
    ) -> None:
        self.trainer, self.settings, self.run, self.meta = trainer, trainer.settings, run, meta
        self.tiles, self.validation = tiles, validation
        self.epoch_steps = epoch_steps(tiles.examples, self.settings, trainer.total)
        self.rows: list[dict[str, Any]] = []
        self.best, self.since_best = math.inf, 0
        self.loss_sum, self.loss_count = 0.0, 0
        self.seconds = 0.0  # of all work, that before a resumption included
        self.epoch_seconds = 0.0  # of this epoch's steps alone
        self._judged = UNet(
            **trainer.net.config, on=trainer.net.device, precision=trainer.net.precision
        )
        self._drawn = -math.inf
        self._seen = 0.0
        self._unread: tuple[Fetched, int] | None = None  # the last step's loss, and its number

    def go(self) -> Interrupts:
        """Train to the end, or until interrupted (see the result's `signal`) or out of patience."""
        from tqdm import tqdm

        t, last_save = self.trainer, time.monotonic()
        self._seen = last_save
        bar = tqdm(
            total=t.total, initial=t.done, unit="step", disable=None, file=sys.stderr, leave=False
        )
        with Interrupts() as stop, bar:
            for batch in self._batches():
                self._step(batch)
                bar.update()
                ends = t.done % self.epoch_steps == 0 or t.done == t.total
                if ends:
                    self._settle()  # its time is part of the epoch
                if self.loss_count:
                    bar.set_postfix_str(f"loss {self._mean_loss():.4f}", refresh=False)
                self.epoch_seconds += self._tick()
                stopping = stop.signal != 0  # asked once: a later signal finds the next step
                if ends:
                    self._end_epoch()
                    self._tick()  # scoring is no part of the next epoch's speed
                    last_save = time.monotonic()
                    stopping |= self._patience_spent()
                elif stopping or time.monotonic() - last_save > SAVE_SECONDS:
                    self.save_last()
                    last_save = time.monotonic()
                if stopping:
                    break
        self._draw_curves(0)
        return stop

    @property
    def unfinished(self) -> bool:
        """Whether steps are left to do, and not for want of patience."""
        done, total = self.trainer.done, self.trainer.total
        return not over(done, total, self.since_best, self.settings.patience)

    def _batches(self) -> Iterator[Batch]:
        return self.tiles.batches(self.trainer.done, self.trainer.total)

    def _tick(self) -> float:
        """Seconds since the last call, counted into `seconds`."""
        before, self._seen = self._seen, time.monotonic()
        self.seconds += self._seen - before
        return self._seen - before

    def _step(self, batch: Batch) -> None:
        """Begin a step and, while a GPU works on it, read the loss of the one before."""
        begun = self.trainer.begin(batch), self.trainer.done
        self._settle()
        self._unread = begun

    def _settle(self) -> None:
        """Read the last loss: what is saved or judged comes after steps whose losses are known."""
        if self._unread is None:
            return
        (fetched, step), self._unread = self._unread, None
        loss = fetched.item()
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", step)
        self.loss_sum += loss
        self.loss_count += 1

    def _diverged(self, what: str, step: int) -> TrainingError:
        return TrainingError(
            f"{what} at step {step}: training has diverged; try a smaller --lr than "
            f"{self.settings.lr:g} (the models in {shown(self.run.path)}, if any, are of before)"
        )

    def _mean_loss(self) -> float:
        return self.loss_sum / max(self.loss_count, 1)

    def _patience_spent(self) -> bool:
        patience = self.settings.patience
        if patience is None or self.since_best < patience:
            return False
        print(f"no new best in {patience} epochs: stopped early", file=sys.stderr)
        return True

    def _end_epoch(self) -> None:
        t, before = self.trainer, self.rows[-1]["step"] if self.rows else 0
        if not all(np.isfinite(a).all() for a in (*t.weights().values(), *t.averaged().values())):
            raise self._diverged("a weight became infinite", t.done)
        self._judged.parameters.load(t.averaged())
        scores = validate(self._judged, self.validation, self.settings) if self.validation else None
        judged = scores is not None and math.isfinite(scores.loss)
        reached = scores.loss if scores and judged else -float(t.done)  # else the newest is best
        better = reached < self.best
        self.best, self.since_best = (reached, 0) if better else (self.best, self.since_best + 1)
        tiles = (t.done - before) * self.settings.batch
        row = {
            "epoch": len(self.rows) + 1,
            "step": t.done,
            "loss": round(self._mean_loss(), 6),
            "val_loss": _rounded(scores.loss, 6) if scores else "",
            "iou": _rounded(scores.iou, 5) if scores else "",
            "pixel_error": _rounded(scores.pixel_error, 5) if scores else "",
            "matched": _rounded(scores.matched, 4) if scores else "",
            "lr": float(f"{t.rate(t.done - 1):.3g}"),
            "seconds": round(self.seconds, 1),
            "tiles_per_second": round(tiles / max(self.epoch_seconds, 1e-3), 2),
            "best": "*" if better else "",
        }
        self.rows.append(row)
        self.loss_sum, self.loss_count, self.epoch_seconds = 0.0, 0, 0.0
        if better:
            meta = {**self.meta, "step": t.done, "scores": self._stored(scores)}
            Checkpoint(t.averaged(), meta).save(self.run.best, overwrite=True)
        self.run.write_history(self.rows)
        self.save_last()  # after the history, which resuming corrects: none goes without its row
        self._report(row, scores)
        if scores:
            self._draw(scores)

    def _stored(self, scores: Scores | None) -> dict[str, float]:
        if scores is None:
            return {}
        numbers = {k: v for k, v in vars(scores).items() if isinstance(v, float)}
        return {k: v for k, v in numbers.items() if math.isfinite(v)}

    def _report(self, row: dict[str, Any], scores: Scores | None) -> None:
        from tqdm import tqdm

        shown = [f"{k} {v}" for k, v in row.items() if v != "" and k != "best"]
        line = "  ".join(shown)
        if row["best"]:
            line += "  * newest" if row["val_loss"] == "" else "  * lowest val_loss"
        with tqdm.external_write_mode():
            print(line, flush=True)
        self.run.note(line)
        for text in advice(self.rows, scores is not None and scores.constant):
            tqdm.write(f"warning: {text}", file=sys.stderr)
            self.run.note(f"warning: {text}")

    def _draw(self, scores: Scores) -> None:
        from ..files.imagewrite import write_png
        from ..pictures import sample_panel

        e, p = self.validation[0], scores.first
        panel = sample_panel(e.x, e.t, 1 - p[..., 0], p.argmax(axis=2).astype(np.int32))
        write_png(self.run.validation, panel, overwrite=True)
        self._draw_curves(PICTURE_SECONDS)

    def _draw_curves(self, pause: float) -> None:
        from ..pictures import curves

        if self.rows and time.monotonic() - self._drawn >= pause:
            curves(self.rows, self.run.progress)
            self._drawn = time.monotonic()

    def save_last(self) -> None:
        """Everything that resuming needs, in last.safetensors."""
        self._settle()
        state = {
            "done": self.trainer.done,
            "total": self.trainer.total,
            "rows": self.rows,
            "best": self.best if math.isfinite(self.best) else None,
            "since_best": self.since_best,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
        }
        meta = {**self.meta, "step": self.trainer.done, "state": state}
        Checkpoint(self.trainer.weights(), meta, self.trainer.state()).save(
            self.run.last, overwrite=True
        )

    def resume(self, saved: Checkpoint) -> None:
        """Go on where `saved` (a last.safetensors) stopped. Raises CheckpointError."""
        state = saved_state(saved, self.run.last)
        self.trainer.load(saved.weights, saved.training, state["done"])
        self.rows, self.since_best = state["rows"], state["since_best"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.loss_sum, self.loss_count = state["loss_sum"], state["loss_count"]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.run.write_history(self.rows)


def _rounded(score: float, digits: int) -> float | str:
    """For a table: empty where the score is not defined."""
    return round(score, digits) if math.isfinite(score) else ""
