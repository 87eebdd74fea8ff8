"""LZW and PackBits as TIFF writes them, decoded within a bound that the caller gives.

A plain LZW decoder grows a table of strings, one code at a time. In NumPy it pays to look at it
differently: the string that step k adds to the table is what the output holds from where step k
began, one byte longer than what step k wrote. So a code is either a literal byte or "copy what
step p wrote, and one byte more"; the sources of all bytes between two resets of the table are
found at once, and followed back to their literals by pointer doubling.
"""

import numpy as np

from ..errors import DataError

CLEAR, END, FIRST = 256, 257, 258
# Codes are 9 bits wide until the table holds 511 strings, then 10 until 1023, and so on (TIFF
# widens one code earlier than it must). Step k after a reset adds entry 257 + k; an encoder has to
# reset before the table of 4096 is full, and as elsewhere 1024 steps of grace are allowed.
_WIDTHS = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 3072])
_WIDER = (254, 766, 1790)
_PLACES = np.concatenate([[0], np.cumsum(_WIDTHS)])


def lzw(data: bytes, most: int) -> bytes:
    """Decode TIFF's LZW; at most `most` bytes.

    Raises DataError where the data are damaged, and where they hold more than `most` bytes.
    """
    if data[:2] in (b"\0\1", b"\0\3"):
        raise DataError("is compressed with the LZW of before 1990: save it again as plain LZW")
    padded = np.frombuffer(data + b"\0\0\0", np.uint8)
    place, end, length = 0, 8 * len(data), 0
    parts: list[bytes] = []
    resets = 64 + len(data) // 256  # more would make a decoder slow, and no encoder does it
    while True:
        codes = _codes(padded, place, end)
        stops = np.flatnonzero((codes == CLEAR) | (codes == END))
        steps = int(stops[0]) if stops.size else len(codes)
        if not stops.size and steps - 1 in _WIDER and codes[-1] == 2 * END:
            steps -= 1  # an encoder that does not widen for the last code: END in the old width
        part = _strings(codes[:steps], most + 1 - length)
        parts.append(part)
        length += len(part)
        if length > most:
            raise DataError("holds more LZW data than its size allows")
        if not stops.size or codes[steps] == END:
            return b"".join(parts)
        place += int(_PLACES[steps + 1])
        resets -= 1
        if not resets:
            raise DataError("holds damaged LZW data (the table is reset too often)")


def _codes(data: np.ndarray, place: int, end: int) -> np.ndarray:
    """The codes from bit `place` on, as if no reset came; few first, because one may come soon."""
    codes = np.empty(0, np.int64)
    for first, last in ((0, 300), (300, len(_WIDTHS))):
        places = place + _PLACES[first : last + 1]
        count = int(np.searchsorted(places[1:], end, "right"))
        at, width = places[:count], _WIDTHS[first : first + count]
        byte = at >> 3
        high, middle, low = (data[byte + i].astype(np.int64) for i in range(3))
        word = high << 16 | middle << 8 | low
        codes = np.concatenate([codes, word >> (24 - width - (at & 7)) & ((1 << width) - 1)])
        if (codes == CLEAR).any() or (codes == END).any():
            break
    return codes


def _strings(codes: np.ndarray, most: int) -> bytes:
    """What codes between two resets stand for; no more of them than make `most` bytes."""
    steps = np.arange(len(codes))
    parent = codes - FIRST  # the step whose output this one repeats; below 0 for a literal
    if (parent >= steps).any():
        raise DataError("holds damaged LZW data (a code that is not in the table yet)")
    parent = np.where(parent < 0, steps, parent)  # a literal is its own parent
    sizes, ancestor = 1 + (parent != steps), parent
    while not np.array_equal(further := ancestor[ancestor], ancestor):
        sizes += sizes[ancestor] - 1
        ancestor = further
    keep = int(np.searchsorted(np.cumsum(sizes), most)) + 1
    codes, parent, sizes = codes[:keep], parent[:keep], sizes[:keep]
    starts = np.cumsum(sizes) - sizes
    values = np.zeros(int(sizes.sum()), np.uint8)
    values[starts] = codes & 255  # right at the literals, and only they are read
    sources = np.arange(len(values), dtype=np.int32)
    sources -= np.repeat((starts - starts[parent]).astype(np.int32), sizes)
    # A chain goes back through at most one string, and then through the first byte of another.
    for _ in range(int(2 * sizes.max(initial=1)).bit_length()):
        sources = sources[sources]
    return values[sources].tobytes()


def packbits(data: bytes, most: int) -> bytes:
    """Decode PackBits (TIFF 6, section 9); at most `most` bytes.

    Raises DataError where a run is cut short, and where there are more than `most` bytes.
    """
    parts: list[bytes] = []
    at = length = 0
    while at < len(data):
        head = data[at]
        at += 1
        if head == 128:  # no operation
            continue
        if head < 128:
            part = data[at : at + head + 1]
            at += head + 1
        else:
            part = data[at : at + 1] * (257 - head)
            at += 1
        if at > len(data):
            raise DataError("holds damaged PackBits data (a run is cut short)")
        parts.append(part)
        length += len(part)
        if length > most:
            raise DataError("holds more PackBits data than its size allows")
    return b"".join(parts)
