"""The memory of the PTX machine, which knows of every byte whether it may be read.

Arguments lie 2^40 bytes apart, each at a multiple of 16 and of nothing larger, so a wrong address
meets nothing that it could be taken for. A byte is free of use (0), room that nobody has written
(1), written (2), written and read-only (3), or read-only though nobody has written it (4).
"""

import numpy as np

APART = 40  # bits
SHARED = 1024  # the address where a block's shared memory starts
NOTHING, ROOM, WRITTEN, CONSTANT, MISSING = range(5)


class Fault(Exception):
    """What may not be, in words, and which of the threads (or of the accesses) it was."""

    def __init__(self, what: str, which: int | None = None) -> None:
        super().__init__(what)
        self.what, self.which = what, which


class Memory:
    """Bytes and their states; a subclass finds an address's index and describes it."""

    def __init__(self, size: int) -> None:
        self.data = np.full(size, 255, np.uint8)
        self.state = np.zeros(size, np.uint8)

    def find(self, address: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Index of each address, -1 where there is none; owner: block of each access."""
        raise NotImplementedError

    def describe(self, address: int) -> str:
        """In words for messages."""
        raise NotImplementedError

    def at(
        self, address: np.ndarray, owner: np.ndarray, size: int, write: bool, multiple: int
    ) -> np.ndarray:
        """Indices (accesses, size) of the bytes; Fault if they may not be read or written."""
        verb = f"writes {size} bytes" if write else f"reads {size} bytes"
        first, last = self.find(address, owner), self.find(address + (size - 1), owner)
        outside = (first < 0) | (last != first + size - 1)
        index = np.where(outside, 0, first)[:, None] + np.arange(size)
        state = np.where(outside[:, None], NOTHING, self.state[index])
        unwritten = ((state == ROOM) | (state == MISSING)).any(1) & (not write)
        for wrong, what in (
            (address % multiple != 0, f"at an address that is no multiple of {multiple}"),
            (outside | (state == NOTHING).any(1), "outside its memory"),
            ((state >= CONSTANT).any(1) & write, "that are read-only"),
            (unwritten, "that were never written"),
        ):
            if wrong.any():
                which = int(np.argmax(wrong))
                place = self.describe(int(address[which]))
                raise Fault(f"{verb} {what}: {place}", which)
        return index

    def load(self, index: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Values (accesses, elements)."""
        return np.ascontiguousarray(self.data[index]).view(dtype)

    def store(self, index: np.ndarray, values: np.ndarray) -> None:
        """Write values (accesses, elements); of several to one place the last one stays."""
        self.data[index] = np.ascontiguousarray(values).view(np.uint8).reshape(index.shape)
        self.state[index] = WRITTEN


class Global(Memory):
    """The arrays that a launch was given, and constant tables."""

    def __init__(self, arrays: list[np.ndarray], tables: list[bytes]) -> None:
        sizes = [a.nbytes for a in arrays] + [len(t) for t in tables]
        starts = np.cumsum([0, *sizes])
        super().__init__(int(starts[-1]))
        self.starts, self.sizes = starts[:-1].astype(np.int64), np.array(sizes, np.int64)
        self.arrays = arrays
        for start, array in zip(starts, arrays, strict=False):
            here = slice(start, start + array.nbytes)
            self.data[here] = array.reshape(-1).view(np.uint8)
            self.state[here] = WRITTEN if array.flags.writeable else CONSTANT
            if array.dtype.kind == "f":  # all bits set: as `empty` left it
                raw = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
                untouched = np.repeat((raw == 255).all(1), array.itemsize)
                self.state[here][untouched] = ROOM if array.flags.writeable else MISSING
        for start, table in zip(starts[len(arrays) :], tables, strict=False):
            self.data[start : start + len(table)] = np.frombuffer(table, np.uint8)
            self.state[start : start + len(table)] = CONSTANT

    def address(self, number: int) -> int:
        """Where array (or, behind them, table) `number` starts."""
        return ((number + 1) << APART) + 16

    def find(self, address: np.ndarray, owner: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Indices into data."""
        if not self.sizes.size:
            return np.full(address.shape, -1)
        number, offset = (address >> APART) - 1, (address & ((1 << APART) - 1)) - 16
        known = (number >= 0) & (number < self.sizes.size)
        number = np.where(known, number, 0)
        inside = known & (offset >= 0) & (offset < self.sizes[number])
        return np.where(inside, self.starts[number] + offset, -1)

    def describe(self, address: int) -> str:
        """The argument and the offset in it."""
        number, offset = (address >> APART) - 1, (address & ((1 << APART) - 1)) - 16
        if offset > 1 << (APART - 1):  # a little before the next one
            number, offset = number + 1, offset - (1 << APART)
        if not 0 <= number < len(self.arrays):
            return f"address {address:#x} belongs to no argument"
        size = self.arrays[number].nbytes
        return f"byte {offset} of array {number}, which has {size}"

    def give_back(self) -> None:
        """Copy what was written into the arrays of the launch."""
        for start, array in zip(self.starts, self.arrays, strict=False):
            if array.flags.writeable:
                array.reshape(-1).view(np.uint8)[:] = self.data[start : start + array.nbytes]


class Shared(Memory):
    """The shared memory of every block; nothing is written at first.

    busy: of each byte, how many copies and products under way write or read it; writer: n + 1 if
    thread n stored it and has not yet shown it to the asynchronous proxy (TMA and wgmma, which
    reach memory by another way than threads do), -(n + 1) if it has, but not met others since.
    """

    def __init__(self, blocks: int, size: int) -> None:
        super().__init__(blocks * size)
        self.size = size
        self.state[:] = ROOM
        self.busy = np.zeros(blocks * size, np.uint16)
        self.writer = np.zeros(blocks * size, np.int32)

    def at(
        self, address: np.ndarray, owner: np.ndarray, size: int, write: bool, multiple: int
    ) -> np.ndarray:
        """As of any memory; and nobody writes what a copy or a product still needs."""
        index = super().at(address, owner, size, write, multiple)
        if write and (busy := self.busy[index].any(1)).any():
            which = int(np.argmax(busy))
            what = f"writes {size} bytes that a copy or a product under way still needs"
            raise Fault(f"{what}: {self.describe(int(address[which]))}", which)
        return index

    def show(self, threads: np.ndarray) -> None:
        """Threads (bool) let what they have stored be seen."""
        mine = self.writer > 0
        mine[mine] = threads[self.writer[mine] - 1]
        self.writer[mine] *= -1

    def met(self, threads: np.ndarray) -> None:
        """Threads (bool) have come through a barrier."""
        mine = self.writer < 0
        mine[mine] = threads[-self.writer[mine] - 1]
        self.writer[mine] = 0

    def for_async(
        self, address: np.ndarray, owner: int, thread: int, write: bool = False
    ) -> np.ndarray:
        """Indices (accesses, 2) of 16-bit numbers that TMA or wgmma accesses for a thread."""
        try:
            index = self.at(address, np.full(address.shape, owner), 2, write, 2)
        except Fault as fault:
            raise Fault(f"in the background {fault.what}", thread) from None
        if (unseen := self.writer[index].any(1)).any():
            place = self.describe(int(address[np.argmax(unseen)]))
            what = "fence.proxy.async and a barrier behind"
            raise Fault(f"comes to what was stored without {what}: {place}", thread)
        return index

    def find(self, address: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Indices into data."""
        offset = address - SHARED
        inside = (offset >= 0) & (offset < self.size)
        return np.where(inside, owner * self.size + offset, -1)

    def describe(self, address: int) -> str:
        """The offset in the block's shared memory."""
        return f"byte {address - SHARED} of shared memory, of which a block has {self.size}"
