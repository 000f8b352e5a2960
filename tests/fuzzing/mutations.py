"""Valid inputs made wrong: bytes flipped, cut, repeated, spliced; JSON with another value, key or shape somewhere."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What has been wrong somewhere before: numbers at the ends of their types, words that mean something, broken text.
WORDS: tuple[str, ...] = (
    "", "0", "-1", "1", "2", "-0.0", "0.5", "1e999", "1e300", "1e-320", "nan", "NaN", "Infinity", "-Infinity", "null",
    "none", "true",
    "False", "4294967296", "9223372036854775807", "-9223372036854775809", "1000000000000", "4000000000", "9" * 30,
    "9" * 5000, "1_000", "0x10", "１２", "٣", "[]", "{}", "[[]]", "[" * 3000, "{\"a\":" * 3000, "[1,2", "1,2", ",", "=",
    "a=b", ".", "..", "../../x", "/", "/dev/null", "/etc", "~", "*", "**", "a" * 300, "\x00", "\x1b[31m", "\n",
    "a\nb", "\r\n",
    "\u2028", "\ud800", "\ufeff", "é", "𝟙", "ﬁ", "%s%n", "{0}", "$(x)", "[red]", "[/red]", "=cmd()", "-", "--", "hub",
    "auto",
    "cuda", "bf16", "####", "\\boxed{", "\\frac", "\\boxed{}", "9^{9^{9}}", "x" * 20_000, " ", "\t", "\"", "'", "\\",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 64, 0.5, -0.5, 1e300, -1e300, 1e-320, float("nan"), float("inf"), 2**31,
    2**32, 2**63,
    2**64, 10**12, 10**30, "", "x", "0", "1", "null", [], {}, [[]], [None], [1], ["x"], {"": None}, {"a": {}},
    {"type": "x"},
)  # fmt: skip


def word(rng: random.Random, known: Sequence[str] = ()) -> str:
    """One that is known, spelled wrong now and then, or one of ``WORDS``."""
    if known and rng.random() < 0.75:
        chosen = rng.choice(known)
        return chosen if rng.random() < 0.7 else text(rng, chosen)
    return rng.choice(WORDS)


def text(rng: random.Random, value: str) -> str:
    """A text with something put in, taken out, doubled or put in another's place."""
    at, other = rng.randint(0, len(value)), rng.choice(WORDS)
    end = rng.randint(at, len(value))
    return rng.choice(
        [value[:at] + other + value[at:], value[:at] + value[end:], value * 2, value[:at] + other + value[end:], other]
    )


def data(rng: random.Random, content: bytes, times: int = 0) -> bytes:
    """Bytes after one to four edits."""
    for _ in range(times or rng.choice([1, 1, 1, 2, 4])):
        content = _edited(rng, content)
    return content


def _edited(rng: random.Random, content: bytes) -> bytes:
    at = rng.randint(0, len(content))
    end = min(len(content), at + rng.choice([1, 2, 4, 8, 64, 4096, 1 << 30]))
    put = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    kind = rng.randrange(9)
    if kind == 0 and at < len(content):
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:at] + content[at:end] * 2 + content[end:]
    if kind == 4:
        return content[:at] + put + content[at:]
    if kind == 5:
        return content[:at] + put + content[at + len(put) :]
    if kind == 6:
        return content[:at] + rng.randbytes(min(64, end - at)) + content[min(len(content), at + 64) :]
    if kind == 7:
        number = struct.pack(rng.choice("<>") + "q", rng.choice([0, -1, 1, 2**31, 2**62, len(content)]))
        return content[:at] + number + content[at + 8 :]
    return content[at:end] + content[:at] + content[end:]


def tree(rng: random.Random, value: Any, times: int = 0) -> Any:
    """JSON after one to three edits, each at a place chosen at random."""
    for _ in range(times or rng.choice([1, 1, 2, 3])):
        places = list(_places(value))
        way = rng.choice(places)
        value = _at(rng, value, way)
    return value


