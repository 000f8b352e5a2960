"""Whether two formulas are equal, by sympy and math-verify: run in the process of ``judge_process`` alone.

math-verify compares sets, tuples, matrices and equations element by element. This module compares two elements: exactly
where all numbers are exact, else relative to their size. A text that is not read to its end is not compared.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from foray.answers.formulas import FormulaReader, Unread, read_numbers_without_eval
from foray.answers.written import endless

Compare = Callable[[str, str], bool]

DIGITS = 50  # decimal digits of an evaluation; two numbers are equal that agree in all but the last few
_TOLERANCE = 10.0 ** (5 - DIGITS)
_POINTS = 4

_BOLD = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|vec|hat|mathbb)[ ]?(?:\{[ ]?(?:\\(?:mathbf|imath|jmath)[ ]?)?\{?([a-z0])\}"
    r"?[ ]?\}|[ ]([a-z])(?![A-Za-z]))"
)
# The dot and the cross make two products of two vectors, and the order counts in one of them.
_PRODUCT = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow|nabla)(?![A-Za-z])[ ]?(?:\{[^{}]{0,40}\}|[A-Za-z]|)[ ]?\)?[ ]?"
    r"\\(?:times|cdot)[ ]?\(?[ ]?(?:[0-9.]{1,9}[ ]?)?"
    r"(?:[A-Z](?![A-Za-z])|\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow))"
)
_INDEX = re.compile(r"_[ ]?\{?[ ]?i(?![A-Za-z])|(?<![A-Za-z\\])[jk](?![A-Za-z])")
_DECIMAL = re.compile(r"\.[0-9]")


def comparison() -> Compare:
    """The comparison, with all of its imports done. Raises ImportError where math-verify is missing."""
    logging.disable(logging.CRITICAL)
    from math_verify import grader

    read_numbers_without_eval()
    return _Comparison(grader).compare


class _Comparison:
    """math-verify's comparison with another idea of equal elements."""

    def __init__(self, grader: Any) -> None:
        self.reader = FormulaReader(grader)
        self.sympy, self.grader = self.reader.sympy, grader
        self.theirs = grader.sympy_expr_eq
        self.rounded = False
        grader.sympy_expr_eq = self.equal
        grader.sympy_numeric_eq = self.equal

    def compare(self, gold: str, answer: str) -> bool:
        """Whether two tidy texts are the same formula."""
        if any(_PRODUCT.search(text) for text in (gold, answer)):
            return False
        vectors = any("i" in found.groups() for text in (gold, answer) for found in _BOLD.finditer(text))
        gold, answer = (_BOLD.sub(_thin, text) for text in (gold, answer))
        imaginary = not (vectors or _INDEX.search(gold) or _INDEX.search(answer))
        if _ordered(gold, answer):
            return False
        self.rounded = bool(_DECIMAL.search(gold) or _DECIMAL.search(answer))
        try:
            read = [self.reader.read(text, imaginary) for text in (gold, answer)]
        except Unread:
            return False
        return bool(self.grader.verify(read[0], read[1], timeout_seconds=None, allow_set_relation_comp=True))

    def equal(self, gold: Any, answer: Any, *_: Any) -> bool:
        """Replaces math-verify's ``sympy_expr_eq``: compares scalars, relations and finite sets itself."""
        sympy = self.sympy
        if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr) and not _matrix(gold, answer):
            return self.scalars(gold, answer)
        gold, answer = (self.member(side) for side in (gold, answer))
        relations = [self.grader.is_relation(side) for side in (gold, answer)]
        if all(relations):
            return self.relations(gold, answer)
        if any(self.grader.is_equation(side) for side in (gold, answer)):
            gold, answer = (self.stated(side) for side in (gold, answer))
            return gold is not None and answer is not None and self.equal(gold, answer)
        for relation, other in ((gold, answer), (answer, gold)):
            if isinstance(other, sympy.Set) and self.grader.is_relation(relation) and _inequality(relation, sympy):
                solved = self.reader.solutions(relation)
                return solved is not None and self.same(solved[0], other)
        if _matrix(gold, answer):
            return self.matrices(gold.doit(), answer.doit())
        finite = sympy.FiniteSet
        if isinstance(gold, finite) and isinstance(answer, finite):
            return _matched(gold.args, answer.args, self.equal)
        return self.same(gold, answer)

    def same(self, gold: Any, answer: Any) -> bool:
        """math-verify's own comparison, which asks ``equal`` about the elements."""
        return bool(self.theirs(gold, answer, 6, 15, True))

    def member(self, side: Any) -> Any:
        """The set of ``x \\in [1,2]``; what is none as it is."""
        known = isinstance(side, self.sympy.Eq) and isinstance(side.rhs, self.sympy.Set) and side.lhs.is_Symbol
        return side.rhs if known else side

    def stated(self, side: Any) -> Any:
        """The value that an equation gives to a name, or that a computation has; None where it gives none.

        ``x = 5``, ``f(2) = 5``, ``a-b = 5`` and ``-x = -5`` say 5, and so does ``2+3 = 5``. ``2x = 10`` and
        ``x^2+y^2 = 25`` are problems: their right sides answer nothing. Nor does that of ``x-y = 0``, which is
        ``x = y``. What is no equation is its own value.
        """
        if not self.grader.is_equation(side):
            return side
        first, last = self.grader.take_first_relation(side).lhs, self.grader.take_last_relation(side).rhs
        if _named(first, self.sympy):
            return last
        if first.is_Mul and _named(-first, self.sympy) and (isinstance(last, self.sympy.Expr) or _matrix(last)):
            return -last
        signs = (1, -1) if last != 0 or not first.free_symbols else (1,)
        if not last.free_symbols and _of_names(first, self.sympy, signs):
            return last
        closed = not first.free_symbols and not last.free_symbols
        return last if closed and self.equal(first, last) else None

    def matrices(self, a: Any, b: Any) -> bool:
        if getattr(a, "shape", None) != getattr(b, "shape", ()) or not (hasattr(a, "flat") and hasattr(b, "flat")):
            return bool(a == b)
        return all(self.equal(x, y) for x, y in zip(a.flat(), b.flat(), strict=True))

    def scalars(self, a: Any, b: Any) -> bool:
        """Whether two scalars are equal: as numbers, or at points drawn for their variables."""
        sympy = self.sympy
        shares = [self.grader.get_pct_val(side) for side in (a, b)]
        if (shares[0] is None) != (shares[1] is None):  # 50% is 50 or one half
            plain = [side if share is None else share for side, share in zip((a, b), shares, strict=True)]
            if self.scalars(*plain):
                return True
        a, b = a.doit(), b.doit()
        if any(side.has(sympy.zoo, sympy.nan) for side in (a, b)):
            return False  # 1/0 is 2/0 to sympy
        if a == b:
            return True
        if a.is_Rational and b.is_Rational:
            return self.rounded and _close(a, b)
        if any(side in (sympy.oo, -sympy.oo) for side in (a, b)):
            return False
        symbols = sorted(a.free_symbols | b.free_symbols, key=lambda s: s.name)
        if not symbols:
            return self.numbers(a, b)
        return self.at_points(a, b, symbols)

    def numbers(self, a: Any, b: Any) -> bool:
        x, y = a.evalf(DIGITS), b.evalf(DIGITS)
        if not (x.is_number and y.is_number) or x.atoms(self.sympy.Function) or y.atoms(self.sympy.Function):
            return bool(self.grader.sympy_symbolic_eq(a, b))
        if _near(x, y):
            return True
        return self.rounded and x.is_real and y.is_real and a.is_Rational != b.is_Rational and _close(x, y)

    def at_points(self, a: Any, b: Any, symbols: list[Any]) -> bool:
        """Whether two formulas agree at random points. Where they cannot be evaluated there, sympy simplifies."""
        draw = random.Random(17)
        agreed = 0
        for number in range(3 * _POINTS):
            point = {s: self.sympy.Rational(draw.randint(11, 400), 97) * (-1) ** draw.randint(0, 1) for s in symbols}
            if number < 2:
                point = {s: abs(value) for s, value in point.items()}
            x, y = a.evalf(DIGITS, subs=point), b.evalf(DIGITS, subs=point)
            if not (_finite(x) and _finite(y)):
                continue
            if not _near(x, y):
                return False
            agreed += 1
            if agreed == _POINTS:
                return True
        return bool(self.grader.sympy_symbolic_eq(a, b))

    def relations(self, gold: Any, answer: Any) -> bool:
        """Whether equations or inequalities say the same, each side in any order and times any factor."""
        sympy = self.sympy
        parts = [list(side._unsorted_args) if hasattr(side, "_unsorted_args") else [side] for side in (gold, answer)]
        if _inequality(gold, sympy) and _inequality(answer, sympy):
            solved = [self.reader.solutions(side) for side in (gold, answer)]
            if solved[0] and solved[1]:
                return solved[0][1] == solved[1][1] and self.same(solved[0][0], solved[1][0])
        if len(parts[0]) != len(parts[1]):
            assigned = [self.grader.is_assignment_relation(side) for side in (gold, answer)]
            if not all(assigned):
                return False
            first = [self.grader.take_first_relation(side).lhs for side in (gold, answer)]
            last = [self.grader.take_last_relation(side).rhs for side in (gold, answer)]
            return bool(first[0] == first[1] and self.equal(last[0], last[1]))
        return _matched(parts[0], parts[1], self.relation)

    def relation(self, a: Any, b: Any) -> bool:
        sympy = self.sympy
        if _assigns(a, sympy) and not _assigns(b, sympy):
            return False  # 2x = 6 is the problem, not its answer
        (kind, x), (other, y) = (_one_sided(side, sympy) for side in (a, b))
        if kind is not other or x is None or y is None:
            return bool(kind is other and self.equal(a.lhs, b.lhs) and self.equal(a.rhs, b.rhs))
        if not (isinstance(x, sympy.Expr) and isinstance(y, sympy.Expr)):
            return False
        if x.is_zero or y.is_zero:
            return bool(x.is_zero and y.is_zero)
        if self.scalars(x, y):
            return True
        ratio = sympy.cancel(x / y)
        if not ratio.is_number or ratio.is_zero:
            return False
        return bool(ratio.is_finite) if kind in (sympy.Eq, sympy.Ne) else bool(ratio.is_positive)


