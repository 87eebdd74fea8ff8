"""Model files: exact round trips, whole or not there, and no network but the one described.

What `load` refuses is in test_checkpoint_bad.py.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from modelfile import small, taken_apart

from unetcu import checkpoint
from unetcu.checkpoint import Checkpoint
from unetcu.errors import CheckpointError, DataError
from unetcu.files import atomic


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    small().save(path)
    return path


def test_a_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    saved = small(note='µ\n"', values=[0, 255], number=0.1)
    saved.weights["down1.conv1.b"][:] = np.float32(1e-42)  # a denormal number
    saved.training = {
        "m": rng.normal(size=(3, 4)).T,
        "step": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.float32),
        "flags": rng.random(5) > 0.5,
        "big": np.arange(4, dtype=">u4"),
    }
    saved.save(tmp_path / "m")
    back = checkpoint.load(tmp_path / "m")
    assert back.meta == saved.meta
    for ours, theirs in ((saved.weights, back.weights), (saved.training, back.training)):
        assert sorted(ours) == sorted(theirs)
        for name, array in ours.items():
            assert theirs[name].dtype.name == array.dtype.name
            assert theirs[name].shape == array.shape
            assert theirs[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    net = back.network()
    assert net.config == saved.meta["config"]
    assert all(p.numpy().tobytes() == saved.weights[n].tobytes() for n, p in net.parameters.items())


def test_other_programs_read_the_file(file):
    """The safetensors library finds the same arrays, with its own reader of files."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as opened:
        assert opened.metadata()["unetcu"] == "1"
        names, weights = list(opened.keys()), small().weights
        assert sorted(names) == sorted(weights)
        assert all(np.array_equal(opened.get_tensor(n), weights[n]) for n in names)


def test_arrays_are_aligned_for_readers_that_map_the_file(tmp_path):
    model = small()
    model.training = {"b": np.ones(3, bool), "d": np.ones(5), "h": np.ones(1, np.float16)}
    model.save(tmp_path / "m")
    header, body = taken_apart((tmp_path / "m").read_bytes())
    assert (os.stat(tmp_path / "m").st_size - len(body)) % 8 == 0
    del header["__metadata__"]
    sizes = {"BOOL": 1, "F16": 2, "F32": 4, "F64": 8}
    assert all(e["data_offsets"][0] % sizes[e["dtype"]] == 0 for e in header.values())


def test_the_same_model_gives_the_same_bytes(file, tmp_path):
    small().save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_nothing_is_overwritten_unasked(file):
    before = file.read_bytes()
    with pytest.raises(DataError, match="exists already"):
        small(tile=48).save(file)
    assert file.read_bytes() == before
    with pytest.raises(ValueError, match="JSON"):
        small(loss=float("nan")).save(file, overwrite=True)
    assert file.read_bytes() == before
    small(tile=48).save(file, overwrite=True)
    assert checkpoint.load(file).meta["tile"] == 48
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        small().save(tmp_path / "m")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "m").st_mode) == 0o666 & ~mask


def contradiction(model: Checkpoint) -> str:
    with pytest.raises(CheckpointError, match="contradicts itself") as caught:
        model.network()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_weights_that_are_missing_or_too_many_are_refused():
    for name in small().weights:
        model = small()
        del model.weights[name]
        assert name in contradiction(model)
        model = small()
        model.weights[name] = model.weights[name][..., None]
        assert name in contradiction(model)
    model = small()
    model.weights["up2\n.conv1.w"] = np.ones(3, np.float32)
    assert "up2\\n.conv1.w" in contradiction(model)


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 2}, {"depth": 0}, {"depth": -1}, {"depth": 9}, {"depth": 1 << 70},
        {"depth": 1.0}, {"depth": "1"}, {"depth": None}, {"base": 2}, {"base": 0}, {"base": -1},
        {"base": 65536, "depth": 8}, {"base": 1 << 70}, {"base": "x"}, {"in_channels": 2},
        {"classes": 3}, {"classes": 2.5}, {"dropout": 1}, {"dropout": "high"}, {"dropout": None},
        {"seed": 1}, {"on": "cpu"}, {"dtype": "O"}, {"width": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_of_another_network_is_refused(change):
    """Also where its network would need more memory than there is: before it is made."""
    model = small()
    model.meta["config"] = {**model.meta["config"], **change}
    contradiction(model)


def test_a_config_with_an_entry_left_out_is_refused():
    for name in small().meta["config"]:
        model = small()
        del model.meta["config"][name]
        contradiction(model)


KILLER = """
import os, random, signal, sys, time
import numpy as np
from unetcu import checkpoint

file, draw = sys.argv[1], random.Random(1)
meta = {"config": {}, "range": {}, "tile": 32, "instances": False}

def save(i):
    weights = {f"w{k}": np.full(25_000, i, np.float32) for k in range(4)}
    checkpoint.Checkpoint(weights, {**meta, "step": i}).save(file, overwrite=True)

save(0)
step, end = 0, time.monotonic() + 4
for killed in range(40):
    if killed > 10 and time.monotonic() > end:
        break
    saved = os.stat(file).st_ino
    child = os.fork()
    if not child:
        while True:
            step += 1
            save(step)
    while os.stat(file).st_ino == saved:  # until it has saved once
        time.sleep(0.001)
    time.sleep(draw.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    model = checkpoint.load(file)
    step = model.meta["step"]
    assert {float(v) for w in model.weights.values() for v in w[::99]} == {step}
    print(step)
"""


def test_killed_while_saving_the_file_is_whole(tmp_path):
    """kill -9 at random: the file of the save before, or of this one; never a part of one."""
    file = tmp_path / "m.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", KILLER, str(file)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)
    steps = [int(line) for line in done.stdout.split()]
    assert done.returncode == 0, done.stderr
    assert len(steps) > 10
    assert steps == sorted(set(steps))  # every process saved
    left = len(os.listdir(tmp_path)) - 1
    assert left >= 1  # and some were killed in the middle
    assert atomic.remove_stale(file) == left
    assert os.listdir(tmp_path) == [file.name]
