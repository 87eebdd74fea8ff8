"""Settings: one table for flags, files and Python; each value back as it was; bad ones refused."""

import argparse
import math
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from unetcu import cli
from unetcu.errors import DataError, UsageError
from unetcu.training.config import data_in, quoted, read_toml
from unetcu.training.recipes import recipe, recipes
from unetcu.training.settings import Settings, add_flags, from_flags

# One value of each setting that is not its default.
OTHER = {
    "epochs": 3, "steps": 17, "minutes": 0.5, "batch": 2, "lr": 1e-05, "optimizer": "sgd",
    "momentum": 0.5, "precision": "fp32", "schedule": "constant", "average": 0.0, "tile": 572,
    "depth": 2, "base": 3,
    "dropout": 0.5, "classes": 3, "instances": True, "ignore": -7, "range": "image",
    "val": "pages 18-23,7", "balance": 0.5, "w0": 2.5,
    "sigma": 3.25, "gap": 2, "symmetry": "up-down", "elastic": 0.0, "scale": 0.25, "gray": 0.0,
    "warp": "cpu", "seed": 4294967295,
    "patience": 9,
}  # fmt: skip
LENGTHS = ("epochs", "steps", "minutes")
SHORT = {"epochs": "-e", "batch": "-b", "lr": "-l", "val": "-v"}


def words(name: str, short: bool = False) -> list[str]:
    flag = SHORT[name] if short else "--" + name.replace("_", "-")
    value = OTHER[name]
    return [flag] if value is True else [flag, *str(value).split()]


def parsed(argv: list[str], config: Path | None = None) -> Settings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_flags(parser.parse_args(argv), config)


def test_the_table_above_names_every_setting():
    assert list(OTHER) == [f.name for f in fields(Settings)]
    assert all(getattr(Settings(), k) != v for k, v in OTHER.items())


@pytest.mark.parametrize("name", OTHER)
def test_each_flag_and_each_key_sets_its_setting_alone(name, tmp_path):
    expected = replace(Settings(), **{name: OTHER[name]})
    assert parsed(words(name)) == expected
    if name in SHORT:
        assert parsed(words(name, short=True)) == expected
    file = tmp_path / "config.toml"
    file.write_text(expected.toml())
    assert parsed([], file) == expected
    assert type(getattr(parsed([], file), name)) is type(OTHER[name])


def test_all_together_by_flags_and_by_file(tmp_path):
    for length in LENGTHS:
        chosen = [n for n in OTHER if n not in LENGTHS or n == length]
        expected = Settings(**{n: OTHER[n] for n in chosen})
        assert parsed([w for n in chosen for w in words(n)]) == expected
        table = tomllib.loads(expected.toml())
        assert table == {n: OTHER[n] for n in chosen}


def test_nothing_given_is_the_default(tmp_path):
    assert parsed([]) == Settings()
    file = tmp_path / "c.toml"
    file.write_text(Settings().toml())
    assert parsed([], file) == Settings()
    assert {"epochs", "ignore", "patience"} & set(tomllib.loads(Settings().toml())) == set()


def test_flags_win_over_the_file_and_a_length_replaces_the_files(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('images = "a.tif"\nlabels = "b.tif"\nsteps = 5\nlr = 0.25\ninstances = true\n')
    assert parsed([], file) == Settings(steps=5, lr=0.25, instances=True)
    assert parsed(["--lr", "0.5"], file) == Settings(steps=5, lr=0.5, instances=True)
    assert parsed(["-e", "2"], file) == Settings(epochs=2, lr=0.25, instances=True)
    assert parsed(["--no-instances", "--minutes", "2"], file) == Settings(minutes=2, lr=0.25)
    assert data_in(file) == ("a.tif", "b.tif", None)
    file.write_text('images = "a"\ninit_from = "m"')
    assert data_in(file) == ("a", None, "m")


def test_help_tells_every_flag_and_its_default(capsys):
    assert cli.main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.partition("\noptions:")[2].split())
    for f in fields(Settings):
        start = re.search(f" --{f.name.replace('_', '-')}[ ,]", text).start()
        if f.default is not None and f.default is not False:
            told = text.index(f"(default: {f.default})", start)
            assert told - start < 250, f.name
        assert f.metadata["help"].split("(")[0].strip().replace("  ", " ") in text
    assert "%%" not in text


