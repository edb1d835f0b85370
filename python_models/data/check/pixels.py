"""What the files themselves show: unreadable, of two sizes, not binary, of an odd mode, saturated, constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..errors import one_line, some
from ..images import SATURATED
from ..masks import same_aspect
from .records import ImageRecord, Record
from .result import Finding

LARGE = 0.2  # share of an image; small targets cover 0.03 % of theirs, and 5 % of them more than 0.15 %


def judge(records: list[Record], full_scale: float | None) -> list[Finding]:
    """Findings about single files."""
    findings = []
    for r in records:
        for kind, text in (("image", r.image_error), ("mask", r.mask_error)):
            if text:
                findings.append(Finding("error", f"unreadable-{kind}", "", (r.name,), one_line(ValueError(text), 300)))
        if r.image and r.mask and r.image.size != r.mask.size:
            findings.append(_mismatch(r))
    return findings + _masks([r for r in records if r.mask]) + _images([r for r in records if r.image], full_scale)


def _mismatch(r: Record) -> Finding:
    (h, w), (mh, mw) = r.image.size, r.mask.size
    same = same_aspect(r.image.size, r.mask.size)
    says = "width / height agrees within 1 %, so the mask can be resized" if same else "width / height differs, so the mask cannot be resized"
    return Finding("warning" if same else "error", "size-mismatch", "", (r.name,), f"{r.name}: image {w} x {h}, mask {mw} x {mh}; {says}")


def _masks(records: list[Record]) -> list[Finding]:
    findings = []
    for severity, kind, is_so, says in (
        ("warning", "grey-mask", lambda m: m.grey, "hold values other than 0 and full scale; foreground is what lies above half"),
        ("warning", "faint-mask", lambda m: m.faint, "hold something, but nothing above half of full scale: they come out empty"),
        ("warning", "large-mask", lambda m: sum(m.areas) > LARGE * m.size[0] * m.size[1], f"mark more than {100 * LARGE:.0f} % of their image as target: inverted, or no target mask?"),
        ("note", "empty-mask", lambda m: not m.areas and not m.faint, "are empty"),
    ):
        names = [r.name for r in records if is_so(r.mask)]
        if names:
            findings.append(Finding(severity, kind, "", tuple(names), f"{len(names)} of {len(records)} masks {says}: {some(names)}"))
    return findings + _modes(records, "mask")


def _modes(records: list[Record], kind: str) -> list[Finding]:
    odd: dict[str, list[str]] = {}
    for r in records:
        if getattr(r, kind).odd:
            odd.setdefault(getattr(r, kind).mode, []).append(r.name)
    return [Finding("note", f"{kind}-mode", "", tuple(names), f"{len(names)} of {len(records)} {kind}s are of mode {mode}: {some(names)}")
            for mode, names in sorted(odd.items())]


def _images(records: list[Record], full_scale: float | None) -> list[Finding]:
    findings = _modes(records, "image")

    def report(severity: str, kind: str, is_so: Callable[[ImageRecord], bool], says: str) -> None:
        names = [r.name for r in records if is_so(r.image)]
        if names:
            findings.append(Finding(severity, kind, "", tuple(names), f"{len(names)} of {len(records)} images {says}: {some(names)}"))

    most = max((r.image.colour for r in records), default=0.0)
    report("warning", "colour", lambda i: i.colour > 0, f"have channels that differ, by up to {100 * most:.3g} % of full scale; grey is their mean")
    report("warning", "constant-image", lambda i: i.constant, "are constant (standard deviation 0)")
    depth = stored_depth(records) if full_scale is None else None
    if depth:
        findings.append(Finding("warning", "depth", "", (), f"no value of the 16-bit images exceeds {depth}: open them with full_scale={_full(depth)}"))
    scale = full_share(records, full_scale)
    share = [(saturation(r.image, scale), r.name) for r in records if not r.image.constant]
    share = sorted((s for s in share if s[0] > SATURATED), key=lambda s: (-s[0], s[1]))
    if share:
        text = f"{len(share)} of {len(records)} images have more than {100 * SATURATED:g} % of their pixels at full scale"
        findings.append(Finding("warning", "saturation", "", tuple(n for _, n in share), f"{text}: {some([f'{n} {100 * s:.1f} %' for s, n in share])}"))
    return findings


def stored_depth(records: list[Record]) -> int | None:
    """The greatest value of the 16-bit images where it leaves the top bit unused, else None."""
    tops = [round(65535 * r.image.top) for r in records if r.image and r.image.deep]
    return max(tops) if tops and 0 < max(tops) < 32768 else None


def _full(depth: int) -> int:
    return (1 << max(depth, 255).bit_length()) - 1


def full_share(records: list[Record], full_scale: float | None) -> float:
    """The share of the stored type's full scale that counts as full: less than 1 where 16 bits hold fewer."""
    depth = stored_depth(records) if full_scale is None else None
    return _full(depth) / 65535 if depth else 1.0


def saturation(image: ImageRecord, scale: float) -> float:
    """Share of pixels at full scale."""
    return image.at_top if image.top >= (scale if image.deep else 1.0) * (1 - 1e-6) else 0.0


def describe(records: list[Record], full_scale: float | None) -> dict:
    """Figures of all images together."""
    images, masks = [r.image for r in records if r.image], [r.mask for r in records if r.mask]
    sizes = Counter(i.size for i in images)
    scale = full_share(records, full_scale)
    pixels = sum(i.size[0] * i.size[1] for i in images)
    low, high = (f"{pick(w for _, w in sizes)} x {pick(h for h, _ in sizes)}" if sizes else "none" for pick in (min, max))
    return {
        "count": len(records), "readable": len(images), "masks": len(masks),
        "targets": sum(len(m.areas) for m in masks), "empty": sum(not m.areas for m in masks),
        "sizes": low if low == high else f"{low} to {high} ({len(sizes)} different)", "modes": dict(sorted(Counter(i.mode for i in images).items())),
        "saturated": sum(saturation(i, scale) * i.size[0] * i.size[1] for i in images) / pixels if pixels else 0.0,
    }
