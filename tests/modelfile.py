"""Model files for tests: a small one, and files put together by the format's own description, so
that faults can be planted that no writer makes.
"""

import hashlib
import json
import struct
from pathlib import Path

import pytest

from unetcu import checkpoint
from unetcu.checkpoint import Checkpoint
from unetcu.errors import CheckpointError
from unetcu.unet import UNet


def small(**meta) -> Checkpoint:
    net = UNet(1, 1, 1, 2, seed=3)
    weights = {name: p.numpy().copy() for name, p in net.parameters.items()}
    described = {"config": net.config, "range": {"kind": "dtype"}, "tile": 32, "instances": False}
    return Checkpoint(weights, {**described, **meta})


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
    assert len(message.replace(str(path.parent), "")) < 400  # wherever the file lies
    return message
