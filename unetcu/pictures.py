"""Pictures of images, labels and training, made to be looked at.

Colours are those of Okabe and Ito, which people with any colour vision can tell apart; ignored
pixels are hatched. Panels and overlays are plain arrays drawn with Pillow; only `curves` loads
Matplotlib, which takes a second.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .colours import BLUE, GREEN, PALETTE, VERMILION, drawn, hatched, mistakes
from .errors import ShapeError
from .files.atomic import atomic_path

Array = NDArray[Any]
Picture = NDArray[np.uint8]
Line = tuple[tuple[int, int, int] | None, str]  # colour of a swatch, text

_SMALLEST, _LARGEST = 256, 640  # a panel's longer side in pixels
_NOT_BEST = (None, "", 0, "0", "False")  # False == 0


class _Panel(NamedTuple):
    pixels: Picture
    title: str
    lines: list[Line]


def sample_panel(
    image: Array, truth: Array | None, probability: Array, prediction: Array
) -> Picture:
    """image | truth | probability | errors in one picture (h, w, 3) uint8, with captions.

    image (H, W, C) or (H, W), any gray range; truth (H, W) class ids, -1 = ignored, or None where
    there is none (then the last panel shows the prediction); probability (H, W) of the foreground,
    in [0, 1]; prediction (H, W) class ids. Small images are enlarged, large ones reduced.
    Raises ShapeError if the shapes differ.
    """
    maps = [probability, prediction, *([] if truth is None else [truth])]
    if image.ndim not in (2, 3) or any(m.shape != image.shape[:2] for m in maps):
        shapes = ", ".join(str(a.shape) for a in (image, *maps))
        raise ShapeError(f"a panel shows arrays of one height and width, not {shapes}")
    height, width = image.shape[:2]
    many = max(int(m.max(initial=0)) for m in maps[1:]) > 1
    panels = [_Panel(visible(image), "image", [(None, f"{height} x {width} pixels")])]
    if truth is not None:
        panels.append(_Panel(_class_colours(truth, many), "truth", _share(truth)))
    gray = np.rint(np.nan_to_num(probability).clip(0, 1) * 255).astype(np.uint8)
    panels.append(_Panel(np.dstack([gray] * 3), "probability", [(None, "black 0, white 1")]))
    if truth is None:
        panels.append(_Panel(overlay(image, prediction), "prediction", _share(prediction)))
    else:
        panels.append(_errors(image, truth, prediction))
    return _side_by_side(panels)


def overlay(image: Array, labels: Array) -> Picture:
    """The image under translucent colours with outlines: (H, W, 3) uint8.

    image (H, W, C) or (H, W); labels (H, W) integer: classes or instances, 0 = background, -1 =
    ignored. Class k has the k-th colour of PALETTE; so has instance k, unless a neighbour has it.
    Raises ShapeError if the shapes differ.
    """
    if labels.shape != image.shape[:2]:
        raise ShapeError(f"labels of shape {labels.shape} do not lie on an image {image.shape}")
    picture = visible(image)
    colours, fill, edge = drawn(labels)
    picture[fill] = (picture[fill] * np.uint16(5) + colours[fill] * np.uint16(3)) // 8
    picture[edge] = colours[edge]
    return hatched(picture, labels < 0)


def curves(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw progress.png, 1000 × 420 pixels: losses on the left, scores on the right.

    rows: one mapping an epoch, as in history.csv: epoch, loss, val_loss, iou, pixel_error, matched
    (numbers or their text; missing, empty and non-finite ones are left out) and best, true where
    the epoch was the best so far. The last best epoch is marked. Replaces the file atomically.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    epochs = _column(rows, "epoch")
    best = [e for e, row in zip(epochs, rows, strict=True) if row.get("best") not in _NOT_BEST]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's settings (LaTeX, say) must not stop a training
        figure = Figure(figsize=(10, 4.2), dpi=100, layout="constrained")
        left, right = figure.subplots(1, 2)
        second = right.twinx()
        for axes, key, name, colour, style in (
            (left, "loss", "training loss", BLUE, "-"),
            (left, "val_loss", "validation loss", VERMILION, "-"),
            (right, "iou", "IoU", BLUE, "-"),
            (right, "matched", "objects matched", GREEN, "-"),
            (second, "pixel_error", "pixel error (right scale)", VERMILION, "--"),
        ):
            values = _column(rows, key)
            there = np.isfinite(values)
            if there.any():
                axes.plot(
                    epochs[there], values[there], style, label=name,
                    color=np.divide(colour, 255), marker="o" if len(rows) < 30 else "", ms=4,
                )  # fmt: skip
        losses = [value for line in left.lines for value in line.get_ydata()]
        if losses and min(losses) > 0:
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter("{x:g}")
            left.yaxis.set_minor_formatter(NullFormatter())
        left.set_ylabel("weighted cross entropy")
        right.set_ylabel("IoU, share of objects")
        right.set_ylim(top=1)
        second.set_ylabel("pixel error")
        second.set_ylim(bottom=0)
        for axes, lines in ((left, left.lines), (right, [*right.lines, *second.lines])):
            handles = list(lines)
            for epoch in best[-1:]:
                label = f"best: epoch {epoch:g}"
                handles.append(axes.axvline(epoch, color="0.4", ls=":", label=label))
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(alpha=0.3)
            if len(epochs):
                axes.set_xlim(np.nanmin(epochs) - 0.5, np.nanmax(epochs) + 0.5)
                axes.legend(
                    handles=handles, loc="lower left", bbox_to_anchor=(0, 1),
                    ncols=2, frameon=False, fontsize="small",
                )  # fmt: skip
        with atomic_path(path, overwrite=True) as temporary:
            figure.savefig(temporary, format="png")


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One column as numbers; NaN where there is no finite one."""
    cells = [row.get(key) for row in rows]
    values = np.array([np.nan if cell in (None, "") else float(cell) for cell in cells])
    return np.where(np.isfinite(values), values, np.nan)


