"""A step's results as text: what each part found, and what its numbers decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Found = dict[str, Any]
VERDICTS = "PASSED|FAILED|ERROR|SKIPPED"


def summary(result: dict[str, Any]) -> str:
    """Everything that a reader wants first; the whole is in the JSON file."""
    card = result["parts"].get("card", {}).get("found", {})
    lines = [
        f"step {result['step']}: {result['title']}{' (rehearsal on the CPU)' if result['rehearsal'] else ''}",
        f"{card.get('device', 'unknown card')}, torch {card.get('torch', '?')}, commit {result['commit']}, code "
        f"{result['code']}, {result['begun']} UTC, {result.get('seconds', 0):.0f} s",
        "",
    ]
    for name, part in result["parts"].items():
        took = f", {part['seconds']:.0f} s of {part['limit']:.0f}" if "limit" in part else ""
        again = ", of an earlier command" if part.get("taken_over") else ""
        lines.append(f"{name}: {part['status']}{took}{again}")
        lines += [f"    {line}" for line in flat(part.get("found", {}))]
        if name == "tests":
            lines += [f"    {line}" for line in verdicts_of_tests(part.get("said", ""))]
        elif part["status"] not in ("done", "under way"):
            lines += [f"    | {line[:200]}" for line in part.get("why", "").strip().splitlines()[-12:]]
    return "\n".join([*lines, "", *(f"=> {line}" for line in verdicts(result["parts"])), ""])


def flat(values: Found, before: str = "") -> list[str]:
    """Numbers by their paths, four digits each."""
    lines = []
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, dict):
            lines += flat(value, f"{path} / ")
        elif isinstance(value, float):
            lines.append(f"{path} = {value:.4g}")
        else:
            lines.append(f"{path} = {value}")
    return lines


def verdicts_of_tests(said: str) -> list[str]:
    """Counts of pytest's verdicts, and every test that did not pass. With xdist the verdict comes first."""
    one, two = rf"({VERDICTS}) +(tests/\S.*)", rf"(tests/\S.*?) ({VERDICTS})"
    found = {(b or c).split(" - ")[0].strip(): a or d for a, b, c, d in re.findall(f"{one}|{two}", said)}
    counts = {v: list(found.values()).count(v) for v in VERDICTS.split("|")}
    bad = [f"{verdict} {test}" for test, verdict in found.items() if verdict in ("FAILED", "ERROR")]
    gaps = sorted(set(re.findall(r"(?:fp32|bf16): mean gap .*", said)))
    return [", ".join(f"{n} {v.lower()}" for v, n in counts.items() if n) or "no test has ended", *bad, *gaps]


def verdicts(parts: dict[str, Any]) -> list[str]:
    """What issue 25 decides by these numbers."""
    found = {name: part.get("found", {}) for name, part in parts.items()}
    return [*_pretraining(found), *_decoding(found), *_grpo(found), *_study(found)]


def _pretraining(found: dict[str, Found]) -> Iterator[str]:
    ours = found.get("pretrain", {})
    if "mfu" not in ours:
        return
    yield f"pre-training reaches {ours['mfu']:.0%} of the stated peak" + _target(ours["mfu"], 0.55)
    if theirs := found.get("pretrain transformers", {}).get("tokens_per_s"):
        yield f"that is {ours['tokens_per_s'] / theirs:.2f} times the transformers loop"
    for name in ("recompute", "eager"):
        gain = found.get(f"pretrain {name}", {}).get("mfu", 0.0) / ours["mfu"]
        if gain > 1.02:
            yield f"pre-training with {name} is {gain:.2f} times as fast: that becomes the default"


def _decoding(found: dict[str, Found]) -> Iterator[str]:
    paged, torch, generate = (found.get(f"decode {n}", {}) for n in ("paged", "torch", "generate"))
    for r in (rows := sorted((r for r in paged if r.isdigit()), key=int)):
        most = r == rows[-1]
        share, made = paged[r]["share_of_roofline"], paged[r]["tokens_per_s"]
        yield f"paged engine at {r} rows: {share:.0%} of the roofline" + (_target(share, 0.5) if most else "")
        if r in torch:
            ratio = made / torch[r]["tokens_per_s"]
            word = f": the paged engine {'stays' if ratio >= 1.5 else 'goes'} (1.5 decides)" if most else ""
            yield f"paged engine over TorchEngine at {r} rows: {ratio:.2f}{word}"
        if r in generate:
            yield f"paged engine over generate() at {r} rows: {made / generate[r]['tokens_per_s']:.1f} (target 10)"


def _grpo(found: dict[str, Found]) -> Iterator[str]:
    for name in ("grpo 64x8", "grpo 16x32", "grpo 64x8 recompute"):
        step = found.get(name, {})
        if "shares" not in step:
            continue
        text = ", ".join(f"{part} {share:.0%}" for part, share in step["shares"].items())
        idle = f", idle {step['idle_share']:.0%}" if "idle_share" in step else ""
        yield f"{name}: {step['whole_s']:.2f} s a step: {text}{idle}"
        neither = step["share_neither_sampling_nor_gradients"]
        yield f"{name}, neither sampling nor gradients: {neither:.0%}{_target(-neither, -0.15)}"


def _study(found: dict[str, Found]) -> Iterator[str]:
    if study := found.get("study"):
        yield f"study: {study.get('made', 0)} of {study.get('planned', 0)} planned nodes made"
    if back := found.get("back"):
        left = f"{back['to_send']} more are left to send; {back['undone']} of the study are still to run"
        yield f"{back['packed']} nodes packed; {left}"


def _target(value: float, target: float) -> str:
    return f" (target {abs(target):.0%}: {'met' if value >= target else 'missed'})"
