"""Data and pictures inside the page: JSON that no HTML can end, data: URIs, and the page's Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def json_inside(value: Any) -> str:
    """JSON for a script element. Without ``<``, ``>`` and ``&``, no text of it can close the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def packed(value: Any) -> str:
    """JSON, compressed by deflate and written in base64. The page inflates it."""
    return base64.b64encode(zlib.compress(json_inside(value).encode(), 9)).decode()


def picture(path: Path) -> tuple[str, int]:
    """A PNG file as a data: URI, and its width in pixels."""
    content = path.read_bytes()
    width = int.from_bytes(content[16:20], "big")  # of the first chunk, which every PNG file begins with
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", width


def policy(scripts: Sequence[str]) -> str:
    """The policy that lets these inline scripts run and nothing else load."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
