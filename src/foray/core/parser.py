"""Words of a command line: one line for a mistake, a help text that says every default."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from foray.core.canonical import nearest
from foray.core.terminal import one_line


def path(text: str) -> Path:
    """The path that a user typed. An empty text is an error: ``Path("")`` is the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("name a file or a folder; . is the current folder")
    return Path(text)


def store_folder(text: str) -> Path:
    """The folder of a store, which need not exist yet."""
    folder = path(text)
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; --store takes a folder")
    return folder


def assignment(text: str) -> str:
    """KEY=VALUE. Without the sign the value would be taken for the next argument."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text}: write it as KEY=VALUE, without a space")
    return text


class _Help(argparse.HelpFormatter):
    """Says the default of every option that takes a value. A default that the command works out is in the help text."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if not action.option_strings or action.nargs == 0 or action.required or "default:" in text:
            return text
        value = action.default
        words = "none" if value in (None, "", []) else f"{value:g}" if isinstance(value, float) else str(value)
        return f"{text} (default: {words})"


class Parser(argparse.ArgumentParser):
    """A parser of a command line. A user's mistake gets one clear line, and a help text says the defaults."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, "allow_abbrev": False, **settings})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Refuses what this command does not know: argparse leaves it to the parser of all commands."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and rest[0].startswith("-"):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            self.error(f"there is no option {rest[0]}{nearest(rest[0].partition('=')[0], known)}")
        if rest:
            self.error(f"nothing is expected at {rest[0]!r}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        print(
            f"foray: {one_line(message)} (foray {'' if self.prog == 'foray' else self.prog.split()[-1] + ' '}--help)",
            file=sys.stderr,
        )
        raise SystemExit(2)
