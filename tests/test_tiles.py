"""Overlap-tile geometry against brute force: sizes walked by level, np.pad, counted pixels."""

import ast
from pathlib import Path

import numpy as np
import pytest

from unetcu import tiles
from unetcu.errors import ShapeError, UsageError


def walk(size: int, depth: int) -> list[int] | None:
    """All feature map sizes of figure 1; None if a pooling sees an odd size or nothing is left."""
    sizes = [size]

    def twice() -> bool:
        for _ in range(2):
            sizes.append(sizes[-1] - 2)
        return sizes[-1] >= 1

    skips = []
    for _ in range(depth):
        if not twice() or sizes[-1] % 2:
            return None
        skips.append(sizes[-1])
        sizes.append(sizes[-1] // 2)
    if not twice():
        return None
    for skip in reversed(skips):
        sizes.append(sizes[-1] * 2)
        assert (skip - sizes[-1]) % 2 == 0, "the crop is centred"
        if not twice():
            return None
    return sizes


def test_the_papers_sizes():
    sizes = walk(572, 4)
    assert sizes is not None
    assert sizes[:6] == [572, 570, 568, 284, 282, 280]
    assert sizes[-3:] == [392, 390, 388]
    assert tiles.output_size(572, 4) == 388
    assert tiles.output_size(188, 4) == 4
    assert tiles.output_size(188, 3) == 100
    assert tiles.border(4) == 92


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_sizes_against_a_walk_through_the_levels(depth):
    walked = {size: walk(size, depth) for size in range(1, 700)}
    legal = [size for size, levels in walked.items() if levels]
    assert list(tiles.valid_sizes(depth, 1, 699)) == legal
    for size, levels in walked.items():
        below = max((n for n in legal if n <= size), default=legal[0])
        if levels:
            assert tiles.output_size(size, depth) == levels[-1]
            assert levels[-1] == size - 2 * tiles.border(depth)
            assert tiles.nearest_valid(size, depth) == (size, size)
            continue
        above = min((n for n in legal if n > max(size, below)), default=None)
        found = tiles.nearest_valid(size, depth)
        assert found[0] == below
        assert above is None or found[1] == above
        with pytest.raises(ShapeError, match=rf"\b{size}\b.*\b{found[0]} and {found[1]}\b"):
            tiles.output_size(size, depth)


def test_valid_sizes_between_bounds():
    assert list(tiles.valid_sizes(4, 189, 220)) == [204, 220]
    assert list(tiles.valid_sizes(4, 205, 219)) == []
    assert list(tiles.valid_sizes(4, -50, 188)) == [188]


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_without_poolings_is_refused(depth):
    for call in (
        tiles.border,
        lambda d: tiles.output_size(572, d),
        lambda d: tiles.layout(9, 9, 4, d),
    ):
        with pytest.raises(UsageError, match=f"depth {depth} "):
            call(depth)


def random_cases():
    rng = np.random.default_rng(0)
    for _ in range(150):
        depth = int(rng.integers(1, 5))
        legal = tiles.valid_sizes(depth, 1, 420)
        tile_in = legal[int(rng.integers(2, len(legal)))]
        height, width = (int(n) for n in rng.integers(1, 300, 2))
        yield height, width, tile_in - 2 * tiles.border(depth), depth


def test_every_pixel_comes_from_exactly_one_tile():
    several = 0
    for height, width, tile_out, depth in random_cases():
        cover = tiles.layout(height, width, tile_out, depth)
        count = np.zeros((height, width), int)
        for tile in cover:
            assert 0 <= tile.y0 < tile.y1 <= height
            assert 0 <= tile.x0 < tile.x1 <= width
            assert tile.y1 - tile.y0 <= cover.tile_out
            assert tile.x1 - tile.x0 <= cover.tile_out
            assert tile.y0 % 2**depth == tile.x0 % 2**depth == 0
            count[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
        assert (count == 1).all()
        assert cover.tile_out == tiles.output_size(cover.tile_in, depth) <= tile_out
        assert cover.stride % 2**depth == 0
        assert len(list(cover)) == len(cover)
        assert cover[-1] == list(cover)[-1]
        assert cover[:2] == list(cover)[:2]
        several += len(cover) > 1
    assert several > 50


def test_the_papers_tile_steps_by_384():
    cover = tiles.layout(1000, 388, 388, 4)
    assert (cover.tile_in, cover.tile_out, cover.stride) == (572, 388, 384)
    assert [(t.y0, t.y1, t.x0, t.x1) for t in cover] == [
        (0, 384, 0, 388),
        (384, 768, 0, 388),
        (768, 1000, 0, 388),
    ]
    # 384 + 388 = 772 rows need two tiles, one more row a third.
    assert len(tiles.layout(772, 1, 388, 4)) == 2
    assert len(tiles.layout(773, 1, 388, 4)) == 3


def test_rows_come_in_order_so_that_a_writer_can_stream():
    starts = [(t.y0, t.x0) for t in tiles.layout(300, 500, 100, 3)]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("height", "width", "tile_in"),
    [(1, 1, 188), (1, 4, 188), (5, 1, 204), (1, 37, 236), (100, 60, 284)],
)
def test_a_small_image_gets_the_smallest_tile_that_covers_it(height, width, tile_in):
    cover = tiles.layout(height, width, 388, 4)
    assert cover.tile_in == tile_in
    assert list(cover) == [tiles.Tile(0, height, 0, width)]


def test_illegal_tiles_are_refused_with_what_is_legal():
    with pytest.raises(ShapeError, match=r"depth 4 has 384 output pixels.*372 and 388"):
        tiles.layout(1000, 1000, 384, 4)
    with pytest.raises(ShapeError, match="4 and 20"):
        tiles.layout(1000, 1000, -12, 4)
    with pytest.raises(UsageError, match="at least 204 pixels"):
        tiles.layout(5, 1, 4, 4)
    assert len(tiles.layout(4, 4, 4, 4)) == 1
    with pytest.raises(ShapeError, match="nothing to predict"):
        tiles.layout(0, 4, 4, 4)


def test_mirror_is_numpys_reflect():
    for size in range(1, 9):
        line = np.arange(size)
        for overhang in range(40):
            padded = np.pad(line, overhang, mode="reflect")
            assert (tiles.mirror(-overhang, size + overhang, size) == padded).all()
    assert tiles.mirror(3, 3, 5).size == 0
    assert tiles.mirror(10**9, 10**9 + 2, 5).tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (7, 1, 1), (5, 8, 3), (60, 45, 1)])
