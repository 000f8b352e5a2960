"""Foray's grader of MATH answers beside math-verify alone, on generated pairs of answers that are equal or not.

    python benchmarks/grading.py [--pairs 200] [--seed 0]

Each kind makes ``--pairs`` equal and as many unequal pairs; each pair is judged in both directions by both graders, in
turn and in the same run. The table says how often each grader is wrong and how long a judgement takes it.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from foray.answers import latex

Pair = tuple[str, str, bool]
Kind = Callable[[random.Random], tuple[str, str, str]]  # two equal answers, and one that differs from both


def frac(value: Fraction, draw: random.Random) -> str:
    """A fraction in one of the ways in which people write it."""
    sign, a, b = "-" if value < 0 else "", abs(value.numerator), value.denominator
    if b == 1:
        return f"{sign}{a}"
    ways = [
        f"{sign}\\frac{{{a}}}{{{b}}}",
        f"{sign}\\dfrac{{{a}}}{{{b}}}",
        f"{sign}{a}/{b}",
        f"\\frac{{{sign}{a}}}{{{b}}}",
    ]
    if a > b:
        ways.append(f"{sign}{a // b}\\frac{{{a % b}}}{{{b}}}")
    return draw.choice(ways)


def fractions(d: random.Random) -> tuple[str, str, str]:
    value = Fraction(d.choice([-1, 1]) * d.randint(1, 99), d.randint(2, 99))
    return frac(value, d), frac(value, d), frac(value + Fraction(1, d.randint(2, 60)), d)


def decimals(d: random.Random) -> tuple[str, str, str]:
    value = Fraction(d.randint(-9999, 9999) * 2 + 1, d.choice([8, 20, 100, 1000]))
    text = str(float(value))
    return text, frac(value, d), f"{float(value) + d.choice([0.01, -0.1, 1, 0.001]):.4f}"


def repeating(d: random.Random) -> tuple[str, str, str]:
    fixed, again = d.choice(["", str(d.randint(0, 9))]), str(d.randint(1, 98))
    value = Fraction(int((fixed or "") + again) - int(fixed or 0), (10 ** len(again) - 1) * 10 ** len(fixed))
    return f"0.{fixed}\\overline{{{again}}}", frac(value, d), f"0.{fixed}{again}"


def surds(d: random.Random) -> tuple[str, str, str]:
    a, n, b = d.randint(2, 9), d.choice([2, 3, 5, 6, 7, 10, 11]), d.randint(2, 9)
    return d.choice(
        [
            (f"\\sqrt{{{a * a * n}}}", f"{a}\\sqrt{{{n}}}", f"{a}\\sqrt{{{n + 1}}}"),
            (
                f"\\frac{{{a}}}{{\\sqrt{{{n}}}}}",
                f"\\frac{{{a}\\sqrt{{{n}}}}}{{{n}}}",
                f"\\frac{{{a}\\sqrt{{{n}}}}}{{{n + 1}}}",
            ),
            (f"{b}+{a}√{n}", f"{a}\\sqrt{n}+{b}" if n < 10 else f"{a}\\sqrt{{{n}}}+{b}", f"{b}-{a}\\sqrt{{{n}}}"),
            (f"(\\sqrt{{{n}}}+{a})^2", f"{n + a * a}+{2 * a}\\sqrt{{{n}}}", f"{n + a * a}+{2 * a + 1}\\sqrt{{{n}}}"),
        ]
    )


def polynomials(d: random.Random) -> tuple[str, str, str]:
    x, a, b, c = d.choice("xyztmkns"), d.randint(2, 9), d.randint(1, 9), d.randint(2, 9)
    return d.choice(
        [
            (
                f"({x}+{a})({x}-{b})",
                f"{x}^2{a - b:+d}{x}-{a * b}".replace("+0" + x, ""),
                f"{x}^2{a - b + 1:+d}{x}-{a * b}",
            ),
            (f"{c}{x}^2+{a}{x}", f"{x}({c}{x}+{a})", f"{c}{x}^2+{a}"),
            (f"-{c}{x}^2+{a}{x}", f"{a}{x}-{c}{x}^2", f"-{c}{x}^2-{a}{x}"),
            (f"({x}+{a})^2", f"{x}^{{2}}+{2 * a}{x}+{a * a}", f"{x}^2+{a * a}"),
            (f"{c}{x}", f"{x}\\cdot {c}", f"{c}"),
        ]
    )


def products(d: random.Random) -> tuple[str, str, str]:
    letters = "".join(sorted(d.sample("abcdkmnpqrstuvwxyz", d.randint(2, 4))))
    mixed = "".join(d.sample(letters, len(letters)))
    number = d.randint(2, 9)
    return f"{number}{letters}", f"{number}{mixed}", f"{number}{letters[:-1]}"


def complexes(d: random.Random) -> tuple[str, str, str]:
    a, b, c, e = (d.randint(1, 9) for _ in range(4))
    real, imaginary = a * c - b * e, a * e + b * c
    return d.choice(
        [
            (f"({a}+{b}i)({c}+{e}i)", f"{real}{imaginary:+d}i", f"{real}{imaginary + 1:+d}i"),
            (f"{a}-{b}i", f"-{b}i+{a}", f"{a}+{b}i"),
            (f"\\sqrt{{-{a * a}}}", f"{a}i", f"{a + 1}i"),
            (
                f"\\frac{{{a}+{b}i}}{{{c + 1}}}",
                f"\\frac{{{a}}}{{{c + 1}}}+\\frac{{{b}}}{{{c + 1}}}i",
                f"\\frac{{{a}}}{{{c + 1}}}",
            ),
            (f"{a}e^{{i\\pi}}", f"-{a}", f"{a}"),
        ]
    )


def intervals(d: random.Random) -> tuple[str, str, str]:
    a = d.randint(-9, 9)
    b = a + d.randint(1, 9)
    return d.choice(
        [
            (f"({a},{b})", f"{a}<x<{b}", f"[{a},{b})"),
            (f"[{a},{b}]", f"{a}\\le x\\le {b}", f"{a}<x<{b}"),
            (f"{a}<x<{b}", f"{b}>x>{a}", f"{a}<x<{b + 1}"),
            (f"[{a},\\infty)", f"x\\geq {a}", f"x>{a}"),
            (
                f"(-\\infty,{a})\\cup({b},\\infty)",
                f"({b},\\infty)\\cup(-\\infty,{a})",
                f"(-\\infty,{a}]\\cup({b},\\infty)",
            ),
            (f"x\\in({a},{b}]", f"({a},{b}]", f"({a},{b + 1}]"),
        ]
    )


def tuples(d: random.Random) -> tuple[str, str, str]:
    values = [Fraction(d.randint(-20, 20), d.choice([1, 1, 2, 4])) for _ in range(d.randint(2, 3))]
    other = [values[0] + 1, *values[1:]]
    return tuple(f"({', '.join(frac(v, d) for v in row)})" for row in (values, values, other))  # type: ignore[return-value]


def sets(d: random.Random) -> tuple[str, str, str]:
    values = d.sample(range(-20, 20), d.randint(2, 4))
    mixed = d.sample(values, len(values))
    join = d.choice(["\\{%s\\}", "%s"])
    return (
        join % ",".join(map(str, values)),
        join % ", ".join(map(str, mixed)),
        join % ",".join(map(str, [*values[1:], 30])),
    )


def percents(d: random.Random) -> tuple[str, str, str]:
    whole, part = d.randint(1, 99), d.choice([(1, 2), (1, 4), (3, 4)])
    decimal = whole + part[0] / part[1]
    return d.choice(
        [
            (f"{whole}\\frac{{{part[0]}}}{{{part[1]}}}\\%", f"{decimal}\\%", f"{decimal + 1}\\%"),
            (f"{whole}\\%", f"{whole}%", f"{whole + 1}\\%"),
            (f"{whole}\\%", f"{whole / 100}", f"{whole / 1000}"),
            (f"\\frac{{{part[0]}}}{{{part[1]}}}\\%", f"{part[0] / part[1]}\\%", f"{part[0] / part[1] * 2}\\%"),
        ]
    )


UNITS = [
    ("cm", "centimeters", "meters"),
    ("feet", "ft", "meters"),
    ("dollars", "dollars", "cents"),
    ("minutes", "min", "hours"),
    ("kg", "kilograms", "grams"),
    ("m", "meters", "miles"),
    ("square inches", "in^2", "square feet"),
]


def with_units(d: random.Random) -> tuple[str, str, str]:
    value, (one, same, other) = d.randint(2, 500), d.choice(UNITS)
    return f"{value}\\text{{ {one}}}", d.choice([f"{value}\\text{{ {same}}}", f"{value}"]), f"{value}\\text{{ {other}}}"


def magnitudes(d: random.Random) -> tuple[str, str, str]:
    value, (word, power) = d.randint(2, 99), d.choice([("thousand", 3), ("million", 6), ("billion", 9)])
    return f"{value}\\text{{ {word}}}", f"{value}" + "0" * power, f"{value}"


def tails(d: random.Random) -> tuple[str, str, str]:
    a, b = d.randint(1, 11), d.randint(1, 11)
    return d.choice(
        [
            (f"{a}:30\\text{{ p.m.}}", f"{a}:30\\text{{ pm}}", f"{a}:30\\text{{ a.m.}}"),
            (
                f"{a}\\text{{ ft }}{b}\\text{{ in}}",
                f"{a}\\text{{ feet }}{b}\\text{{ inches}}",
                f"{a}\\text{{ ft }}{b % 11 + 1}\\text{{ in}}",
            ),
            (f"{a}", f"{a}\\text{{ ways}}", f"{a}\\text{{ or less}}"),
            (f"{a}", f"{a}\\text{{ apples}}", f"{a}\\text{{ apples and }}{b}\\text{{ pears}}"),
        ]
    )


def matrices(d: random.Random) -> tuple[str, str, str]:
    v = [d.randint(-9, 9) for _ in range(4)]
    form = "\\begin{pmatrix}%s & %s \\\\ %s & %s\\end{pmatrix}"
    halves = [f"\\frac{{{2 * n}}}{{2}}" for n in v]
    return (
        form % tuple(v),
        (form % tuple(halves)).replace("pmatrix", d.choice(["pmatrix", "bmatrix"])),
        form % (v[0] + 1, *v[1:]),
    )


def vectors(d: random.Random) -> tuple[str, str, str]:
    a, b = d.randint(2, 9), d.randint(2, 9)
    return (
        f"{a}\\mathbf{{i}}+{b}\\mathbf{{j}}",
        f"{b}\\mathbf{{j}}+{a}\\mathbf{{i}}",
        f"{a}\\mathbf{{i}}-{b}\\mathbf{{j}}",
    )


def small(d: random.Random) -> tuple[str, str, str]:
    a, n = d.randint(2, 9), d.randint(17, 40)
    return d.choice(
        [
            (f"{a}\\times 10^{{-{n}}}", f"{a}0\\times 10^{{-{n + 1}}}", f"{a + 1}\\times 10^{{-{n}}}"),
            (f"{a}^{{-{n + 20}}}", f"\\frac{{1}}{{{a}^{{{n + 20}}}}}", f"{a}^{{-{n + 21}}}"),
        ]
    )


def bases(d: random.Random) -> tuple[str, str, str]:
    digits, base = "".join(d.choice("1234") for _ in range(4)), d.randint(5, 8)
    return f"{digits}_{base}", f"{digits}_{{{base}}}", f"{digits}_{base + 1}"


def equations(d: random.Random) -> tuple[str, str, str]:
    a, b = d.randint(2, 9), d.randint(1, 9)
    return d.choice(
        [
            (f"y={a}x+{b}", f"y={b}+{a}x", f"y={a}x-{b}"),
            (f"{a}x+{b}y=1", f"{b}y+{a}x=1", f"{a}x-{b}y=1"),
            (f"x={a}", f"{a}", f"{a + 1}"),
            (f"y={a}x+{b}", f"{a}x-y+{b}=0", f"{a}x+y+{b}=0"),
        ]
    )


def functions(d: random.Random) -> tuple[str, str, str]:
    a = d.randint(2, 9)
    return d.choice(
        [
            (f"\\sin^2 {a}x", f"1-\\cos^2 {a}x", f"1+\\cos^2 {a}x"),
            (f"\\log_{{{a}}} {a**3}", "3", "4"),
            (f"{a}^{{n+1}}", f"{a}\\cdot {a}^n", f"{a}^n"),
            (f"{a}!", str(math.factorial(a)), str(a + 5)),
            (f"\\frac{{\\pi}}{{{a}}}", f"\\pi/{a}", f"\\pi/{a + 1}"),
            (f"\\ln {a**2}", f"2\\ln {a}", f"{a}\\ln 2" if a not in (2, 4) else "1"),
        ]
    )


def words(d: random.Random) -> tuple[str, str, str]:
    one, other = d.sample(
        ["even", "odd", "Monday", "red", "Evelyn", "neither", "yes", "no", "north", "circle", "no solution"], 2
    )
    return f"\\text{{{one}}}", d.choice([one, one.upper(), f"\\text{{{one.title()}}}"]), f"\\text{{{other}}}"


def choices(d: random.Random) -> tuple[str, str, str]:
    one, other = d.sample("ABCDE", 2)
    return (
        f"\\text{{({one})}}",
        d.choice([one, f"({one})", f"\\textbf{{({one})}}"]),
        d.choice([other, f"\\text{{({other})}}"]),
    )


def unicode(d: random.Random) -> tuple[str, str, str]:
    a = d.randint(2, 9)
    return d.choice(
        [
            (f"-{a}", f"−{a}", f"{a}"),
            (f"{a}x^2", f"{a}x²", f"{a}x³"),
            (f"{a}^\\circ", f"{a}°", f"{a + 1}°"),
            (f"{a}\\pi", f"{a}π", f"{a + 1}π"),
            (f"{a}\\frac12", f"{a}½", f"{a}¼"),
            ("\\emptyset", "∅", "\\{0\\}"),
            ("-\\infty", "−∞", "∞"),
            (f"x\\le {a}", f"x≤{a}", f"x≥{a}"),
        ]
    )


KINDS: dict[str, Kind] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        fractions,
        decimals,
        repeating,
        surds,
        polynomials,
        products,
        complexes,
        intervals,
        tuples,
        sets,
        percents,
        with_units,
        magnitudes,
        tails,
        matrices,
        vectors,
        small,
        bases,
        equations,
        functions,
        words,
        choices,
        unicode,
    )
}


@dataclass
class Tally:
    """Judgements of one grader on one kind."""

    accepted: int = 0  # of unequal pairs
    refused: int = 0  # of equal ones
    seconds: float = 0.0

    def add(self, equal: bool, said: bool, seconds: float) -> bool:
        self.accepted += said and not equal
        self.refused += equal and not said
        self.seconds += seconds
        return said == equal


def pairs(kind: Kind, count: int, seed: int) -> list[Pair]:
    """``count`` equal and ``count`` unequal pairs, each in both directions; the same for the same seed."""
    draw = random.Random(seed)
    found: dict[Pair, None] = {}
    for _ in range(count):
        one, same, other = kind(draw)
        for a, b, equal in ((one, same, True), (one, other, False)):
            if a != b:
                found |= {(a, b, equal): None, (b, a, equal): None}
    return list(found)


def alone() -> Callable[[str, str], bool]:
    """math-verify as its documentation uses it, without its alarms."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)

    def judge(gold: str, answer: str) -> bool:
        read: list[Any] = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
        return bool(verify(read[0], read[1], timeout_seconds=None))

    return judge


