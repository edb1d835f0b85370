"""Where published data sets and repositories keep images and masks: one small class a layout, asked in the order of LAYOUTS."""

from __future__ import annotations

from pathlib import Path

from .base import Room

PARTS = ("train", "val", "trainval", "test")


class ImagesMasks:
    """``images/`` and ``masks/``: SIRST v1, NUDT-SIRST, NUDT-SIRST-Sea, IRDST (folders inside), IRSTDID-SKY; BasicIRSTD,
    SCTransNet, DNANet, MSHNet, HDNet, SAM-SPL, IR-SAM2. Crop banks such as ``Target_image/`` are not images of the set."""

    name = "images-masks"

    @staticmethod
    def rooms(root: Path) -> list[Room]:
        return [Room(root / "images", root / "masks")]


class SirstV2:
    """``mixed/``, or ``images/targets/`` and ``images/backgrounds/``, with ``annotations/masks/``."""

    name = "sirst-v2"

    @staticmethod
    def rooms(root: Path) -> list[Room]:
        masks = root / "annotations" / "masks"
        if (root / "mixed").is_dir():
            return [Room(root / "mixed", masks)]
        return [Room(root / "images" / kind, masks) for kind in ("targets", "backgrounds")]


class Irstd1k:
    """``IRSTD1k_Img/`` and ``IRSTD1k_Label/``."""

    name = "irstd-1k"

    @staticmethod
    def rooms(root: Path) -> list[Room]:
        return [Room(root / "IRSTD1k_Img", root / "IRSTD1k_Label")]


class PartFolders:
    """``test/images/`` and ``test/masks/`` (SIRST-Aug, ABC, RPCANet), ``test_images/`` and ``test_masks/`` (IRSAM); likewise
    train, val and trainval."""

    name = "part-folders"

    @staticmethod
    def rooms(root: Path) -> list[Room]:
        nested = [Room(root / p / "images", root / p / "masks", p) for p in PARTS]
        return [*nested, *(Room(root / f"{p}_images", root / f"{p}_masks", p) for p in PARTS)]


class Mdfa:
    """``training/000001_1.png`` with its mask ``training/000001_2.png``; ``test_org/`` and ``test_gt/`` (NUST-SIRST, MDvsFA)."""

    name = "mdfa"

    @staticmethod
    def rooms(root: Path) -> list[Room]:
        training = root / "training"
        rooms = [Room(root / "test_org", root / "test_gt", "test")]
        if any(training.glob("*_1.*")):
            rooms.insert(0, Room(training, training, "train", ending="_1", mask_endings=("_2",)))
        return rooms


LAYOUTS = (ImagesMasks, SirstV2, Irstd1k, PartFolders, Mdfa)
