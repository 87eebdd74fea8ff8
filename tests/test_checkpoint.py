"""Model files: exact round trips, and one line instead of a model for everything unsound.

Files are also taken apart and put together here, by the format's own description, so that faults
can be planted that no writer makes.
"""

import hashlib
import io
import itertools
import json
import os
import pickle
import random
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unetcu import atomic, checkpoint
from unetcu.checkpoint import Checkpoint
from unetcu.errors import CheckpointError, DataError
from unetcu.unet import UNet

LIMIT = 8 * 1024


def small(**meta) -> Checkpoint:
    net = UNet(1, 1, 1, 2, seed=3)
    weights = {name: p.numpy().copy() for name, p in net.parameters.items()}
    described = {"config": net.config, "range": {"kind": "dtype"}, "tile": 32, "instances": False}
    return Checkpoint(weights, {**described, **meta})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    small().save(path)
    return path


def taken_apart(data: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def together(header: dict | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


def signed(header: dict, body: bytes) -> bytes:
    """With the sha256 that belongs to it, by the description in `checkpoint`."""
    about = header["__metadata__"]
    codes = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "BOOL": "|b1"}
    digest = hashlib.sha256(about["meta"].encode())
    for name in sorted(set(header) - {"__metadata__"}):
        entry = header[name]
        digest.update(f"\n{name} {codes[entry['dtype']]} {tuple(entry['shape'])}\n".encode())
        digest.update(body[slice(*entry["data_offsets"])])
    about["sha256"] = digest.hexdigest()
    return together(header, body)


def refused(path: Path, content: bytes | None = None, match: str | None = None) -> str:
    """The message, of one line that names the file."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=match) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert message.isprintable()
    assert path.name in message
    assert len(message) < 400
    return message


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


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("the pickle was run",))


def archive(name: str, data: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr(name, data)
    return memory.getvalue()


def array_file() -> bytes:
    memory = io.BytesIO()
    np.savez(memory, w=np.ones(3))
    return memory.getvalue()


FOREIGN = {
    "empty": b"",
    "one byte": b"\0",
    "seven bytes": b"\7" * 7,
    "a length alone": struct.pack("<Q", 0),
    "zeros": bytes(5000),
    "text": b"best.safetensors\n" * 20,
    "pickle": pickle.dumps(Bomb()),
    "pt": archive("archive/data.pkl", pickle.dumps(Bomb())),
    "npz": array_file(),
    "tiff": b"II*\0\x08\0\0\0" + bytes(300),
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "header past the end": struct.pack("<Q", 300) + b"{}" + bytes(50),
    "header of nothing": struct.pack("<Q", 2) + b"  " + bytes(50),
    "not JSON": together("{'a': 1}", b""),
    "not UTF-8": struct.pack("<Q", 4) + b'{"\xff"' + bytes(9),
    "a list": together("[1, 2, 3]", b""),
    "deep": together("[" * 100_000 + "]" * 100_000, b""),
    "long number": together('{"a": ' + "9" * 5000 + "}", b""),
    "metadata a list": together({"__metadata__": ["unetcu"]}, b""),
    "no metadata": together({}, b""),
    "another model": together({"__metadata__": {"format": "pt"}}, b""),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path / "other.pt", FOREIGN[name])
    assert os.listdir(tmp_path) == ["other.pt"]  # nothing in it was run


def test_what_is_no_file_is_refused(tmp_path):
    assert "is a folder" in refused(tmp_path)
    assert "is not there" in refused(tmp_path / "absent.safetensors")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        assert "not a regular file" in refused(tmp_path / "fifo")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "a\nb\x1b[2J")
    assert "a\\nb\\x1b[2J is not there" in str(caught.value)


def test_a_file_cut_short_or_too_long_is_refused(file):
    data = file.read_bytes()
    for end in [*range(0, len(data), 97), len(data) - 1]:
        refused(file, data[:end])
    for more in (b"\0", data):
        refused(file, data + more)


def test_no_flipped_bit_goes_unnoticed(file):
    data = file.read_bytes()
    assert len(data) < LIMIT
    bits = random.Random(5).sample(range(8 * len(data)), 300)
    for bit in [*bits, *range(64)]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(file, bytes(damaged))


def test_a_newer_format_is_refused(file):
    header, body = taken_apart(file.read_bytes())
    header["__metadata__"]["unetcu"] = "2"
    refused(file, signed(header, body), match="format '2' and this version reads 1: update unetcu")
    header["__metadata__"]["unetcu"] = "9" * 5000
    refused(file, signed(header, body))


def test_the_tests_signature_is_right(file):
    """Else each file made by `signed` would be refused for its checksum alone."""
    header, body = taken_apart(file.read_bytes())
    file.write_bytes(signed(header, body))
    assert checkpoint.load(file).meta == small().meta


def test_names_that_stand_twice_are_refused(file):
    header, body = taken_apart(file.read_bytes())
    whole = json.dumps(header)
    entry = json.dumps({"head.b": header["head.b"]})[1:-1]
    about = json.dumps({"__metadata__": header["__metadata__"]})[1:-1]
    for twice in (entry, about):
        refused(file, together(whole[:-1] + ", " + twice + "}", body), match="stands twice")
    meta = header["__metadata__"]["meta"]
    header["__metadata__"]["meta"] = meta[:-1] + ', "tile": 48}'
    refused(file, signed(header, body), match="stands twice")


def test_gaps_overlaps_and_offsets_outside_are_refused(file):
    header, body = taken_apart(file.read_bytes())
    names = [name for name in header if name != "__metadata__"]
    for name, (a, b) in itertools.product(names[:3], [(4, 4), (-4, -4), (0, 4), (4000, 4000)]):
        changed = json.loads(json.dumps(header))
        offsets = changed[name]["data_offsets"]
        changed[name]["data_offsets"] = [offsets[0] + a, offsets[1] + b]
        refused(file, together(changed, body))
    header["down1.conv1.w"]["data_offsets"] = header["head.w"]["data_offsets"]
    refused(file, together(header, body))


@pytest.mark.parametrize("kind", ["F16", "F64", "I32"])
def test_weights_of_another_type_are_refused(file, kind):
    header, _ = taken_apart(file.read_bytes())
    size = {"F16": 2, "F64": 8, "I32": 4}[kind]
    at = 0
    for name in [n for n in header if n != "__metadata__"]:
        count = int(np.prod(header[name]["shape"]))
        header[name] |= {"dtype": kind, "data_offsets": [at, at + count * size]}
        at += count * size
    refused(file, signed(header, bytes(at)), match="weights .*not float32")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "C64", "F33", 4])
def test_types_that_numpy_lacks_are_refused(file, kind):
    header, body = taken_apart(file.read_bytes())
    header["head.b"]["dtype"] = kind
    refused(file, together(header, body))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(file, value):
    model = small()
    model.weights["head.w"][0, 1] = value
    model.save(file, overwrite=True)
    refused(file, match="not finite: training diverged")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", None), ("config", [1]), ("range", "dtype"), ("range", 3),
        ("tile", "572"), ("tile", True), ("tile", 572.0), ("instances", 1), ("instances", None),
    ],
)  # fmt: skip
def test_a_description_of_other_types_is_refused(file, key, value):
    small(**{key: value}).save(file, overwrite=True)
    refused(file, match=f"lacks the entry '{key}'")
    model = small()
    del model.meta[key]
    model.save(file, overwrite=True)
    refused(file, match=f"lacks the entry '{key}'")


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "3", "[" * 9999 + "]" * 9999, None])
def test_a_description_that_is_none_is_refused(file, text):
    header, body = taken_apart(file.read_bytes())
    if text is None:
        del header["__metadata__"]["meta"]
        refused(file, together(header, body))
    else:
        header["__metadata__"]["meta"] = text
        refused(file, signed(header, body))


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
step = 0
for _ in range(40):
    child = os.fork()
    if not child:
        while True:
            step += 1
            save(step)
    time.sleep(0.005 + draw.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    model = checkpoint.load(file)
    step = model.meta["step"]
    assert {float(v) for w in model.weights.values() for v in w[::99]} == {step}
    print(step)
"""


def test_killed_while_saving_the_file_is_whole(tmp_path):
    """kill -9, 40 times: the file of the save before, or of this one; never a part of one."""
    file = tmp_path / "m.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", KILLER, str(file)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)
    steps = [int(line) for line in done.stdout.split()]
    assert done.returncode == 0, done.stderr
    assert len(steps) == 40
    assert steps == sorted(steps)
    assert steps[-1] >= 40  # it did save all the while
    left = len(os.listdir(tmp_path)) - 1
    assert left >= 3  # and was killed in the middle
    assert atomic.remove_stale(file) == left
    assert os.listdir(tmp_path) == [file.name]
