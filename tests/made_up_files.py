"""Small images and masks, and files of them, for tests of what reads files."""

import numpy as np
import tifffile
from PIL import Image


def pixels(pages=1, height=21, width=34, channels=1, dtype=np.uint8, seed=0):
    """(pages, H, W) or (pages, H, W, C) of noise, every page another."""
    shape = (pages, height, width) + ((channels,) if channels > 1 else ())
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def mask(pages=1, height=21, width=34, value=255):
    out = np.zeros((pages, height, width), np.uint8)
    out[:, 4:11, 5:20] = value
    return out


def put(path, array):
    """Write one image or stack as the name says, and give the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array[0]).save(path)
    else:
        rgb = array.ndim == 4
        tifffile.imwrite(path, array, photometric="rgb" if rgb else "minisblack")
    return path


def folders(tmp_path, images, labels, parent="labels"):
    """Folders of one-page files; a label is a mask unless an array is given."""
    for i, name in enumerate(images):
        put(tmp_path / "images" / name, pixels(seed=i))
    for name in labels:
        put(tmp_path / parent / name, mask())
    return tmp_path / "images", tmp_path / parent
