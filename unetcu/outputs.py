"""The files that `predict` writes for one stack of images, band by band, as they are computed.

    with Outputs(stack, folder, classes=2, instances=True) as files:
        files.write(page, y0, p)         # rows y0... of a page, p (rows, width, classes)

All files appear when the `with` block ends well, and none if it does not. Of a page only one band
is held in memory, except that finding instances takes a whole page of probabilities.
"""

import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .files.atomic import remove_stale
from .files.images import Stack, TiffSink, write_png
from .files.paths import shown
from .pictures import overlay
from .scores.instances import Rule, label_instances
from .scores.predictions import ENDINGS

Array = NDArray[Any]

OVERLAY_SIDE = 1600  # pixels; the picture of a larger page is reduced
NUMBERS_AT_ONCE = 1 << 20  # of probabilities
READ_AT_ONCE = 1 << 24  # bytes of float32, of a page that is reduced
IMAGEJ_BYTES = 4_000_000_000  # above, files are BigTIFF without ImageJ's header
OVERLAY = "_overlay.png"
CONFIDENCE = "_confidence.tif"
BITS = (32, 16, 8)  # of a probability in a file: floating point, or whole numbers up to the largest


def paths_of(
    name: str, folder: Path, classes: int, *, instances: bool, overlay: bool, confidence: bool
) -> dict[str, Path]:
    """What is written for the image `name`.tif: "classes", "confidence", "instances", "overlay"
    and, by the number of the class, "1" and so on for the probabilities, to the path of the file.
    """
    probability, mask, ids = (ENDINGS[k] for k in ("probability", "classes", "instances"))
    numbers = range(1, classes)
    endings = {str(k): f"{probability}_{k}.tif" for k in numbers}
    if classes == 2:
        endings = {"1": probability + ".tif"}
    endings["classes"] = mask + ".tif"
    if confidence:
        endings["confidence"] = CONFIDENCE
    if instances:
        endings["instances"] = ids + ".tif"
    if overlay:
        endings["overlay"] = OVERLAY
    return {kind: folder / (name + ending) for kind, ending in endings.items()}


