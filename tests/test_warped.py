"""Training with tiles that are cut on the device: the same tiles, the same training, one choice."""

import threading

import numpy as np
import pytest
from gpus import CUDA
from test_samples import made, same
from warptools import BOUND

from unetcu import train as train_command
from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.memory import training_bytes
from unetcu.resample import coefficients
from unetcu.training.samples import Batch, Tiles
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.training.warped import WarpedTiles, bytes_of, tiles_for
from unetcu.unet import UNet

SMALL = Settings(depth=1, base=2, tile=28, batch=3, seed=5)


def on_host(batch, where):
    return Batch(*(np.array(where.get(a)) for a in batch))


def assert_alike(got, right):
    span = np.ptp(right.x, axis=(1, 2), keepdims=True)
    assert (np.abs(got.x - right.x) <= BOUND * span).all()
    assert np.array_equal(got.t, right.t)
    assert np.array_equal(got.w, right.w)


@pytest.mark.parametrize("on", ["simt", CUDA])
def test_batches_are_those_of_the_cpu(on):
    where, examples = device(on), made([(40, 30), (25, 50), (12, 90)])
    cpu, tiles = Tiles(examples, SMALL), WarpedTiles(examples, SMALL, where)
    got = [on_host(b, where) for b in tiles.batches(3, 12)]
    for step, batch in enumerate(got, 3):
        right = cpu.batch(step)
        assert [(a.shape, a.dtype) for a in batch] == [(a.shape, a.dtype) for a in right]
        assert_alike(batch, right)
        assert same(batch, on_host(tiles.batch(step), where))
    assert len({b.x.tobytes() for b in got}) == 9
    assert {n for b in got for n in np.unique(b.t)} == {-1, 0, 1}


def test_batches_left_before_the_end_leave_no_thread():
    taken = WarpedTiles(made([(40, 30)]), SMALL, device("simt")).batches(0, 100)
    next(taken)
    taken.close()
    assert [t for t in threading.enumerate() if t.name.startswith("unetcu-tiles")] == []


def test_a_batch_of_the_device_trains_as_one_of_numpy_does():
    where, examples = device("simt"), made([(40, 30), (25, 50)])
    losses, ends = [], []
    for on_device in (False, True):
        trainer = Trainer(UNet(1, 2, on=where), SMALL, total=3)
        for batch in WarpedTiles(examples, SMALL, where).batches(0, 3):
            losses.append(trainer.step(batch if on_device else on_host(batch, where)))
        ends.append(b"".join(a.tobytes() for a in trainer.weights().values()))
    assert losses[:3] == losses[3:]
    assert ends[0] == ends[1]


def test_a_tensor_of_a_batch_is_a_copy():
    """The next batch comes into the same arrays; what backward needs must not change under it."""
    where = device("simt")
    tiles = WarpedTiles(made([(40, 30)]), SMALL, where)
    first = tiles.batch(0)
    x, before = Tensor(first.x, where), np.array(where.get(first.x))
    second = tiles.batch(1)
    assert second.x is first.x
    assert np.array_equal(x.numpy(), before)
    assert not np.array_equal(where.get(second.x), before)


def test_where_tiles_are_cut(monkeypatch):
    examples, where = made([(40, 30), (25, 50)]), device("simt")
    net = UNet(1, 2, on=where)
    assert type(tiles_for(examples, SMALL, UNet(1, 2))) is Tiles
    assert type(tiles_for(examples, SMALL, net)) is WarpedTiles
    assert type(tiles_for(examples, Settings(depth=1, tile=28, warp="cpu"), net)) is Tiles
    assert bytes_of(examples) == 4 * 3 * (40 * 30 + 25 * 50)
    both = bytes_of(examples) + training_bytes(net, SMALL)
    for memory, kind in ((both / 0.9 + 9, WarpedTiles), (both / 0.9 - 9, Tiles)):
        monkeypatch.setattr(where, "memory", memory)
        tiles = tiles_for(examples, SMALL, net)
        assert type(tiles) is kind
        assert tiles.device_bytes == (bytes_of(examples) if kind is WarpedTiles else 0)


def test_the_card_tells_its_memory(launched):
    assert device("simt").memory is None
    device.cache_clear()
    assert device("cuda").memory == 8 * 2**30
    device.cache_clear()


def test_images_arrive_on_a_gpu_and_stay_where_they_are(launched):
    """On a stand-in for CuPy: what lies where, and that each batch launches the same."""
    device.cache_clear()
    examples = made([(40, 30), (25, 50)])
    tiles = WarpedTiles(examples, SMALL, device("cuda:1"))
    batches = [tiles.batch(step) for step in (0, 1)]
    device.cache_clear()
    assert [call[0].entry for call in launched] == 2 * ["warp_cut", "warp_gamma", "warp_gray"]
    args = launched[0][3]
    planes = np.concatenate([coefficients(e.x[..., 0]).ravel() for e in examples])
    assert np.array_equal(args[0].get(), planes)
    for k, part in ((1, "t"), (2, "w")):
        right = np.concatenate([getattr(e, part).ravel() for e in examples])
        assert np.array_equal(args[k].get(), right)
    assert args[3].get().tolist() == [[0, 40, 30], [1200, 25, 50]]
    assert batches[0].x is batches[1].x is args[6]
    assert np.array_equal(args[5].get(), tiles.draw(1))
    assert [a is b for a, b in zip(args[:10], launched[3][3], strict=False)] == [True] * 10


def test_the_command_cuts_on_the_device_unless_told_not_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_command, "seconds_a_step", lambda net, prepared: 0.25)
    monkeypatch.setattr("unetcu.training.prepare.BUILTIN_PAGES", 2)
    monkeypatch.setattr("unetcu.training.prepare.BUILTIN_SIZE", 64)
    scores, told = [], []
    for warp in ("auto", "cpu"):
        settings = Settings(depth=1, base=2, tile=28, steps=2, warp=warp, val="none")
        made_run = train_command.train(out=tmp_path / warp, settings=settings, on="simt")
        scores.append(made_run.rows[-1]["loss"])
        told.append(capsys.readouterr().err)
    assert "98.3 kB of them images to cut tiles from" in told[0]
    assert "of them images" not in told[1]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
