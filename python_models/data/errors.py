"""What the data code raises and warns with. Messages are one line and name the file, the rule and what came."""


class DataError(ValueError):
    """A file, folder, split list or option that cannot be used."""


class DataWarning(UserWarning):
    """Data that was used after a stated repair (a grey mask binarised, a mask resized)."""


def one_line(error: BaseException, limit: int = 160) -> str:
    """The text of another library's exception, on one bounded line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def some(names: list[str], limit: int = 5) -> str:
    """``a, b, c and 7 more``."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