BAD = [
    ("--lr", "0"), ("--lr", "nan"), ("--lr", "-1"), ("--lr", "1e30"), ("--lr", "inf"),
    ("--lr", "10.5"), ("--lr", "x"), ("--epochs", "0"), ("--epochs", "-1"), ("--epochs", "1.5"),
    ("--steps", "0"), ("--steps", "1000000000"), ("--minutes", "0"), ("--minutes", "nan"),
    ("--depth", "0"), ("--depth", "12"), ("--depth", "9"), ("--base", "0"), ("--base", "1025"),
    ("--batch", "0"), ("--batch", "4097"), ("--classes", "1"), ("--classes", "257"),
    ("--seed", "-1"), ("--seed", "4294967296"), ("--momentum", "1"), ("--momentum", "-0.1"),
    ("--momentum", "nan"), ("--average", "1"), ("--dropout", "1"), ("--dropout", "nan"),
    ("--w0", "-1"), ("--w0", "nan"), ("--w0", "1e6"), ("--gap", "-1"), ("--elastic", "inf"),
    ("--scale", "-1"), ("--gray", "nan"), ("--sigma", "0"), ("--sigma", "nan"),
    ("--patience", "0"), ("--balance", "-0.1"), ("--balance", "1.1"), ("--balance", "nan"),
    ("--optimizer", "adam"), ("--schedule", "linear"), ("--range", "minmax"),
    ("--symmetry", "d4"), ("--tile", "189"), ("--tile", "0"),
    ("--tile", "100000004"),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), BAD)
def test_a_value_that_makes_no_sense_is_one_line_that_names_the_flag(capsys, flag, value):
    assert cli.main(["train", "no.tif", "no.tif", flag, value]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert flag in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "good",
    [
        {"lr": 10}, {"lr": 5e-324}, {"momentum": 0}, {"w0": 0}, {"gap": 0}, {"depth": 8,
        "tile": 3068}, {"base": 1024}, {"classes": 2}, {"classes": 256}, {"seed": 0},
        {"batch": 4096}, {"steps": 999_999_999}, {"depth": 1, "tile": 16384},
    ],
)  # fmt: skip
def test_the_ends_of_each_range_are_inside(good):
    assert all(getattr(Settings(**good), k) == v for k, v in good.items())


