"""Small images and labels, and files of them, for tests of what reads files."""

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


def discs(pages, height=160, width=170, radius=9, seed=0, touching=False):
    """Bright discs on dark noise: images uint8 and instance ids uint16, (pages, H, W) each.

    Discs keep clear of each other, or stand side by side in pairs where `touching`.
    """
    r = np.random.default_rng(seed)
    images = r.normal(60, 8, (pages, height, width))
    ids = np.zeros((pages, height, width), np.uint16)
    y, x = np.indices((height, width))
    for page in range(pages):
        number, gap = 0, 2 * radius + 6
        places: list[tuple[int, int]] = []
        for _ in range(height * width // radius**2):
            place = r.integers(0, height), r.integers(0, width)
            if any((place[0] - a) ** 2 + (place[1] - b) ** 2 < gap**2 for a, b in places):
                continue
            places.append(place)
            inside = (y - place[0]) ** 2 + (x - place[1]) ** 2 <= radius**2
            number += 1
            ids[page][inside] = number
            if touching and (inside & (x > place[1])).any() and (inside & (x <= place[1])).any():
                number += 1
                ids[page][inside & (x > place[1])] = number
            images[page][inside] += 70
    return images.clip(0, 255).astype(np.uint8), ids
