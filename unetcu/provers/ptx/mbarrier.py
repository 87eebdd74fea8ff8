"""mbarriers of PTX, 8 bytes of shared memory that end phase after phase, and the fences between
what threads do to shared memory and what is done to it in the background.

As late as allowed: copies arrive when somebody waits for them a second time, and who ends a phase
goes on only when all others are held up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .access import pointers
from .memory import MISSING, WRITTEN, Fault
from .ops import Handler, Op, Operands

U32 = np.dtype(np.uint32)
MOST = (1 << 20) - 1  # arrivals, and bytes


@dataclass(slots=True)
class Barrier:
    """One mbarrier."""

    maker: int  # thread
    expected: int  # arrivals that a phase takes
    pending: int  # of these, still to come
    bytes: int = 0  # of copies, still to come
    phase: int = 0  # how many have ended
    shown: bool = False  # to copies, by a fence of its maker
    since: int = 0  # how many barriers of the block its maker had come through

    def ends(self) -> bool:
        """Whether the phase is over; then the next one begins."""
        if self.pending or self.bytes:
            return False
        self.phase, self.pending = self.phase + 1, self.expected
        return True


def barrier(m: Any, thread: int, address: int) -> Barrier:
    """The mbarrier that a thread names."""
    found: Barrier | None = m.barriers.get((int(m.owner[thread]), address))
    if found is None:
        raise Fault("names a place where no mbarrier is", thread)
    if thread != found.maker and m.met[thread] <= found.since:
        raise Fault("uses an mbarrier without a barrier since it was made", thread)
    return found


def _each(m: Any, operand: str) -> Iterator[tuple[int, int]]:
    """(thread, address) of those that act."""
    who = np.flatnonzero(m.acting)
    yield from zip(who.tolist(), pointers(m, operand, who).tolist(), strict=True)


def _init(m: Any, op: Op, operands: Operands) -> None:  # noqa: ARG001
    counts = np.broadcast_to(m.read(operands[1], U32), m.count)
    memory = m.spaces["shared"]
    for thread, address in _each(m, operands[0]):
        owner, count = m.owner[thread : thread + 1], int(counts[thread])
        if (int(owner[0]), address) in m.barriers:
            raise Fault("makes an mbarrier where one is", thread)
        if not 1 <= count <= MOST:
            raise Fault(f"makes an mbarrier of {count} arrivals", thread)
        index = memory.at(np.array([address]), owner, 8, True, 8)
        memory.state[index] = MISSING  # nobody may read or write it otherwise
        since = int(m.met[thread])
        m.barriers[int(owner[0]), address] = Barrier(thread, count, count, since=since)


def _arrive(m: Any, op: Op, operands: Operands) -> None:
    """arrive, and arrive.expect_tx, which first says how many bytes will come, too."""
    expects = "expect_tx" in op
    if operands[0] != "_" or len(operands) != 2 + expects:
        raise NotImplementedError(".".join(op))
    sizes = np.broadcast_to(m.read(operands[2] if expects else "0", U32), m.count)
    for thread, address in _each(m, operands[1]):
        found = barrier(m, thread, address)
        if not found.pending:
            raise Fault("arrives once more than the phase takes", thread)
        found.bytes += int(sizes[thread])
        found.pending -= 1
        if found.bytes > MOST:
            raise Fault(f"expects {found.bytes} bytes, which an mbarrier cannot count", thread)
        m.give_way |= found.ends()


def _try_wait(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """try_wait.parity: it may say no; here it does so once, and then only with yes goes on."""
    if "parity" not in op or len(operands) != 3:
        raise NotImplementedError(".".join(op))
    parity = np.broadcast_to(m.read(operands[2], U32), m.count)
    over = np.zeros(m.count, bool)
    for thread, address in _each(m, operands[1]):
        found = barrier(m, thread, address)
        if parity[thread] > 1:
            raise Fault(f"waits for a phase of parity {parity[thread]}", thread)
        if found.phase % 2 == parity[thread] and m.refused[thread]:
            _land(m, int(m.owner[thread]), address, thread)
        over[thread] = found.phase % 2 != parity[thread]
    held = m.acting & ~over & m.refused
    m.refused[m.acting] = ~over[m.acting]
    m.acting = m.acting & ~held
    m.write(operands[0], over)
    return held


def _land(m: Any, owner: int, address: int, thread: int) -> None:
    """The copies that tell an mbarrier of their end arrive."""
    memory, found = m.spaces["shared"], m.barriers[owner, address]
    for index, content in m.copies_of_boxes.pop((owner, address), ()):
        memory.busy[index] -= 1
        memory.data[index], memory.state[index] = content, WRITTEN
        found.bytes -= index.size
        if found.bytes < 0:
            raise Fault("waits for copies of more bytes than were expected", thread)
        found.ends()


def _mbarrier(m: Any, op: Op, operands: Operands) -> np.ndarray | None:
    if not {"shared", "shared_cta"} & set(op) or op[-1] != "b64":
        raise NotImplementedError(".".join(op))
    return {"init": _init, "arrive": _arrive, "try_wait": _try_wait}[op[1]](m, op, operands)


def _fence(m: Any, op: Op, operands: Operands) -> None:  # noqa: ARG001
    """fence.proxy.async shows what these threads have stored, fence.mbarrier_init their mbarriers.

    Other fences are among threads, who see each other's writes here at once.
    """
    proxy = op[1:3] == ("proxy", "async") and (len(op) == 3 or op[3].startswith("shared"))
    if proxy:
        m.spaces["shared"].show(m.acting)
        m.shows = True
    if proxy or op[1] == "mbarrier_init":
        for found in m.barriers.values():
            found.shown |= bool(m.acting[found.maker])


MBARRIER_OPS: dict[str, Handler] = {"mbarrier": _mbarrier, "fence": _fence}
