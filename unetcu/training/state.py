"""What a file that resuming starts from says of its run."""

from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..files.paths import shown
from ..training.rundir import COLUMNS
from ..training.settings import Settings

_STATE = {
    "done": int, "total": int, "rows": list, "best": float | None, "since_best": int,
    "loss_sum": float, "loss_count": int, "seconds": float, "epoch_seconds": float,
}  # fmt: skip


def saved_state(saved: Checkpoint, file: Path) -> dict[str, Any]:
    """What `Loop.save_last` wrote into `file`. Raises CheckpointError if it is not that."""
    state = saved.meta.get("state")
    if (
        isinstance(state, dict)
        and all(isinstance(state.get(k), t) for k, t in _STATE.items())
        and all(isinstance(r, dict) and set(r) == set(COLUMNS) for r in state["rows"])
    ):
        return state
    raise CheckpointError(
        f"{shown(file)} holds no state to resume from: start a new run, with --init-from to use "
        "its weights"
    )


def finished(state: dict[str, Any], settings: Settings) -> bool:
    """Whether a run that was left in this state (saved_state) has no step to go."""
    return over(state["done"], state["total"], state["since_best"], settings.patience)


def over(done: int, total: int, since_best: int, patience: int | None) -> bool:
    """Whether training ends here: all steps made, or out of patience."""
    return done >= total or (patience is not None and since_best >= patience)
