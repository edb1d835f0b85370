"""Training-time augmentation; everything random comes from the generator that is handed in.

Order: :class:`CopyPaste` on the image at its native size, then :class:`Augment`.
"""

from .copy_paste import Cut, CopyPaste, Paste, TargetBank
from .crop import Augment, Draw

__all__ = ["Augment", "CopyPaste", "Cut", "Draw", "Paste", "TargetBank"]
