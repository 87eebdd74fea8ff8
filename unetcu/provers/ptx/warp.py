"""The instructions of PTX that threads do together: barriers, shuffles, asynchronous copies,
and the matrix instructions of tensor cores.

A handler returns who must wait because others have not come yet; those ask again later.
"""

from typing import Any

import numpy as np

from .access import addresses
from .memory import ROOM, Fault
from .ops import Handler, Op, Operands
from .registers import vector

U32 = np.dtype(np.uint32)


def barrier(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """bar.sync 0: go on when all threads of the block are here, but for those that have ended."""
    if op[1] == "warp":
        return _hold(m, _warp_ready(m, operands[-1]))
    if "sync" not in op or len(operands) != 1:
        raise NotImplementedError(".".join(op))
    missing = np.bincount(m.owner[m.alive & ~m.acting], minlength=int(m.owner[-1]) + 1)
    return _hold(m, (missing == 0)[m.owner])


def _hold(m: Any, ready: np.ndarray) -> np.ndarray:
    """Let those that are ready act; the others wait."""
    held = m.acting & ~ready
    m.acting = m.acting & ready
    return held


def _warp_ready(m: Any, members: str) -> np.ndarray:
    """Which threads belong to a warp whose named members are all here, or have ended."""
    warp = m.owner * -(-m.threads // 32) + m.thread // 32
    given = np.broadcast_to(m.read(members, U32), m.count)
    masks = np.zeros(int(warp[-1]) + 1, np.uint32)  # as those that act have it
    np.bitwise_or.at(masks, warp[m.acting], given[m.acting])
    own = np.uint32(1) << m.lane.astype(np.uint32)
    outside = m.acting & (given & own == 0)
    if outside.any():
        raise Fault("is no member of what it takes part in", int(np.argmax(outside)))
    named = masks[warp] & own != 0
    # Lanes that a warp at the end of the block does not have are not waited for.
    missing = np.bincount(warp[named & m.alive & ~m.acting], minlength=int(warp[-1]) + 1)
    return (missing == 0)[warp]


def _shuffle(m: Any, op: Op, operands: Operands) -> np.ndarray:
    held = _hold(m, _warp_ready(m, operands[4]))
    if not m.acting.any():
        return held
    by, clamp = (np.broadcast_to(m.read(o, np.dtype(np.int32)), m.count) for o in operands[2:4])
    segment, limit, lane = clamp >> 8 & 31, clamp & 31, m.lane
    last = (lane & segment) | (limit & ~segment)
    if op[2] == "up":
        other = lane - (by & 31)
        inside = other >= last
    else:
        first = lane & segment
        other = {"down": lane + (by & 31), "bfly": lane ^ (by & 31)}.get(
            op[2], first | (by & 31 & ~segment)
        )
        inside = other <= last
    source = np.arange(m.count) - lane + np.where(inside, other, lane)
    source = np.where(m.acting, source, 0)
    absent = m.acting & (~m.acting[np.minimum(source, m.count - 1)] | (source >= m.count))
    if absent.any():
        raise Fault("takes from a thread that does not take part", int(np.argmax(absent)))
    value = np.broadcast_to(m.read(operands[1], U32), m.count)
    target, _, truth = operands[0].partition("|")
    m.write(target, value[source])
    if truth:
        m.write(truth, inside)
    return held


def _vote(m: Any, op: Op, operands: Operands) -> np.ndarray:
    held = _hold(m, _warp_ready(m, operands[-1]))
    name = operands[1].lstrip("!")
    said = (m.read(name, np.dtype(bool)) ^ (operands[1][0] == "!")) & m.acting
    warp = np.arange(m.count) - m.lane
    ballot = np.zeros(m.count, np.uint32)
    np.bitwise_or.at(ballot, warp[said], np.uint32(1) << m.lane[said].astype(np.uint32))
    present = np.zeros(m.count, np.uint32)
    np.bitwise_or.at(present, warp[m.acting], np.uint32(1) << m.lane[m.acting].astype(np.uint32))
    votes, all_votes = ballot[warp], present[warp]
    answers = {"ballot": votes, "any": votes != 0, "all": votes == all_votes}
    m.write(operands[0], answers[op[2]])
    return held


def _copy_async(m: Any, op: Op, operands: Operands) -> None:
    """cp.async: issued copies arrive as late as they may, when somebody waits for them."""
    if "commit_group" in op:
        m.groups[m.acting] += 1
        return
    if "wait_group" in op or "wait_all" in op:
        keep = int(operands[0]) if "wait_group" in op else -1
        for copy in m.copies:
            lanes, groups, index, content = copy
            due = m.acting[lanes] & (groups < m.groups[lanes] - keep)
            if due.any():
                m.spaces["shared"].store(index[due], content[due])
                copy[:] = [part[~due] for part in copy]
        m.copies = [copy for copy in m.copies if copy[0].size]
        return
    if op[1] != "async" or "bulk" in op or "mbarrier" in op:
        raise NotImplementedError(".".join(op))
    who, size = np.flatnonzero(m.acting), int(operands[2])
    shared, to = addresses(m, ("st", "shared"), operands[0], size, True, who)
    wanted = m.read(operands[3], U32) if len(operands) > 3 else np.uint32(size)
    wanted = np.broadcast_to(wanted, m.count)[who].astype(np.int64)
    if (wanted > size).any():
        raise Fault(f"asks for more than its {size} bytes", int(who[np.argmax(wanted > size)]))
    content = np.zeros((who.size, size), np.uint8)  # what is not asked for becomes zero
    for count in set(wanted.tolist()) - {0}:
        some = np.flatnonzero(wanted == count)
        op = ("ld", "global")
        memory, index = addresses(m, op, operands[1], count, False, who[some], size)
        content[some, :count] = memory.data[index]
    shared.state[to] = ROOM  # on its way: nobody may read it now
    m.copies.append([who, m.groups[who].copy(), to, content])


def _warps(m: Any) -> np.ndarray:
    """Numbers (warps, 32) of the acting threads; whole warps only."""
    who = np.flatnonzero(m.acting)
    whole = who.size % 32 == 0 and (m.lane[who].reshape(-1, 32) == np.arange(32)).all()
    if not whole:
        raise Fault("is in a warp of which not all 32 threads are here")
    return who.reshape(-1, 32)


def _whole_warps(m: Any) -> np.ndarray:
    return _hold(m, _warp_ready(m, "0xffffffff"))


def _ldmatrix(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """8x8 matrices of 16-bit elements; lane i names row i % 8 of matrix i / 8."""
    held = _whole_warps(m)
    if not m.acting.any():
        return held
    targets, warps = vector(operands[0]), _warps(m)
    k = len(targets)
    if "m8n8" not in op or op[-1] != "b16":
        raise NotImplementedError(".".join(op))
    memory, index = addresses(m, op, operands[1], 16, False, warps[:, : 8 * k].reshape(-1))
    rows = memory.load(index, np.dtype(np.uint16)).reshape(-1, k, 8, 8)
    if "trans" in op:
        rows = rows.swapaxes(2, 3)
    for i, target in enumerate(targets):
        values = np.zeros(m.count, np.uint32)
        pairs = np.ascontiguousarray(rows[:, i]).reshape(-1, 32, 2)
        values[warps] = pairs.view(np.uint32)[:, :, 0]
        m.write(target, values)
    return held


def _mma(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """mma.sync m16n8kK, float32 += (f16 | bf16 | tf32) products, in the layout of PTX's tables."""
    held = _whole_warps(m)
    if not m.acting.any():
        return held
    shape, kind, warps = op[3], op[-2], _warps(m)
    d, a, b, c = (vector(o) for o in operands)
    if not shape.startswith("m16n8k") or op[-4] != "f32" or op[-1] != "f32" or op[-3] != kind:
        raise NotImplementedError(".".join(op))
    A, B = (_fragments(m, registers, kind, warps) for registers in (a, b))
    each = A.shape[3]  # numbers in a register
    K, half = 4 * each * len(b), 4 * each
    if int(shape[6:]) != K or len(a) != 2 * len(b):
        raise NotImplementedError(".".join(op))
    row, column = np.arange(32) // 4, np.arange(32) % 4
    left, right = np.zeros((len(warps), 16, K)), np.zeros((len(warps), K, 8))
    for e in range(each):
        for i in range(len(a)):
            left[:, row + 8 * (i % 2), column * each + half * (i // 2) + e] = A[:, :, i, e]
        for i in range(len(b)):
            right[:, column * each + half * i + e, row] = B[:, :, i, e]
    product = left @ right
    for i in range(4):
        at = (slice(None), row + 8 * (i // 2), 2 * column + i % 2)
        before = np.broadcast_to(m.read(c[i], np.dtype(np.float32)), m.count)[warps]
        product[at] += before
    for i in range(4):
        values = np.zeros(m.count, np.float32)
        values[warps] = product[:, row + 8 * (i // 2), 2 * column + i % 2]
        m.write(d[i], values)
    return held


def _fragments(m: Any, registers: list[str], kind: str, warps: np.ndarray) -> np.ndarray:
    """The numbers in packed registers: (warps, 32, registers, numbers in each)."""
    raw = np.stack([np.broadcast_to(m.read(r, U32), m.count)[warps] for r in registers], -1)
    if kind == "tf32":  # the lowest 13 bits are not looked at
        return (raw & np.uint32(0xFFFFE000)).view(np.float32)[..., None]
    halves = np.ascontiguousarray(raw)[..., None].view(np.uint16)
    if kind == "f16":
        return halves.view(np.float16).astype(np.float32)
    if kind == "bf16":
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    raise NotImplementedError(kind)


WARP_OPS: dict[str, Handler] = {
    **dict.fromkeys(("bar", "barrier"), barrier),
    "shfl": _shuffle,
    "vote": _vote,
    "cp": _copy_async,
    "ldmatrix": _ldmatrix,
    "mma": _mma,
}
