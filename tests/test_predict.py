"""What `predict` writes, against the same images predicted in memory; read by other readers."""

import os
import re

import numpy as np
import pytest
import tifffile
from PIL import Image
from predictset import expected, pages, save_model, stack_file

from unetcu import checkpoint, outputs, pictures, threads
from unetcu.cli import main
from unetcu.predict import predict
from unetcu.scores.instances import Rule, label_instances

TILE = 40  # of a network of depth 1: 24 pixels of output


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """So wide that the fast form gives other bits than the exact one."""
    return save_model(tmp_path_factory.mktemp("model") / "m.safetensors", base=3)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "new" / "out"


def test_a_stack_page_by_page(model, tmp_path, out, capsys):
    images = pages(2, 3, 70, 45)
    file = stack_file(tmp_path / "cells.tif", images)
    written = predict(model, file, out, tile=TILE, exact=True)
    names = ["cells_probability.tif", "cells_classes.tif", "cells_overlay.png"]
    assert [path.name for path in written] == names
    assert sorted(os.listdir(out)) == sorted(names)
    whole = [expected(model, page[..., None], 100, exact=True) for page in images]
    wanted = np.stack(whole)[..., 1]
    with tifffile.TiffFile(out / "cells_probability.tif") as read:
        assert read.is_imagej
        probability = read.asarray()
    assert probability.dtype == np.float32
    assert np.array_equal(probability, wanted)
    with tifffile.TiffFile(out / "cells_classes.tif") as read:
        assert read.is_imagej
        classes = read.asarray()
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, wanted > 0.5)
    assert 0.2 < classes.mean() < 0.8  # else there is nothing to compare
    picture = np.asarray(Image.open(out / "cells_overlay.png"))
    assert np.array_equal(picture, pictures.overlay(images[0], classes[0].astype(np.int32)))
    line, err = capsys.readouterr()
    assert re.fullmatch(
        r"cells\.tif: 3 x 70 x 45 pixels in [0-9.]+ s, [0-9.e+]+ tiles/s -> \S+/new/out/"
        r"cells_probability\.tif, cells_classes\.tif, cells_overlay\.png\n",
        line,
    )
    assert "depth 1, base 3" in err
    assert "tiles 40 -> 24, about" in err


@pytest.mark.parametrize("tile", ["--tile 64 --exact", "--tile 40"])
def test_neither_memory_nor_threads_nor_with_exact_the_tile_change_a_byte(model, tmp_path, tile):
    file = stack_file(tmp_path / "a.tif", pages(3, 1, 90, 61))
    settings = [["--tile", "40", *tile.split()[2:]], [*tile.split(), "--memory", "1G"]]
    settings.append([*settings[0], "--threads", "3"])
    folders = [tmp_path / str(i) for i in range(3)]
    before = threads.count()
    try:
        for flags, folder in zip(settings, folders, strict=True):
            words = ["predict", "-m", str(model), str(file), "-o", str(folder), "--instances"]
            assert main([*words, *flags]) == 0
    finally:
        threads.set_count(before)
    for name in os.listdir(folders[0]):
        first, *others = [(folder / name).read_bytes() for folder in folders]
        assert others == [first, first]
    assert len(os.listdir(folders[0])) == 4


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tta", ["mirror", "rot7"])
def test_views_and_the_form_are_handed_on(model, tmp_path, out, tta, exact):
    image = pages(4, 1, 40, 30)
    file = stack_file(tmp_path / "a.tif", image)
    predict(model, file, out, tile=TILE, tta=tta, exact=exact)
    wanted = expected(model, image[0][..., None], TILE, tta, exact)[..., 1]
    assert np.array_equal(tifffile.imread(out / "a_probability.tif"), wanted)


def test_files_and_folders_png_and_colour(tmp_path, out, capsys):
    model = save_model(tmp_path / "m.safetensors", channels=3)
    folder = tmp_path / "images"
    folder.mkdir()
    colour = np.moveaxis(pages(5, 3, 30, 41), 0, 2)
    for name in ("b.png", "sub.name.png", ".hidden.png"):
        Image.fromarray(colour).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    tifffile.imwrite(tmp_path / "c.tif", colour[::-1], photometric="rgb")
    written = predict(model, [folder, tmp_path / "c.tif"], out, overlay=False)
    stems = ["b", "b", "sub.name", "sub.name", "c", "c"]
    endings = ["_probability.tif", "_classes.tif"] * 3
    assert [path.name for path in written] == [a + b for a, b in zip(stems, endings, strict=True)]
    for stem, image in (("b", colour), ("c", colour[::-1])):
        found = tifffile.imread(out / f"{stem}_probability.tif")
        assert np.array_equal(found, expected(model, image, 72)[..., 1])
    assert "notes.txt" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "dtype"), [("image", "u2"), ("set", "f4")])
def test_each_page_is_ranged_whole(tmp_path, out, kind, dtype):
    """A window gets the limits of its page, not its own."""
    model = save_model(tmp_path / "m.safetensors", kind=kind, dtype=dtype, base=3)
    images = pages(6, 2, 60, 50, dtype) * np.linspace(1, 9, 60, dtype=dtype)[:, None]
    images[1] *= 3
    predict(model, stack_file(tmp_path / "a.tif", images), out, tile=TILE, exact=True)
    found = tifffile.imread(out / "a_probability.tif")
    for page, p in zip(images, found, strict=True):
        assert np.array_equal(p, expected(model, page[..., None], 100, exact=True)[..., 1])


