"""Estimates of memory against what a real step and a real inference allocate."""

import tracemalloc

import numpy as np
import pytest

from unetcu import memory, threads
from unetcu.device import cpu
from unetcu.infer import softmax
from unetcu.memory import human, inference_bytes, training_bytes
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

# depth, base, channels, classes, tile, batch. Large enough that small things do not count.
NETS = [(2, 16, 1, 2, 204, 1), (1, 24, 3, 4, 180, 1), (3, 8, 1, 5, 220, 1), (2, 8, 1, 2, 140, 3)]


@pytest.fixture
def bare(monkeypatch):
    """The sums alone, without what is added for the allocator; one thread with no scratch yet.

    They are those of NumPy's path, which takes more than the compiled kernels."""
    monkeypatch.setenv("UNETCU_NATIVE", "0")
    monkeypatch.setattr(cpu, "_region", lambda: None)
    monkeypatch.setattr(memory, "TRAINING_ALLOWANCE", 1)
    monkeypatch.setattr(memory, "INFERENCE_ALLOWANCE", 1)
    monkeypatch.setattr(memory, "FIXED", 0)
    monkeypatch.setattr(threads, "_count", 1)


def peak(work):
    threads._local.__dict__.clear()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def made(depth, base, channels, classes, tile, batch):
    s = Settings(depth=depth, base=base, tile=tile, batch=batch)
    x = np.random.default_rng(0).standard_normal((batch, tile, tile, channels)).astype(np.float32)
    shape = batch, s.tile_out, s.tile_out
    b = Batch(x, np.zeros(shape, np.int32), np.ones(shape, np.float32))
    return UNet(depth, base, channels, classes, dropout=0), s, b


@pytest.mark.parametrize("config", NETS)
def test_the_sums_against_what_is_allocated(bare, config):
    net, s, b = made(*config)
    softmax(net, b.x[0, :92, :92])  # what is found out once
    needed = peak(lambda: softmax(net, b.x[0]))
    estimate = inference_bytes(net, s.tile, s.tile) - 4 * net.parameters.size
    assert abs(estimate - needed) < 0.02 * needed + 1.2e6  # parts of a product, column buffers
    trainer = Trainer(net, s, 1)
    needed = peak(lambda: trainer.step(b))
    estimate = training_bytes(net, s.tile, s.tile, s.batch) - 6 * 4 * net.parameters.size
    assert needed > 12e6
    assert abs(estimate - needed) < 0.03 * needed + 0.8e6


@pytest.mark.parametrize("config", [(1, 2, 1, 2, 44, 1), (2, 8, 3, 2, 92, 2), (3, 4, 1, 2, 100, 1)])
def test_with_the_allowance_no_small_network_needs_more(config, monkeypatch):
    monkeypatch.setattr(threads, "_count", 1)
    net, s, b = made(*config)
    trainer = Trainer(net, s, 1)
    assert peak(lambda: trainer.step(b)) < training_bytes(net, s.tile, s.tile, s.batch)
    assert peak(lambda: softmax(net, b.x[0])) < inference_bytes(net, s.tile, s.tile)


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 1), ("adamw", 2)])
def test_what_the_weights_take(bare, optimizer, moments):
    s = Settings(depth=2, base=32, tile=44, optimizer=optimizer)
    kept = []

    def work():
        net = UNet(2, 32)
        kept.extend([net, Trainer(net, s, 1), UNet(2, 32)])  # the last one: the judged network
        threads._local.__dict__.clear()
        kept.append(tracemalloc.get_traced_memory()[0])

    peak(work)
    net, trainer, _, taken = kept
    assert len(trainer.optimizer.moments) == moments
    size = 4 * net.parameters.size
    flats = round(taken / size)
    assert flats == 5 + moments  # one of them, the judged network's gradients, is never touched
    both = [training_bytes(net, 44, 44, moments=m) for m in (moments, moments + 1)]
    assert both[1] - both[0] == size
    activations = training_bytes(net, 44, 44, moments=0) - 4 * size
    assert both[0] - activations == (flats - 1) * size


def test_more_threads_need_more_columns_and_no_more(bare, monkeypatch):
    net, *_ = made(2, 16, 1, 2, 204, 1)
    one = training_bytes(net, 204, 204), inference_bytes(net, 204, 204)
    monkeypatch.setattr(threads, "_count", 3)
    three = training_bytes(net, 204, 204), inference_bytes(net, 204, 204)
    for few, many in zip(one, three, strict=True):
        assert 1e6 < many - few < 2 * 1.7e6


def test_a_batch_counts_as_often_as_it_has_tiles(bare):
    net, _, _ = made(1, 4, 1, 2, 44, 1)
    one, two, four = (training_bytes(net, 44, 44, n) for n in (1, 2, 4))
    # The largest moment need not be the same one for every batch: columns count once.
    assert 0 <= (four - two) - 2 * (two - one) < 0.02 * four
    assert 1.9 < (four - two) / (two - one) < 2.1


def test_allowances_are_above_the_sums():
    net, _, _ = made(1, 4, 1, 2, 44, 1)
    assert memory.TRAINING_ALLOWANCE > 1
    assert memory.INFERENCE_ALLOWANCE > 1
    assert inference_bytes(net, 44, 60) > memory.FIXED > 1e6
    assert isinstance(training_bytes(net, 44, 60), int)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 kB"), (999, "0.999 kB"), (45_600, "45.6 kB"), (1e6, "1 MB"), (12_345_678, "12.3 MB"),
     (999_400_000, "999 MB"), (1e9, "1 GB"), (12.34e9, "12.3 GB")],
)  # fmt: skip
def test_bytes_for_people(count, text):
    assert human(count) == text
