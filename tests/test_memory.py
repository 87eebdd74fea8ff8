"""Memory as it is told beforehand, against what real steps and real inferences take.

Where arrays lie is decided by sizes alone, so the region of the CPU's arrays and the kernels'
working memory must come out to the byte. What the system counts has more in it, which differs with
its pages, its allocator and Python: there the tolerance is 5 % and 6 MB.
"""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unetcu import memory, threads
from unetcu.autograd import Tensor
from unetcu.device import cpu, device, native, rehearsal
from unetcu.device.buffers import HUGE, region
from unetcu.infer import softmax
from unetcu.memory import human, inference_bytes, training_bytes
from unetcu.ops.conv3x3 import conv3x3
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

COMPILED = pytest.mark.skipif(native() is None, reason="there is no compiled module")

# A process in which nothing else has happened. What is told is asked for at the end.
ALONE = """
import json, re, sys
from pathlib import Path
import numpy as np
from unetcu import _native, memory, threads
from unetcu.device import cpu, rehearsal
from unetcu.infer import softmax
from unetcu.training.samples import AHEAD, Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

def status(key):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(key + r":\\s*(\\d+) kB", text)[1])

def batch():
    n, size, out = s.batch, s.tile, s.tile_out
    x = np.random.default_rng(0).random((n, size, size, channels), np.float32)
    return Batch(x, np.ones((n, out, out), np.int32), np.ones((n, out, out), np.float32))

work, count, channels, classes, settings = json.loads(sys.argv[1])
threads.set_count(count)
s = Settings(**settings)
x = batch().x[0]
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
net = UNet(s.depth, s.base, channels, classes)
if work != "training":
    for _ in range(3):
        softmax(net, x, exact=work == "exact")
else:
    trainer, judged = Trainer(net, s, 9), UNet(s.depth, s.base, channels, classes)
    judged.parameters.load(trainer.weights())
    batches = [batch() for _ in range(AHEAD + 2)]
    for _ in range(3):
        trainer.step(batches[0])
peak, region, scratch = status("VmHWM") - before, cpu._region(), _native.scratch_bytes()

Path("/proc/self/clear_refs").write_text("5")
before, seen, on = status("VmRSS"), [], rehearsal.Rehearsal.needed
rehearsal.Rehearsal.needed = property(lambda self: [seen.append(self), on.fget(self)][1])
f, a = ((memory.training_bytes, (s,)) if work == "training" else
        (memory.inference_bytes, (s.tile, s.tile, work == "exact")))
told = f(net, *a)
print(json.dumps({"peak": peak, "region": region and region.highest, "scratch": scratch,
                  "told": told, "told region": seen[0].region, "told scratch": seen[0].scratch,
                  "telling": status("VmHWM") - before}))
"""

SGD = {"optimizer": "sgd"}
NETS = {
    "weights": (3, 2, {"depth": 3, "base": 64, "tile": 92, "optimizer": "adamw", "average": 0.9}),
    "maps": (1, 4, {"depth": 1, "base": 9, "tile": 340, "batch": 2, "average": 0, **SGD}),
}