def test_three_classes(tmp_path, out):
    model = save_model(tmp_path / "m.safetensors", classes=3)
    image = pages(7, 1, 50, 40)
    file = stack_file(tmp_path / "a.tif", image)
    names = ["a_probability_1.tif", "a_probability_2.tif", "a_classes.tif"]
    assert [p.name for p in predict(model, file, out, overlay=False)] == names
    p = expected(model, image[0][..., None], 72)
    for k in (1, 2):
        assert np.array_equal(tifffile.imread(out / f"a_probability_{k}.tif"), p[..., k])
    classes = tifffile.imread(out / "a_classes.tif")
    assert np.array_equal(classes, p.argmax(axis=2))
    assert len(np.unique(classes)) == 3
    limit = float(np.median(1 - p[..., 0]))
    predict(model, file, out, overlay=False, threshold=limit, overwrite=True)
    wanted = np.where(1 - p[..., 0] > limit, np.where(p[..., 2] > p[..., 1], 2, 1), 0)
    assert np.array_equal(tifffile.imread(out / "a_classes.tif"), wanted)


def test_an_undecided_pixel_is_background(tmp_path, out):
    model = save_model(tmp_path / "m.safetensors")
    saved = checkpoint.load(model)
    saved.weights.update({name: saved.weights[name] * 0 for name in ("head.w", "head.b")})
    saved.save(model, overwrite=True)
    predict(model, stack_file(tmp_path / "a.tif", pages(8, 1, 30, 30)), out)
    assert (tifffile.imread(out / "a_probability.tif") == 0.5).all()
    assert (tifffile.imread(out / "a_classes.tif") == 0).all()


def test_the_threshold_moves_the_mask(model, tmp_path, out):
    image = pages(8, 1, 50, 40)
    predict(model, stack_file(tmp_path / "a.tif", image), out, threshold=0.6)
    p = expected(model, image[0][..., None], 72)[..., 1]
    assert np.array_equal(tifffile.imread(out / "a_classes.tif"), p > 0.6)
    assert (p > 0.5).sum() > (p > 0.6).sum() > 0


def test_instances_are_grown_by_the_gap_of_the_training(tmp_path, out, capsys):
    model = save_model(tmp_path / "m.safetensors", gap=2, instances=True)
    images = pages(9, 2, 60, 70)
    file = stack_file(tmp_path / "a.tif", images)
    predict(model, file, out, overlay=False)
    assert "--instances numbers the objects" in capsys.readouterr().err
    predict(model, file, out, instances=True, min_size=9, overwrite=True)
    assert "--instances" not in capsys.readouterr().err
    with tifffile.TiffFile(out / "a_instances.tif") as read:
        assert read.is_imagej
        found = read.asarray()
    assert found.dtype == np.uint16
    mask = tifffile.imread(out / "a_classes.tif") > 0
    wanted = [label_instances(page, Rule(min_size=9, grow=2)) for page in mask]
    assert np.array_equal(found, wanted)
    assert any(
        (label_instances(page, Rule(min_size=9, grow=1)) != w).any()
        for page, w in zip(mask, wanted, strict=True)
    )
    assert any(
        (label_instances(page, Rule(min_size=20, grow=2)) != w).any()
        for page, w in zip(mask, wanted, strict=True)
    )
    picture = np.asarray(Image.open(out / "a_overlay.png"))
    assert np.array_equal(picture, pictures.overlay(images[0], wanted[0].astype(np.int32)))


def test_more_objects_than_16_bits_can_number(model, tmp_path, out, monkeypatch):
    ids = [np.full((20, 30), 65536, np.uint32), np.full((20, 30), 65535, np.uint16)]
    given = iter(ids)
    monkeypatch.setattr(outputs, "label_instances", lambda *a, **k: next(given))
    predict(model, stack_file(tmp_path / "a.tif", pages(0, 2, 20, 30)), out, instances=True)
    found = tifffile.imread(out / "a_instances.tif")
    assert found.dtype == np.uint32
    assert np.array_equal(found, ids)


def test_the_overlay_of_a_large_page_is_reduced(model, tmp_path, out, monkeypatch):
    monkeypatch.setattr(outputs, "OVERLAY_SIDE", 15)
    monkeypatch.setattr(outputs, "NUMBERS_AT_ONCE", 2 * 48 * 7)  # 7 rows
    monkeypatch.setattr(outputs, "READ_AT_ONCE", 4 * 50 * 10)  # bands of 10 rows
    images = pages(10, 2, 71, 48)
    predict(model, stack_file(tmp_path / "a.tif", images), out, tile=TILE)
    image = np.array(
        [[images[0][y : y + 5, x : x + 5].mean() for x in range(0, 48, 5)] for y in range(0, 71, 5)]
    )
    classes = tifffile.imread(out / "a_classes.tif")[0, ::5, ::5].astype(np.int32)
    wanted = pictures.overlay(image, classes).astype(int)
    picture = np.asarray(Image.open(out / "a_overlay.png")).astype(int)
    assert picture.shape == (15, 10, 3)
    assert np.abs(picture - wanted).max() <= 1  # float32 or float64 means
