"""What every page shares: its style, its scripts, its data, and the policy that lets nothing else in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from foray.report.embedded_data import json_inside, packed, policy
from foray.report.markup import render

SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")  # in the order in which they run


def filled(template: str, chart: Mapping[str, Any], samples: Mapping[str, Any], **values: Any) -> str:
    """A template that extends ``shell.html``, whole. Without a ``chart`` the page has no scripts.

    ``samples``: what the browser of completions shows; empty for a page without one.
    """
    scripts = [Markup(_text(name)) for name in (SCRIPTS if chart else ())]
    data = {"chart": packed(chart) if chart else "", "samples": packed(samples) if samples else ""}
    return render(
        template, policy=Markup(policy(scripts)), style=Markup(_text("page.css")), scripts=scripts,
        data=Markup(json_inside(data)), **values,
    )  # fmt: skip


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
