"""A training step while another process keeps one of the cores busy, unetcu beside PyTorch.

    python bench/busy.py            16,3,188 with a thread for each core; --net, --seconds

Worker threads that spin while they wait take the core from the thread they wait for, and a step
can then last ten times as long. Idle and busy spells alternate, in each of which both sides take
turns; the medians count, as least times would hide the trouble. PyTorch (pip install torch) is left
out if it is not installed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
from torch_net import made, ours, theirs
from turns import head, line, number, take_turns, timed

from unetcu import threads

SPELLS = 4  # of each kind


@contextmanager
def busy_core() -> Iterator[None]:
    """Inside, a process of its own spins on one of this process's cores."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    pin = "" if core is None else f"import os; os.sched_setaffinity(0, {{{core}}}); "
    with subprocess.Popen([sys.executable, "-c", f"{pin}print(flush=True)\nwhile True: pass"],
                          stdout=subprocess.PIPE) as child:  # fmt: skip
        try:
            assert child.stdout is not None
            child.stdout.readline()  # it has begun
            yield
        finally:
            child.kill()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="16,3,188", metavar="BASE,DEPTH,TILE")
    parser.add_argument("--seconds", type=float, default=5, help="of each spell")
    args = parser.parse_args()
    net, settings, batch = made(*(int(n) for n in args.net.split(",")), average=0.0)
    steps = {"unetcu": ours(net, settings, batch)[0]}
    if find_spec("torch"):
        import torch

        torch.set_num_threads(threads.count())
        steps["PyTorch"] = theirs(net, batch, "channels_last")[0]
    jobs = [timed(step) for step in steps.values()]
    idle, busy = [], []
    for _ in range(SPELLS):
        idle.append(take_turns(jobs, args.seconds))
        with busy_core():
            busy.append(take_turns(jobs, args.seconds))
    print(f"A training step of {args.net}, {threads.count()} threads, ms.\n")
    print(head("", "nothing else running", "one core busy", "times as long"))
    medians = (np.median(np.concatenate(spells), axis=0) for spells in (idle, busy))
    for name, free, held in zip(steps, *medians, strict=True):
        print(line(name, number(free), number(held), f"{held / free:.2f}"))


if __name__ == "__main__":
    main()
