"""Which predicted file goes with which true one, and what its values mean."""

import numpy as np
import pytest
from made_up_files import put

from unetcu.errors import DataError
from unetcu.scores.predictions import pair


def page(value, pages=1, dtype=np.uint8):
    """A page that tells who it is: a square whose width is `value`."""
    out = np.zeros((pages, 12, 12), dtype)
    out[:, 2:6, 2 : 2 + value] = 1
    return out


def probability(value):
    return page(value, dtype=np.float32) * np.float32(0.75)


def widths(compared):
    """(predicted, true) width of each page's square."""
    return [
        (int((p.prediction > 0).any(0).sum()), int((p.truth > 0).any(0).sum()))
        for p in compared.pages
    ]


def test_two_folders_are_paired_by_name(tmp_path):
    for name, width in (("b2", 3), ("b10", 4), ("a", 5)):
        put(tmp_path / "p" / f"{name}.png", page(width))
        put(tmp_path / "t" / f"{name}_mask.tif", page(width))
    compared = pair(tmp_path / "p", tmp_path / "t")
    assert widths(compared) == [(5, 5), (3, 3), (4, 4)]
    assert compared.names == ["a.png", "b2.png", "b10.png"]
    assert compared.kind == "classes"


def predicted_folder(tmp_path, names=("x", "y")):
    for k, name in enumerate(names):
        put(tmp_path / "p" / f"{name}_probability.tif", probability(3 + k))
        put(tmp_path / "p" / f"{name}_classes.tif", page(5 + k))
        ids = page(7 + k, dtype=np.uint16)
        ids[:, 9] = 6
        put(tmp_path / "p" / f"{name}_instances.tif", ids)
        put(tmp_path / "p" / f"{name}_overlay.png", page(2))
        put(tmp_path / "t" / f"{name}.tif", page(2 + k))
    return tmp_path / "p", tmp_path / "t"


def test_of_what_predict_wrote_the_kind_that_tells_most_is_scored(tmp_path):
    folder, truth = predicted_folder(tmp_path)
    compared = pair(folder, truth)
    assert (compared.kind, widths(compared)) == ("probability", [(3, 2), (4, 3)])
    assert any("*_probability" in note for note in compared.notes)
    assert pair(folder, truth, instances=True).kind == "instances"
    several = pair(folder, truth, classes=3)
    assert (several.kind, widths(several)) == ("classes", [(5, 2), (6, 3)])
    for file in folder.glob("*_probability.tif"):
        file.unlink()
    assert pair(folder, truth).kind == "classes"
    for file in folder.glob("*_instances.tif"):
        file.unlink()
    assert widths(pair(folder, truth, instances=True)) == [(5, 2), (6, 3)]


def test_a_folder_with_one_prediction_goes_with_a_file_of_any_name(tmp_path):
    folder, truth = predicted_folder(tmp_path, names=("x",))
    other = truth / "x.tif"
    other.rename(truth / "drawn.tif")
    assert widths(pair(folder, truth / "drawn.tif")) == [(3, 2)]


def test_files_in_any_order_are_read_in_that_of_the_truth(tmp_path):
    folder, truth = predicted_folder(tmp_path)
    stack = np.concatenate([page(4), page(6)])
    put(truth / "x.tif", stack)
    put(folder / "x_probability.tif", np.concatenate([probability(4), probability(6)]))
    compared = pair(folder, truth)
    assert widths(compared) == [(4, 4), (6, 6), (4, 3)]
    assert compared.names == ["x_probability.tif[0]", "x_probability.tif[1]", "y_probability.tif"]


def test_what_has_no_partner_is_refused(tmp_path):
    folder, truth = predicted_folder(tmp_path)
    (truth / "y.tif").rename(truth / "z.tif")
    with pytest.raises(DataError, match=r"no prediction is named like .*z\.tif"):
        pair(folder, truth)
    (truth / "z.tif").unlink()
    put(truth / "w.tif", page(3))
    (truth / "w.tif").rename(tmp_path / "w.tif")
    with pytest.raises(DataError, match=r"no truth is named like .*y_probability\.tif"):
        pair(folder, truth)
    put(folder / "x_probability.png", page(3))
    with pytest.raises(DataError, match="predict the same image"):
        pair(folder, truth)


def test_values_of_masks(tmp_path):
    truth = put(tmp_path / "t.tif", page(3))
    for stored in (
        page(4),
        255 * page(4),
        2 * page(4),
        7 * page(4),
        page(4).astype(bool),
        page(4, dtype=np.int32),
    ):
        compared = pair(put(tmp_path / "p.tif", stored), truth)
        assert compared.kind == "classes"
        assert sorted(set(compared.pages[0].prediction.ravel().tolist())) == [0, 1]
    full = put(tmp_path / "p.tif", np.full((1, 12, 12), 255, np.uint8))
    assert (pair(full, truth).pages[0].prediction == 1).all()
    empty = put(tmp_path / "p.tif", np.zeros((1, 12, 12), np.uint8))
    assert (pair(empty, truth).pages[0].prediction == 0).all()
    for bad, says in (
        (page(4) * 3 + page(2), "holds 4.*a class mask holds 0 to 1"),
        (-page(4, dtype=np.int16), "holds -1: class and instance ids are 0 or more"),
    ):
        with pytest.raises(DataError, match=says):
            pair(put(tmp_path / "p.tif", bad), truth)
    three = put(tmp_path / "three.tif", page(3) + page(1))
    full = put(tmp_path / "p.tif", np.full((1, 12, 12), 255, np.uint8))
    with pytest.raises(DataError, match="holds 255 and the truth has 3 classes"):
        pair(full, three, classes=3)


def test_values_of_instances(tmp_path):
    ids = page(4, dtype=np.uint16) * 9
    ids[:, 10] = 3
    truth = put(tmp_path / "t.tif", ids)
    assert pair(put(tmp_path / "p.tif", ids), truth, instances=True).kind == "instances"
    mask = put(tmp_path / "p.tif", 9 * (ids > 0).astype(np.uint16))
    assert pair(mask, truth, instances=True).kind == "classes"
    with pytest.raises(DataError, match="holds -9"):
        pair(put(tmp_path / "p.tif", -ids.astype(np.int16)), truth, instances=True)


def test_a_probability_is_read_page_by_page(tmp_path):
    stack = np.concatenate([probability(3), probability(4) * np.float32(4)])
    truth = put(tmp_path / "t.tif", np.concatenate([page(3), page(4)]))
    compared = pair(put(tmp_path / "p.tif", stack), truth)
    assert len(compared.pages) == 2
    assert compared.pages[0].prediction.max() == np.float32(0.75)
    with pytest.raises(DataError, match=r"p\.tif\[1\] holds 3"):
        _ = compared.pages[1]
