"""The instructions of PTX that only Hopper has (sm_90a), which work in the background."""

from typing import Any

import numpy as np

from .mbarrier import MBARRIER_OPS
from .memory import Fault
from .ops import Handler, Op, Operands
from .registers import TOUCHED, vector
from .tma import copy_box
from .warp import WARP_OPS, barrier
from .wgmma import WGMMA_OPS


def begin(m: Any) -> None:
    """Nothing is under way."""
    m.barriers = {}  # (block, address): Barrier
    m.copies_of_boxes = {}  # (block, address of the mbarrier): [(indices of bytes, bytes)]
    m.refused = np.zeros(m.count, bool)  # who was told by try_wait that its phase goes on
    m.met = np.zeros(m.count, np.int64)  # how many barriers of its block each has come through
    m.shows = False  # somebody has shown what it stored
    m.give_way = False  # a phase has ended: those that wait for it go first
    m.products, m.batches = {}, {}  # warpgroup: [Product], and how often it has committed
    m.registers = {}  # warpgroup: of each of its threads, as setmaxnreg has it
    names = (s.operands[0] for s in m.kernel.code if s.op[:2] == ("wgmma", "mma_async"))
    sums = dict.fromkeys(name for registers in names for name in vector(registers))
    m.sums = {name: row for row, name in enumerate(sums)}
    m.sums_are = np.full((len(sums), m.count), TOUCHED, np.int8)


def end(m: Any) -> None:
    """Fault if something is still under way when all threads have ended."""
    if any(m.products.values()):
        raise Fault("ends before products of wgmma that it began")
    if m.copies_of_boxes:
        raise Fault("ends before copies that it began")


def _copy(m: Any, op: Op, operands: Operands) -> np.ndarray | None:
    return (copy_box if "bulk" in op else WARP_OPS["cp"])(m, op, operands)


def _meet(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """What threads have shown to others in the background, all may rely on behind a barrier."""
    held = barrier(m, op, operands)
    if op[1] == "sync":
        m.met[m.acting] += 1
        if m.shows and m.acting.any():
            m.spaces["shared"].met(m.acting)
    return held


HOPPER_OPS: dict[str, Handler] = {**MBARRIER_OPS, **WGMMA_OPS, "cp": _copy, "bar": _meet}
