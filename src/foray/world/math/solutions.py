"""The many right solutions of a story: routes (computations) × orders of the steps × styles (wordings)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

from foray.world.math.story import Quantity, Step, Story, Unfit, compute, linear

#: The largest number in a rewritten route.
_LIMIT = 600
_PART, _PART_SAYS = "part", "one part is {}"


def _swap_sides(step: Step, swap: bool) -> tuple[int, str, int]:
    """The operands as printed. ``swap`` commutes the operands of + and *."""
    if swap and step.op in "+*":
        return step.b, step.op, step.a
    return step.a, step.op, step.b


def _equation(step: Step, swap: bool, is_: str = "=") -> str:
    a, op, b = _swap_sides(step, swap)
    return f"{a} {op} {b} {is_} {step.value}"


Style = Callable[[list[Step], bool], str]


def terse(steps: list[Step], swap: bool = False) -> str:
    """``12 + 5 = 17. 17 * 2 = 34.`` The canonical style, always first among a problem's solutions."""
    return " ".join(_equation(s, swap) + "." for s in steps)


def sentences(steps: list[Step], swap: bool = False) -> str:
    """``Ana has 12 + 5 = 17 pears.``"""
    lines = (s.says.format(_equation(s, swap)) + "." for s in steps)
    return " ".join(line[0].upper() + line[1:] for line in lines)


def named(steps: list[Step], swap: bool = False) -> str:
    """``with more: 12 + 5 = 17.``"""
    return " ".join(f"{s.name}: {_equation(s, swap)}." for s in steps)


def so(steps: list[Step], swap: bool = False) -> str:
    """``12 + 5 = 17, so 17 * 2 = 34.``"""
    parts = [_equation(s, swap) for s in steps]
    joins = [""] + [", so " if before in (s.left, s.right) else " and " for before, s in pairwise(steps)]
    return "".join(j + p for j, p in zip(joins, parts)) + "."


_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def words(steps: list[Step], swap: bool = False) -> str:
    """``12 plus 5 is 17. twice 17 is 34.``"""
    lines = []
    for s in steps:
        if s.b == 2 and s.op in "*/":
            lines.append(f"{'twice' if s.op == '*' else 'half of'} {s.a} is {s.value}.")
        else:
            a, op, b = _swap_sides(s, swap)
            lines.append(f"{a} {_WORDS[op]} {b} is {s.value}.")
    return " ".join(lines)


_DO = {"+": "add", "-": "take away", "*": "multiply by", "/": "divide by"}


def running(steps: list[Step], swap: bool = False) -> str:
    """``Start with 12, add 5 to get 17, multiply by 2 to get 34.``"""
    text, before = "", None
    for s in steps:
        a, op, b = s.a, s.op, s.b
        if before is not None and s.left is not before and s.right is before and op in "+*":
            a, b = b, a
        elif before is None or s.left is not before:
            if swap and op in "+*":
                a, b = b, a
            text += f". Now take {a}" if text else f"Start with {a}"
        text += f", {_DO[op]} {b} to get {s.value}"
        before = s
    return text + "."


def ordinal(steps: list[Step], swap: bool = False) -> str:
    """``First 12 + 5 = 17. Then 17 * 2 = 34.``"""
    return " ".join(f"{'Then' if i else 'First'} {_equation(s, swap)}." for i, s in enumerate(steps))


def gives(steps: list[Step], swap: bool = False) -> str:
    """``12 + 5 gives 17, 17 * 2 gives 34.``"""
    return ", ".join(_equation(s, swap, "gives") for s in steps) + "."


_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def counted(steps: list[Step], swap: bool = False) -> str:
    """``Step one: 12 + 5 = 17. Step two: 17 * 2 = 34.``"""
    return " ".join(f"Step {number}: {_equation(s, swap)}." for number, s in zip(_COUNTED, steps))


#: The styles of a solution. The first is the canonical one.
STYLES: tuple[Style, ...] = (terse, sentences, named, so, words, running, ordinal, gives, counted)
#: The mark before the final answer, as in GSM8K.
MARK = "####"


def marked(work: str, answer: str) -> str:
    """Work and answer in the format of post-training."""
    return f"{work} {MARK} {answer}"


