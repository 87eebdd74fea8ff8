"""Random training tiles: the paper's augmentation (section 3.1) in one warp.

A deformed tile is read, not made: every pixel of the tile asks the image for the value at one
source position. All source positions come from nine: a 3×3 grid of nodes over the tile, placed by
the random position, symmetry, rotation and scale, then displaced by random vectors (Gaussian, σ =
10 pixels) and interpolated bicubically to every pixel. The spline reproduces straight lines, so
the nodes carry the shift and the rotation as well as the elastic deformation.

The image is interpolated by cubic splines. Linear interpolation would be twice as fast and blur:
on electron micrographs it kept 0.56 to 0.71 of the power of fine detail, cubic splines 0.88 to
0.97, and a network trained on blurred tiles then meets sharp images. Labels and weights are those
of the nearest pixel: no class is invented, "ignore" stays, and a pixel keeps its own weight.

Outside the image lies its mirror image, as in prediction (`tiles.mirror`). Everything drawn comes
from the generator that is passed in, in one fixed order whatever the strengths.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError, UsageError
from .gray import factors, vary
from .resample import interpolate, nearest, positions

Array = NDArray[Any]

# Which flips and quarter turns (rows, columns) leave the look of the data as it is. Relief shading
# (DIC) has at most one: the mirror whose axis runs along the light.
SYMMETRIES: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]] = {
    "all": [((a, 0), (0, b)) for a in (1, -1) for b in (1, -1)]
    + [((0, a), (b, 0)) for a in (1, -1) for b in (1, -1)],
    "none": [((1, 0), (0, 1))],
    "left-right": [((1, 0), (0, 1)), ((1, 0), (0, -1))],
    "up-down": [((1, 0), (0, 1)), ((-1, 0), (0, 1))],
    "transpose": [((1, 0), (0, 1)), ((0, 1), (1, 0))],
    "antitranspose": [((1, 0), (0, 1)), ((0, -1), (-1, 0))],
}


@dataclass(frozen=True)
class Augment:
    """How strongly tiles are varied; `Augment()` is the default, `Augment.none()` an exact crop.

    symmetry   flips and quarter turns that the data allows: a key of SYMMETRIES
    rotate     largest rotation beside these, in degrees; None: 180 (any angle) where symmetry is
               "all", else 10, so that shading keeps its direction
    scale      largest magnification or reduction: a factor in [1 / (1 + scale), 1 + scale]
    elastic    σ of the displacement of the 3×3 nodes in pixels (paper: 10); at most an eighth of
               the distance of two nodes is used, so that a small tile is not folded over
    contrast, gamma       factor and exponent in [1 / (1 + v), 1 + v], drawn for each channel
    brightness, noise     largest shift, largest σ of white noise, in standard deviations of the
                          tile: gray values vary alike whatever range they are given in

    Raises UsageError for an unknown symmetry or a strength that is no number ≥ 0.
    """

    symmetry: str = "all"
    rotate: float | None = None
    scale: float = 0.1
    elastic: float = 10.0
    contrast: float = 0.25
    brightness: float = 0.25
    gamma: float = 0.25
    noise: float = 0.05

    def __post_init__(self) -> None:
        if self.symmetry not in SYMMETRIES:
            known = ", ".join(SYMMETRIES)
            raise UsageError(f"symmetry {self.symmetry!r} is not known: give one of {known}")
        if self.rotate is None:
            object.__setattr__(self, "rotate", 180.0 if self.symmetry == "all" else 10.0)
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{field.name} {value} is no strength: give a number ≥ 0")

    @staticmethod
    def none() -> "Augment":
        """No variation but the random position."""
        return Augment("none", *[0.0] * (len(fields(Augment)) - 1))

    @property
    def crops(self) -> bool:
        """Whether every tile is exact: no more than moved, flipped and turned by quarters."""
        return not (self.rotate or self.scale or self.elastic)


class Drawn(NamedTuple):
    """All that is random about one tile.

    nodes   source rows and columns of the 3×3 nodes, (2, 3, 3) float64
    exact   whether all pixels fall on pixels, so that nothing is to be interpolated
    gray    how each channel varies, (C, 4) float32: gray.factors
    key     of the noise, two uint64
    """

    nodes: NDArray[np.float64]
    exact: bool
    gray: NDArray[np.float32]
    key: NDArray[np.uint64]


def sample(
    image: Array,
    label: Array,
    weight: Array,
    tile_in: int,
    tile_out: int,
    rng: np.random.Generator,
    augment: Augment,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """One random tile: x (tile_in, tile_in, C), t and w (tile_out, tile_out), contiguous.

    image (H, W, C) float32; label (H, W) integer, -1 = ignore; weight (H, W) float32. t and w
    belong to the centre of x. Each tile is centred on a random pixel that is not ignored, then
    moved back into the image as far as it fits; a rotated tile may leave it by up to a quarter of
    tile_out, else it would hardly ever hold the image's corners.
    Raises ShapeError if the arrays do not fit each other or tile_out is not centred in tile_in.
    """
    if image.ndim != 3 or not image.shape[:2] == label.shape == weight.shape or not label.size:
        shapes = f"{image.shape}, {label.shape} and {weight.shape}"
        raise ShapeError(
            f"image, label and weight of shapes {shapes}: give (H, W, C), (H, W), (H, W)"
        )
    drawn = draw(label, image.shape[2], tile_in, tile_out, rng, augment)
    return _cut(image, label, weight, tile_in, tile_out, drawn)


def draw(
    label: Array,
    channels: int,
    tile_in: int,
    tile_out: int,
    rng: np.random.Generator,
    augment: Augment,
) -> Drawn:
    """What `sample` draws for a tile: a few numbers; of an image, only its labels matter."""
    if not 0 < tile_out <= tile_in or (tile_in - tile_out) % 2:
        raise ShapeError(f"an output of {tile_out} pixels is not the centre of a tile of {tile_in}")
    nodes, exact = _nodes(label, tile_in, tile_out, rng, augment)
    a = augment
    gray = factors(rng.uniform(-1, 1, (channels, 4)), a.contrast, a.brightness, a.gamma, a.noise)
    return Drawn(nodes, exact, gray, rng.integers(0, 2**64, 2, np.uint64))


def _cut(
    image: Array, label: Array, weight: Array, tile_in: int, tile_out: int, drawn: Drawn
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """The tile that was drawn: see `sample`. kernels/warp.cu does the same."""
    source = positions(drawn.nodes, tile_in)
    centre = slice((tile_in - tile_out) // 2, (tile_in + tile_out) // 2)
    at = nearest(source[:, centre, centre], label.shape)
    t, w = label[at].astype(np.int32), weight[at].astype(np.float32)
    if drawn.exact:
        planes = np.moveaxis(image[nearest(source, label.shape)], -1, 0).astype(np.float32)
    else:
        planes = interpolate(image, source)
    for channel, plane in enumerate(planes):
        vary(plane, drawn.gray[channel], drawn.key, channel)
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1)), t, w


def _nodes(
    label: Array, tile_in: int, tile_out: int, rng: np.random.Generator, augment: Augment
) -> tuple[NDArray[np.float64], bool]:
    """Source rows and columns of the 3×3 nodes, (2, 3, 3); whether all pixels fall on pixels."""
    size = np.array(label.shape)
    pixel = _labelled_pixel(label, rng.random((64, 2)))
    symmetries = SYMMETRIES[augment.symmetry]
    symmetry = np.array(symmetries[rng.integers(len(symmetries))], dtype=np.float64)
    angle = math.radians(augment.rotate or 0.0) * rng.uniform(-1, 1)
    zoom = (1 + augment.scale) ** rng.uniform(-1, 1)
    vectors = rng.standard_normal((2, 3, 3))

    overhang = int(tile_out / 4 * abs(math.sin(2 * angle)))
    room = size - tile_out
    start = np.clip(
        pixel - tile_out // 2, np.minimum(0, room) - overhang, np.maximum(0, room) + overhang
    )
    middle = start + (tile_out - 1) / 2
    half = (tile_in - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = zoom * np.array([[cos, -sin], [sin, cos]]) @ symmetry
    along = np.array([-half, 0, half])
    grid = np.stack(np.meshgrid(along, along, indexing="ij"))
    nodes = middle[:, None, None] + np.einsum("ij,jab->iab", matrix, grid)
    sigma = min(augment.elastic, half / 8)
    return nodes + sigma * vectors, angle == 0 and zoom == 1 and sigma == 0


def _labelled_pixel(label: Array, drawn: NDArray[np.float64]) -> NDArray[np.intp]:
    """A random pixel that is not ignored: the first hit of a few, else one out of a list of all."""
    pixels = (drawn * label.shape).astype(np.intp)
    hits = label[pixels[:, 0], pixels[:, 1]] >= 0
    if not hits.any():
        every = np.argwhere(label >= 0)
        if len(every):
            return every[int(drawn[-1, 0] * len(every))]
    return pixels[np.argmax(hits)]