def visible(image: Array) -> Picture:
    """Any image as RGB, percentiles 0.5 and 99.5 black and white; not 3 channels: their mean."""
    channels = image[..., None] if image.ndim == 2 else image
    pixels = channels.astype(np.float32)
    if channels.shape[2] != 3:
        pixels = pixels.mean(axis=2, keepdims=True)
    pixels = np.nan_to_num(pixels, posinf=0, neginf=0)
    step = max(1, *(n // 512 for n in pixels.shape[:2]))
    low, high = np.percentile(pixels[::step, ::step], (0.5, 99.5))
    scaled = (pixels - low) * (255 / (high - low)) if high > low else pixels * 0 + 128
    shown = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return shown if shown.shape[2] == 3 else np.repeat(shown, 3, axis=2)


def _class_colours(labels: Array, many: bool) -> Picture:
    """Classes in their colours on black; a single foreground class is white."""
    table = np.vstack([np.zeros((1, 3), np.uint8), PALETTE if many else np.full((7, 3), 255)])
    kinds = np.where(labels > 0, (labels - 1) % len(PALETTE) + 1, 0)
    return hatched(table[kinds].astype(np.uint8), labels < 0)


def _share(labels: Array) -> list[Line]:
    known = max(1, int((labels >= 0).sum()))
    return [(None, f"foreground {int((labels > 0).sum()) / known:.1%}")]


def _errors(image: Array, truth: Array, prediction: Array) -> _Panel:
    """Where the prediction is wrong, in colour over the paled image."""
    pale = visible(image).mean(axis=2).astype(np.uint8) // 2 + 40
    picture = np.dstack([pale] * 3)
    known = truth >= 0
    lines: list[Line] = []
    for name, colour, where in mistakes(truth, prediction):
        picture[where] = colour
        share = int(where.sum()) / max(1, int(known.sum()))
        if share or name != "wrong class":
            lines.append((colour, f"{name} {share:.2%}"))
    return _Panel(hatched(picture, ~known), "errors", lines)


def _side_by_side(panels: list[_Panel]) -> Picture:
    """The panels in a row on white, captions above, every picture scaled alike."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = panels[0].pixels.shape[:2]
    longer = max(height, width)
    scale = min(_LARGEST / longer, 1.0) if longer >= _SMALLEST else float(-(-_SMALLEST // longer))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    column, gap, line = max(size[0], 190), 8, 18
    top = line * (1 + max(len(p.lines) for p in panels)) + gap
    sheet = Image.new("RGB", (gap + len(panels) * (column + gap), top + size[1] + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for number, panel in enumerate(panels):
        x, y = gap + number * (column + gap), 4
        draw.text((x, y), panel.title, (0, 0, 0), ImageFont.load_default(15))
        for colour, text in panel.lines:
            y += line
            if colour:
                draw.rectangle((x, y + 3, x + 11, y + 14), colour)
            draw.text((x + 16 * bool(colour), y), text, (70, 70, 70), ImageFont.load_default(13))
        resized = Image.fromarray(panel.pixels).resize(size, Image.Resampling.BOX)
        sheet.paste(resized, (x, top))
    return np.asarray(sheet).copy()
