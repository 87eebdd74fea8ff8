"""Dropout: formula, slopes, the random words against another Philox, statistics, streams.

`philox` is written from the paper's definition (Salmon et al., SC 2011) in plain integers, and
first has to reproduce the answers that were published with it; only then is it believed.
"""

import numpy as np
import pytest
from check import check_op, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError, UsageError
from unetcu.ops.dropout import Dropout, dropout, words

SHAPES = [(), (1,), (2,), (3,), (2, 3), (1, 3, 5, 1), (2, 5, 3, 17), (3, 5000), (1, 7, 8, 64)]
SHAPES += [(511,), (512,), (513,), (2, 17, 13, 16)]  # blocks of 256 pairs


def philox(counter, key):
    """Philox-2x32-10: two words of counter and one of key to two words."""
    low, high = counter
    for _ in range(10):
        both = 0xD256D193 * low
        low, high = (both >> 32) ^ key ^ high, both % 2**32
        key = (key + 0x9E3779B9) % 2**32
    return low, high


def word(i, seed, step, layer=0):
    """Word number i of the stream of dropout's docstring."""
    return philox((i // 2, step), (seed + 0x632BE5AB * layer) % 2**32)[i % 2]


def when(seed, step):
    return np.array([seed, step], np.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0x00000000, 0x00000000), 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_the_published_answers(counter, key, answer):
    assert philox(counter, key) == answer


@pytest.mark.parametrize(
    ("seed", "step", "layer"),
    [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0xFFFFFFFF, 0xFFFFFFFF, 3), (77, 123456, 22)],
)
def test_words(seed, step, layer):
    for n in (0, 1, 2, 7, 1000):
        got = words(n, seed, step, layer)
        assert got.dtype == np.uint32
        assert got.tolist() == [word(i, seed, step, layer) for i in range(n)]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape, rate):
    x = np.asarray(rng.standard_normal(shape))
    check_op(Dropout, on, x, when(3, 9), terms=(1, 1), scale="own", rate=rate, layer=2)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.999])
def test_each_element_by_its_word(on, rate):
    x = np.arange(1, 1002, dtype=np.float32).reshape(7, 11, 13)
    dy = -x
    y, dx = run(Dropout, on, [x, when(5, 6)], dy, [0], rate=rate, layer=1)
    for i, value in enumerate(x.ravel()):
        kept = word(i, 5, 6, 1) >= rate * 2**32
        right = np.float32(value) * np.float32(1 / (1 - rate)) if kept else 0
        assert y.ravel()[i] == right
        assert dx.ravel()[i] == -right


def test_a_word_at_the_threshold_is_kept(on):
    x = np.ones(600, np.float32)
    for i in (0, 1, 256, 513, 598, 599):
        rate = word(i, 3, 4) / 2**32
        y = dropout(Tensor(x, on), Tensor(when(3, 4), on), rate=rate).numpy()
        assert y[i] > 0
        assert (y > 0).tolist() == [word(j, 3, 4) >= word(i, 3, 4) for j in range(600)]


def test_nothing(on):
    y, dx = run(Dropout, on, [np.zeros((0, 3), "f"), when(1, 2)], np.zeros((0, 3), "f"), [0])
    assert y.shape == dx.shape == (0, 3)


def test_share_of_kept_elements_and_their_mean(on):
    x = np.ones(200_000, np.float32)
    for rate in (0.1, 0.5, 0.8):
        y = dropout(Tensor(x, on), Tensor(when(1, 2), on), rate=rate).numpy()
        kept = np.mean(y > 0)
        assert abs(kept - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / x.size)
        assert abs(y.mean() - 1) < 4 * np.sqrt(rate / (1 - rate) / x.size)


def test_streams_are_unlike(on):
    """Other seed, step or layer, and neighbours in one stream: no correlation beyond chance."""

    def kept(seed, step, layer):
        ones, at = Tensor(np.ones(100_001, "f"), on), Tensor(when(seed, step), on)
        return dropout(ones, at, rate=0.5, layer=layer).numpy() - 1

    first = kept(0, 0, 0)
    others = [kept(1, 0, 0), kept(0, 1, 0), kept(0, 0, 1), kept(1, 1, 0), kept(0, 1, 1)]
    pairs = [(first, o) for o in others] + [(first[1:], first[:-1]), (first[2:], first[:-2])]
    for a, b in pairs:
        assert abs(np.mean(a * b)) < 4 / np.sqrt(a.size)
    assert kept(0, 0, 0).tobytes() == first.tobytes()


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    x, dy = (rng.standard_normal((3, 41, 43, 8)).astype("f") for _ in range(2))
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        results = run(Dropout, on, [x, when(8, 9)], dy, [0])
        bits.add(b"".join(r.tobytes() for r in results))
    assert len(bits) == 1


def test_one_nan_stays_in_its_place_or_is_seen(on):
    x = np.ones(64, np.float32)
    x[[10, 11, 12, 13]] = np.nan
    y = dropout(Tensor(x, on), Tensor(when(0, 0), on)).numpy()
    others = np.delete(y, [10, 11, 12, 13])
    assert not np.isnan(others).any()
    kept = np.array([word(i, 0, 0) >= 2**31 for i in range(10, 14)])
    assert np.isnan(y[10:14])[kept].all()


def test_rates_that_make_no_sense(on):
    x, at = Tensor(np.ones(3, "f"), on), Tensor(when(0, 0), on)
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="at least 0 and below 1, got"):
            dropout(x, at, rate=rate)


def test_shapes_that_do_not_fit(on):
    with pytest.raises(ShapeError, match=r"when = \(seed, step\), got an array of shape \(3,\)"):
        dropout(Tensor(np.ones(3, "f"), on), Tensor(np.zeros(3, np.uint32), on))


def test_half_is_dropped_unless_asked_otherwise(on, rng):
    x, at = Tensor(rng.standard_normal(100).astype("f"), on), Tensor(when(0, 0), on)
    same(dropout(x, at).numpy(), dropout(x, at, rate=0.5, layer=0).numpy(), "y")


def test_rate_0_changes_nothing(on, rng):
    x = rng.standard_normal(100).astype("f")
    y = dropout(Tensor(x, on), Tensor(when(0, 0), on), rate=0.0).numpy()
    same(y, x, "y")
