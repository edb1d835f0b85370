"""A small data set without a fault, and ways to put faults into it."""
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 48)
NAMES = tuple("abcdefg")
TRAIN, TEST = NAMES[:4], NAMES[4:]


def texture(key: int, size=SIZE) -> np.ndarray:
    """A cloudy uint8 image, 20 to 220, that no other key repeats."""
    rng = np.random.default_rng(key)
    cloud = Image.fromarray(rng.uniform(40, 200, (7, 8)).astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(cloud) + rng.normal(0, 8, size), 20, 220).astype(np.uint8)


def target(row=10, col=12, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[row : row + 3, col : col + 3] = 255
    return mask


def save(path: Path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path)


def write_list(root: Path, name: str, names) -> None:
    path = root / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


def make_clean(root: Path) -> Path:
    """Seven images, four in train and three in test, one target each."""
    for key, name in enumerate(NAMES):
        save(root / "images" / f"{name}.png", texture(key))
        save(root / "masks" / f"{name}.png", target(col=5 + 4 * key))
    write_list(root, "half/train", TRAIN)
    write_list(root, "half/test", TEST)
    return root


def add(root: Path, part: str, *names: str) -> None:
    """More lines for a list of the split."""
    path = root / "half" / f"{part}.txt"
    path.write_text(path.read_text() + "".join(f"{n}\n" for n in names))