def _places(value: Any, way: tuple[Any, ...] = (), most: int = 12) -> list[tuple[Any, ...]]:
    """Ways to the values of a tree, the same number from every branch so that long lists do not have them all."""
    found = [way]
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in items if len(items) <= most else [*items[: most // 2], *items[-most // 2 :]]:
        found += _places(inner, (*way, key), max(2, most - 2))
    return found


def _at(rng: random.Random, value: Any, way: tuple[Any, ...]) -> Any:
    if way:
        changed = dict(value) if isinstance(value, dict) else list(value)
        changed[way[0]] = _at(rng, value[way[0]], way[1:])
        return changed
    kind = rng.randrange(8)
    if isinstance(value, dict) and value and kind < 5:
        key, other = rng.choice(list(value)), rng.choice(list(value))
        left = {k: v for k, v in value.items() if k != key}
        return [
            left, left | {text(rng, key): value[key]}, value | {key: value[other]},
            value | {rng.choice(WORDS): rng.choice(VALUES)},
            list(value.values()),
        ][kind]  # fmt: skip
    if isinstance(value, list) and value and kind < 5:
        at = rng.randrange(len(value))
        return [
            value[:at] + value[at + 1 :], value + value[at:], value[::-1], [*value[:at], rng.choice(VALUES),
            *value[at:]],
            {str(i): v for i, v in enumerate(value)},
        ][kind]  # fmt: skip
    if isinstance(value, str) and kind < 4:
        return text(rng, value)
    if isinstance(value, int | float) and not isinstance(value, bool) and kind < 4:
        return [-value, value + 1, value * 10**9, float(value)][kind]
    return rng.choice(VALUES) if kind < 7 else rng.choice(WORDS)


def json_bytes(rng: random.Random, content: bytes) -> bytes:
    """A JSON file with another tree, or with other bytes."""
    if rng.random() < 0.3:
        return data(rng, content)
    return json.dumps(tree(rng, json.loads(content))).encode()


def lines(rng: random.Random, content: bytes) -> bytes:
    """JSON Lines with other rows."""
    rows = content.splitlines()
    if rng.random() < 0.2 or not rows:
        return data(rng, content)
    for _ in range(rng.choice([1, 1, 2])):
        at, kind = rng.randrange(len(rows)), rng.randrange(10)
        if kind == 0:
            rows.insert(at, rows[rng.randrange(len(rows))])
        elif kind == 1 and len(rows) > 1:
            del rows[at]
        elif kind == 2:
            rng.shuffle(rows)
        elif kind == 3:
            rows[at] = data(rng, rows[at])
        else:
            try:
                rows[at] = json.dumps(tree(rng, json.loads(rows[at]))).encode()
            except ValueError:
                rows[at] = data(rng, rows[at])
    return b"\n".join(rows) + b"\n"


def safetensors(rng: random.Random, content: bytes) -> bytes:
    """A file of tensors with another header (its length told or not), or with other bytes."""
    if rng.random() < 0.4:
        return data(rng, content)
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(tree(rng, json.loads(content[8 : 8 + size]))).encode()
    said = len(header) if rng.random() < 0.9 else rng.choice([0, 7, 2**30, 2**62, size])
    return said.to_bytes(8, "little") + header + content[8 + size :]


def file(rng: random.Random, path: Path) -> None:
    """Changes a file in place, by what its name says it is; now and then it is gone or something else is there."""
    content = path.read_bytes()
    whole = rng.random()
    if whole < 0.02:
        path.unlink()
    elif whole < 0.03:
        path.unlink()
        path.mkdir()
    elif whole < 0.05:
        path.write_bytes(b"")
    else:
        by_name = {".json": json_bytes, ".jsonl": lines, ".safetensors": safetensors}
        by_name |= {"DONE": json_bytes}  # type: ignore[dict-item]
        edit = by_name.get(path.suffix) or by_name.get(path.name) or data
        try:
            changed = edit(rng, content)
        except ValueError:  # changed before, and not JSON any more
            changed = data(rng, content)
        path.write_bytes(changed)
