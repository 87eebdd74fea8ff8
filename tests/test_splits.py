"""Which images are kept for validation."""

import numpy as np
import pytest

from unetcu.data import Dataset, describe_split, split, split_warnings
from unetcu.data.ranges import fit
from unetcu.errors import UsageError


def dataset(files=(0,) * 10, labels=None, instances=False, classes=2):
    images = [np.full((4, 5, 1), i, np.uint8) for i in range(len(files))]
    labels = labels or [np.indices((4, 5))[0].astype(np.int32) % 2] * len(files)
    names = [f"f{file}.tif[{i}]" for i, file in enumerate(files)]
    return Dataset(images, labels, names, list(files), classes, instances, fit(images))


@pytest.mark.parametrize(
    ("pages", "val", "kept"),
    [
        (10, "auto", [8, 9]),
        (24, "auto", [19, 20, 21, 22, 23]),
        (2, "auto", [1]),
        (10, "0.34", [7, 8, 9]),
        (10, "0.001", [9]),
        (10, "1e-1", [9]),
        (10, "none", []),
        (24, "pages 18-23", [18, 19, 20, 21, 22, 23]),
        (10, "pages 0,5,7-9", [0, 5, 7, 8, 9]),
        (10, "pages 7-9, 0 ,5 5", [0, 5, 7, 8, 9]),
        (10, "pages 3", [3]),
    ],
)
def test_pages_of_a_stack(pages, val, kept):
    training, validation = split(dataset((0,) * pages), val, 0)
    assert validation == kept
    assert training == [i for i in range(pages) if i not in kept]


def test_files_are_drawn_whole_and_by_the_seed():
    files = [i // 3 for i in range(30)]
    seen = set()
    for seed in range(20):
        training, validation = split(dataset(files), "auto", seed)
        assert sorted(training + validation) == list(range(30))
        kept = {files[i] for i in validation}
        assert len(kept) == 2
        assert not kept & {files[i] for i in training}
        assert split(dataset(files), "0.2", seed) == (training, validation)
        seen.add(tuple(sorted(kept)))
    assert len(seen) > 5
    assert len({f for kept in seen for f in kept}) == 10


@pytest.mark.parametrize(
    "val",
    ["", "0", "1", "1.0", "-0.2", "nan", "inf", "20%", "last", "pages", "pages x", "pages 3-",
     "pages 5-3", "pages 10", "pages 8-10", "pages -1", "pages 0-9999999999999", "0.96",
     "pages 0-9", "pages 1.5", "pages ٣"],
)  # fmt: skip
def test_refused(val):
    with pytest.raises(UsageError, match="--val") as caught:
        split(dataset(), val, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("val", ["auto", "0.5", "pages 0"])
def test_one_image_cannot_be_split(val):
    with pytest.raises(UsageError, match="one image"):
        split(dataset((0,)), val, 0)
    assert split(dataset((0,)), "none", 0) == ([0], [])


def test_the_line_that_describes_it():
    stack = dataset((0,) * 24)
    line = describe_split(stack, *split(stack, "pages 18-23", 0))
    assert line == "validation: 6 of 24 images (f0.tif[18] to f0.tif[23])"
    assert describe_split(stack, *split(stack, "pages 2,9", 0)).endswith("(f0.tif[2], f0.tif[9])")
    assert "none" in describe_split(stack, *split(stack, "none", 0))
    many = describe_split(stack, [1], list(range(2, 24, 2)))
    assert "3 more" in many


def test_an_image_on_both_sides_is_warned_of():
    stack = dataset()
    assert split_warnings(stack, [0, 1, 2], [3, 4]) == []
    stack.images[4] = stack.images[1].copy()
    (line,) = split_warnings(stack, [0, 1, 2], [3, 4])
    assert "f0.tif[4]" in line
    assert "f0.tif[1]" in line
    assert split_warnings(stack, [0, 2, 3], [1, 4]) == []  # both on one side
    stack.images[3] = stack.images[1].reshape(5, 4, 1)  # the same bytes, another picture
    assert len(split_warnings(stack, [0, 1, 2], [3])) == 0


def test_a_class_that_training_never_sees_is_warned_of():
    labels = [np.full((4, 5), v, np.int32) for v in (0, 1, -1, 2)]
    three = dataset((0,) * 4, labels, classes=4)
    (line,) = split_warnings(three, [0, 1, 2], [3])
    assert "classes 2, 3" in line
    line, other = split_warnings(three, [0, 1, 3], [2])
    assert "class 3" in line
    assert "the validation images hold no foreground" in other
    assert len(split_warnings(three, [0, 3], [1])) == 1
    cells = dataset((0,) * 4, labels, instances=True)
    assert split_warnings(cells, [0, 3], [1]) == []
    (line,) = split_warnings(cells, [0, 2], [1])
    assert "class 1" in line
