"""What a store's last report shows, and a line about it where a study, as it is now, asks for other results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join, quote
from typing import Any

from foray.core.changed_settings import changed_settings
from foray.core.files import SEAL, TRAINING_FILES, Damaged, read_object, sealed, verify
from foray.core.terminal import one_line
from foray.core.untrusted import expect
from foray.core.userfile import bundled
from foray.study.store import MANIFEST
from foray.study.study_command import remembered

_NAMED, _LONGEST = 6, 40  # settings that a line names; characters of a value


def results_in(manifest: Mapping[str, Any], where: Path) -> set[str]:
    """The results that a manifest names: folders, ``nodes/KIND-KEY``. Raises ValueError, naming ``where`` it lies."""
    entries = expect(manifest, where, entries=list)["entries"]
    return {expect(e, where, folder=str)["folder"] for e in entries}


def nodes_in(manifest: Mapping[str, Any], where: Path) -> set[str]:
    """``results_in``, and all that they were made from."""
    return results_in(manifest, where) | {str(name) for name in manifest.get("nodes") or ()}


def fuller_report(root: Path, asked: Mapping[str, Any]) -> str:
    """A line where the store's last report shows more results than an unfinished study has there; otherwise empty.

    ``asked``: the study's manifest. The line names the settings that differ: a study that has changed since its store
    was filled has other results, none of them finished.
    """
    try:
        last = read_object(root / MANIFEST, study=str)
        shown = {name for name in results_in(last, root / MANIFEST) if sealed(root / name)}
        changed = changed_settings(*(m.get("settings", {}).get("study", ()) for m in (last, asked)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""  # nobody can report it
    wanted = results_in(asked, root)
    have = {name for name in wanted if sealed(root / name)}
    if have == wanted or len(have) >= len(shown):  # all that a smaller study asks for is all that it can show
        return ""
    folder = quote(typed(root))
    return one_line(
        f"this store's last report {_difference(last, asked, changed)}; it shows {len(shown)} finished results, these "
        f"settings have {len(have)}; `foray report {folder}` is the report of the store as it is"
    )


def drawn_from(root: Path) -> dict[Path, str]:
    """The text of the manifest that each sealed report was drawn from; none of two studies side by side."""
    out = {}
    for folder in sorted(root.glob("report*")):
        with suppress(OSError, ValueError):
            out[folder] = read_object(folder / SEAL, manifest=str)["manifest"]
    return out


def manifest_text(root: Path) -> str:
    """The text of the store's manifest; empty where there is none to read."""
    with suppress(OSError, ValueError):
        return (root / MANIFEST).read_text(encoding="utf-8")
    return ""


def last_manifest(root: Path) -> dict[str, Any]:
    """The manifest of the last report; empty where there is none."""
    for text in (manifest_text(root), *drawn_from(root).values()):
        with suppress(ValueError, RecursionError):
            return expect(json.loads(text), root / MANIFEST, study=str)
    return {}


def shown_results(root: Path) -> list[str]:
    """The results that the last report read, ``nodes/KIND-KEY``; none where its seal does not say."""
    try:
        facts = read_object(root / "report" / SEAL, manifest=str, present=list)
        last = expect(json.loads(facts["manifest"]), root / MANIFEST)
        present = set(map(str, facts["present"]))
        return [name for name in sorted(results_in(last, root)) if name.rpartition("-")[2] in present]
    except (OSError, ValueError, RecursionError):
        return []


def lost_results(root: Path) -> str:
    """A line where results that the store's last report shows are not there any more; otherwise empty."""
    shown = shown_results(root)
    gone = [name for name in shown if not sealed(root / name)]
    line = f"{len(gone)} of the {len(shown)} results that this store's last report shows are gone"
    return one_line(f"{line}, such as {gone[0]}; `foray run` makes them anew") if gone else ""


def damaged_in(manifest: Mapping[str, Any], root: Path) -> list[str]:
    """What is wrong with damaged results that a manifest names, a line each."""
    found = []
    for entry in {e["folder"]: e for e in manifest["entries"]}.values():
        try:
            if sealed(root / entry["folder"]):
                verify(root / entry["folder"], TRAINING_FILES if entry["kind"] == "train" else "")
        except Damaged as e:
            found.append(e.what)
    return found


def only_of_another(root: Path, study: str, asked: Mapping[str, Any]) -> str:
    """A line where a store holds finished results, and none of the study's but another's; otherwise empty.

    ``study``: the word that names the study on the command line; ``asked``: the study's manifest.
    """
    ours = [root / e["folder"] for e in asked["entries"] if "checkpoint" in e]  # of a model: text alone is shared
    if any(map(sealed, ours)) or not any(root.glob(f"nodes/*/{SEAL}")):
        return ""
    try:
        other, words = read_object(root / MANIFEST, study=str)["study"], ["report", typed(root)]
    except (OSError, ValueError):  # no report yet
        ran = remembered(root)
        if not ran or study in [command.study for command in ran]:
            return ""
        other, settings = ran[-1].study, [word for s in ran[-1].settings for word in ("--set", s)]
        words = ["report", other, *settings, "--store", str(root)]
    if other == asked["study"]:
        return ""
    line = f"{root} holds no results of study {asked['study']}, only of {other}"
    return one_line(f"{line}; `foray {join(words)}` reports those")


def typed(root: Path) -> str:
    """A store's folder as a command takes it: ``./tiny``, since ``tiny`` is the study."""
    return f"./{root}" if str(root) in bundled("studies") else str(root)


def _difference(last: Mapping[str, Any], asked: Mapping[str, Any], changed: list[dict[str, str]]) -> str:
    if last["study"] != asked["study"]:
        return f"is of another study, {last['study'][:_LONGEST]!r}"
    if not last.get("settings"):
        return "was made by an earlier version of Foray"
    if not changed:
        return "was made with the same settings, but by another version of Foray or from other data"
    several = len({row["part"] for row in changed}) > 1
    named = [
        f"{row['part'] + ': ' if several else ''}{row['key']} {_value(row['ours'])} (now {_value(row['theirs'])})"
        for row in changed[:_NAMED]
    ]
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return f"was made with other settings: {', '.join(named)}{more}"


def _value(words: str) -> str:
    return "unset" if not words else words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."


def own_files(root: Path) -> list[str]:
    """The files of a user's own figures and sections that the last report has. A store holds their names alone."""
    try:
        return [str(file) for file, _ in read_object(root / "report" / SEAL, own=list)["own"]]
    except (OSError, ValueError, TypeError):
        return []


@contextmanager
def saying(line: str) -> Iterator[None]:
    """Inside, the message of a ValueError ends with the line."""
    try:
        yield
    except ValueError as e:
        if not line:
            raise
        raise ValueError(f"{e}; {line}") from None
