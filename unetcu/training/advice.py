"""What goes wrong while a network is trained, told from the scores of its epochs, with a remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

WAIT = 5  # epochs: before, and while the best is newer, nothing is said
WORSE, BETTER = 1.25, 0.9  # of the losses at the best epoch: so much has been learnt by heart

COLLAPSED = (
    "every pixel is predicted as the same class; try a smaller --lr, or more steps, and look at "
    "`unetcu check` for labels that are all one class"
)


def advice(rows: Sequence[Mapping[str, Any]], constant: bool) -> list[str]:
    """Warnings after the newest epoch, one line each, none that was due at an epoch before.

    rows: of history.csv, oldest first. constant: whether every validation pixel just got the same
    class; that is said at every epoch, but for the first.
    """
    found = [COLLAPSED] if constant and len(rows) > 1 else []
    if _overfits(rows) and not any(_overfits(rows[:n]) for n in range(1, len(rows))):
        best = rows[_best(rows)]
        found.append(
            f"it overfits: since epoch {best['epoch']} the training loss fell from {best['loss']} "
            f"to {rows[-1]['loss']} and the validation loss rose from {best['val_loss']} to "
            f"{rows[-1]['val_loss']}; label more images if you can, raise --elastic, --scale and "
            "--gray, or lower --base. The model of the best epoch is kept"
        )
    return found


def _best(rows: Sequence[Mapping[str, Any]]) -> int:
    """The epoch with the least validation loss."""
    return min(range(len(rows)), key=lambda i: rows[i]["val_loss"])


def _overfits(rows: Sequence[Mapping[str, Any]]) -> bool:
    if any(row["val_loss"] == "" for row in rows):
        return False
    best = _best(rows)
    if len(rows) - 1 - best < WAIT:
        return False
    since = rows[best + 1 :]
    return (
        min(row["val_loss"] for row in since[-WAIT:]) > WORSE * rows[best]["val_loss"]
        and rows[-1]["loss"] < BETTER * rows[best]["loss"]
    )
