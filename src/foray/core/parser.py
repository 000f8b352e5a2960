"""Words of a command line: one line for a mistake, a help text that says every default."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from foray.core.terminal import one_line


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
        super().__init__(**{"formatter_class": _Help, **settings})

    def error(self, message: str) -> NoReturn:
        print(
            f"foray: {one_line(message)} (foray {'' if self.prog == 'foray' else self.prog.split()[-1] + ' '}--help)",
            file=sys.stderr,
        )
        raise SystemExit(2)
