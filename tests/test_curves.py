"""The curves of a training: what is drawn, from which rows. How they look was judged by eye."""

import numpy as np
import pytest
from PIL import Image

from unetcu.colours import BLUE, GREEN, VERMILION
from unetcu.errors import DataError
from unetcu.pictures import curves


def holds(picture, colour):
    """Share of the pixels that have exactly this colour."""
    return np.mean((picture == np.array(colour, np.uint8)).all(axis=-1))


def row(epoch, **values):
    return {
        "epoch": epoch, "loss": 0.7 / epoch, "val_loss": 0.8 / epoch, "iou": 1 - 0.8 / epoch,
        "pixel_error": 0.3 / epoch, "matched": "", "best": True, **values,
    }  # fmt: skip


def drawn(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1000, 420)
        return np.asarray(picture.convert("RGB"))


def test_curves_are_drawn_and_redrawn(tmp_path):
    path = tmp_path / "progress.png"
    curves([row(e) for e in range(1, 31)], path)
    first = drawn(path)
    for colour in (BLUE, VERMILION):
        assert holds(first[:, :480], colour) > 1e-4, "losses on the left"
        assert holds(first[:, 520:], colour) > 1e-4, "scores on the right"
    assert holds(first, GREEN) == 0, "no objects, no curve of them"
    curves([row(e, matched=0.5, best=e < 4) for e in range(1, 31)], path)
    second = drawn(path)
    assert holds(second[:, 520:], GREEN) > 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["progress.png"]

    # The mark of the best epoch moves from the right edge to the left.
    def marked(pixels):
        gray = (pixels[80:360, :480] == 102).all(-1).sum(0)
        return int(gray.argmax())

    assert marked(first) > 400
    assert marked(second) < 130


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(1)],
        [row(1, val_loss="", iou=None, pixel_error=float("nan"), loss=float("inf"), best="")],
        [row(e, val_loss="" if e % 2 else 0.5) for e in (1, 2, 3, 4)],
        [{"epoch": "1", "loss": "0.5", "iou": "0.25", "best": "1"}, {"epoch": "2", "loss": "0"}],
        [row(e, loss=0, val_loss=0, pixel_error=0, iou=1) for e in (1, 2)],
    ],
)
def test_curves_of_odd_histories(tmp_path, rows):
    curves(rows, tmp_path / "progress.png")
    assert drawn(tmp_path / "progress.png").std() > 0


def test_a_users_matplotlib_settings_do_not_matter(tmp_path):
    import matplotlib

    curves([row(1)], tmp_path / "a.png")
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9}):
        curves([row(1)], tmp_path / "b.png")
        assert matplotlib.rcParams["text.usetex"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_missing_folder_is_said_in_one_line(tmp_path):
    with pytest.raises(DataError, match="its folder does not exist"):
        curves([row(1)], tmp_path / "none" / "progress.png")
