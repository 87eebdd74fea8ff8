"""A training run from its first or its resumed step to its end: epochs, scores, files."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .checkpoint import Checkpoint
from .errors import CheckpointError, TrainingError
from .interrupts import Interrupts
from .prepare import epoch_steps
from .rundir import RunFolder
from .samples import Batch, Example, Tiles
from .trainer import Trainer
from .unet import UNet
from .validation import Scores, validate

SAVE_SECONDS = 60  # work lost to a power cut, at most
PICTURE_SECONDS = 10  # curves take half a second to draw


class Loop:
    """Runs `trainer` over the examples, validates after every epoch, and keeps the run's folder.

    meta: what a model file says beside the state of training (see checkpoint.Checkpoint).
    """

    def __init__(
        self,
        trainer: Trainer,
        training: Sequence[Example],
        validation: Sequence[Example],
        run: RunFolder,
        meta: dict[str, Any],
    ) -> None:
        self.trainer, self.settings, self.run, self.meta = trainer, trainer.settings, run, meta
        self.tiles, self.validation = Tiles(training, self.settings), validation
        self.epoch_steps = epoch_steps(training, self.settings)
        self.rows: list[dict[str, Any]] = []
        self.best, self.since_best = math.inf, 0
        self.loss_sum, self.loss_count = 0.0, 0
        self._judged = UNet(**trainer.net.config, on=trainer.net.device)
        self._drawn = -math.inf

    def go(self) -> Interrupts:
        """Train to the end, or until interrupted (see the result's `signal`) or out of patience."""
        from tqdm import tqdm

        t, last_save = self.trainer, time.monotonic()
        started = time.monotonic() - sum(float(r["seconds"]) for r in self.rows[-1:])
        bar = tqdm(
            total=t.total, initial=t.done, unit="step", disable=None, file=sys.stderr, leave=False
        )
        with Interrupts() as stop, bar:
            for batch in self._batches():
                self._step(batch)
                bar.update()
                bar.set_postfix_str(f"loss {self.loss_sum / self.loss_count:.4f}", refresh=False)
                if t.done % self.epoch_steps == 0 or t.done == t.total:
                    with bar.external_write_mode():
                        self._end_epoch(time.monotonic() - started)
                    last_save = time.monotonic()
                elif stop.signal or time.monotonic() - last_save > SAVE_SECONDS:
                    self.save_last()
                    last_save = time.monotonic()
                if stop.signal or self._patience_spent():
                    break
        self._draw_curves(0)
        return stop

    def _batches(self) -> Iterator[Batch]:
        return self.tiles.batches(self.trainer.done, self.trainer.total)

    def _step(self, batch: Batch) -> None:
        loss = self.trainer.step(batch)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {self.trainer.done}: training has diverged; try "
                f"a smaller --lr than {self.settings.lr:g} (the models in {self.run.path} are of "
                "before)"
            )
        self.loss_sum += loss
        self.loss_count += 1

    def _patience_spent(self) -> bool:
        patience = self.settings.patience
        if patience is None or self.since_best < patience:
            return False
        print(f"no new best in {patience} epochs: stopped early", file=sys.stderr)
        return True

    def _end_epoch(self, seconds: float) -> None:
        t, before = self.trainer, self.rows[-1] if self.rows else {"seconds": 0, "step": 0}
        self._judged.parameters.load(t.averaged())
        scores = validate(self._judged, self.validation, self.settings) if self.validation else None
        reached = scores.loss if scores else -float(t.done)  # nothing to judge by: the newest
        better = reached < self.best
        self.best, self.since_best = (reached, 0) if better else (self.best, self.since_best + 1)
        took = max(seconds - float(before["seconds"]), 1e-9)
        row = {
            "epoch": len(self.rows) + 1,
            "step": t.done,
            "loss": round(self.loss_sum / max(self.loss_count, 1), 6),
            "val_loss": round(scores.loss, 6) if scores else "",
            "iou": round(scores.iou, 5) if scores else "",
            "pixel_error": round(scores.pixel_error, 5) if scores else "",
            "matched": round(scores.matched, 4) if scores and scores.matched >= 0 else "",
            "lr": float(f"{t.rate(t.done - 1):.3g}"),
            "seconds": round(seconds, 1),
            "tiles_per_second": round((t.done - before["step"]) * self.settings.batch / took, 2),
            "best": "*" if better else "",
        }
        self.rows.append(row)
        self.loss_sum, self.loss_count = 0.0, 0
        if better:
            meta = {**self.meta, "step": t.done, "scores": self._stored(scores)}
            Checkpoint(t.averaged(), meta).save(self.run.best, overwrite=True)
        self.save_last()
        self._report(row, scores)
        if scores:
            self._draw(scores)

    def _stored(self, scores: Scores | None) -> dict[str, float]:
        if scores is None:
            return {}
        numbers = {k: v for k, v in asdict(replace(scores)).items() if isinstance(v, float)}
        return {k: v for k, v in numbers.items() if math.isfinite(v)}

    def _report(self, row: dict[str, Any], scores: Scores | None) -> None:
        shown = [f"{k} {v}" for k, v in row.items() if v != "" and k != "best"]
        line = "  ".join(shown)
        if row["best"]:
            line += "  * lowest val_loss" if scores else "  * newest"
        print(line, flush=True)
        self.run.note(line)
        if scores and scores.constant and len(self.rows) > 1:
            warning = (
                "warning: every pixel is predicted as the same class; try a smaller --lr, or "
                "more steps, and look at `unetcu check` for labels that are all one class"
            )
            print(warning, file=sys.stderr)
            self.run.note(warning)
        self.run.write_history(self.rows)

    def _draw(self, scores: Scores) -> None:
        from .imagewrite import write_png
        from .pictures import sample_panel

        e, p = self.validation[0], scores.first
        panel = sample_panel(e.x, e.t, 1 - p[..., 0], p.argmax(axis=2).astype(np.int32))
        write_png(self.run.samples / "validation.png", panel, overwrite=True)
        self._draw_curves(PICTURE_SECONDS)

    def _draw_curves(self, pause: float) -> None:
        from .pictures import curves

        if self.rows and time.monotonic() - self._drawn >= pause:
            curves(self.rows, self.run.progress)
            self._drawn = time.monotonic()

    def save_last(self) -> None:
        """Everything that resuming needs, in last.safetensors."""
        state = {
            "done": self.trainer.done,
            "total": self.trainer.total,
            "rows": self.rows,
            "best": self.best if math.isfinite(self.best) else None,
            "since_best": self.since_best,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }
        meta = {**self.meta, "step": self.trainer.done, "state": state}
        Checkpoint(self.trainer.weights(), meta, self.trainer.state()).save(
            self.run.last, overwrite=True
        )

    def resume(self, saved: Checkpoint) -> None:
        """Go on where `saved` (a last.safetensors) stopped."""
        state = saved.meta.get("state")
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.run.last} holds no state to resume from")
        self.trainer.load(saved.weights, saved.training, state["done"])
        self.rows, self.since_best = state["rows"], state["since_best"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.loss_sum, self.loss_count = state["loss_sum"], state["loss_count"]