@pytest.mark.parametrize(
    ("tile", "depth", "two"),
    [(570, 4, (556, 572)), (189, 3, (188, 196)), (1, 1, (18, 20)), (95, 3, (92, 100))],
)
def test_an_illegal_tile_names_the_two_nearest(tile, depth, two):
    with pytest.raises(UsageError, match=f"--tile {tile} .* {two[0]} and {two[1]}$"):
        Settings(tile=tile, depth=depth)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_two_lengths_are_refused(one, other):
    names = LENGTHS[one], LENGTHS[other]
    with pytest.raises(UsageError, match=f"--{names[0]} and --{names[1]} "):
        Settings(**dict.fromkeys(names, 5))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("lrate = 1", "'lrate'"), ('lr = "1"', "--lr"), ("steps = 1.0", "--steps"),
        ("steps = true", "--steps"), ("val = 0.2", "--val"), ("instances = 1", "--instances"),
        ('optimizer = ["sgd"]', "--optimizer"), ("[lr]", "--lr"), ("depth = 2000-01-01",
        "--depth"), ("images = 3", "images"), ("labels = []", "labels"), ("lr = nan", "--lr"),
        ("lr = 1\nlr = 2", "TOML"), ("lr =", "TOML"), ("\0", "TOML"), ('"a\\nb" = 1', "'a\\nb'"),
        ('optimizer = "adam"', "give adamw or sgd"), ('symmetry = "d4"', "--symmetry"),
        ("x = " + "[" * 5000, "TOML"), ("\udcff = 1", "TOML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_that_names_the_key(tmp_path, capsys, line, named):
    file = tmp_path / "c.toml"
    file.write_bytes(line.encode("utf-8", "surrogateescape"))
    assert cli.main(["train", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert named in err


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml cannot be read"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(DataError, match="cannot be read"):
        read_toml(tmp_path)


def test_python_values_of_another_type_are_refused():
    for bad in ({"lr": None}, {"batch": True}, {"tile": 188.0}, {"val": None}, {"seed": "1"}):
        with pytest.raises(UsageError, match=f"--{next(iter(bad))} "):
            Settings(**bad)


@pytest.mark.parametrize("files", [["a.tif", "b.tif"], ["0.3"], ["pages", "3"]])
def test_files_after_val_are_told_to_stand_before_it(files):
    with pytest.raises(UsageError, match=r"--val 0\.2 does not go with"):
        parsed(["--val", "0.2", *files])
    with pytest.raises(UsageError, match=r"--val pages .*'x 1\.tif'"):
        parsed(["--val", "pages", "18-23", "x 1.tif", *files])
    assert parsed(["--val", "pages", "1,2", "7-9"]).val == "pages 1,2 7-9"


@pytest.mark.parametrize(
    "text", ["", 'a"b', "a\\b", "a\nb\t\x7f", "é😀", "\u202e", "\U000e0001x", "caf\udce9"]
)
def test_strings_that_need_quoting_come_back(tmp_path, text):
    file = tmp_path / "c.toml"
    line = f"images = {quoted(text)}\n" + Settings(val=text).toml()
    assert len(line.splitlines()) == len(Settings().toml().splitlines()) + 1
    file.write_text(line, "utf-8", "surrogateescape")
    assert data_in(file)[0] == text
    assert parsed([], file).val == text


def test_what_the_settings_mean_for_tiles_and_augmentation():
    assert (Settings().tile_out, Settings(tile=572, depth=4).tile_out) == (164, 388)
    a = Settings(elastic=3, gray=0.5, scale=0.2, symmetry="none").augment()
    assert (a.symmetry, a.scale, a.elastic) == ("none", 0.2, 3)
    assert (a.contrast, a.brightness, a.gamma) == (0.5, 0.5, 0.5)
    assert math.isclose(a.noise, 0.1)
    assert Settings(gray=0).augment().noise == 0


def typed(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_can_be_read_and_says_what_it_is_for(name):
    settings = from_flags(typed(), recipe(name))
    assert settings != Settings()
    first = recipe(name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


def test_a_config_wins_over_a_recipe_and_flags_win_over_both(tmp_path):
    below, above = tmp_path / "recipe.toml", tmp_path / "config.toml"
    below.write_text("tile = 252\nlr = 0.01\nsteps = 7\nseed = 1\n")
    above.write_text('images = "x.tif"\nlr = 0.02\nepochs = 3\nseed = 2\n')
    settings = from_flags(typed("--seed", "3"), below, above)
    assert (settings.tile, settings.lr, settings.seed) == (252, 0.02, 3)
    assert (settings.steps, settings.epochs) == (None, 3), "a length replaces one of another kind"
    assert from_flags(typed("--minutes", "2"), below, above).epochs is None


def test_a_recipe_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="--recipe nuclie is not known: there are membranes, nucl"):
        recipe("nuclie")


def test_what_changes_nothing_is_said():
    assert Settings().idle() == []
    assert Settings(w0=3.0, sigma=2.0, balance=0.5).idle() == []
    assert Settings(w0=0.0, balance=0.5, gap=3).idle() == []
    assert Settings(w0=0.0, sigma=1.0).idle() == ["--sigma changes nothing with --w0 0.0"]
    assert Settings(optimizer="sgd", momentum=0.5).idle() == []
    assert Settings(momentum=0.5).idle() == ["--momentum changes nothing with --optimizer adamw"]
    assert not any(parsed([], recipe(name)).idle() for name in recipes())
