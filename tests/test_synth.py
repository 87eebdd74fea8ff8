"""The built-in data: what its labels promise, that it is no toy, and what `synth` writes."""

import re
import shlex

import numpy as np
import pytest
from scipy import ndimage

from unetcu.cli import main
from unetcu.data import load
from unetcu.errors import DataError, UsageError
from unetcu.files.images import open_stack
from unetcu.scores.instances import otsu_parts
from unetcu.scores.metrics import object_counts
from unetcu.synth import make, write

PAGES = 4
KINDS = ("phase", "em")
OBJECTS_BRIGHT = {"phase": False, "em": True}


@pytest.fixture(scope="module")
def built_in():
    """The first pages of the built-in data, by kind."""
    return {kind: make(0, PAGES, 320, kind) for kind in KINDS}


def parts_of(mask):
    """How many 4-connected parts, by a flood over a list of pixels."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    count = 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            y, x = front.pop()
            for p in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if p in left:
                    left.remove(p)
                    front.append(p)
    return count


def touching(labels):
    """Ids of instances that have a pixel beside one of another instance."""
    pairs = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
    found = set()
    for a, b in pairs:
        meet = (a != b) & (a > 0) & (b > 0)
        found |= set(a[meet].tolist()) | set(b[meet].tolist())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_make_promises(built_in, kind):
    images, instances = built_in[kind]
    assert images.shape == instances.shape == (PAGES, 320, 320)
    assert (images.dtype, instances.dtype) == (np.uint8, np.uint16)
    for image, labels in zip(images, instances, strict=True):
        ids = np.unique(labels)
        assert np.array_equal(ids, np.arange(labels.max() + 1))
        assert all(parts_of(labels == i) == 1 for i in ids[1:])
        assert np.bincount(labels.ravel())[1:].min() >= 40
        assert image.std() > 12
        assert np.isin(image, (0, 255)).mean() < 0.03


def test_the_same_seed_gives_the_same_page():
    images, instances = make(3, 2, 96)
    more_images, more_instances = make(3, 3, 96)
    assert np.array_equal(images, more_images[:2])
    assert np.array_equal(instances, more_instances[:2])
    others = [images[1], make(4, 1, 96)[0][0], make(3, 1, 96, "em")[0][0]]
    assert all((images[0] != other).mean() > 0.5 for other in others)


def test_phase_cells_touch_and_differ_in_size_and_shape(built_in):
    _, instances = built_in["phase"]
    share = [len(touching(labels)) / labels.max() for labels in instances]
    assert np.mean(share) > 0.7
    areas, lengths = [], []
    for labels in instances:
        ring = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        for i in set(range(1, labels.max() + 1)) - set(ring.tolist()):
            pixels = np.argwhere(labels == i)
            areas.append(len(pixels))
            spread = np.sqrt(np.linalg.eigvalsh(np.cov(pixels.T)))
            lengths.append(spread[1] / spread[0])
    diameters = np.sqrt(np.array(areas) * 4 / np.pi)
    assert 30 < np.median(diameters) < 55
    assert np.percentile(diameters, 90) > 1.7 * np.percentile(diameters, 10)
    assert np.percentile(lengths, 80) > 1.8  # many are long ...
    assert np.percentile(lengths, 20) < 1.5  # ... and many are not
    assert 0.3 < (instances > 0).mean() < 0.7


def test_em_neurites_fill_the_page_between_membranes(built_in):
    _, instances = built_in["em"]
    assert 0.75 < (instances > 0).mean() < 0.92
    assert np.mean([len(touching(labels)) / labels.max() for labels in instances]) > 0.15
    areas = np.concatenate([np.bincount(labels.ravel())[1:] for labels in instances])
    assert np.percentile(areas, 95) > 15 * np.percentile(areas, 10)


def test_the_page_edge_leaves_no_trace(built_in):
    """A page is cut from a larger one: its outermost pixels are like all others."""
    for kind in KINDS:
        images, instances = (np.asarray(a, float) for a in built_in[kind])
        rim = np.ones(images.shape[1:], bool)
        rim[8:-8, 8:-8] = False
        assert abs(images[:, rim].mean() - images[:, ~rim].mean()) < 10
        assert 0.75 < images[:, rim].std() / images[:, ~rim].std() < 1.25
        assert abs((instances[:, rim] > 0).mean() - (instances[:, ~rim] > 0).mean()) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_otsu_and_parts_fail(built_in, kind):
    images, instances = built_in[kind]
    for bright in (True, False):
        found = np.stack([otsu_parts(image, bright=bright) for image in images])
        assert object_counts(found, instances).ap50 <= 0.35  # 0.3 over many pages


def test_grey_value_alone_does_not_give_the_class_away(built_in):
    """The best decision by grey value, learnt on these very pages, is often wrong."""
    for kind, worst in (("phase", 0.75), ("em", 0.84)):
        images, instances = built_in[kind]
        inside = [np.bincount(images[(instances > 0) == c], minlength=256) for c in (False, True)]
        share = [h / h.sum() for h in inside]
        right = np.maximum(*share).sum() / 2  # balanced: a coin gets 0.5
        assert right < worst


def test_a_seam_shows_where_cells_touch(built_in):
    """Else nothing could be learnt: beside a contact, grey differs from the cells' insides."""
    images, instances = built_in["phase"]
    for image, labels in zip(images.astype(float), instances.astype(int), strict=True):
        high = ndimage.maximum_filter(labels, 3)
        low = ndimage.minimum_filter(np.where(labels > 0, labels, high), 3)
        contact = (labels > 0) & (high != low)
        near = ndimage.binary_dilation(contact, iterations=6) & (labels > 0)
        near &= ~ndimage.binary_dilation(contact, iterations=3)
        assert image[contact].mean() > image[near].mean() + 30


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((0, 1, 320, "sem"), "--kind"),
        ((0, 0, 320), "--pages"),
        ((0, 1, 63), "--size"),
        ((0, 1, 5000), "--size"),
        ((-1, 1, 320), "--seed"),
    ],
)
def test_refused_in_one_line(arguments, word):
    with pytest.raises(UsageError, match=word) as caught:
        make(*arguments)
    assert "\n" not in str(caught.value)


def test_command_writes_stacks_that_read_back(tmp_path, capsys):
    folder = tmp_path / "some cells"
    assert main(["synth", str(folder), "--pages", "2", "--size", "96", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    command = shlex.split(re.search("train with: (.*)", out)[1])
    assert command[:2] == ["unetcu", "train"]
    assert command[4:] == ["--instances"]
    dataset = load(command[2], command[3], instances=True)
    images, instances = make(5, 2, 96)
    for i in range(2):
        assert np.array_equal(dataset.images[i][..., 0], images[i])
        assert np.array_equal(dataset.labels[i], instances[i])
    assert open_stack(folder / "images.tif").dtype == np.uint8
    assert open_stack(folder / "labels.tif").dtype == np.uint16


@pytest.mark.parametrize("there", ["images.tif", "labels.tif"])
def test_nothing_is_overwritten(tmp_path, capsys, there):
    (tmp_path / there).write_bytes(b"mine")
    assert main(["synth", str(tmp_path), "--pages", "1", "--size", "64"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert there in error
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_bytes() == b"mine"


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be made"):
        write(tmp_path / "file", 0, 1, 64)