def _thin(found: re.Match[str]) -> str:
    """Bold letters are letters."""
    return f" {found[1] or found[2]} "


def _ordered(gold: str, answer: str) -> bool:
    """Whether one is a set in braces and the other a tuple or interval."""
    ends = [(text[:2] == "\\{", text[:1] in ("(", "[")) for text in (gold.strip(), answer.strip())]
    alone = all("\\cup" not in text and "=" not in text for text in (gold, answer))
    return alone and ((ends[0][0] and ends[1][1]) or (ends[0][1] and ends[1][0])) and "," in gold and "," in answer


def _matched(gold: Sequence[Any], answer: Sequence[Any], alike: Callable[[Any, Any], bool]) -> bool:
    """Whether there is a partner for each."""
    left = list(answer)
    if len(gold) != len(left):
        return False
    for one in gold:
        partner = next((i for i, other in enumerate(left) if alike(one, other)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _matrix(*sides: Any) -> bool:
    return any(getattr(side, "is_Matrix", False) for side in sides)


def _finite(value: Any) -> bool:
    if not value.is_number or value.is_finite is False:
        return False
    return all(part.is_Float or part.is_Rational for part in value.as_real_imag())


def _near(x: Any, y: Any) -> bool:
    """Whether two evaluated numbers are the same as far as they were evaluated."""
    size, apart = abs(x) + abs(y), abs(x - y)
    if apart == 0:
        return True
    if bool(apart <= size * _TOLERANCE):
        return True
    # A sum that cancels to zero is evaluated to noise. sympy says that no digit of the noise counts.
    noise = [all(part == 0 or getattr(part, "_prec", 99) < 12 for part in side.as_real_imag()) for side in (x, y)]
    return all(noise)


def _close(x: Any, y: Any) -> bool:
    """Whether one is the other rounded to six decimals, and enough of the decimals count."""
    apart, size = abs(x - y), max(abs(x), abs(y))
    if _ends(x) and _ends(y):
        return False
    return bool(apart <= 5.001e-7 and apart <= size * 1e-4)


def _ends(value: Any) -> bool:
    """Whether an exact number's decimals end."""
    return bool(value.is_Rational) and not endless(Fraction(int(value.p), int(value.q)))


def _inequality(relation: Any, sympy: Any) -> bool:
    parts = relation._unsorted_args if hasattr(relation, "_unsorted_args") else [relation]
    return not any(isinstance(part, sympy.Eq) for part in parts)


def _named(side: Any, sympy: Any) -> bool:
    """Whether it is a name: ``x``, ``f(2)``, ``\\cos A``, ``dy/dx``, a limit, an integral, a sum, ``(x, y)``."""
    if isinstance(side, sympy.Tuple):
        return all(part.is_Symbol for part in side)
    operators = (sympy.Derivative, sympy.Limit, sympy.Integral, sympy.Sum, sympy.Product)
    return bool(side.is_Symbol or side.is_Function or isinstance(side, operators))


def _of_names(side: Any, sympy: Any, signs: tuple[int, ...]) -> bool:
    """Whether it has names alone, added, subtracted, multiplied or divided: ``a+b``, ``AB``, ``\\frac{a-b}{c}``.

    ``signs``: the factors that names may have, as ``-b`` is -1 times ``b``.
    """
    if isinstance(side, sympy.Pow):
        return bool(side.exp == -1) and _of_names(side.base, sympy, signs)
    if side.is_Mul:
        factors = [part for part in side.args if part not in signs]
        return bool(factors) and all(_of_names(part, sympy, signs) for part in factors)
    return _named(side, sympy) or (bool(side.is_Add) and all(_of_names(part, sympy, signs) for part in side.args))


def _assigns(relation: Any, sympy: Any) -> bool:
    """Whether it gives one variable a number."""
    sides = (relation.lhs, relation.rhs)
    return isinstance(relation, sympy.Eq) and any(a.is_Symbol and not b.free_symbols for a, b in (sides, sides[::-1]))


def _one_sided(relation: Any, sympy: Any) -> tuple[type, Any]:
    """The kind of a relation to zero (equal, unequal, below, not above) and its left side; no side for sets."""
    kinds = {sympy.StrictGreaterThan: sympy.StrictLessThan, sympy.GreaterThan: sympy.LessThan}
    kind = type(relation)
    try:
        side = (relation.lhs - relation.rhs).doit()
    except TypeError:
        side = None
    if kind in kinds:
        return kinds[kind], None if side is None else -side
    return kind, side
