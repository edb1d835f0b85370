"""Helpers of the data tests: small data-set folders, and the real sets where IRSTD_DATA names them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save():
    """save(path, array): any array Pillow can store, with its folders."""

    def write(path, values):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values)).save(path)

    return write


@pytest.fixture
def make_set(tmp_path, save):
    """make_set(masks={name: array}, lists={"split/part": names}) -> root of an images/ + masks/ data set."""

    def make(masks, lists, ending="", size=(12, 16)):
        root = tmp_path / "set"
        for number, (name, mask) in enumerate(masks.items()):
            save(root / "images" / f"{name}.png", np.full(size, 10 * number % 256, np.uint8))
            save(root / "masks" / f"{name}{ending}.png", mask)
        for name, names in lists.items():
            path = root / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n")
        return root

    return make


@pytest.fixture
def lay(tmp_path, save):
    """lay(root, images={path: k}, masks={path: k}, lists={path: lines}) -> root. Image k is filled with grey k, mask k has k
    foreground pixels, so that a wrong pair shows."""

    def make(root, images=(), masks=(), lists=()):
        home = tmp_path / root
        for path, k in dict(images).items():
            save(home / path, np.full((6, 8), k, np.uint8))
        for path, k in dict(masks).items():
            save(home / path, (np.arange(48).reshape(6, 8) < k).astype(np.uint8) * 255)
        for path, lines in dict(lists).items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text("\n".join(lines) + "\n")
        return home

    return make


@pytest.fixture
def real_data():
    """real_data("NUAA-SIRST") -> its folder under IRSTD_DATA."""

    def find(name):
        folder = os.environ.get("IRSTD_DATA")
        if not folder:
            pytest.skip("IRSTD_DATA is not set: real images are tested only where that folder is given")
        path = Path(folder) / name
        assert path.is_dir(), f"IRSTD_DATA has no {name}"
        return path

    return find
