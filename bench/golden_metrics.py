"""Our ISBI 2012 scores beside those of the challenge's own evaluation code.

    python bench/golden_metrics.py DATA_DIR

DATA_DIR holds train-volume.tif, train-labels.tif and metrics_golden.json, which gives the scores
of seven predictions and says how to rebuild these from the two stacks. Prints ours, golden and
the difference; exits 1 when one is over 1e-9.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from unetcu.scores.isbi import IsbiScores, isbi_scores
from unetcu.scores.metrics import pixel_error

Stack = npt.NDArray[np.integer]

# The golden values are rounded to ten digits.
TOLERANCE = 1e-9
SCORES = ("V_Rand", "V_Info", "rand_error", "pixel_error", "plain_pixel_error_at_0.5",
          "V_Rand_by_threshold")  # fmt: skip


def box(stack: Stack, radius: int) -> Stack:
    """The sum over each (2 radius + 1)-square, edge pixels replicated, in integers."""
    height, width = stack.shape[1:]
    ring = (radius, radius)
    padded = np.pad(stack.astype(np.int64), ((0, 0), ring, ring), "edge")
    steps = range(2 * radius + 1)
    return sum(padded[:, y : y + height, x : x + width] for y in steps for x in steps)


def predictions(volume: Stack, labels: Stack, pages: list[int]) -> dict[str, Stack]:
    """The seven predictions, (pages, H, W) with values 0..255."""
    grey, truth = volume[pages], labels[pages]
    return {
        "truth": truth,
        "box5": box(grey, 2) // 25,
        "box9": box(grey, 4) // 81,
        "thick": np.where(box(truth == 0, 1) > 0, 0, 255),
        "thin": np.where(box(truth == 255, 1) > 0, 255, 0),
        "next": labels[[page + 1 for page in pages]],
        "soft": (3 * (box(255 * (truth == 255), 2) // 25) + box(grey, 1) // 9) // 4,
    }


def ours(prediction: Stack, truth: Stack) -> dict[str, float | list[float]]:
    """Our scores under the golden file's names."""
    probability = prediction.astype(np.uint8).astype(np.float32) / np.float32(255)
    inside = (truth == 255).astype(np.int32)
    scores: IsbiScores = isbi_scores(probability, inside)
    return {
        "V_Rand": scores.v_rand,
        "V_Info": scores.v_info,
        "rand_error": scores.rand_error,
        "pixel_error": scores.pixel_error,
        "plain_pixel_error_at_0.5": pixel_error(probability > 0.5, inside),
        "V_Rand_by_threshold": scores.by_threshold["v_rand"].tolist(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR")
    folder = parser.parse_args().data_dir
    golden = json.loads((folder / "metrics_golden.json").read_text(encoding="utf-8"))
    volume = tifffile.imread(folder / "train-volume.tif")
    labels = tifffile.imread(folder / "train-labels.tif")
    pages = golden["slices"]
    wrong = 0
    print(f"{'prediction':10} {'score':24} {'ours':>13} {'golden':>13} {'difference':>11}")
    for name, prediction in predictions(volume, labels, pages).items():
        start = time.perf_counter()
        mine = ours(prediction, labels[pages])
        seconds = time.perf_counter() - start
        for score in SCORES:
            a, b = np.atleast_1d(mine[score]), np.atleast_1d(golden["scores"][name][score])
            worst = int(np.argmax(np.abs(a - b)))
            off = abs(a[worst] - b[worst])
            fits = off <= TOLERANCE
            wrong += not fits
            print(f"{name:10} {score:24} {a[worst]:13.10f} {b[worst]:13.10f} {off:11.1e}"
                  + ("" if fits else f"  OUT OF TOLERANCE ({TOLERANCE:g})"))  # fmt: skip
        print(f"{name:10} {len(pages)} pages in {seconds:.2f} s")
    print(f"{wrong} out of tolerance" if wrong else "all within tolerance")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
