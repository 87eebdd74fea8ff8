"""One stack of images predicted, page by page and tile by tile, into its files.

Never more is in memory than a tile on its way through the network, the rows of the image that it
needs, and a band of finished rows; `needed_bytes` adds that up from the shapes alone.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .data.ranges import Range
from .errors import DataError
from .files.images import Stack, open_stack
from .files.paths import shown
from .infer import ReadWindow, difference, largest_input, probabilities
from .memory import inference_bytes
from .outputs import Outputs, picture_bytes
from .tiles import layout
from .training.interrupts import Interrupts
from .unet import UNet

APART = 1e-3  # in probability: a difference between the two forms that is worth a warning
FAR, FLAT = 2.0, 0.1  # standard deviations of all pixels that the model was trained on
PATCH, PATCHES = 64, 4  # brightness is taken from 4 x 4 patches of 64 x 64 pixels
LIBRARIES = 85_000_000  # bytes of Python and its libraries
INSTANCE_BYTES = 44  # a pixel, while instances are found


class Job(NamedTuple):
    """What is the same for all images. options: of outputs.Outputs."""

    net: UNet
    range: Range
    tile_out: int
    tta: str
    exact: bool
    folder: Path
    options: dict[str, Any]


def needed_bytes(job: Job, file: Path) -> int:
    """Memory that predicting a file takes, Python and all. Raises DataError if it is none for us,
    and UsageError if its tiles cannot be laid out."""
    stack, net = open_stack(file), job.net
    pixel = np.zeros((1, 1, stack.channels), stack.dtype)
    try:
        job.range.apply(pixel, (np.array(job.range.low), np.array(job.range.width)))
    except DataError as error:
        raise DataError(f"{shown(file)}: {error}") from error
    height, width, bytes_a_pixel = stack.height, stack.width, pixel.nbytes
    tiles = layout(height, width, job.tile_out, net.depth)
    side = largest_input(net.depth, tiles.tile_out, job.tta)
    window = side * side * (24 * stack.channels + bytes_a_pixel)
    rows = min(side, height) * width * bytes_a_pixel
    views = 0 if job.tta == "none" else 16 * tiles.tile_out**2 * net.classes
    if job.tta == "rot7":
        views += 96 * side * side  # positions of pixels
    work = inference_bytes(net, side, side, job.exact) + window + rows + views
    page = INSTANCE_BYTES * height * width if job.options["objects"] else 0
    picture = picture_bytes(stack) if job.options["overlay"] else 0
    band = min(tiles.tile_out, height) * width * 4 * net.classes
    return LIBRARIES + stack.window_bytes + band + max(work, page, picture)


def predict_stack(job: Job, file: Path, stop: Interrupts, compare: bool = False) -> list[Path]:
    """Predict one file and return the paths written. compare: say on its first page how far the
    fast form is from the exact one. Raises KeyboardInterrupt or SystemExit, and leaves no file,
    where `stop` has caught a signal."""
    from tqdm import tqdm

    stack, start = open_stack(file), time.perf_counter()
    height, width, net = stack.height, stack.width, job.net
    count = stack.pages * len(layout(height, width, job.tile_out, net.depth))
    warned = False
    with (
        tqdm(total=count, desc=shown(file.name), unit=" tiles", leave=False, disable=None) as bar,
        Outputs(stack, job.folder, net.classes, **job.options) as outputs,
    ):

        def done(tiles: int) -> None:
            bar.update(tiles)
            if stop.signal:
                raise KeyboardInterrupt if stop.signal == signal.SIGINT else SystemExit(143)

        for note in stack.notes:
            say(f"{shown(file)}: {note}")
        for page in range(stack.pages):
            read = _reader(stack, page, job.range)
            if not warned:
                warned = _warn_of_brightness(f"{shown(file)}, page {page + 1}", stack, read)
            if compare and page == 0:
                _say_difference(job, f"{shown(file)}, page 1", stack, read)
            for y0, p in probabilities(
                net, read, height, width, job.tile_out, job.tta, done, job.exact
            ):
                outputs.write(page, y0, p)
                del p  # or it lives on while the next band is filled
    seconds = time.perf_counter() - start
    _warn_of_result(shown(file), outputs)
    first, *others = outputs.paths.values()
    print(
        f"{shown(file.name)}: {stack.pages} x {height} x {width} pixels in {seconds:.1f} s, "
        f"{count / seconds:.3g} tiles/s -> {shown(first)}, "
        + ", ".join(shown(path.name) for path in others),
        flush=True,
    )
    return [first, *others]


def _reader(stack: Stack, page: int, rule: Range) -> ReadWindow:
    """Windows of a page as the network sees them."""

    def rows(y0: int, y1: int) -> NDArray[Any]:
        return stack.window(page, y0, y1, 0, stack.width)

    limits = rule.limits(rows, stack.height, stack.width)
    return lambda y0, y1, x0, x1: rule.apply(stack.window(page, y0, y1, x0, x1), limits)


def _say_difference(job: Job, name: str, stack: Stack, read: ReadWindow) -> None:
    """Say by how much probabilities differ from those of --exact, in the middle of a page."""
    apart = difference(job.net, read, stack.height, stack.width, job.tile_out)
    if apart is not None:
        warning = "" if apart <= APART else "warning: "
        say(f"{warning}fast form: probabilities differ from those of --exact by up to {apart:.1g} "
            f"(measured in the middle of {name})")  # fmt: skip


def _warn_of_brightness(name: str, stack: Stack, read: ReadWindow) -> bool:
    """Say so if the page is far brighter, darker or flatter than the images of the training."""
    high, wide = min(PATCH, stack.height), min(PATCH, stack.width)
    tops = np.unique(np.linspace(0, stack.height - high, PATCHES, dtype=int)).tolist()
    lefts = np.unique(np.linspace(0, stack.width - wide, PATCHES, dtype=int)).tolist()
    pixels = np.array([read(y, y + high, x, x + wide) for y in tops for x in lefts])
    mean, spread = (f(pixels, (0, 1, 2), float) for f in (np.mean, np.std))
    worst = float(mean[np.abs(mean).argmax()])
    if abs(worst) > FAR:
        said = (
            f"is {abs(worst):.1f} standard deviations {'brighter' if worst > 0 else 'darker'} than"
        )
    elif spread.max() < FLAT:
        said = f"has {spread.max():.1%} of the contrast of"
    else:
        return False
    say(f"warning: {name} {said} the images that the model was trained on: the result may be "
        "wrong; was it exported in another way?")  # fmt: skip
    return True


def _warn_of_result(name: str, outputs: Outputs) -> None:
    spread = f"probability of foreground {outputs.low:.3g} to {outputs.high:.3g}"
    if outputs.high - outputs.low < 0.01:
        say(f"warning: {name} is predicted alike everywhere, {spread}: is it an image like those "
             "the model was trained on, and did training go well?")  # fmt: skip
    elif outputs.found.sum() == 1:
        what = "background" if outputs.found[0] else f"class {outputs.found.argmax()}"
        say(f"warning: {name} is predicted to be {what} everywhere, {spread}")


def say(line: str) -> None:
    """Print a line on stderr, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
