"""bench/: the launches that a model is made of, the model, and the tables that need no GPU."""

import pytest
from benches import ROOT

from unetcu.autograd import Tensor, no_grad
from unetcu.ops._conv3x3_variants import studied
from unetcu.precision import FORMS
from unetcu.unet import UNet


def forward(depth, base, tile, precision):
    def prepared(where):
        net = UNet(depth, base, on=where, precision=precision)
        x = Tensor.wrap(where.empty((1, tile, tile, 1)), where)

        def job():
            with no_grad():
                net(x)

        return job

    return prepared


@pytest.mark.parametrize("precision", FORMS)
def test_launches_make_the_flops_of_the_network(bench, precision):
    made = bench("launches").made_by(forward(2, 16, 92, precision))
    layers = list(UNet(2, 16).layers(92, 92))
    assert sum(launch.flops for launch in made) == sum(layer.flops for layer in layers)
    assert all(launch.blocks * launch.block_flops >= launch.flops * 0.999999 for launch in made)
    bound = {"fp32": set(), "bf16": {"cast_forward"}, "fp16": {"cast_forward"}}
    assert bound.get(precision, set()) <= {launch.entry for launch in made}


def test_a_step_makes_three_times_the_flops_but_for_the_image(bench):
    nets, launches = bench("gpu_nets"), bench("launches")
    case = nets.Case("training step", 92, 2, 2, 16)
    made = launches.made_by(lambda where: nets.ours(case, where, "bf16").work)
    layers = list(UNet(2, 16).layers(92, 92))
    wanted = 3 * sum(layer.flops for layer in layers)  # the image has no gradient, but its layer
    wanted += sum(layer.flops for layer in layers if "up-conv" in layer.kind)  # is made again
    assert sum(launch.flops for launch in made) == 2 * wanted


def test_what_a_block_loads_and_multiplies(bench):
    """One launch by hand: 16 x 16 pixels, 128 filters of 64 channels, in bf16."""
    with studied("conv3x3_mma/wide"):
        made = bench("launches").made_by(lambda where: lambda: _one(where, 66, 64, 128))
    (launch,) = (m for m in made if m.flops)
    assert launch.engine == "mma"
    assert launch.form == "bf16"
    assert launch.blocks == 4 * 4
    assert launch.flops == 2 * 9 * 64 * 64 * 64 * 128
    assert launch.block_flops == 2 * 9 * 16 * 16 * 64 * 128
    assert launch.block_bytes == 2 * 64 * (18 * 18 + 9 * 128)
    arrays = 66 * 66 * 64 * 2 + 9 * 64 * 128 * 2 + 128 * 4 + 64 * 64 * 128 * 2
    assert arrays <= launch.bytes <= arrays + 16  # and what is not used


def _one(where, size, C, K):
    from unetcu.ops.conv3x3 import conv3x3

    x, w = (where.empty(s, "uint16") for s in [(1, size, size, C), (3, 3, C, K)])
    x, w, b = (Tensor.wrap(a, where) for a in (x, w, where.empty((K,))))
    with no_grad():
        return conv3x3(x, w, b)


def test_the_model_by_hand(bench):
    model, launches = bench("model"), bench("launches")
    card = model.card("NVIDIA H100 80GB HBM3")
    assert card.name == "H100"
    assert model.card("NVIDIA A100-SXM4-80GB").name == "A100 80GB"
    assert model.card("NVIDIA A100-SXM4-40GB").name == "A100"
    assert model.card("cuda:0 (NVIDIA H200, sm_90)").name == "H200"
    assert model.card("NVIDIA H100 PCIe").name == "H100 PCIe"
    assert model.card("NVIDIA GeForce GTX 1080") is None
    assert card.floor(0.8 * 989e12, 0, "bf16") == pytest.approx(1)
    assert card.floor(0.8 * 989e12, 0, "tf32x3") == pytest.approx(6)
    assert card.floor(67e12, 0, "fp32") == pytest.approx(1)
    assert card.floor(1, 0.9 * 3.35e12, "bf16") == pytest.approx(1)

    def launch(blocks, flops=0.0, moved=0, taken=0.0, unit="conv3x3_mma:bf16"):
        return launches.Launch(unit, "", blocks, int(blocks * flops), moved, flops, taken)

    def time(*args, **options):
        return model.seconds(launch(*args, **options), card) - model.START

    rate = 0.85 * 0.63 * 989e12 / 132
    assert time(132, flops=rate) == pytest.approx(1)
    assert time(133, flops=rate) == pytest.approx(2)  # one has two
    assert time(132, flops=rate, unit="conv3x3_wgmma:bf16") == pytest.approx(0.63 / 0.8)
    assert time(1, taken=34 * 1.83e9) == pytest.approx(1)
    assert time(1, moved=int(0.9 * 3.35e12)) == pytest.approx(1)
    two = [launch(132, flops=rate), launch(1)]
    assert model.predicted(two, card) == pytest.approx(1 + 2 * model.START)
    assert not model.only_copies(1e12).known
    assert model.only_copies(1e12).floor(1e12, 2e12, "bf16") == pytest.approx(2)


