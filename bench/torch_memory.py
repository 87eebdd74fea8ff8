"""Peak memory of unetcu and PyTorch, and what `unetcu plan` foretells: for torch_peer.py.

MB above what the imports take, each in a process of its own that makes three steps or inferences.
What PyTorch loads no sooner than in its first step (80 MB) counts as imported. It runs eager.
Inference of unetcu is in the form that `predict` takes.

A second table holds the first two figures of unetcu against `unetcu plan`. A training step there
has all that `unetcu train` keeps beside it: the average of the weights, and the network that is
judged with it.
"""

import ctypes
import gc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from torch_net import LAYOUTS, WORKS, made, ours, theirs
from turns import head, line

from unetcu import threads
from unetcu.memory import inference_bytes, training_bytes
from unetcu.unet import UNet

MEASURED = WORKS[:2]


def status(key: str) -> float:
    """A line of /proc/self/status, in MB."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{key}:\s*(\d+) kB", text)
    assert found, f"/proc/self/status says nothing of {key}"
    return int(found[1]) * 1024 / 1e6


def alone(who: str, work: int, shape: list[int], count: int) -> None:
    """Print the peak, in MB, of one of LAYOUTS, of "unetcu", or of unetcu as its "train" works."""
    mine = who not in LAYOUTS
    if not mine:
        import torch

        torch.set_num_threads(count)
        for job in theirs(*made(2, 1, 28, average=0.0)[::2], who):
            job()
    threads.set_count(count)
    before = status("VmRSS")
    net, settings, batch = made(*shape, average=0.99 if who == "train" else 0.0)
    jobs = ours(net, settings, batch) if mine else theirs(net, batch, who)
    if who == "train":
        judged = UNet(**net.config)
        judged.parameters.load({name: p.numpy() for name, p in net.parameters.items()})
    del net
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # what making them took is not counted
    for _ in range(3):
        jobs[work]()
    print(status("VmHWM") - before)


def peak(who: str, work: int, name: str, count: int) -> float:
    """What `alone` prints in a new process."""
    words = [sys.executable, __file__, who, str(work), name, str(count)]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def tables(names: list[str], count: int) -> Iterator[str]:
    """Both tables."""
    yield head("base, depth, tile", "work", "unetcu", *LAYOUTS, "unetcu / least")
    inference = {}
    for name in names:
        for work, what in enumerate(MEASURED):
            mine, *peers = (peak(who, work, name, count) for who in ("unetcu", *LAYOUTS))
            inference[name] = mine  # the last is that of inference
            cells = (f"{mb:.0f}" for mb in (mine, *peers))
            yield line(name, what, *cells, f"{mine / min(peers):.2f}")
    yield ""
    yield head("base, depth, tile", "work", "measured", "`unetcu plan`", "plan / measured")
    threads.set_count(count)
    for name in names:
        net, settings, _ = made(*(int(n) for n in name.split(",")), average=0.99)
        pairs = (
            (peak("train", 0, name, count), training_bytes(net, settings) / 1e6),
            (inference[name], inference_bytes(net, settings.tile, settings.tile) / 1e6),
        )
        for what, (mb, said) in zip(MEASURED, pairs, strict=True):
            yield line(name, what, f"{mb:.0f}", f"{said:.0f}", f"{said / mb:.2f}")


if __name__ == "__main__":
    _, contender, number, network, threaded = sys.argv
    alone(contender, int(number), [int(n) for n in network.split(",")], int(threaded))
