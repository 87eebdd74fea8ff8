"""A hundred training steps give the same weights, bit for bit, whatever threads work on them.

Each in a process of its own, as number and setting of threads are read when one starts.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import numpy as np
from unetcu import threads
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

rng = np.random.default_rng(0)
s = Settings(depth=2, base=4, tile=44, optimizer="sgd", lr=1e-3)
side = s.tile_out
net = UNet(s.depth, s.base)
trainer = Trainer(net, s, total=100)
losses = []
for _ in range(100):
    x = rng.standard_normal((2, s.tile, s.tile, 1), np.float32)
    t = rng.integers(0, 2, (2, side, side), np.int32)
    losses.append(trainer.step(Batch(x, t, rng.random((2, side, side), np.float32))))
weights = b"".join(p.numpy().tobytes() for p in net.parameters.values())
print(threads.count(), np.isfinite(losses).all(), hashlib.sha256(weights).hexdigest())
"""


def trained(**settings: str) -> list[str]:
    """Number of threads; are all losses finite; the weights' hash."""
    plain = {
        k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "OPENBLAS_", "GOMP_"))
    }
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        words, env=plain | settings, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.split()


@pytest.fixture(scope="module")
def one():
    return trained(UNETCU_THREADS="1")


def test_it_trains(one):
    assert one[:2] == ["1", "True"]


@pytest.mark.parametrize("count", ["2", "3", "4"])
def test_threads(one, count):
    assert trained(UNETCU_THREADS=count) == [count, *one[1:]]


@pytest.mark.parametrize(
    "odd",
    [
        {"OMP_NUM_THREADS": "7", "OMP_DYNAMIC": "true", "OMP_SCHEDULE": "guided"},
        {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "active", "OMP_PROC_BIND": "true"},
        {"GOMP_SPINCOUNT": "infinity", "OPENBLAS_NUM_THREADS": "3"},
    ],
)
def test_settings_of_other_libraries(one, odd):
    assert trained(UNETCU_THREADS="2", **odd)[1:] == one[1:]
