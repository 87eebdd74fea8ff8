"""cp.async.bulk.tensor of PTX: copies of boxes of an array to shared memory, in the background."""

from typing import Any

import numpy as np

from .access import pointers
from .mbarrier import barrier
from .memory import ROOM, Fault
from .ops import Op, Operands
from .registers import vector
from .text import split

MAPS = 1 << 60  # where parameters that are maps of arrays lie, 128 bytes each
TILED = "shared_cluster", "global", "mbarrier_complete_tx_bytes"
ALIGNED = 128  # bytes: of a box in shared memory


def copy_box(m: Any, op: Op, operands: Operands) -> None:
    """[to], [map, {first element, fastest index first}], [mbarrier]: of each thread a copy."""
    if op[:4] != ("cp", "async", "bulk", "tensor") or len(operands) != 3:
        raise NotImplementedError(".".join(op))
    if tuple(p for p in op[5:] if p != "tile") != TILED:
        raise NotImplementedError(".".join(op))
    which, first = split(operands[1][1:-1])
    who = np.flatnonzero(m.acting)
    columns = [np.broadcast_to(m.read(c, np.dtype(np.int32)), m.count)[who] for c in vector(first)]
    maps = pointers(m, f"[{which}]", who).tolist()
    to, told = pointers(m, operands[0], who).tolist(), pointers(m, operands[2], who).tolist()
    for i, thread in enumerate(who.tolist()):
        view = m.maps.get(maps[i])
        if view is None:
            raise Fault("copies by what is no map among the kernel's parameters", thread)
        if not len(view.sizes) == len(columns) == int(op[4][:-1]):
            raise Fault(f"copies a box of a map of {len(view.sizes)} dimensions", thread)
        if not barrier(m, thread, told[i]).shown:
            raise Fault("names an mbarrier that was made without a fence behind", thread)
        if to[i] % ALIGNED:
            raise Fault(f"copies to an address that is no multiple of {ALIGNED}", thread)
        key = int(m.owner[thread]), told[i]
        copy = _copy(m, view, [int(c[i]) for c in columns], to[i], thread)
        m.copies_of_boxes.setdefault(key, []).append(copy)


def _copy(
    m: Any, view: Any, first: list[int], to: int, thread: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of bytes in shared memory and what will be there; 0 outside of the array."""
    at = np.ix_(*(np.arange(c, c + n) for c, n in zip(first[::-1], view.box[::-1], strict=True)))
    inside, element = np.array(True), np.array(view.start)
    for index, size, stride in zip(at, view.sizes[::-1], view.strides[::-1], strict=True):
        inside = inside & (index >= 0) & (index < size)
        element = element + index * stride
    inside, element = inside.reshape(-1), element.reshape(-1)
    content = np.zeros((element.size, 2), np.uint8)
    array, shared = m.spaces["global"], m.spaces["shared"]
    address = view.array + 2 * element[inside]
    try:
        content[inside] = array.data[array.at(address, np.zeros(address.shape), 2, False, 2)]
    except Fault as fault:
        raise Fault(f"in the background {fault.what}", thread) from None
    # Swizzled: of each eight rows of 128 bytes, the number of the row changes that of the piece.
    plain = to + 2 * np.arange(element.size)
    swizzled = plain ^ (plain >> 7 & 7) << 4
    target = shared.for_async(swizzled, int(m.owner[thread]), thread, write=True)
    shared.busy[target] += 1
    shared.state[target] = ROOM  # on its way: nobody may read it now
    return target, content
