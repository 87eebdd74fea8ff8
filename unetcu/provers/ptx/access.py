"""Loads and stores of PTX, and where in memory an operand's address lies."""

from typing import Any

import numpy as np

from .memory import SHARED, Fault
from .registers import dtype_of, vector

Op = tuple[str, ...]
Operands = tuple[str, ...]


def plain(kind: str) -> str:
    """The type that holds the bits of another one."""
    return "b16" if kind == "bf16" else kind


def addresses(
    m: Any, op: Op, operand: str, size: int, write: bool, who: np.ndarray, multiple: int = 0
) -> Any:
    """(memory, indices of bytes) for the threads `who` (numbers) that access `size` bytes.

    multiple: what the address must be a multiple of, if it is not `size`.
    """
    space = next((p for p in op[1:] if p.split("_")[0] in ("global", "shared", "const")), "")
    space = space.split("_")[0]
    address = pointers(m, operand, who)
    if not space:  # a generic address
        space = "shared" if (address < SHARED + (1 << 20)).all() else "global"
    memory = m.spaces[space]
    try:
        return memory, memory.at(address, m.owner[who], size, write, multiple or size)
    except Fault as fault:
        raise Fault(fault.what, int(who[fault.which])) from None


def pointers(m: Any, operand: str, who: np.ndarray) -> np.ndarray:
    """What "[%rd1+16]" is for the threads `who`."""
    name, offset = m.address(operand)
    narrow_address = m.width(name) == 32 if name[0] == "%" else False
    raw = m.read(name, np.dtype(np.uint32 if narrow_address else np.uint64))
    address: np.ndarray = np.broadcast_to(raw, m.count)[who].astype(np.int64) + offset
    return address


def load(m: Any, op: Op, operands: Operands) -> None:
    """ld: from a parameter or from memory, one register or several."""
    dtype, targets = dtype_of(plain(op[-1])), vector(operands[0])
    size = dtype.itemsize * len(targets)
    if "param" in op and m.address(operands[1])[0] not in m.params:  # a function's
        m.write(targets[0], m.read(_passed(m, operands[1], dtype), dtype))
        return
    if "param" in op:
        name, offset = m.address(operands[1])
        given = np.frombuffer(m.params[name][offset : offset + size], dtype)
        values = np.broadcast_to(given, (m.count, len(targets)))
    else:
        who = np.flatnonzero(m.acting)
        memory, index = addresses(m, op, operands[1], size, False, who)
        values = np.zeros((m.count, len(targets)), dtype)
        values[who] = memory.load(index, dtype)
    for k, target in enumerate(targets):
        m.write(target, values[:, k])


def store(m: Any, op: Op, operands: Operands) -> None:
    """st: to memory, one register or several."""
    dtype, sources = dtype_of(plain(op[-1])), vector(operands[1])
    if "param" in op:
        m.write(_passed(m, operands[0], dtype), m.read(sources[0], dtype))
        return
    who = np.flatnonzero(m.acting)
    memory, index = addresses(m, op, operands[0], dtype.itemsize * len(sources), True, who)
    values = [np.broadcast_to(m.read(s, dtype), m.count)[who] for s in sources]
    memory.store(index, np.stack(values, -1))
    if memory is m.spaces["shared"]:
        memory.writer[index] = who[:, None] + 1


def _passed(m: Any, operand: str, dtype: np.dtype) -> str:
    """The register that a parameter of a function is."""
    name, offset = m.address(operand)
    if offset or m.width(name) != 8 * dtype.itemsize:
        raise Fault("passes a part of a parameter")
    return name