def test_cut_against_a_padded_image(shape):
    rng = np.random.default_rng(1)
    height, width, _ = shape
    image = rng.integers(0, 60000, shape).astype(np.uint16)
    padded = np.pad(image, ((130, 130), (130, 130), (0, 0)), mode="reflect")
    for _ in range(60):
        border, tile_in = int(rng.integers(0, 20)), int(rng.integers(1, 60))
        y0, x0 = (int(n) for n in rng.integers(-10, 60, 2))
        asked = []

        def read_window(top, bottom, left, right, asked=asked):
            assert 0 <= top < bottom <= height
            assert 0 <= left < right <= width
            asked.append((bottom - top) * (right - left))
            return image[top:bottom, left:right]

        tile = tiles.cut(read_window, height, width, y0, x0, tile_in, border)
        top, left = 130 + y0 - border, 130 + x0 - border
        wanted = padded[top : top + tile_in, left : left + tile_in]
        assert tile.dtype == image.dtype
        assert tile.flags.c_contiguous
        assert np.array_equal(tile, wanted)
        assert len(asked) == 1
        assert asked[0] <= tile_in * tile_in


def test_cut_reads_only_what_an_inner_tile_needs():
    def read_window(y0, y1, x0, x1):
        assert (y0, y1, x0, x1) == (900, 964, 4900, 4964)
        return np.zeros((64, 64, 1), np.uint8)

    assert tiles.cut(read_window, 10**6, 10**6, 920, 4920, 64, 20).shape == (64, 64, 1)


@pytest.mark.parametrize("y0", [-3, 0, 4, 60])
def test_cut_of_other_height_than_width(y0):
    image = np.arange(50 * 40).reshape(50, 40, 1)
    padded = np.pad(image, ((90, 90), (90, 90), (0, 0)), mode="reflect")
    tile = tiles.cut(lambda a, b, c, d: image[a:b, c:d], 50, 40, y0, 7, (9, 30), 4)
    assert np.array_equal(tile, padded[86 + y0 : 95 + y0, 93:123])


def test_tiles_of_every_layout_see_the_same_pixels():
    """A linear stand-in for the network with its grid of poolings: tiled equals whole."""
    rng = np.random.default_rng(2)
    depth, lost = 2, tiles.border(2)

    def net(x: np.ndarray) -> np.ndarray:
        """Each output pixel: its input window's sum, plus the sum of its 4 × 4 pooling window."""
        n = len(x) - 2 * lost
        size = 2 * lost + 1
        box = np.lib.stride_tricks.sliding_window_view(x[..., 0], (size, size)).sum((2, 3))
        pooled = x[lost : lost + n, lost : lost + n, 0].reshape(n // 4, 4, n // 4, 4).max((1, 3))
        return box + 1000 * np.kron(pooled, np.ones((4, 4), int))

    def predict(image: np.ndarray, cover: tiles.Layout) -> np.ndarray:
        height, width, _ = image.shape
        result = np.full((height, width), -1)
        for tile in cover:
            x = tiles.cut(
                lambda y0, y1, x0, x1: image[y0:y1, x0:x1],
                height, width, tile.y0, tile.x0, cover.tile_in, lost,
            )  # fmt: skip
            y = net(x)[: tile.y1 - tile.y0, : tile.x1 - tile.x0]
            result[tile.y0 : tile.y1, tile.x0 : tile.x1] = y
        return result

    for height, width in [(1, 1), (3, 50), (37, 23), (64, 41), (90, 90)]:
        image = rng.integers(0, 100, (height, width, 1))
        whole = tiles.layout(height, width, 100, depth)
        assert len(whole) == 1
        for tile_out in (4, 12, 20, 48):
            parts = tiles.layout(height, width, tile_out, depth)
            assert np.array_equal(predict(image, parts), predict(image, whole))


def test_imports_only_the_errors():
    tree = ast.parse(Path(tiles.__file__).read_text(encoding="utf-8"))
    ours = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level}
    assert ours == {"errors"}
    assert "unetcu" not in {
        a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
