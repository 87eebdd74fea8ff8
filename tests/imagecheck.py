"""Made-up pixels, and the check that a file gives exactly them, whole and by windows."""

import numpy as np

from unetcu.files.images import open_stack


def image(dtype, channels=1, height=37, width=45, seed=0):
    """Pixels over the whole range of a type, smooth in places so that compression has work."""
    rng = np.random.default_rng([seed, channels])
    dtype = np.dtype(dtype)
    shape = (height, width, channels)
    if dtype.kind == "b":
        return rng.random(shape) < 0.3
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 1000).round(1).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = rng.integers(low, high, shape, dtype, endpoint=True)
    values[5:20] = (np.arange(width)[:, None] // 4 + low).astype(dtype)
    return values


def same(got, expected):
    expected = expected[:, :, None] if expected.ndim == 2 else expected
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype.newbyteorder("=")
    assert got.dtype.isnative
    assert got.flags.writeable
    assert got.flags.owndata or got.base.flags.owndata
    np.testing.assert_array_equal(got, expected)


def check(path, expected, note=None):
    """The stack, its pages and some windows of each are what was written."""
    stack = open_stack(path)
    height, width = expected[0].shape[:2]
    assert (stack.pages, len(stack)) == (len(expected),) * 2
    assert (stack.height, stack.width) == (height, width)
    assert stack.dtype == expected[0].dtype.newbyteorder("=")
    if note is None:
        assert stack.notes == []
    else:
        assert any(note in text for text in stack.notes), stack.notes
        assert not any("\n" in text for text in stack.notes)
    rng = np.random.default_rng(3)
    for i, array in enumerate(expected):
        array = array[:, :, None] if array.ndim == 2 else array
        assert stack.channels == array.shape[2]
        same(stack[i], array)
        for _ in range(4):
            y0, x0 = int(rng.integers(height)), int(rng.integers(width))
            y1, x1 = int(rng.integers(y0, height)) + 1, int(rng.integers(x0, width)) + 1
            same(stack.window(i, y0, y1, x0, x1), array[y0:y1, x0:x1])
    same(stack[-1], expected[-1])
    return stack
