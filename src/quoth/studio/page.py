"""What all pages need: markup that is filled into the parts of a file, and numbers as a person says them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from string import Template

from quoth.studio.charts import Markup, escape


class Parts:
    """The parts of an .html file of this package, and those of page.html; `$name` in one is filled in."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.templates: dict[str, Template] = {}

    def render(self, part: str, **values: object) -> Markup:
        """A part with its values, each escaped unless it is markup."""
        if not self.templates:
            for file in ("page.html", self.file):
                _, *pieces = re.split(r"<!-- part: (\w+) -->\n", package_file(file))
                self.templates |= {n: Template(t.strip()) for n, t in zip(pieces[::2], pieces[1::2], strict=True)}
        shown = {key: value if isinstance(value, Markup) else escape(value) for key, value in values.items()}
        return Markup(self.templates[part].substitute(shown))

    def page(self, name: object, kind: str, lede: str, sections: Iterable[str], origin: str) -> Markup:
        """A whole page: one file that needs no other, no network and no JavaScript."""
        style, body = Markup(package_file("page.css")), joined(sections)
        return self.render("page", name=name, kind=kind, lede=lede, style=style, body=body, origin=origin)

    def many(self, part: str, items: Iterable[str], **values: object) -> Markup:
        """The part around its items, or nothing if there are no items."""
        inner = joined(items)
        return self.render(part, items=inner, **values) if inner else inner


def joined(items: Iterable[str]) -> Markup:
    """The items as markup, one below the other; empty items are left out."""
    return Markup("\n".join(filter(None, items)))


def package_file(name: str) -> str:
    """A file of this package."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def hundredths(value: float) -> str:
    """The number with two places after the point."""
    return f"{value:,.2f}" if value < 1e6 else f"{value:.1e}"


def exact(value: float) -> str:
    """The number with at most four places after the point, and no zeros at its end."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
