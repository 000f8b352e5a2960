"""What every page shares: its style, its scripts, its data, and the policy that lets nothing else in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from foray.report.embedded_data import json_inside, packed, policy
from foray.report.markup import render

# Characters that a browser or a terminal obeys, and that no text of a page needs: controls, and turns of direction.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")  # in the order in which they run


def filled(template: str, chart: Mapping[str, Any], samples: Mapping[str, Any], **values: Any) -> str:
    """A template that extends ``shell.html``, whole. Without a ``chart`` the page has no scripts.

    ``samples``: what the browser of completions shows; empty for a page without one.
    """
    scripts = [Markup(_text(name)) for name in (SCRIPTS if chart else ())]
    data = {"chart": packed(chart) if chart else "", "samples": packed(samples) if samples else ""}
    text = render(
        template, policy=Markup(policy(scripts)), style=Markup(_text("page.css")), scripts=scripts,
        data=Markup(json_inside(data)), **values,
    )  # fmt: skip
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