def picture_bytes(stack: Stack) -> int:
    """Memory that drawing the overlay of a stack takes."""
    step = _step(stack)
    bands = 4 * READ_AT_ONCE if step > 1 else 0
    return bands + 60 * (stack.height // step) * (stack.width // step)


class Outputs:
    """The files of one stack; see the module's docstring.

    threshold: pixels whose probability of foreground, 1 - p(background), is above it are
    foreground, of the most probable class but background; None: the most probable class of all.
    objects: how instances are found in the probability of foreground; None: they are not.
    overlay: a picture of the first page under its classes, or its instances.
    confidence: the probability of the most probable class, as a file. bits: of probabilities and
    confidence in their files, one of BITS; with 8 and 16 the largest whole number stands for 1.

    low, high: the least and largest probability of foreground written. found: which classes.
    Raises DataError where a file cannot be written, or exists (unless `overwrite`).
    """

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        classes: int,
        *,
        threshold: float | None = None,
        objects: Rule | None = None,
        overlay: bool = True,
        confidence: bool = False,
        bits: int = 32,
        overwrite: bool = False,
    ) -> None:
        self.low, self.high = 1.0, 0.0
        self.found = np.zeros(classes, bool)
        self.paths = paths_of(
            stack.path.stem,
            folder,
            classes,
            instances=objects is not None,
            overlay=overlay,
            confidence=confidence,
        )
        self._kept = np.dtype({8: "u1", 16: "u2"}.get(bits, "f4"))
        self._stack, self._threshold, self._overwrite = stack, threshold, overwrite
        self._rule = objects
        self._page = np.zeros((stack.height, stack.width), np.float32) if objects else None
        self._ids: list[bytes] = []  # of each page, compressed
        self._most = 0  # the largest id
        self._step = _step(stack)
        self._rows: list[Array] = []  # of the first page's classes, reduced
        self._picture: Array | None = None
        self._files = ExitStack()
        self._sinks: dict[str, TiffSink] = {}
        try:
            for kind, path in self.paths.items():
                remove_stale(path)
                if kind not in ("instances", "overlay"):
                    dtype = np.min_scalar_type(classes - 1) if kind == "classes" else self._kept
                    self._sinks[kind] = self._files.enter_context(self._sink(kind, dtype))
        except BaseException as error:
            self._files.__exit__(type(error), error, error.__traceback__)
            raise

    def _sink(self, kind: str, dtype: Any) -> TiffSink:
        stack = self._stack
        size = stack.pages * stack.height * stack.width * np.dtype(dtype).itemsize
        fits = size < IMAGEJ_BYTES and np.dtype(dtype) != np.uint32
        return TiffSink(
            self.paths[kind],
            stack.pages,
            stack.height,
            stack.width,
            dtype,
            imagej=fits,
            overwrite=self._overwrite,
        )

    def __enter__(self) -> Self:
        return self

    def write(self, page: int, y0: int, p: NDArray[np.float32]) -> None:
        """The next rows of a page: p (rows, width, classes) float32, probabilities.

        Raises DataError, naming the file and the page, where they are no finite numbers.
        """
        step = max(1, NUMBERS_AT_ONCE // p[0].size)  # else temporaries were as large as p
        for top in range(0, len(p), step):
            self._write(page, y0 + top, p[top : top + step])
        if y0 + len(p) == self._stack.height:
            self._end_page(page)

    def _write(self, page: int, y0: int, p: Array) -> None:
        if not np.isfinite(p).all():
            raise DataError(
                f"{shown(self._stack.path)}, page {page + 1}: the network's answer is not finite: "
                "the image is far outside of what it was trained on, or the model is bad"
            )
        foreground = p[..., 1] if p.shape[2] == 2 else 1 - p[..., 0]
        self.low = min(self.low, float(foreground.min()))
        self.high = max(self.high, float(foreground.max()))
        chosen = self._choose(p, foreground)
        for kind, sink in self._sinks.items():
            if kind == "classes":
                sink.write_rows(page, y0, chosen)
            else:
                values = p.max(axis=2) if kind == "confidence" else p[..., int(kind)]
                sink.write_rows(page, y0, self._stored(values))
        self.found[np.unique(chosen)] = True
        if self._page is not None:
            self._page[y0 : y0 + len(chosen)] = foreground
        if page == 0:
            rows = chosen[-y0 % self._step :: self._step, :: self._step]
            self._rows.append(rows.copy())  # a view would keep all of `chosen`

    def _stored(self, values: Array) -> Array:
        """Probabilities as the files hold them."""
        if self._kept.kind == "f":
            return values
        return np.rint(values * np.iinfo(self._kept).max).astype(self._kept)

    def _choose(self, p: Array, foreground: Array) -> Array:
        """Class ids of the pixels, in the type of their file."""
        dtype = np.min_scalar_type(p.shape[2] - 1)
        if p.shape[2] == 2:
            return (foreground > (0.5 if self._threshold is None else self._threshold)).astype(
                dtype
            )
        if self._threshold is None:
            return p.argmax(axis=2).astype(dtype)
        best = p[..., 1:].argmax(axis=2) + 1
        return np.where(foreground > self._threshold, best, 0).astype(dtype)

    def _end_page(self, page: int) -> None:
        labels = np.concatenate(self._rows) if page == 0 else None
        if self._page is not None:
            ids = label_instances(self._page, self._rule)
            self._most = max(self._most, int(ids.max()))
            self._ids.append(zlib.compress(ids.astype(np.uint32).tobytes(), 1))
            labels = ids[:: self._step, :: self._step] if page == 0 else None
        if labels is not None and "overlay" in self.paths:
            self._picture = overlay(_reduced(self._stack, self._step), labels.astype(np.int32))

    def _write_instances(self) -> None:
        """At the end, because the type of the file depends on the page with most objects."""
        shape = self._stack.height, self._stack.width
        with self._sink("instances", np.uint16 if self._most < 1 << 16 else np.uint32) as sink:
            for page, packed in enumerate(self._ids):
                ids = np.frombuffer(zlib.decompress(packed), np.uint32).reshape(shape)
                sink.write_rows(page, 0, ids.astype(np.uint16) if self._most < 1 << 16 else ids)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                if self._page is not None:
                    self._write_instances()
                if self._picture is not None:
                    write_png(self.paths["overlay"], self._picture, overwrite=self._overwrite)
            except BaseException as failure:
                self._files.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._files.__exit__(kind, error, traceback)


def _step(stack: Stack) -> int:
    """The overlay shows every so-many-th pixel."""
    return -(-max(stack.height, stack.width) // OVERLAY_SIDE)


def _reduced(stack: Stack, step: int) -> Array:
    """Page 0 as means over squares of step x step pixels, (H, W, C), read in bands of rows."""
    if step == 1:
        return stack[0]
    rows = max(1, READ_AT_ONCE // (4 * stack.width * stack.channels * step)) * step
    columns = np.arange(0, stack.width, step)
    bands = []
    for y0 in range(0, stack.height, rows):
        y1 = min(y0 + rows, stack.height)
        band = stack.window(0, y0, y1, 0, stack.width).astype(np.float32)
        tops = np.arange(0, y1 - y0, step)
        sums = np.add.reduceat(np.add.reduceat(band, columns, axis=1), tops, axis=0)
        high = np.diff(np.append(tops, y1 - y0))
        wide = np.diff(np.append(columns, stack.width))
        bands.append(sums / (high[:, None] * wide)[..., None])
    return np.concatenate(bands)
