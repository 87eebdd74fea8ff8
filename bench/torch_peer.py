"""Training step, inference and peak memory side by side with PyTorch on this CPU.

    python bench/torch_peer.py [--threads 1 2] [--seconds 30] [--compile] [--memory] [--out FILE]

Both sides do the same work, which is checked: the same network with the same weights gives the same
probabilities. float32, batch 1, drop-out, weighted softmax loss, SGD with momentum. PyTorch runs in
both memory layouts, eager and (--compile) compiled; the ratio is that of its fastest: above 1,
unetcu is faster. All take turns, so that a slow moment of the machine hits all alike, and the least
time of each counts.

Prints Markdown. Needs PyTorch (pip install torch).
"""

import argparse
import itertools
import platform
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from torch_net import LAYOUTS, WORKS, contenders, made, ours, theirs

from unetcu import threads
from unetcu.device import native

NETS = ["32,3,316", "16,3,188", "64,4,188", "64,4,572"]  # base, depth, tile
PAUSE = 0.02  # seconds between two: PyTorch's worker threads spin for a while before they sleep


def least_times(found, seconds):
    """Milliseconds: an array (contender, work). 3 rounds at least, and for so many seconds."""
    least = np.full((len(found), len(WORKS)), np.inf)
    turn, started = 0, 0.0
    while turn < 4 or time.perf_counter() - started < seconds:
        for i, jobs in enumerate(found.values()):
            for j, job in enumerate(jobs):
                if job is jobs[j - 1] and j:  # PyTorch has one form of inference
                    least[i, j] = least[i, j - 1]
                    continue
                time.sleep(PAUSE)
                start = time.perf_counter()
                job()
                if turn:
                    least[i, j] = min(least[i, j], 1000 * (time.perf_counter() - start))
        turn, started = turn + 1, started or time.perf_counter()  # the first turn only warms up
    return least


def status(key):
    """A line of /proc/self/status, in MB."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s*(\d+) kB", text)[1]) / 1000


def alone(who, work, shape, count):
    """Print the peak of memory, in MB above the imports, of one contender at one work."""
    if who != "unetcu":
        import torch

        torch.set_num_threads(count)
    threads.set_count(count)
    before = status("VmRSS")
    net, settings, batch = made(*shape)
    jobs = ours(net, settings, batch) if who == "unetcu" else theirs(net, batch, who, False)
    del net
    Path("/proc/self/clear_refs").write_text("5")  # what making them took is not counted
    for _ in range(3):
        jobs[work]()
    print(status("VmHWM") - before)


def peaks(name, count):
    """Rows of the table of peak memory of one network."""
    for work in (0, 1):
        mb = []
        for who in ("unetcu", *LAYOUTS):
            words = [sys.executable, __file__, "--alone", who, str(work), name, str(count)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            mb.append(float(done.stdout))
        yield f"| {name} | {WORKS[work]} | " + " | ".join(f"{m:.0f}" for m in mb) + " |"


def rows(name, count, compiled, seconds):
    """Rows of the table of times of one network."""
    import torch

    threads.set_count(count)
    torch.set_num_threads(count)
    found = contenders([int(n) for n in name.split(",")], compiled)
    times = least_times(found, seconds)
    for j, work in enumerate(WORKS):
        cells = " | ".join(f"{t:.3g}" for t in times[:, j])
        yield f"| {name} | {count} | {work} | {cells} | {times[1:, j].min() / times[0, j]:.2f} |"


def main():
    """Print the tables; with --out, also write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", default=NETS, metavar="BASE,DEPTH,TILE")
    parser.add_argument("--threads", nargs="+", type=int, default=[threads.count()])
    parser.add_argument("--seconds", type=float, default=30, help="of taking turns, for each net")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--memory", action="store_true", help="peak memory as well")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        who, work, name, count = args.alone
        alone(who, int(work), [int(n) for n in name.split(",")], int(count))
        return
    import torch

    torch_names = [*LAYOUTS, *(f"{n}, compiled" for n in LAYOUTS if args.compile)]
    head = ["base, depth, tile", "threads", "work", "unetcu ms", *torch_names, "ratio"]
    with args.out.open("w") if args.out else nullcontext() as file:

        def say(line=""):
            print(line, flush=True)
            if file:
                print(line, file=file, flush=True)

        say("# unetcu and PyTorch on a CPU\n")
        say(f"PyTorch {torch.__version__}, NumPy {np.__version__}; {processor()}; {native()}.\n")
        say(__doc__.split("\n\n")[2] + "\n")
        say("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
        for count, name in itertools.product(args.threads, args.nets):
            for row in rows(name, count, args.compile, args.seconds):
                say(row)
        if args.memory:
            say("\nPeak memory in MB above what the imports take; PyTorch eager.\n")
            say(f"| base, depth, tile | work | unetcu | {' | '.join(LAYOUTS)} |\n|" + " --- |" * 5)
            for name in args.nets:
                for row in peaks(name, max(args.threads)):
                    say(row)


def processor():
    """The CPU's name and how many cores the process may use."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{found[1] if found else platform.processor()}, {threads.count()} cores"


if __name__ == "__main__":
    main()
