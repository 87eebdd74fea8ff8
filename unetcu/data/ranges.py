"""One rule, chosen once for a data set, that turns stored values into what the network sees.

    y = (r - mean) / std,   r = (x - low) / (high - low), held within [-1, 2]

per channel, so that the values a network is trained on have mean 0 and scale 1. The kinds differ
in where low and high come from:

    dtype   the smallest and largest value of the data type (0 and 255 for uint8)
    set     the 0.1 % and 99.9 % values of the whole data set
    image   the 1 % and 99.8 % values of each image, which takes out exposure and gain

mean and std are those of r over all images given to `fit`, and are stored with the rest, so that
an image at prediction time is ranged from its own values and the stored numbers alone. The limits
of one width beyond low and high keep a hot pixel from swamping its neighbourhood.

Percentiles are taken over a regular grid of pixels: every pixel up to 512 × 512, every s-th row
and column of a larger image. So a 20,000 × 20,000 image needs one pass in bands of rows:

    limits = rule.limits(lambda y0, y1: stack.window(0, y0, y1, 0, width), height, width)
    x = rule.apply(stack.window(0, y0, y1, x0, x1), limits)

and every window has bit for bit the values it has in `rule.apply(whole_image)`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, DataError, UsageError
from ..progress import progress

KINDS = ("dtype", "set", "image")
SAMPLE = 2**18  # pixels of one image that percentiles are taken over
BAND = 256  # rows read at a time

Raw = NDArray[Any]
Levels = NDArray[np.float64]
Limits = tuple[Levels, Levels]  # low and high - low, each (C,)


@dataclass(frozen=True)
class Range:
    """The rule of one data set; `fit` makes it. All tuples have one number per channel.

    kind: "dtype", "set" or "image". dtype: NumPy's name of the stored type it was made for.
    low, width: the limits low and high - low; of kind "image", low is unused and width is the
    least that an image is given, so that noise in an empty image is not blown up to full scale.
    mean, std: of the ranged training set. why: what decided the kind, "" if the user did.
    """

    kind: str
    dtype: str
    low: tuple[float, ...]
    width: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    why: str = ""

    def limits(self, rows: Callable[[int, int], Raw], height: int, width: int) -> Limits:
        """low and high - low of one image, read in bands: rows(y0, y1) is (y1 - y0, W, C)."""
        if self.kind != "image":
            return np.array(self.low), np.array(self.width)
        step = _step(height, width, SAMPLE)
        bands = []
        for y0 in range(0, height, BAND):
            band = rows(y0, min(y0 + BAND, height))
            bands.append(band[-y0 % step :: step, ::step])
        low, high = _percentiles(np.concatenate(bands), (1, 99.8))
        return low, np.maximum(high - low, self.width)

    def apply(self, raw: Raw, limits: Limits | None = None) -> NDArray[np.float32]:
        """What the network sees of an image or a window of it: (H, W, C) raw to float32.

        limits: from `limits`, for a window of a larger image; else raw is a whole image.
        Raises DataError if the channels are not those of the training set, or the data type
        is not and the kind is "dtype" or "set" (the same number would mean another brightness).
        """
        if raw.ndim != 3 or raw.shape[2] != len(self.low):
            channels = raw.shape[2] if raw.ndim == 3 else f"shape {raw.shape}"
            raise DataError(f"the image has {channels} channels and the training images had "
                            f"{len(self.low)}: give images of the same channels")  # fmt: skip
        if self.kind != "image" and not _same_type(raw.dtype, np.dtype(self.dtype)):
            raise DataError(f"the image is {raw.dtype.name} and the training images were "
                            f"{self.dtype}: convert it, or train with --range image")  # fmt: skip
        if limits is None:
            limits = self.limits(lambda y0, y1: raw[y0:y1], raw.shape[0], raw.shape[1])
        low, width = limits
        x = raw.astype(np.float64)
        np.clip(x, low - width, low + 2 * width, out=x)
        x -= low + np.array(self.mean) * width
        x /= np.array(self.std) * width
        return x.astype(np.float32)

    def __str__(self) -> str:
        high = [low + width for low, width in zip(self.low, self.width, strict=True)]
        ends = " | ".join(f"{a:.6g}..{b:.6g}" for a, b in zip(self.low, high, strict=True))
        taken = {
            "dtype": f"range dtype: {ends}, all of {self.dtype}",
            "set": f"range set: {ends}, nearly all values of the set ({self.dtype})",
            "image": f"range image: the 1 % and 99.8 % values of each image ({self.dtype})",
        }[self.kind]
        mean, std = (" | ".join(f"{v:.3g}" for v in vs) for vs in (self.mean, self.std))
        reason = f"; {self.why}" if self.why else ""
        return f"{taken} → 0..1, then (x - {mean}) / {std}{reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain strings and lists of numbers, for a checkpoint."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Range":
        """The rule of a checkpoint. Raises CheckpointError for anything `to_dict` cannot write."""
        names = [field.name for field in fields(cls)]
        if not isinstance(stored, dict) or sorted(stored) != sorted(names):
            raise CheckpointError(f"the model's range has not the entries {', '.join(names)}")
        numbers = [stored[name] for name in ("low", "width", "mean", "std")]
        usable = (
            all(isinstance(stored[name], str) for name in ("kind", "dtype", "why"))
            and stored["kind"] in KINDS
            and stored["dtype"] in _TYPES
            and all(isinstance(vs, list) and len(vs) == len(numbers[0]) > 0 for vs in numbers)
            and all(type(v) in (int, float) and math.isfinite(v) for vs in numbers for v in vs)
            and all(v > 0 for name in ("width", "std") for v in stored[name])
        )
        if not usable:
            raise CheckpointError("the model's range holds values that no training run writes")
        low, width, mean, std = (tuple(map(float, values)) for values in numbers)
        return cls(stored["kind"], stored["dtype"], low, width, mean, std, stored["why"])


_TYPES = {np.dtype(code).name for code in "?bBhHiIlLqQefd"}


def fit(images: Sequence[Raw], kind: str = "auto") -> Range:
    """The rule for a data set: images are (H, W, C) arrays of one data type, of any sizes.

    kind "auto" takes "image" where brightness differs much between images: the width from the 1 %
    to the 99.8 % value by more than a factor 2, or the middle between these two by more than half
    a width, from the 10th to the 90th of 100 images; else "dtype" for 8-bit data, "set" for other.
    Raises UsageError for an unknown kind and for "dtype" with float images.
    """
    check_kind(kind)
    dtype = images[0].dtype
    if kind == "dtype" and dtype.kind == "f":
        raise UsageError(f"{dtype.name} images have no full range: use --range set or image")
    levels, samples = [], []
    for raw in progress(images, "measuring brightness"):
        grid = _grid(raw, SAMPLE)
        levels.append(_percentiles(grid, (1, 99.8)))
        thin = _grid(grid, max(2**10, 2**22 // len(images)))
        samples.append(_flat(thin))
    low, high = np.stack(levels, axis=1)  # each (images, channels)
    why = ""
    if kind == "auto":
        kind, why = _choose(dtype, low, high)
    if kind == "image":
        least = np.min(np.where(high > low, high - low, np.inf), axis=0) / 4
        width = np.where(np.isfinite(least), least, 1.0)
        start = np.zeros_like(width)
        limits = list(zip(low, np.maximum(high - low, width), strict=True))
    else:
        start, end = (
            _ends_of(dtype, low.shape[1])
            if kind == "dtype"
            else _percentiles(np.concatenate(samples), (0.1, 99.9))
        )
        width = np.where(end > start, end - start, 1.0)
        limits = [(start, width)] * len(samples)
    ranged = np.concatenate(
        [np.clip((x - a) / b, -1, 2) for x, (a, b) in zip(samples, limits, strict=True)]
    )
    std = ranged.std(axis=0)
    std[std < 1e-12] = 1  # a constant channel, up to rounding
    a, b, c, d = (tuple(v.tolist()) for v in (start, width, ranged.mean(axis=0), std))
    return Range(kind, dtype.name, low=a, width=b, mean=c, std=d, why=why)


def check_kind(kind: str) -> None:
    """Raise UsageError if `kind` is not "auto" or one of KINDS."""
    if kind not in ("auto", *KINDS):
        raise UsageError(f"--range {kind} is not known: use auto, {', '.join(KINDS)}")


def _choose(dtype: np.dtype[Any], lows: Levels, highs: Levels) -> tuple[str, str]:
    """The kind that "auto" stands for, and why."""
    for low, high in zip(lows.T, highs.T, strict=True):
        width = (high - low)[high > low]  # a constant image says nothing
        middle = ((low + high) / 2)[high > low]
        if not width.size:
            continue
        dim, bright = np.percentile(width, (10, 90))
        if bright > 2 * dim:
            return "image", f"contrast differs {bright / dim:.1f}-fold between images"
        dark, light = np.percentile(middle, (10, 90))
        if light - dark > 0.5 * np.median(width):
            return "image", f"the middle of the range differs by {light - dark:.6g} between images"
    return ("dtype" if dtype.itemsize == 1 else "set"), "brightness is alike in all images"


def _step(height: int, width: int, pixels: int) -> int:
    """The step of the grid that keeps about `pixels` of an image's pixels."""
    return max(1, math.ceil(math.sqrt(height * width / pixels)))


def _grid(raw: Raw, pixels: int) -> Raw:
    step = _step(raw.shape[0], raw.shape[1], pixels)
    return raw[::step, ::step]


def _flat(raw: Raw) -> Levels:
    """(..., C) to (pixels, C) float64."""
    return raw.reshape(-1, raw.shape[-1]).astype(np.float64)


def _percentiles(raw: Raw, q: tuple[float, ...]) -> Levels:
    """(len(q), C) percentiles over all pixels of each channel."""
    found: Levels = np.percentile(_flat(raw), q, axis=0)
    if not np.abs(found).max() < 1e37:
        raise DataError("images hold values beyond 1e37, or none that is a number: rescale them")
    return found


def _ends_of(dtype: np.dtype[Any], channels: int) -> tuple[Levels, Levels]:
    """The smallest and largest value of an integer type or bool, for each channel."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.full(channels, float(low)), np.full(channels, float(high))


def _same_type(a: np.dtype[Any], b: np.dtype[Any]) -> bool:
    """Byte order does not matter, nor the precision of floats: the numbers mean the same."""
    return a.name == b.name or a.kind == b.kind == "f"