def measured(count: int, seed: int) -> tuple[dict[str, tuple[int, Tally, Tally]], list[tuple[str, Pair]]]:
    """Pairs and tallies (Foray's, math-verify's) by kind, and the pairs that math-verify alone has right."""
    theirs = alone()
    graders: list[Callable[[str, str], bool]] = [lambda a, b: latex.equivalent(a, b)[0], theirs]
    for grader in graders:
        grader("x+1", "1+x")  # what starting costs is paid once
    table, worse = {}, []
    for name, kind in KINDS.items():
        rows = pairs(kind, count, seed)
        tallies = Tally(), Tally()
        for row in rows:
            right = []
            for grader, tally in zip(graders, tallies, strict=True):
                begun = time.perf_counter()
                said = grader(row[0], row[1])
                right.append(tally.add(row[2], said, time.perf_counter() - begun))
            if right == [False, True]:
                worse.append((name, row))
        table[name] = (len(rows), *tallies)
    return table, worse


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--pairs", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    table, worse = measured(given.pairs, given.seed)
    print("| kind | judgements | Foray accepts wrongly / refuses wrongly | math-verify | ms, Foray / math-verify |")
    print("|---|---:|---:|---:|---:|")
    for name, (rows, ours, theirs) in [*table.items(), ("all", _sum(table))]:
        times = f"{1e3 * ours.seconds / rows:.2f} / {1e3 * theirs.seconds / rows:.2f}"
        print(
            f"| {name} | {rows:,} | {ours.accepted} / {ours.refused} | {theirs.accepted} / {theirs.refused} | {times} |"
        )
    print(f"\nmath-verify right and Foray wrong: {len(worse)}")
    for name, row in worse[:50]:
        print("  ", name, *row, sep="   ")


def _sum(table: dict[str, tuple[int, Tally, Tally]]) -> tuple[int, Tally, Tally]:
    rows = sum(row[0] for row in table.values())
    both = (
        Tally(*(sum(getattr(row[i], field) for row in table.values()) for field in ("accepted", "refused", "seconds")))
        for i in (1, 2)
    )
    return rows, *both  # type: ignore[return-value]


if __name__ == "__main__":
    main()
