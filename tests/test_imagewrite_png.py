"""Pictures come back as they were written."""

import os

import numpy as np
import pytest
from PIL import Image

from unetcu.errors import ShapeError
from unetcu.files.images import open_stack, write_png


@pytest.mark.parametrize("shape", [(20, 31), (20, 31, 3)])
def test_png_comes_back(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", picture[::-1])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), picture[::-1])
    got = open_stack(tmp_path / "a.png")[0]
    np.testing.assert_array_equal(got.reshape(shape), picture)


def test_png_of_other_arrays_is_refused(tmp_path):
    for given in (
        np.zeros((3, 3), np.float32),
        np.zeros((3, 3, 4), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 3), np.uint8),
    ):
        with pytest.raises(ShapeError):
            write_png(tmp_path / "a.png", given)
    assert os.listdir(tmp_path) == []
