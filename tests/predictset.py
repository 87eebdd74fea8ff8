"""A small network with made-up weights in a model file, and images to predict with it."""

from pathlib import Path

import numpy as np

from unetcu import checkpoint, infer
from unetcu.checkpoint import Checkpoint
from unetcu.data import ranges
from unetcu.data.ranges import Range
from unetcu.files.images import write_tiff
from unetcu.predict import default_tile
from unetcu.tiles import border
from unetcu.unet import UNet


def pages(seed: int, count: int, height: int, width: int, dtype: str = "u1") -> np.ndarray:
    """(count, height, width): blobs of several sizes over noise."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, height, width))
    smooth = gaussian_filter(noise, (0, 2, 2), mode="wrap") * 6 + noise / 4
    return np.clip(110 + 40 * smooth, 0, 255).astype(dtype)


def save_model(
    path: Path,
    depth: int = 1,
    channels: int = 1,
    classes: int = 2,
    kind: str = "dtype",
    dtype: str = "u1",
    base: int = 2,
    **meta,
) -> Path:
    net = UNet(depth, base, channels, classes, seed=5)
    weights = {name: p.numpy().copy() for name, p in net.parameters.items()}
    weights["head.w"] *= 4
    made = [page[..., None].repeat(channels, 2) for page in pages(1, 3, 50, 60, dtype)]
    rule = ranges.fit(made, kind).to_dict()
    meta = {"config": net.config, "range": rule, "tile": 32, "instances": False, **meta}
    if classes == 2:  # as many pixels of foreground as of background
        net.parameters.load(weights)
        tile = default_tile(depth) - 2 * border(depth)
        p = infer.whole(net, Range.from_dict(rule).apply(made[0]), tile)
        weights["head.b"][1] -= np.median(np.log(p[..., 1] / p[..., 0]))
    Checkpoint(weights, meta).save(path, overwrite=True)
    return path


def expected(
    model: Path, page: np.ndarray, tile: int, tta: str = "none", exact: bool = False
) -> np.ndarray:
    """(H, W, classes): an image (H, W, C) predicted in memory."""
    saved = checkpoint.load(model)
    net, rule = saved.network(), Range.from_dict(saved.meta["range"])
    return infer.whole(net, rule.apply(page), tile - 2 * border(net.depth), tta, exact)


def stack_file(path: Path, array: np.ndarray) -> Path:
    write_tiff(path, array)
    return path
