"""unetcu beside PyTorch on this CPU: whole networks, every layer, peak memory.

    python bench/torch_peer.py --threads 1 2 --compile --layers --memory --out bench/results/cpu.md

makes bench/results/cpu.md in full (some 35 minutes on 2 cores, with nothing else running).
Needs PyTorch (pip install torch) and, for --compile, a C++ compiler.

Both sides do the same work, which is checked: the same network with the same weights gives the same
probabilities. float32, batch 1, drop-out, weighted softmax loss, SGD with momentum; inference
includes the softmax. PyTorch runs in both memory layouts, eager and (--compile) through
torch.compile, which is warmed up before. All take turns in one process, and the least time of each
counts, in ms. The ratio is that of PyTorch's fastest, in bold, to unetcu's: above 1, unetcu is
faster. "Of medians" is the same of the middle times instead of the least.
"""

import argparse
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import machine
import numpy as np
import torch
import torch_layers
import torch_memory
import torch_net

from unetcu import threads
from unetcu.device import native

NETS = ["32,3,316", "16,3,188", "64,4,188", "64,4,572"]  # base, depth, tile; the last: the paper's


def report(args: argparse.Namespace) -> Iterator[str]:
    """All that is asked for, in pieces."""

    def each() -> Iterator[tuple[str, int]]:
        for count, name in itertools.product(args.threads, args.nets):
            threads.set_count(count)
            torch.set_num_threads(count)
            yield name, count

    def text(module: object) -> str:
        return (module.__doc__ or "").partition("\n\n")[2]

    yield "# unetcu and PyTorch on a CPU\n"
    yield f"PyTorch {torch.__version__}, NumPy {np.__version__}; "
    yield f"{machine.processor()}; {native()}.\n"
    if not args.no_net:
        yield (__doc__ or "").split("\n\n")[3]
        yield torch_net.table_head(args.compile)
        for name, count in each():
            yield from torch_net.rows(name, count, args.compile, args.seconds)
    if args.layers:
        yield "\n## Layers\n\n" + text(torch_layers)
        for name, count in each():
            yield f"\n### {name}, {count} thread{'s' * (count > 1)}\n"
            yield from torch_layers.table(name, args.seconds)
    if args.memory:
        yield "\n## Peak memory\n\n" + text(torch_memory)
        yield from torch_memory.tables(args.nets, max(args.threads))


def main() -> None:
    """Print the report; with --out, also write it to a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", default=NETS, metavar="BASE,DEPTH,TILE")
    parser.add_argument("--threads", nargs="+", type=int, default=[threads.count()], metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=30, help="of taking turns, for each table of a network"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--layers", action="store_true", help="every layer as well")
    parser.add_argument("--memory", action="store_true", help="peak memory as well")
    parser.add_argument("--no-net", action="store_true", help="no times of whole networks")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown")
    args = parser.parse_args()
    with args.out.open("w") if args.out else nullcontext() as file:
        for piece in report(args):
            print(piece, flush=True)
            if file:
                print(piece, file=file, flush=True)


if __name__ == "__main__":
    main()