def solutions(story: Story, seed: int, count: int = 12) -> tuple[str, ...]:
    """``count`` different right solutions, or a few less, but at least 8. The first is the canonical one."""
    rng = random.Random(seed)
    # A route that does not meet the first number asked for would leave it without a reason.
    roots = [root for root in routes(story.root) if isinstance(story.first, int) or _meets(root, story.first.value)]
    found = {terse(linear(story.root)): None}
    for turn in range(3):
        styles = list(STYLES[1:] if turn == 0 else STYLES)
        rng.shuffle(styles)
        for style in styles:
            root = story.root if turn == 0 and rng.random() < 0.5 else roots[int(rng.random() * len(roots))]
            found[style(linear(root, rng), rng.random() < 0.3)] = None
            if len(found) == count:
                return tuple(marked(work, story.answer) for work in found)
    return tuple(marked(work, story.answer) for work in found)


def _meets(root: Step, value: int) -> bool:
    return any(step.value == value for step in linear(root))


def routes(root: Step) -> list[Step]:
    """The computation itself, and every computation that one law of arithmetic at one place makes of it."""
    found, most = [root], len(linear(root)) + 1
    for step in linear(root):
        for other in _rewrites(step):
            new = _replaced(root, step, other, {})
            if len(linear(new)) <= most:
                assert new.value == root.value
                found.append(new)
    return found


def _replaced(root: Step, old: Step, new: Step, done: dict[int, Step]) -> Step:
    """The tree with one step replaced. All steps above are rebuilt; shared steps stay shared."""
    if root is old:
        return new
    if id(root) not in done:
        left, right = (s if isinstance(s, int) else _replaced(s, old, new, done) for s in (root.left, root.right))
        after = root.after and _replaced(root.after, old, new, done)
        same = left is root.left and right is root.right and after is root.after
        done[id(root)] = root if same else Step(left, root.op, right, root.value, root.name, root.says, after)
    return done[id(root)]


def _rewrites(step: Step) -> Iterator[Step]:
    """Other computations of the same value. Intermediate results are 2 or more; divisions are exact."""
    for left, op, right in (*_reassociated(step), *_factored(step)):
        try:
            yield compute(left, op, right, step.name, step.says, _LIMIT)
        except Unfit:
            continue


def _part(left: Quantity, op: str, right: Quantity) -> Step | None:
    try:
        return compute(left, op, right, _PART, _PART_SAYS, _LIMIT)
    except Unfit:
        return None


def _reassociated(step: Step) -> Iterator[tuple[Quantity, str, Quantity]]:
    """(x + y) + z = x + (y + z) and its relatives with -, * and /."""
    inner, z = step.left, step.right
    if isinstance(inner, Step):
        x, y = inner.left, inner.right
        rule = {
            ("+", "+"): ((y, "+", z), (x, "+")),
            ("-", "-"): ((y, "+", z), (x, "-")),
            ("*", "*"): ((y, "*", z), (x, "*")),
            ("/", "/"): ((y, "*", z), (x, "/")),
        }.get((inner.op, step.op))
        if rule and (part := _part(*rule[0])):
            yield rule[1][0], rule[1][1], part
        if (inner.op, step.op) == ("+", "-") and (part := _part(x, "-", z)):
            yield part, "+", y
        if (inner.op, step.op) == ("-", "+") and (part := _part(x, "+", z)):
            yield part, "-", y
    elif isinstance(z, Step) and step.op == "-" and z.op == "+" and (part := _part(inner, "-", z.left)):
        yield part, "-", z.right


def _factored(step: Step) -> Iterator[tuple[Quantity, str, Quantity]]:
    """a + a * k = a * (k + 1), x * k + y * k = (x + y) * k, and (x + y) * k = x * k + y * k."""
    left, right = step.left, step.right
    if isinstance(left, Step) and (left.op, step.op) == ("+", "*") and isinstance(right, int):
        one, two = _part(left.left, "*", right), _part(left.right, "*", right)
        if one and two:
            yield one, "+", two
    if step.op == "+" and isinstance(right, Step) and right.op == "*":
        same = right.left is left or (isinstance(left, int) and left == right.left)
        if same and isinstance(right.right, int) and (times := _part(right.right, "+", 1)):
            yield left, "*", times
        common = isinstance(left, Step) and left.op == "*" and isinstance(left.right, int) and left.right == right.right
        if isinstance(left, Step) and common and (both := _part(left.left, "+", right.left)):
            yield both, "*", left.right
