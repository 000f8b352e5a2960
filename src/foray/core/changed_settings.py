"""The settings that differ between two studies, from the tables of settings in their manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def changed_settings(ours: Iterable[Mapping[str, str]], theirs: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The keys of ``--set`` whose values differ, by part of the study, with both values; "" where a study lacks one."""
    sides = [{(str(r.get("part", "")), str(r.get("key", ""))): str(r.get("value", "")) for r in rows}
             for rows in (ours, theirs)]  # fmt: skip
    keys = [k for k in dict.fromkeys((*sides[0], *sides[1])) if sides[0].get(k) != sides[1].get(k)]
    return [{"part": k[0], "key": k[1], "ours": sides[0].get(k, ""), "theirs": sides[1].get(k, "")} for k in keys]
