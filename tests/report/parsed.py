"""A page as a strict reader sees it: elements that close where they should, their attributes, tables, text."""
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """``elements``: (tag, attributes) in order; ``tables``: caption -> rows of cells; ``values``: caption -> rows of exact numbers; ``words``: all text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.html, self.elements, self.words, self.tables, self.values = html, [], "", {}, {}
        self._open, self._caption = [], ""
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert len(given) == len(attributes), f"{tag} has an attribute twice"
        self.elements.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows, self._numbers, self._caption = [], [], ""
        if tag == "tr":
            self._rows.append([])
            self._numbers.append([])
        if tag in ("td", "th") and "tr" in self._open:
            self._rows[-1].append("")
        if tag == "data":
            self._numbers[-1].append(float(given["value"]))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()
        if tag == "table":
            self.tables.setdefault(self._caption, []).extend(self._rows)
            self.values.setdefault(self._caption, []).extend(self._numbers)

    def handle_data(self, text):
        if "style" in self._open:
            return
        self.words += text
        if self._open[-1:] == ["caption"]:
            self._caption += text
        elif self._open and "tr" in self._open and self._rows and self._rows[-1]:
            self._rows[-1][-1] += text if "small" not in self._open else f" [{text}]"

    def all(self, tag: str) -> list[dict]:
        """Attributes of every element ``tag``."""
        return [attributes for name, attributes in self.elements if name == tag]
