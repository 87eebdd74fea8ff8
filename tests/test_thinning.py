"""Border thinning against the queue it stands for, one pixel at a time."""

from collections import deque

import numpy as np
import pytest

from unetcu.scores.thinning import thinned_regions

AROUND = ((-1, 0), (0, -1), (0, 1), (1, 0))


def flood_by_queue(mask):
    """The definition, with a real queue over single pixels."""
    height, width = mask.shape
    if not mask.any():
        return np.ones(mask.shape, int)

    def near(y, x):
        at = ((y + dy, x + dx) for dy, dx in AROUND)
        return [(v, u) for v, u in at if 0 <= v < height and 0 <= u < width]

    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start] == 0:
            labels[start] = label = labels.max() + 1
            todo = [start]
            while todo:
                for at in near(*todo.pop()):
                    if mask[at] and labels[at] == 0:
                        labels[at] = label
                        todo.append(at)
    queue = deque(
        (y, x)
        for x in range(width)
        for y in range(height)
        if not mask[y, x] and any(mask[at] for at in near(y, x))
    )
    queued = set(queue)
    while queue:
        pixel = queue.popleft()
        found = {labels[at] for at in near(*pixel)} - {0}
        if len(found) == 1:
            labels[pixel] = found.pop()
        for at in near(*pixel):
            if not mask[at] and at not in queued:
                queued.add(at)
                queue.append(at)
    return labels


def pages(seed, height, width):
    """Masks of many kinds: noise of every density, blobs, thick borders, stripes, steps."""
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) < p for p in (0.005, 0.02, 0.1, 0.3, 0.6, 0.9)]
    grid = np.add.outer(np.arange(height) // 3, np.arange(width) // 4)
    masks.append(grid % 3 > 0)
    sites = rng.integers(0, (height, width), (6, 2))
    y, x = np.mgrid[:height, :width]
    d = np.sort((y[..., None] - sites[:, 0]) ** 2 + (x[..., None] - sites[:, 1]) ** 2, axis=2)
    # Cells between straight borders that are two to six pixels thick, at all angles.
    masks += [np.sqrt(d[..., 1]) - np.sqrt(d[..., 0]) > t for t in (1.5, 3, 5)]
    return np.stack(masks)


@pytest.mark.parametrize(
    ("height", "width"), [(24, 31), (31, 24), (1, 40), (40, 1), (2, 2), (1, 1), (17, 60)]
)
def test_agrees_with_the_queue(height, width):
    for seed in range(4):
        masks = pages(seed, height, width)
        for mask, found in zip(masks, thinned_regions(masks), strict=True):
            assert np.array_equal(found, flood_by_queue(mask))


def test_a_long_staircase_of_ties_agrees_with_the_queue():
    y, x = np.mgrid[:40, :40]
    masks = np.stack([abs(y - x) > 1, abs(y + x - 39) > 1, (y - x) % 7 > 1, (y + x) % 5 > 1])
    for mask, found in zip(masks, thinned_regions(masks), strict=True):
        assert np.array_equal(found, flood_by_queue(mask))


def test_a_pixel_behind_borders_that_learns_of_a_region_in_its_own_step():
    rows = ("01000001", "11000001", "00001000", "01000111", "00110000", "10001000", "00000100")
    mask = np.array([[c == "1" for c in row] for row in rows])
    assert np.array_equal(thinned_regions(mask[None])[0], flood_by_queue(mask))


def test_borders_become_one_pixel_and_ties_go_to_the_first_column_then_row():
    row = [[1, 0, 0, 0, 1, 0, 0, 1]]
    odd_then_even = thinned_regions(np.array([row], bool))[0]
    assert odd_then_even.tolist() == [[1, 1, 0, 2, 2, 2, 0, 3]]
    column = thinned_regions(np.array([row], bool).transpose(0, 2, 1))[0]
    assert column.T.tolist() == [[1, 1, 0, 2, 2, 2, 0, 3]]
    # The top left corner is reached through the first column before it is through the first row.
    corner = np.array([[[0, 0, 0], [0, 0, 1], [1, 0, 0]]], bool)
    assert thinned_regions(corner)[0].tolist() == [[2, 0, 1], [2, 0, 1], [2, 2, 0]]


def test_what_is_foreground_keeps_its_region():
    mask = pages(9, 40, 40)
    found = thinned_regions(mask)
    assert (found[mask] > 0).all()
    for region, page in zip(found, mask, strict=True):
        assert set(np.unique(region[page])) == set(range(1, region.max() + 1))


def test_a_page_without_foreground_is_one_region_and_pages_do_not_meet():
    masks = np.zeros((3, 4, 5), bool)
    masks[1, 0, 0] = masks[1, 3, 4] = True
    empty, two, last = thinned_regions(masks)
    assert (empty == 1).all()
    assert (last == 1).all()
    assert np.array_equal(two, flood_by_queue(masks[1]))
    assert (thinned_regions(np.ones((1, 4, 5), bool)) == 1).all()