@pytest.mark.parametrize("name", ["H200", "H100", "A100 80GB"])
def test_nothing_is_predicted_below_its_floor(bench, name):
    model = bench("model")
    card = next(c for c in model.CARDS if c.name == name)
    for precision in ("fp32", "tf32x3", "bf16"):
        made = bench("launches").made_by(forward(2, 64, 188, precision))
        for launch in made:
            least = card.floor(launch.flops, launch.bytes, launch.form)
            assert model.seconds(launch, card) >= least
        assert model.cudnn((1, 186, 186, 64), 64, card, precision) > 0


SASS = """
\t.section\t.text.conv_one,"ax",@progbits
.text.conv_one:
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDSM.16.M88.4 R4, [R8] ;
.L_x_2:
        /*0020*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0030*/              @!P1 LDSM.16.M88.4 R8, [R9] ;
        /*0040*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0050*/               @P0 BRA `(.L_x_2) ;
        /*0060*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0070*/               @P2 BRA `(.L_x_1) ;
        /*0080*/                   BRA `(.L_x_3) ;
.L_x_3:
        /*0090*/                   EXIT ;
\t.section\t.text.plain,"ax",@progbits
.L_x_4:
        /*0000*/                   FFMA R1, R2, R3, R1 ;
        /*0010*/               @P0 BRA `(.L_x_4) ;
"""


def test_the_hot_loop_is_the_innermost_with_products(bench):
    found = bench("compile_table").loops(SASS)
    assert set(found) == {"conv_one"}
    assert found["conv_one"].mix == {"HMMA": 2, "LDSM": 1, "BRA": 1}
    assert found["conv_one"].share == 0.5


def test_the_table_without_a_disassembler_says_so(bench, monkeypatch):
    table = bench("compile_table")
    with monkeypatch.context() as hidden:
        hidden.setattr(table.shutil, "which", lambda name: None)
        hidden.setattr(table.importlib.util, "find_spec", lambda name: None)
        assert table.disassembler() is None
    assert table.disassembler("here/nvdisasm") == "here/nvdisasm"
    monkeypatch.setattr(table, "dynamic", lambda: {("cast:bf16", "cast_forward"): (256, 7)})
    text = "\n".join(table.report(["cast:bf16"], [90], None))
    assert "nvdisasm was not found (pip install nvidia-cuda-nvdisasm)" in text
    row = next(line for line in text.splitlines() if line.startswith("| cast_forward:bf16"))
    assert row.split("|")[2:4] == [" 256 ", " 0 + 7 "]
    assert "Instructions of the hot loop" not in text


def test_dynamic_shared_memory_is_that_of_launches(bench):
    from unetcu.kernel import constants

    found = bench("compile_table").dynamic()
    size = constants("conv3x3_mma_w:bf16")
    wanted = 32 * (size["W_PIXELS"] + size["W_PATCH"]) * size["W_PITCH"]
    assert found["conv3x3_mma_w:bf16", "conv3x3_mma_w_backward"] == (size["W_THREADS"], wanted)
    assert found["ladder/conv3x3_5_wgmma", "conv3x3_5_wgmma"] == (128, 24 * 1024)
    stems = {unit.partition(":")[0] for unit, _ in found}
    wanted = {"conv3x3_mma", "conv3x3_mma_w", "upconv2_mma", "conv3x3_wgmma", "conv3x3_wgmma_w"}
    assert wanted <= stems


def test_what_the_rungs_should_reach(bench):
    """By hand for one of them; and the table of the ladder's README is what the script prints."""
    ladder, model = bench("ladder"), bench("model")
    on = model.card("H200")
    naive, tiled, registers, *_ = ladder.RUNGS
    assert ladder.limits(naive, on)["L2"] == pytest.approx(34 / 5)
    assert ladder.limits(tiled, on)["requests"] == 16
    clocks = 1 / (34 / 0.073) + 1 / 64
    wanted = ladder.FLOPS / 2 * clocks / (132 * 1.83e9), "requests"
    assert ladder.of_rung(registers, on) == (pytest.approx(wanted[0]), wanted[1])
    times = [ladder.of_rung(rung, on)[0] for rung in ladder.RUNGS]
    assert times == sorted(times, reverse=True)
    readme = (ROOT / "kernels/ladder/README.md").read_text("utf-8")
    assert "\n".join(ladder.table(on)) in readme
