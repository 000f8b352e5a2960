"""A hook of MkDocs: a link to a file outside the pages becomes the file's name, since the site holds no source."""

from __future__ import annotations

import posixpath
import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page without links that lead out of ``docs/``."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(match: re.Match[str]) -> str:
        label, target = match.groups()
        outside = "://" not in target and posixpath.normpath(posixpath.join(folder, target)).startswith("..")
        return label if outside else match[0]

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", kept, markdown)
