"""unetcu beside the strongest PyTorch, all of it in one run: times, errors, floors, predictions.

    python -m bench.report                       on the GPU, or on the CPU if there is none
    python -m bench.report --precision bf16 tf32x3 --sections networks
    python -m bench.report --quick --on simt --out /tmp/trial     the GPU's half, without a GPU

writes bench/results/NAME-DATE.json and .md, NAME being that of the GPU, or "cpu". Both sides take
turns in one process; times are medians, with the least and the most. On a GPU a time is that of
many repeats between two waits for it, and what takes less than Python needs to launch it is
launched as a CUDA graph, on both sides. % of the floor and predictions are those of bench/model.py.
The ratio is that of PyTorch's fastest median, in a like precision, to ours: above 1, unetcu is
faster. Without PyTorch there are our figures alone. What failed stands under "Notes".

On a machine without a GPU the CPU is timed, and what GPUs are expected to take is listed and marked
as predicted: nobody has measured it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m bench.report`

import gpu_compare
import gpu_errors
import gpu_nets
import machine
import torch_net
from gpu_sides import Ours, Stage, note, ours_is, peer
from model import CARDS, card, only_copies
from rows import US, Row, of_times, table

from unetcu.device.cuda import problem
from unetcu.errors import UnetcuError
from unetcu.files.atomic import atomic_path
from unetcu.precision import FORMS
from unetcu.unet import UNet

RESULTS = Path(__file__).resolve().parent / "results"
SECTIONS = ("networks", "layers")
CPU_NETS = ["16,3,188", "64,4,188", "64,4,572"]  # base, depth, tile; the last: the paper's
LAYERS_IN = ["bf16", "tf32x3"]  # unless --precision says
PREDICTED_FOR = ("H100", "H200", "A100 80GB")
COPIED = 1 << 30  # bytes


class Report:
    """Facts, rows and notes, saved whenever a part is done: a run may be cut off."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.facts, self.rows = args, machine.software(), list[Row]()
        self.notes: list[str] = []
        self.started = time.strftime("%Y-%m-%d")
        self.saved = args.overwrite

    def place(self) -> Path:
        """Of the results, without an ending."""
        name = str(self.facts.get("GPU", "cpu" if self.args.on == "cpu" else self.args.on))
        slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
        return self.args.out or RESULTS / f"{slug}-{self.started}"

    def add(self, rows: Iterator[Row]) -> None:
        """Takes rows in as they come, shows and saves them."""
        for row in rows:
            self.rows.append(row)
            ms = f"{row.median:.4g} ms" if row.timed else f"predicted {row.predicted:.4g} ms"
            words = row.case, row.work, row.precision, row.who, row.how, ms
            print(" | ".join(words), file=sys.stderr, flush=True)
        self.save()

    def save(self) -> None:
        """Both files, each whole or not at all; nothing that was there before is replaced."""
        whole = {
            "machine": self.facts,
            "date": self.started,
            "arguments": sys.argv[1:],
            "notes": self.notes,
            "rows": [row.as_json() for row in self.rows],
        }
        texts = {".json": json.dumps(whole, indent=1, ensure_ascii=False), ".md": self.markdown()}
        place = self.place()
        with ExitStack() as stack:  # both names are looked at before either is written
            for ending, text in texts.items():
                target = place.with_name(place.name + ending)
                path = stack.enter_context(atomic_path(target, overwrite=self.saved))
                path.write_text(text + "\n", "utf-8")
        self.saved = True

    def markdown(self) -> str:
        """The report for readers."""
        timed = [row for row in self.rows if row.timed]
        parts = [f"# unetcu on {self.facts.get('GPU', self.args.on)}, {self.started}\n"]
        parts.append("; ".join(f"{k} {v}" for k, v in self.facts.items()) + ".\n")
        parts.append((__doc__ or "").split("\n\n")[2].partition(". ")[2] + "\n")
        if self.notes:
            parts += ["## Notes\n", *(f"- {n}" for n in dict.fromkeys(self.notes)), ""]
        for section in SECTIONS:
            if rows := [row for row in timed if row.section == section]:
                parts += [f"## {section.capitalize()}\n", *table(rows), ""]
        for name in dict.fromkeys(row.section for row in self.rows if not row.timed):
            rows = [row for row in self.rows if row.section == name]
            parts += [
                f"## {name[0].upper()}{name[1:]}: PREDICTED, not measured\n",
                *predictions(rows),
                "",
            ]
        return "\n".join(parts).rstrip()


def predictions(rows: list[Row]) -> Iterator[str]:
    """Lines of a table of what is predicted."""
    from turns import head, line, number

    yield head(
        "layer or input", "work", "precision", "GFLOP", "floor ms", "predicted ms", "% of it"
    )
    for r in rows:
        floor, ms = r.floor or float("nan"), r.predicted or float("nan")
        cells = f"{r.flops / 1e9:.4g}", number(floor), number(ms), f"{100 * floor / ms:.0f}"
        yield line(r.case, r.work, r.precision, *cells)


