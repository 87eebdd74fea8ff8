"""Make the pictures of README.md again: python docs/make_pictures.py RUN, the folder of a training
on the built-in data (`unetcu train -o RUN`). Writes docs/images/*.png and docs/images/graph.svg."""

import shutil
import sys
from pathlib import Path

import numpy as np

from unetcu import Tensor, UNet, softmax_loss
from unetcu.files.imagewrite import write_png
from unetcu.training.prepare import builtin_data
from unetcu.training.samples import balance, examples
from unetcu.training.settings import Settings
from unetcu.weightmap import picture

IMAGES = Path(__file__).parent / "images"


def main(run: Path) -> None:
    """Copy the run's panel and curves, draw one weight map and one graph."""
    IMAGES.mkdir(exist_ok=True)
    shutil.copy(run / "samples" / "validation.png", IMAGES / "validation.png")
    shutil.copy(run / "progress.png", IMAGES / "progress.png")
    settings, dataset = Settings(instances=True), builtin_data()
    (example,) = examples(dataset, [0], settings, balance(dataset, [0], settings))
    weights = picture(example.w)
    gray = np.repeat(dataset.images[0], 3, axis=2)
    gap = np.full((len(gray), 8, 3), 255, np.uint8)
    write_png(IMAGES / "weight_map.png", np.hstack([gray, gap, weights]), overwrite=True)
    net = UNet(depth=1, base=4)
    z = net(Tensor(np.zeros((1, 20, 20, 1), np.float32), name="image"))
    labels = Tensor(np.zeros(z.shape[:3], np.int32), name="labels")
    loss = softmax_loss(z, labels, Tensor(np.ones(z.shape[:3], np.float32), name="weights"))
    (IMAGES / "graph.svg").write_text(loss.graph().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
