"""`unetcu plan`: what it says is what `unetcu train` then does."""

import json
import re

import pytest
from made_up_runs import cells, quick, tiny

from unetcu import cli, plan
from unetcu.memory import human, inference_bytes, training_bytes
from unetcu.tiles import border, nearest_valid
from unetcu.train import train
from unetcu.training import prepare
from unetcu.unet import UNet


@pytest.fixture
def files(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(plan, "seconds_a_step", lambda net, prepared: 0.25)
    monkeypatch.setattr(prepare, "validate", lambda *given: None)
    monkeypatch.chdir(tmp_path)
    return [str(f) for f in cells(tmp_path)]


@pytest.mark.parametrize(
    "settings",
    [
        tiny(), tiny(epochs=2), tiny(minutes=0.05), tiny(batch=2, optimizer="sgd"),
        tiny(depth=2, base=3, tile=76, val="none", schedule="constant"),
    ],
)  # fmt: skip
def test_the_plan_is_what_training_says_and_does(files, capsys, settings):
    settings = plan.Settings(**{**vars(settings), "instances": True})
    planned = plan.plan(*files, settings=settings)
    capsys.readouterr()
    done = train(*files, settings=settings)
    banner = capsys.readouterr().err
    assert f"{planned['parameters']:,} parameters" in banner
    assert f"tile {planned['tile_in']} -> {planned['tile_out']}\n" in banner
    assert f"training: {planned['steps']} steps of " in banner
    assert f" {planned['steps_an_epoch']} steps an epoch, " in banner
    assert f"about {human(planned['training_bytes'])} and " in banner
    assert f"device: {planned['device']}\n" in banner
    assert planned["training_seconds"] == round(0.25 * planned["steps"], 1)
    assert planned["seconds_a_step"] == 0.25
    assert done.rows[-1]["step"] == planned["steps"]
    assert done.rows[0]["step"] == min(planned["steps_an_epoch"], planned["steps"])


def test_the_numbers(files):
    s = tiny(instances=True, depth=2, base=3, tile=76, optimizer="sgd", batch=2)
    planned = plan.plan(*files, settings=s)
    net = UNet(2, 3, 1, 2)
    assert planned["parameters"] == net.parameters.size
    assert planned["table"] == net.summary(76)
    assert planned["training_bytes"] == training_bytes(net, s)
    tile = planned["inference_tile"]
    assert nearest_valid(tile, 2) == (tile, tile)
    assert 480 <= tile - 2 * border(2) < 484
    assert planned["inference_bytes"] == inference_bytes(net, tile, tile)
    assert (planned["tile_in"], planned["tile_out"]) == (76, 36)


def test_json_and_text_on_the_command_line(files, capsys, tmp_path):
    words = [*files, "--instances", "--depth", "1", "--base", "2", "--tile", "64", "-e", "3"]
    assert cli.main(["plan", *words, "--json"]) == 0
    out, _ = capsys.readouterr()
    settings = plan.Settings(instances=True, depth=1, base=2, tile=64, epochs=3)
    planned = plan.plan(*files, settings=settings)
    assert json.loads(out) == planned
    assert planned["steps"] == 9
    capsys.readouterr()
    assert cli.main(["plan", *words]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(planned["table"] + "\n\n")
    said = dict(re.findall(r"(?m)^(device|tile|training|prediction|one step|the run) +(.*)$", out))
    assert said["tile"] == "64 -> 48 pixels"
    assert said["device"] == planned["device"]
    assert said["training"].startswith(f"about {human(planned['training_bytes'])} of memory ")
    assert said["prediction"].startswith(f"about {human(planned['inference_bytes'])} with tiles")
    assert said["one step"].startswith("0.250 s")
    assert said["the run"].startswith("9 steps = 3 epochs, about 0.0 min")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ids.tif", "images.tif"]


def test_the_plan_of_a_config_is_that_of_its_data(files, capsys, tmp_path):
    run = train(*files, settings=tiny(instances=True, val="none"))
    assert cli.main(["plan", "--config", str(run.folder / "config.toml"), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert (planned["steps"], planned["steps_an_epoch"]) == (7, 4)


def test_a_step_is_measured_on_a_network_that_is_thrown_away(files, monkeypatch):
    prepared = prepare.prepare(*files, tiny(instances=True))
    net = prepare.network(prepared, plan.device.device("cpu"), None)
    before = net.parameters.flat.tobytes()
    assert 0 < prepare.seconds_a_step(net, prepared) < 10
    assert net.parameters.flat.tobytes() == before


def test_minutes_pay_for_steps_and_validation(files, monkeypatch):
    prepared = prepare.prepare(*files, tiny(minutes=2, instances=True, val="none"))
    net = prepare.network(prepared, plan.device.device("cpu"), None)
    assert prepare.total_steps(net, prepared, 0.5) == 240
    assert prepare.total_steps(net, prepared, 1e9) == 1
    times = iter([100.0, 103.0])
    prepared = prepare.prepare(*files, tiny(minutes=2, instances=True, val="pages 0,1"))
    monkeypatch.setattr(prepare.time, "perf_counter", lambda: next(times))
    # Two training images make an epoch of 2 steps; 3 s for each of two images after it.
    assert prepare.total_steps(net, prepared, 0.5) == int(120 / (0.5 + 6 / 2))


def test_what_cannot_be_planned_is_one_line(files, capsys, tmp_path):
    for words in (
        ["--tile", "65"],
        ["none.tif", "none.tif"],
        ["--config", "none.toml"],
        ["--lr", "0"],
    ):
        assert cli.main(["plan", *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("unetcu plan: ")