def on_gpu(report: Report) -> None:
    """Everything on "cuda", or on "simt" to try it."""
    args, notes = report.args, report.notes
    mine = Ours(args.on, notes)
    architecture = None
    if mine.real:
        report.facts |= machine.gpu() | machine.clocks()
        architecture = report.facts["architecture"]
    report.save()  # now, so that a name that is taken is known before hours of work
    them, known = peer(mine, notes), card(str(report.facts.get("GPU", "")))
    if (rate := mine.copy_rate(COPIED)) is not None:
        report.facts["copy, TB/s"] = round(rate / 1e12, 3)
        known = known or only_copies(rate)
    if known is not None:
        report.facts["peak rates"] = known.sheet
    if them is not None and (rate := them.multiply_rate()) is not None:
        report.facts["bf16 matrix product, TFLOP/s"] = round(rate / 1e12)
    stage = Stage(mine, them, known, architecture, args.precision or list(FORMS), args.seconds)
    stage.compiles, stage.notes = mine.real and not args.no_compile, notes
    works = gpu_nets.QUICK if args.quick else gpu_nets.PAPER
    if "networks" in args.sections:
        off = errors(stage, gpu_errors.TINY if args.quick else gpu_errors.SMALL)
        for case in works:
            report.add(with_errors(gpu_nets.compared(stage, case), off))
    if "layers" in args.sections:
        stage.precisions = args.precision or LAYERS_IN
        net, tile = (UNet(1, 8), 20) if args.quick else (UNet(4, 64), 572)
        report.add(gpu_compare.compared(stage, net, tile))
    if mine.real:
        report.facts |= {f"{name} at the end": value for name, value in machine.clocks().items()}
    report.save()


Errors = dict[tuple[str, bool], dict[str, float]]  # (precision, of ours?) -> work -> error


def with_errors(rows: Iterator[Row], off: Errors) -> Iterator[Row]:
    """Rows of networks, with what is known of their results."""
    for row in rows:
        yield row._replace(error=off.get((row.precision, ours_is(row.who)), {}).get(row.work))


def errors(stage: Stage, case: gpu_nets.Case) -> Errors:
    """Of every precision, measured on one small input."""
    right, found = gpu_errors.right(case), Errors()
    wanted = [(p, True) for p in stage.precisions]
    wanted += [(p, False) for p in gpu_nets.GROUPS if stage.peer is not None]
    for precision, is_ours in wanted:
        try:
            if is_ours:
                got = gpu_errors.by_us(case, stage.mine, precision)
            else:
                assert stage.peer is not None
                got = gpu_errors.by_them(case, stage.peer, precision)
            found[precision, is_ours] = gpu_errors.off(got, right)
        except Exception as failed:
            note(f"the error in {precision}", failed, stage.notes)
    return found


def on_cpu(report: Report) -> None:
    """Whole networks on the CPU, and predictions for GPUs."""
    args = report.args
    report.notes.append(f"No GPU was used: {problem() or 'not asked for'}.")
    if not find_spec("torch"):
        report.notes.append("PyTorch is not installed: our figures alone (pip install torch).")
    report.notes.append("Every layer and peak memory beside PyTorch: bench/torch_peer.py.")
    report.save()
    if "networks" in args.sections:
        for name in ["4,2,44"] if args.quick else CPU_NETS:
            report.add(cpu_rows(name, not args.no_compile and not args.quick, args.seconds))
    report.add(expected(args))


def cpu_rows(name: str, compiled: bool, seconds: float) -> Iterator[Row]:
    """The turns of torch_net.py."""
    base, depth, tile = (int(n) for n in name.split(","))
    flops = sum(layer.flops for layer in UNet(depth, base).layers(tile, tile))
    for work, found in torch_net.measured(name, compiled, seconds).items():
        made = flops * (3 if work == "training step" else 1)
        for who, ms in found.items():
            by = who if who == US else f"PyTorch, {who}"
            if not (ms != ms).any():
                yield Row("networks", name, work, "fp32", by, "", **of_times(ms), flops=made)


def expected(args: argparse.Namespace) -> Iterator[Row]:
    """What the model says of GPUs."""
    works = gpu_nets.QUICK if args.quick else gpu_nets.PAPER
    for on in (c for c in CARDS if c.name in PREDICTED_FOR):
        for case in works if "networks" in args.sections else []:
            for precision in args.precision or FORMS:
                row = gpu_nets.foretold(case, precision, on)
                yield row._replace(section=f"networks on {on.name}")
        if "layers" in args.sections and on.name == PREDICTED_FOR[0]:
            net, tile = (UNet(1, 8), 20) if args.quick else (UNet(4, 64), 572)
            for row in gpu_compare.expected(net, tile, args.precision or LAYERS_IN, on):
                yield row._replace(section=f"layers on {on.name}")


def main() -> int:
    """Run, and say where the results are; 2 for an error of the user's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--on", default="auto", help="auto, cuda, cpu, or simt, to try the GPU's half")
    add("--precision", nargs="+", choices=list(FORMS), help="of our network (default: all)")
    add("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    add("--seconds", type=float, default=2.0, help="of turns, for each group that takes them")
    add("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    add("--quick", action="store_true", help="tiny networks: does it run?")
    add("--out", type=Path, metavar="NAME", help="write NAME.json and NAME.md")
    add("--overwrite", action="store_true", help="replace results that are there already")
    args = parser.parse_args()
    if args.on == "auto":
        args.on = "cpu" if problem() else "cuda"
    if args.quick:
        args.seconds = min(args.seconds, 0.02)
    report = Report(args)
    try:
        (on_cpu if args.on == "cpu" else on_gpu)(report)
    except UnetcuError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    print(f"{report.place()}.json and .md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
