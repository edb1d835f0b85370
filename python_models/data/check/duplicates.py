"""Images that show the same scene: equal pixels by hash, and near-duplicates by their thumbnails.

Two images are near-duplicates where, in one of the eight orientations, their thumbnails (64 x 64 area means) correlate to at
least :data:`SAME_SCENE`, and their detail (what is left when 9 x 9 means are taken away) to at least
:data:`SAME_DETAIL`. Both are clipped at 3 robust standard deviations, so that targets do not count. The second rule tells two takes of one scene
from two smooth skies, and from two scenes under one fixed pattern of the sensor.

NUDT-SIRST has 77 such pairs, all confirmed by eye: 40 across its train and test lists, where 27 are usually given (those with a
plain correlation of the 64 x 64 means of 0.995 or more; all are among the 40). SIRST v1 has none. No pair passes in a turned
or mirrored orientation in either, which tells how rarely chance alone does. The thresholds lie in a gap: from 0.79 to
0.89 of detail there is no pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from .lists import TRAIN_SIDE, NameList
from .records import THUMB, Record
from .result import Finding, counted, named

SAME_SCENE, SAME_DETAIL = 0.95, 0.85
_COARSE, _CANDIDATE = 16, 0.85  # px, and the correlation there from which a pair is looked at
_ROWS, _PAIRS = 256, 2048  # images and pairs at a time: about 150 MB for 50,000 images, beside their thumbnails
_KEPT = 100_000  # pairs; a video has more, and then the first ones say enough
_TURNS = tuple((flip, turns) for flip in (False, True) for turns in range(4))


@dataclass(frozen=True)
class Near:
    """Two images by index, their correlations, and whether one had to be turned or mirrored."""

    one: int
    two: int
    scene: float
    detail: float
    turned: bool


def find_duplicates(records: list[Record], lists: list[NameList], progress: bool = False) -> list[Finding]:
    """Equal and near-equal images: across train and test of each split, inside each, or in the folder where it has no lists."""
    records = [r for r in records if r.image]
    groups: dict[bytes, list[str]] = {}
    for r in records:
        groups.setdefault(r.image.digest, []).append(r.name)
    same = [tuple(g) for g in groups.values() if len(g) > 1]
    distinct = [r for r in records if groups[r.image.digest][0] == r.name and r.image.thumb is not None]
    near = near_duplicates([r.image.thumb for r in distinct], progress)
    pairs = [(groups[distinct[n.one].image.digest], groups[distinct[n.two].image.digest], n) for n in near]
    findings = []
    for split, train, test in _sides(lists) or [("", {r.name for r in records}, set())]:
        findings += _report_same(split, train, test, same) + _report_near(split, train, test, pairs)
    if len(near) == _KEPT:
        findings.append(Finding("note", "near-duplicate", "", (), f"only the first {_KEPT} near-duplicate pairs were looked at"))
    return findings


def _sides(lists: list[NameList]) -> list[tuple[str, set[str], set[str]]]:
    """(split, names trained on, names tested on)."""
    splits: dict[str, tuple[set[str], set[str]]] = {}
    for entry in lists:
        splits.setdefault(entry.split, (set(), set()))[entry.part not in TRAIN_SIDE].update(entry.names)
    return [(split, *sides) for split, sides in splits.items()]


def _report_same(split: str, train: set[str], test: set[str], same: list[tuple[str, ...]]) -> list[Finding]:
    across = tuple(g for g in same if not train.isdisjoint(g) and not test.isdisjoint(g))
    inside = tuple(g for g in same if g not in across and max(len(train.intersection(g)), len(test.intersection(g))) > 1)
    where = " inside train or inside test" if train and test else ""
    said = (("error", across, ", some in train and some in test"), ("warning", inside, where))
    return [Finding(severity, "duplicate", split, groups, f"{counted(len(groups), 'group')} of equal images{where}: {named(groups, '=')}")
            for severity, groups, where in said if groups]


def _report_near(split: str, train: set[str], test: set[str], pairs: list[tuple[list[str], list[str], Near]]) -> list[Finding]:
    across, inside = [], []
    for ones, twos, near in pairs:
        links = [(a, b) for a in ones for b in twos]  # more than one where images have equal copies
        crossing = [(a, b, near) for a, b in links if a in train and b in test or b in train and a in test]
        within = [(a, b, near) for a, b in links if {a, b} <= train or {a, b} <= test]
        across += crossing[:1]
        inside += [] if crossing else within[:1]
    findings = []
    together = ", both in train or both in test" if train and test else ""
    for severity, found, where in (("warning", across, ", one in train and one in test"), ("note", inside, together)):
        if found:
            found = sorted(found, key=lambda p: (-p[2].scene, p[0], p[1]))
            turned = sum(n.turned for _, _, n in found)
            names = tuple((a, b) for a, b, _ in found)
            where += f" ({turned} turned or mirrored)" if turned else ""
            findings.append(Finding(severity, "near-duplicate", split, names, f"{counted(len(found), 'pair')} of the same scene{where}: {named(names, '~')}"))
    return findings


def near_duplicates(thumbs: list[np.ndarray], progress: bool = False) -> list[Near]:
    """Every near-duplicate pair once, by rising index. Memory stays bounded by blocks; time grows with the square of the count."""
    best: dict[tuple[int, int], Near] = {}
    for pairs, flip, turns in _candidates(thumbs, progress):
        scene = _correlate(thumbs, 0, pairs, flip, turns)
        pairs, scene = pairs[scene >= SAME_SCENE], scene[scene >= SAME_SCENE]
        detail = _correlate(thumbs, 1, pairs, flip, turns)
        for (i, j), s, d in zip(pairs.tolist(), scene.tolist(), detail.tolist()):
            if d >= SAME_DETAIL and ((i, j) not in best or s > best[i, j].scene):
                best[i, j] = Near(i, j, s, d, flip or turns > 0)
        if len(best) >= _KEPT:
            break
    return [best[key] for key in sorted(best)][:_KEPT]


def _candidates(thumbs: list[np.ndarray], progress: bool) -> Iterator[tuple[np.ndarray, bool, int]]:
    """Index pairs (K, 2), first < second, whose coarse thumbnails correlate when the second is mirrored (``flip``) and turned."""
    if len(thumbs) < 2:
        return
    coarse = np.stack([_flat(_shrink(t[0])) for t in thumbs])
    starts = range(0, len(coarse), _ROWS)
    with tqdm(desc="data check: duplicates", total=len(_TURNS) * len(starts), disable=not progress, dynamic_ncols=True, leave=False) as bar:
        for flip, turns in _TURNS:
            other = np.ascontiguousarray(_turn(coarse.reshape(-1, _COARSE, _COARSE), flip, turns)).reshape(coarse.shape)
            for start in starts:
                close = coarse[start : start + _ROWS] @ other[start:].T >= _CANDIDATE
                pairs = np.stack(np.nonzero(np.triu(close, 1)), axis=1) + start
                for k in range(0, len(pairs), _PAIRS):
                    yield pairs[k : k + _PAIRS], flip, turns
                bar.update()


def _correlate(thumbs: list[np.ndarray], plane: int, pairs: np.ndarray, flip: bool, turns: int) -> np.ndarray:
    """Correlation (K,) of one plane of the thumbnails of each pair, the second one mirrored and turned."""
    used, position = np.unique(pairs, return_inverse=True)
    position = position.reshape(pairs.shape)
    unit = _flat(np.array([thumbs[i][plane] for i in used], np.float32).reshape(-1, THUMB, THUMB))
    turned = _turn(unit.reshape(-1, THUMB, THUMB), flip, turns).reshape(unit.shape)
    return np.einsum("kn,kn->k", unit[position[:, 0]], turned[position[:, 1]])


def _turn(values: np.ndarray, flip: bool, turns: int) -> np.ndarray:
    values = values[:, :, ::-1] if flip else values
    return np.rot90(values, turns, (1, 2))


def _shrink(thumb: np.ndarray) -> np.ndarray:
    step = THUMB // _COARSE
    return thumb.astype(np.float32).reshape(_COARSE, step, _COARSE, step).mean(axis=(1, 3))


def _flat(values: np.ndarray) -> np.ndarray:
    """(..., n, n) as vectors of zero mean and unit length; a flat one as zeros."""
    vectors = values.reshape(*values.shape[:-2], values.shape[-2] * values.shape[-1])
    vectors = vectors - vectors.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)
