"""HTML of the page: Jinja templates that escape all text, and how numbers are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from foray.report.stats import Interval

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
parts: Any = _templates.get_template("parts.html").module  # the macros there, as functions that return Markup

_INTERVAL = re.compile(r"(\[[−\d][^\]]*\])")
_SIGN = re.compile(r"(?<![\w.\-])-(?=\.?\d)")
_SIGN_OF_ZERO = re.compile(r"(?<![\w.\-])[+-](?=0\.0+(?!\d))")


def render(template: str, **values: Any) -> str:
    """A template of this folder. Every value that is no Markup is escaped."""
    return _templates.get_template(template).render(**values)


def joined(*pieces: str) -> Markup:
    """The pieces of HTML one after another, the empty ones left out."""
    return Markup("\n").join(p for p in pieces if p)


def shortened(text: Any, most: int, mark: str = " […]") -> str:
    """The text, or its first so many characters with a mark that it goes on."""
    text = str(text)
    return text if len(text) <= most else text[:most].rstrip() + mark


def with_minus(text: str) -> str:
    """The text with U+2212 in place of a hyphen that is the sign of a number. Markup stays Markup.

    A number that rounds to 0.0 has no sign.
    """
    return type(text)(_SIGN.sub("−", _SIGN_OF_ZERO.sub("", text)))


def intervals_apart(text: str) -> Markup:
    """The text as HTML; an interval in brackets is paler and never broken between two lines."""
    pieces = _INTERVAL.split(text)
    return Markup("").join(parts.interval(piece) if i % 2 else piece for i, piece in enumerate(pieces))


def percent(i: Interval) -> Markup:
    """``52.1`` with its interval below."""
    return Markup(parts.with_range(f"{100 * i.value:.1f}", f"{100 * i.lo:.1f} to {100 * i.hi:.1f}"))


def points(i: Interval) -> Markup:
    """A difference in percentage points, signed, with its interval below."""
    return Markup(parts.with_range(f"{100 * i.value:+.1f}", f"{100 * i.lo:+.1f} to {100 * i.hi:+.1f}"))
