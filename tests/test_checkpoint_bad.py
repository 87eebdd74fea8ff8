"""Files that are no model, or a damaged one: one line that names the file, never a model."""

import io
import itertools
import json
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
from modelfile import refused, signed, small, taken_apart, together

from unetcu import checkpoint
from unetcu.errors import CheckpointError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.safetensors"
    small().save(path)
    return path


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
    assert len(data) < 8192
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