@functools.cache
def alone(work, count, name, native="1"):
    """What a process of its own says about one work."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process's peak")
    if cpu._region() is None:
        pytest.skip("the system refuses the address space of a region")
    command = [sys.executable, "-c", ALONE, json.dumps([work, count, *NETS[name]])]
    environment = {**os.environ, "UNETCU_NATIVE": native}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@COMPILED
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("work", ["training", "inference", "exact"])
def test_what_is_told_is_what_a_process_takes(work, net):
    found = alone(work, 1, net)
    assert found["told region"] == found["region"]
    assert found["told scratch"] == found["scratch"] > 0
    assert found["peak"] > 15e6
    assert abs(found["told"] - found["peak"]) < 0.05 * found["peak"] + 6e6
    assert found["telling"] < 0.3 * found["peak"] + 4e6


@COMPILED
def test_working_memory_of_several_threads():
    """A thread that came too late for any part of a job has none for it."""
    one, four = (alone("training", n, "maps") for n in (1, 4))
    assert four["told region"] == four["region"] == one["region"]
    assert one["scratch"] <= four["scratch"] <= four["told scratch"] <= 4 * one["scratch"]
    assert four["told"] - one["told"] == four["told scratch"] - one["told scratch"]


@COMPILED
@pytest.mark.parametrize("made_of", ["training maps", "training weights", "inference maps"])
def test_numpys_path_is_guessed(made_of):
    work, net = made_of.split()
    found = alone(work, 1, net, "0")
    assert found["scratch"] == found["told scratch"] == 0
    assert 0.75 * found["peak"] < found["told"] < 1.35 * found["peak"]


def made(where, optimizer="adamw", average=0.99, batch=2):
    s = Settings(depth=2, base=4, tile=92, batch=batch, optimizer=optimizer, average=average)
    return UNet(2, 4, 1, 3, on=where), s


@pytest.mark.parametrize("variant", ["fp32", "", "conv3x3_wgmma,conv3x3_wgmma_w"])
def test_on_a_gpu_the_same_is_asked_for(monkeypatch, variant):
    """All maps, gradients and parts of sums of a step, in the same order."""
    base, precision = (3, "fp32") if variant == "fp32" else (8, "bf16")
    monkeypatch.setenv("UNETCU_VARIANT", variant)
    net = UNet(1, base, 2, 3, on="simt", precision=precision)
    s = Settings(depth=1, base=base, tile=36, batch=2, precision=precision)
    x, out = np.zeros((2, 36, 36, 2), np.float32), (2, s.tile_out, s.tile_out)
    asked = []

    def watched(where):
        empty = where.empty

        def watching(shape, dtype=np.float32):
            if len(shape) >= 4 and shape != x.shape:
                asked.append(tuple(shape))
            return empty(shape, dtype)

        monkeypatch.setattr(where, "empty", watching)
        return where

    monkeypatch.setattr(memory, "Rehearsal", lambda where: watched(rehearsal.Rehearsal(where)))
    training_bytes(net, s)
    told = asked[:]
    asked.clear()
    watched(net.device)
    Trainer(net, s, 1).step(Batch(x, np.zeros(out, np.int32), np.ones(out, np.float32)))
    assert asked == told
    assert len(told) > 25


def test_weights_and_what_goes_with_them():
    flat = 4 * UNet(2, 4, 1, 3).parameters.flat.size
    for where in ("cpu", "simt"):
        net, s = made(where, "sgd", 0.0)
        sgd = training_bytes(net, s)
        assert sgd > 5 * flat  # values, gradients, velocity, the judged network's values, batches
        more = training_bytes(net, replace(s, optimizer="adamw")) - sgd
        assert flat <= more <= flat + 4096


def test_a_larger_batch_needs_more_and_no_more_than_that_many_times():
    net, s = UNet(2, 8), Settings(depth=2, base=8, tile=140)
    one, two, four, eight = (training_bytes(net, replace(s, batch=n)) for n in (1, 2, 4, 8))
    assert one < two < four < eight < 8 * one
    assert abs((eight - four) - 2 * (four - two)) <= 2 * HUGE  # whole pages


def test_probabilities_of_many_classes_count(monkeypatch):
    fresh = region()
    if fresh is None or device("cpu").native(np.float32) is None:
        pytest.skip("without the compiled module there is no region to rehearse")
    monkeypatch.setattr(cpu, "_region", lambda: fresh)
    told, net = [], UNet(1, 2, 1, 40)
    needed = rehearsal.Rehearsal.needed.fget
    watched = property(lambda self: [told.append(self.region), needed(self)][1])
    monkeypatch.setattr(rehearsal.Rehearsal, "needed", watched)
    softmax(net, np.zeros((200, 208, 1), np.float32))
    inference_bytes(net, 200, 208)
    assert told == [fresh.highest]
    assert fresh.highest > 2 * 4 * 184 * 192 * 40  # logits and probabilities


def test_it_needs_no_address_space(monkeypatch):
    net, s = made("cpu")
    told = training_bytes(net, s), inference_bytes(net, 92, 108)

    def refused(*size):
        raise OSError("no address space")

    monkeypatch.setattr(rehearsal, "Buffers", refused)
    without = training_bytes(net, s), inference_bytes(net, 92, 108)
    for more, less in zip(told, without, strict=True):
        assert 0 <= more - less < 2e6  # the kernels' working memory


def test_after_a_rehearsal_all_is_as_before(rng):
    """A kernel that did the first part of its job only would leave the rest as it was."""
    net, s = made("cpu")
    shapes = (1, 60, 70, 5), (3, 3, 5, 20), (20,)
    x, w, b = (Tensor(rng.standard_normal(shape, np.float32)) for shape in shapes)
    before, values = conv3x3(x, w, b).numpy().copy(), net.parameters.flat.copy()
    highest = cpu._region() and cpu._region().highest
    training_bytes(net, s)
    there = rehearsal.Rehearsal(device("cpu"))
    with pytest.raises(ZeroDivisionError), there.on():
        _ = 1 // 0
    assert np.array_equal(net.parameters.flat, values)
    assert (cpu._region() and cpu._region().highest) == highest
    assert np.array_equal(conv3x3(x, w, b).numpy(), before)
    assert softmax(net, np.zeros((92, 92, 1), np.float32)).shape == (52, 52, 3)


def test_more_threads_need_more(monkeypatch):
    net, s = made("cpu")
    told = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "_count", count)
        told.append((training_bytes(net, s), inference_bytes(net, 92, 92)))
    assert told[0][0] < told[1][0]
    assert told[0][1] <= told[1][1]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 kB"), (999, "0.999 kB"), (45_600, "45.6 kB"), (1e6, "1 MB"), (12_345_678, "12.3 MB"),
     (999_400_000, "999 MB"), (1e9, "1 GB"), (12.34e9, "12.3 GB")],
)  # fmt: skip
def test_bytes_for_people(count, text):
    assert human(count) == text
