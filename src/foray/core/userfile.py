"""Studies and mixes by name: bundled ones and users' Python files. Errors in a user's code name file and line."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from foray.core.beside import Uncached, look_beside
from foray.core.canonical import nearest, require
from foray.core.process import is_full

T = TypeVar("T")
_UNKNOWN_FIELD = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_FORAY = str(Path(__file__).parent.parent)
_LIBRARIES = tuple(f"{Path(sysconfig.get_path(name))}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def bundled(package: str) -> list[str]:
    """Names of the modules in a package of Foray, such as ``studies``."""
    folder = Path(__file__).parent.parent / package
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def where_broken(e: BaseException) -> str:
    """``FILE, line N`` of the user's code that raised; empty where no user's code was running.

    A user's code is code of neither Foray nor a library.
    """
    own = [frame for frame in traceback.extract_tb(e.__traceback__) if _is_own(frame.filename)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _is_own(file: str) -> bool:
    apart = file.startswith(("<", f"{_FORAY}/", *_LIBRARIES)) or "-packages/" in file
    return not apart


def in_a_line(e: BaseException) -> str:
    """The message of an exception, with the name of its class unless that is ValueError."""
    if isinstance(e, SystemExit):
        return f"it ends the program (sys.exit({e.code!r}))"
    if isinstance(e, TypeError) and (words := _unknown_field(str(e))):
        return words
    said = " ".join(str(getattr(e, "msg", None) or e).split())[:500]
    return said if isinstance(e, ValueError) and said else f"{type(e).__name__}: {said}".removesuffix(": ")


def _unknown_field(said: str) -> str:
    """Python's words on a field that a dataclass does not have, as when ``replace`` is asked for it, made clearer."""
    found = _UNKNOWN_FIELD.match(said)
    if found is None:
        return ""
    name, field = found.groups()
    ours = [vars(module).get(name) for place, module in list(sys.modules.items()) if place.startswith("foray")]
    kind = next((kind for kind in ours if isinstance(kind, type) and is_dataclass(kind)), None)
    return f"{name} has no field {field!r}{nearest(field, [f.name for f in fields(kind) if f.init])}" if kind else ""


@contextmanager
def own_code_named(*others: type[BaseException]) -> Iterator[None]:
    """Inside, an exception from a user's code becomes a one-line ValueError with file and line.

    ``others``, OSError and MemoryError pass unchanged, and so do exceptions without user's code. A ValueError that
    Foray itself raised also passes: it says what to change.
    """
    passing: tuple[type[BaseException], ...] = (*others, OSError, MemoryError)
    try:
        yield
    except passing:
        raise
    except (Exception, SystemExit) as e:
        where, frames = where_broken(e), traceback.extract_tb(e.__traceback__)
        spoken = isinstance(e, ValueError) and frames[-1].filename.startswith(f"{_FORAY}/")
        if not where or spoken or is_full(e):
            raise
        raise ValueError(f"{where}: {in_a_line(e)}") from e


@contextmanager
def mistakes_named(name: str) -> Iterator[None]:
    """Inside, an exception becomes a ValueError that names the user's file, and the line of the file that ran last."""
    file = Path(name).name
    try:
        yield
    except (Exception, SystemExit) as e:
        lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if Path(frame.filename).name == file]
        lines += [e.lineno] if isinstance(e, SyntaxError) and e.lineno and Path(str(e.filename)).name == file else []
        raise ValueError(f"{name}{f', line {lines[-1]}' if lines else ''}: {in_a_line(e)}") from e


def own_module(name: str, word: str) -> ModuleType:
    """A user's ``.py`` file, run as the user's own program: the file imports those beside it.

    Raises ValueError naming file and line where it fails.
    """
    path = Path(name)
    require(path.exists(), f"there is no {word} file {name}")
    require(path.is_file() and path.suffix == ".py", f"{name} is no Python file: name a .py file for the {word}")
    called, file = f"foray_{word}_{path.stem}", str(path.absolute())
    spec = importlib.util.spec_from_file_location(called, file, loader=Uncached(called, file))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses defined in the file look their own module up
    look_beside(path.absolute().parent)
    with mistakes_named(name):
        spec.loader.exec_module(module)
    return module


def is_own_file(text: str) -> bool:
    """Whether ``text`` names a file of the user's own, and not a thing of Foray's: ``FILE.py`` or ``FILE.py:NAME``."""
    return text.endswith(".py") or ".py:" in text


def own_object(text: str, word: str) -> Any:
    """What ``FILE.py:NAME`` names: an object, or what a class or a function makes when called without arguments.

    Raises ValueError where the file fails, has no such name, or the call fails.
    """
    file, _, name = text.rpartition(":")
    fine = file.endswith(".py") and name.isidentifier()
    require(fine, f"{text}: name the {word} too, FILE.py:NAME")
    module = own_module(file, word)
    known = [n for n, v in vars(module).items() if not n.startswith("_") and _made_in(module, v)]
    require(hasattr(module, name), f"{file} has no {name!r}{nearest(name, known)}")
    thing = getattr(module, name)
    with mistakes_named(file):
        return thing() if isinstance(thing, type | FunctionType) else thing


def _made_in(module: ModuleType, thing: Any) -> bool:
    """Whether a module made a thing itself, and did not import it. An instance is the module's own."""
    imported = isinstance(thing, type | FunctionType | ModuleType)
    return not imported or getattr(thing, "__module__", "") == module.__name__


def load(name: str, word: str, package: str, kind: type[T]) -> tuple[T, ModuleType]:
    """The result of the function ``word`` in a bundled module or in a ``.py`` file, and the module.

    Foray runs such a file as the user's own program, and runs nothing else that Foray reads. Raises ValueError for an
    unknown name, with the nearest known name; and naming file and line where the file fails or makes no ``kind``.
    """
    if name.endswith(".py") or "/" in name:
        module = own_module(name, word)
    else:
        require(name in bundled(package), f"there is no {word} {name!r}{nearest(name, bundled(package))}")
        module = importlib.import_module(f"foray.{package}.{name}")
    make = getattr(module, word, None)
    with mistakes_named(name):
        made = make() if callable(make) else None
    if not isinstance(made, kind):
        wanted = f"{kind.__module__}.{kind.__name__}"
        here = f"; here it returns {made!r:.60}" if callable(make) else ""
        raise ValueError(f"{name}: a {word} file defines a function {word}() that returns a {wanted}{here}")
    return made, module
