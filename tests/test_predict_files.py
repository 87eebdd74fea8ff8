"""What else `predict` can write: confidence, 8 and 16 bits, objects by the rule in the model."""

import numpy as np
import pytest
import tifffile
from predictset import expected, pages, save_model, stack_file

from unetcu import checkpoint
from unetcu.cli import main
from unetcu.errors import UsageError
from unetcu.evaluate import evaluate
from unetcu.predict import predict
from unetcu.scores.instances import Rule, label_instances

TILE = 40  # input pixels of a tile


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.safetensors", base=3)


@pytest.mark.parametrize(("bits", "dtype", "top"), [(8, np.uint8, 255), (16, np.uint16, 65535)])
def test_probabilities_as_whole_numbers(model, tmp_path, bits, dtype, top):
    image = pages(2, 2, 50, 40)
    file = stack_file(tmp_path / "a.tif", image)
    predict(model, file, tmp_path / "out", tile=TILE, bits=bits, confidence=True, exact=True)
    wanted = np.stack([expected(model, page[..., None], 72, exact=True) for page in image])
    for name, p in (("probability", wanted[..., 1]), ("confidence", wanted.max(axis=3))):
        found = tifffile.imread(tmp_path / "out" / f"a_{name}.tif")
        assert found.dtype == dtype
        assert np.abs(found / top - p).max() <= 0.5 / top + 1e-7
    classes = tifffile.imread(tmp_path / "out" / "a_classes.tif")
    assert np.array_equal(classes, wanted[..., 1] > 0.5), "the mask knows the numbers themselves"


def test_confidence_as_floating_point_and_of_three_classes(tmp_path):
    model = save_model(tmp_path / "m.safetensors", classes=3)
    image = pages(3, 1, 44, 40)
    predict(model, stack_file(tmp_path / "a.tif", image), tmp_path / "out", confidence=True)
    p = expected(model, image[0][..., None], 64)
    found = tifffile.imread(tmp_path / "out" / "a_confidence.tif")
    assert found.dtype == np.float32
    assert np.allclose(found, p.max(axis=2), atol=1e-5)
    assert found.min() >= 1 / 3


def test_without_being_asked_there_is_no_confidence(model, tmp_path):
    written = predict(model, stack_file(tmp_path / "a.tif", pages(4, 1, 40, 40)), tmp_path / "out")
    assert [p.name for p in written] == ["a_probability.tif", "a_classes.tif", "a_overlay.png"]


def test_other_numbers_of_bits_are_refused(model, tmp_path, capsys):
    file = str(stack_file(tmp_path / "a.tif", pages(4, 1, 40, 40)))
    assert main(["predict", "-m", str(model), file, "-o", str(tmp_path / "o"), "--bits", "12"]) == 2
    assert "--bits" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_probabilities_are_scored_as_probabilities(tmp_path, dtype):
    rng = np.random.default_rng(0)
    p = rng.random((2, 60, 50)).astype(np.float32)
    truth = (p + 0.3 * rng.standard_normal(p.shape) > 0.5).astype(np.uint8)
    tifffile.imwrite(tmp_path / "t.tif", truth)
    tifffile.imwrite(tmp_path / "x_probability.tif", np.rint(p * np.iinfo(dtype).max).astype(dtype))
    tifffile.imwrite(tmp_path / "y.tif", p)
    files = tmp_path / "x_probability.tif", tmp_path / "y.tif"
    whole, plain = (evaluate(file, tmp_path / "t.tif") for file in files)
    assert whole["kind"] == plain["kind"] == "probability"
    for name, score in plain["scores"].items():
        assert whole["scores"][name] == pytest.approx(score, abs=0.02)


def test_objects_are_found_by_the_rule_in_the_model(tmp_path, capsys):
    plain = save_model(tmp_path / "m.safetensors", instances=True)
    saved = checkpoint.load(plain)
    image = pages(9, 1, 60, 70)
    p = expected(plain, image[0][..., None], 88)[..., 1]
    middle, high = np.quantile(p, [0.3, 0.8])
    rule = Rule(round(float(middle), 3), round(float(high), 3), 2, 0.5, min_size=3, grow=0)
    other = checkpoint.Checkpoint(saved.weights, {**saved.meta, "objects": rule.to_dict()})
    other.save(tmp_path / "ruled.safetensors")
    file = stack_file(tmp_path / "a.tif", image)

    def found(model, **options):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        predict(tmp_path / model, file, out, instances=True, **options)
        probability = tifffile.imread(out / "a_probability.tif")
        return tifffile.imread(out / "a_instances.tif"), probability

    ids, p = found("ruled.safetensors")
    assert np.array_equal(ids, label_instances(p, rule))
    assert ids.max() > 3
    assert not np.array_equal(ids, found("m.safetensors")[0])
    ids, p = found("ruled.safetensors", min_size=30)
    assert np.bincount(ids.ravel())[1:].min() >= 30
    assert "not below" not in capsys.readouterr().err
    found("ruled.safetensors", threshold=rule.seed)
    assert f"is not below {rule.seed:g}" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--instances"):
        predict(tmp_path / "m.safetensors", file, tmp_path / "no", min_size=3)


@pytest.mark.parametrize(
    "stored",
    [
        {}, [], 3, {**Rule().to_dict(), "seed": 2.0}, {**Rule().to_dict(), "more": 1},
        {**Rule().to_dict(), "min_size": -1}, {**Rule().to_dict(), "threshold": "0.5"},
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused(tmp_path, capsys, stored):
    saved = checkpoint.load(save_model(tmp_path / "m.safetensors", instances=True))
    bad = checkpoint.Checkpoint(saved.weights, {**saved.meta, "objects": stored})
    bad.save(tmp_path / "bad.safetensors")
    file = stack_file(tmp_path / "a.tif", pages(4, 1, 40, 40))
    model, out = tmp_path / "bad.safetensors", tmp_path / "o"
    assert main(["predict", "-m", str(model), str(file), "-o", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rule for objects" in line
    assert not (tmp_path / "o").exists()
