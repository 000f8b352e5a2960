"""Whether two formulas are equal, by sympy and math-verify: run in the process of ``judge_process`` alone.

math-verify compares sets, tuples, matrices and equations element by element; what two elements are is decided here:
exactly where all numbers are exact, relative to their size, with ``i`` as the imaginary unit. A text that is not read
to its end is not compared.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Compare = Callable[[str, str], bool]

DIGITS = 50  # decimal digits of an evaluation; equal are two numbers that agree in all but the last few
_TOLERANCE = 10.0 ** (5 - DIGITS)
_POINTS = 4

_BOLD = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|vec|hat|mathbb)[ ]?(?:\{[ ]?(?:\\(?:mathbf|imath|jmath)[ ]?)?\{?([a-z0])\}"
    r"?[ ]?\}|[ ]([a-z])(?![A-Za-z]))"
)
# Of two vectors, the dot and the cross make two products, and the order counts in one.
_PRODUCT = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow|nabla)(?![A-Za-z])[ ]?(?:\{[^{}]{0,40}\}|[A-Za-z]|)[ ]?\)?[ ]?"
    r"\\(?:times|cdot)[ ]?\(?[ ]?(?:[0-9.]{1,9}[ ]?)?"
    r"(?:[A-Z](?![A-Za-z])|\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow))"
)
_TO_THE_T = re.compile(r"\^[ ]?(?:T(?![A-Za-z_])|\{[ ]?T[ ]?\}|\{?[ ]?\\(?:top|intercal)(?![A-Za-z])[ ]?\}?)")
_AND = re.compile(r",?[ ]?(?:\\text\{[ ]?,?[ ]?and[ ]?\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\land(?![A-Za-z]))[ ]?")
_OR = re.compile(r",?[ ]?(?:\\text\{[ ]?,?[ ]?or[ ]?\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![A-Za-z]))[ ]?")
_RELATION = re.compile(r"[<>]|\\(?:le|ge)(?![A-Za-z])")
_PRIMES = re.compile(r"([A-Za-z])('{1,4}|\^\{?[ ]?(?:\\prime[ ]?){1,4}\}?)")
_DOTS = re.compile(r"\\ldots(?![A-Za-z])|\.\.\.")
_MIXED = re.compile(
    r"(?<![\^_.A-Za-z0-9}\\])([0-9]+)[ ]?(?:\\frac[ ]?(?:\{([0-9]+)\}|([0-9]))[ ]?(?:\{([0-9]+)\}|([0-9]))"
    r"|(?<=[ ])([0-9]+)/([0-9]+))"
)
_TIMES = re.compile(
    r"(?<![\^_.A-Za-z0-9])([0-9]+(?:\.[0-9]+)?)[ ]?(?=\(|\\(?:binom|max|min|gcd|lcm|lfloor|lceil|left|sqrt"
    r"|frac)(?![A-Za-z]))"
)
_LOG_BASE = re.compile(r"\\log[ ]?_[ ]?([0-9a-z])[ ]?")
_RAISED = re.compile(r"\\(sin|cos|tan|cot|sec|csc|ln|log|sinh|cosh|tanh)[ ]?\^[ ]?([0-9])[ ]?(?=[0-9])")
_E_NOTATION = re.compile(r"^(-?[0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,3})$")
_CLOSED_TIMES = re.compile(r"\)[ ]?(?=[0-9(])")
# What would be dropped, or read as something else: numerals with a base, two numbers side by side, quotes, questions.
_UNREADABLE = re.compile(
    r"[0-9]\}?[ ]?_|[0-9][ ]+[0-9]|[0-9]['\"]|[\"?@#`]|\\(?:prime|equiv|cong|sim|mid|angle|overset|stackre"
    r"l)(?![A-Za-z])|[0-9]:[0-9]"
)
_LETTERS = re.compile(r"\\(?:text|mathrm|operatorname|begin|end)[ ]?\{[^{}]*\}|\\[A-Za-z]+|[a-z]+(?![ ]?[_'])|[a-z]")
_INSIDE = re.compile(r"tr|eye|det|svd|gcd|lcm|norm|rank|ones|rows|cols|diag|inf|ceil|floor")
_DERIVED = re.compile(r"\\int(?![A-Za-z])|\}\{d[ ]?[a-z]|[0-9a-z]d[a-z]\}?/d")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|textit|textrm|operatorname)[ ]?\{([^{}]*)\}")
_NAMED = "lcm gcd sin cos tan cot sec csc ln log exp max "
_NAMED += "min arcsin arccos arctan floor ceil sgn det rank tr"
_FUNCTIONS = frozenset(_NAMED.split())
_INDEX = re.compile(r"_[ ]?\{?[ ]?i(?![A-Za-z])|(?<![A-Za-z\\])[jk](?![A-Za-z])")
_DECIMAL = re.compile(r"\.[0-9]")


def load() -> Compare:
    """The comparison, with all of its imports done. Raises ImportError where math-verify is missing."""
    logging.disable(logging.CRITICAL)
    from math_verify import grader

    _read_numbers_without_eval()
    return _Comparison(grader).compare


def _read_numbers_without_eval() -> None:
    """sympy turns even the text of a number into a program and runs it; here digits are read as digits, and decimals
    as what they are exactly.
    """
    from sympy import Integer, Rational
    from sympy.core import numbers

    whole = numbers.sympify

    def sympify(value: Any, *arguments: Any, **settings: Any) -> Any:
        if not isinstance(value, str):
            return whole(value, *arguments, **settings)
        if not value.isascii() or not value.strip("+-").replace(".", "", 1).isdigit():
            raise ValueError("no number")
        whole_part, _, tail = value.partition(".")
        return Rational(int(whole_part + tail), 10 ** len(tail)) if tail else Integer(int(whole_part))

    numbers.sympify = sympify


class Unread(Exception):
    """A text that is no formula, or not to its end."""


class _Comparison:
    """math-verify's comparison with another idea of equal elements."""

    def __init__(self, grader: Any) -> None:
        import sympy
        from latex2sympy2_extended import latex2sympy2
        from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex

        self.sympy, self.grader, self.reader = sympy, grader, latex2sympy2
        # No units: math-verify takes a last variable for one.
        self.settings = NormalizationConfig(True, units=False, malformed_operators=True, nits=False, boxed="none")
        self.normal = normalize_latex
        self.theirs = grader.sympy_expr_eq
        self.rounded = False
        self.imaginary = True
        symbol = latex2sympy2.get_symbol

        def named(text: str, *rest: Any, **settings: Any) -> Any:
            return sympy.I if text.strip() == "i" and self.imaginary else symbol(text, *rest, **settings)

        latex2sympy2.get_symbol = named
        grader.sympy_expr_eq = self.equal
        # A reference is compared with many answers.
        self.remembered = lru_cache(maxsize=64)(lambda text, imaginary: self.read(text))
        grader.sympy_numeric_eq = self.equal

    def compare(self, gold: str, answer: str) -> bool:
        """Whether two tidy texts are the same formula."""
        if any(_PRODUCT.search(text) for text in (gold, answer)):
            return False
        vectors = any("i" in found.groups() for text in (gold, answer) for found in _BOLD.finditer(text))
        gold, answer = (_BOLD.sub(_thin, text) for text in (gold, answer))
        self.imaginary = not (vectors or _INDEX.search(gold) or _INDEX.search(answer))
        if _ordered(gold, answer):
            return False
        self.rounded = bool(_DECIMAL.search(gold) or _DECIMAL.search(answer))
        try:
            read = [self.remembered(text, self.imaginary) for text in (gold, answer)]
        except Unread:
            return False
        return bool(self.grader.verify(read[0], read[1], timeout_seconds=None, allow_set_relation_comp=True))

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, text: str) -> Any:
        """The sympy object of a formula, or the set of an inequality's solutions. Raises Unread."""
        for pattern, join in ((_OR, "Union"), (_AND, "Intersection")):
            parts = [part for part in pattern.split(text) if part.strip()]
            if len(parts) > 1 and all(_RELATION.search(part) for part in parts):
                sets = [self.solutions(self.read(part)) for part in parts]
                known = [found for found in sets if found is not None]
                if len(known) < len(sets) or len({symbol for _, symbol in known}) > 1:
                    raise Unread(text)
                return getattr(self.sympy, join)(*(found for found, _ in known))
        return self.formula(text)

    def formula(self, text: str) -> Any:
        text = _TO_THE_T.sub("^{T_{up}}", text)  # which the library takes for a transposed matrix, or drops
        text = _RAISED.sub(r"\\\1^{\2} ", text)
        text = _E_NOTATION.sub(r"\1 \\cdot 10^{\2}", _LOG_BASE.sub(r"\\log_{\1} ", text.strip()))
        if _UNREADABLE.search(text):
            raise Unread(text)
        for said in _TEXT.findall(text):
            if said.strip() not in _FUNCTIONS and not re.fullmatch(r",?[ ]?(?:and|or)[ ]?|[A-Za-z]|[ ]*", said.strip()):
                raise Unread(text)
        if not _DERIVED.search(text):
            text = _LETTERS.sub(_apart, text)
        text = _PRIMES.sub(lambda m: f"{m[1]}_{{prime{m[2].count(chr(39)) or m[2].count('prime')}}}", text)
        if "'" in text:
            raise Unread(text)
        text = _MIXED.sub(_sum, _DOTS.sub(r"D_{dots}", text))
        text = _CLOSED_TIMES.sub(r") \\cdot ", _TIMES.sub(r"\1 \\cdot ", text))
        text = self.normal(text, self.settings)
        converter = self.converter()
        try:
            found = converter.parse(text)
        except Exception:
            converter.fast = False
            found = converter.parse(text)
        tokens = converter.parser.getTokenStream().tokens
        end = 0
        for token in tokens:
            if text[end : token.start].strip() and token.start >= end:
                raise Unread(text)  # a sign that the lexer skipped
            end = max(end, token.stop + 1)
        if converter.parser.getCurrentToken().type != -1:
            raise Unread(text)  # the parser stopped before the end
        return found

    def converter(self) -> Any:
        sympy = self.sympy
        from antlr4 import PredictionMode

        class Converter(self.reader._Latex2Sympy):  # type: ignore[name-defined]
            """The library's own, that keeps its parser."""

            fast = True

            def create_parser(self, latex_str: str) -> Any:
                self.parser = super().create_parser(latex_str)
                if self.fast:  # what is read without an error is then read as in the slow mode
                    self.parser._interp.predictionMode = PredictionMode.SLL
                return self.parser

            def convert_interval(self, expr: Any) -> Any:
                try:
                    return super().convert_interval(expr)
                except (ValueError, TypeError):  # of complex numbers
                    return sympy.Tuple(*(self.convert_expr(part) for part in expr.expr()))

        # Upper and lower case are two variables: R^2 - r^2 is not 0.
        return Converter(None, True, False, config=self.reader.ConversionConfig(lowercase_symbols=False))

    # --- comparing --------------------------------------------------------------------------------------------------

    def equal(self, gold: Any, answer: Any, *_: Any) -> bool:
        """In the place of math-verify's ``sympy_expr_eq``: scalars, relations and finite sets are compared here."""
        sympy = self.sympy
        if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr) and not _matrix(gold, answer):
            return self.scalars(gold, answer)
        gold, answer = (self.member(side) for side in (gold, answer))
        relations = [self.grader.is_relation(side) for side in (gold, answer)]
        if all(relations):
            return self.relations(gold, answer)
        for relation, other in ((gold, answer), (answer, gold)):
            if isinstance(other, sympy.Set) and self.grader.is_relation(relation) and _inequality(relation, sympy):
                solved = self.solutions(relation)
                return solved is not None and self.same(solved[0], other)
        if _matrix(gold, answer):
            return self.matrices(gold.doit(), answer.doit())
        finite = sympy.FiniteSet
        if isinstance(gold, finite) and isinstance(answer, finite):
            return self.matched(list(gold.args), list(answer.args))
        return self.same(gold, answer)

    def same(self, gold: Any, answer: Any) -> bool:
        """math-verify's own comparison, which asks ``equal`` about the elements."""
        return bool(self.theirs(gold, answer, 6, 15, True))

    def member(self, side: Any) -> Any:
        """The set of ``x \\in [1,2]``; what is none as it is."""
        return side.rhs if isinstance(side, self.sympy.Eq) and isinstance(side.rhs, self.sympy.Set) else side

    def matrices(self, a: Any, b: Any) -> bool:
        if getattr(a, "shape", None) != getattr(b, "shape", ()) or not (hasattr(a, "flat") and hasattr(b, "flat")):
            return bool(a == b)
        return all(self.equal(x, y) for x, y in zip(a.flat(), b.flat(), strict=True))

    def matched(self, gold: list[Any], answer: list[Any]) -> bool:
        """Whether there is a partner for each."""
        if len(gold) != len(answer):
            return False
        left = list(answer)
        for one in gold:
            partner = next((i for i, other in enumerate(left) if self.equal(one, other)), None)
            if partner is None:
                return False
            del left[partner]
        return True

    def scalars(self, a: Any, b: Any) -> bool:
        """Whether two scalars are equal: as numbers, or at points drawn for their variables."""
        sympy = self.sympy
        shares = [self.grader.get_pct_val(side) for side in (a, b)]
        if (shares[0] is None) != (shares[1] is None):  # 50% is 50 or one half
            plain = [side if share is None else share for side, share in zip((a, b), shares, strict=True)]
            if self.scalars(*plain):
                return True
        a, b = a.doit(), b.doit()
        if a == b:
            return True
        if a.is_Rational and b.is_Rational:
            return self.rounded and _close(a, b)
        if any(side.has(sympy.zoo, sympy.nan) for side in (a, b)):
            return False
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
        """Two formulas that agree at random points are equal; where they cannot be evaluated, sympy simplifies."""
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
            solved = [self.solutions(side) for side in (gold, answer)]
            if solved[0] and solved[1]:
                return solved[0][1] == solved[1][1] and self.same(solved[0][0], solved[1][0])
        if len(parts[0]) != len(parts[1]):
            assigned = [self.grader.is_assignment_relation(side) for side in (gold, answer)]
            if not all(assigned):
                return False
            first = [self.grader.take_first_relation(side).lhs for side in (gold, answer)]
            last = [self.grader.take_last_relation(side).rhs for side in (gold, answer)]
            return bool(first[0] == first[1] and self.equal(last[0], last[1]))
        left = list(parts[1])
        for one in parts[0]:
            partner = next((i for i, other in enumerate(left) if self.relation(one, other)), None)
            if partner is None:
                return False
            del left[partner]
        return True

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

    def solutions(self, relation: Any) -> tuple[Any, Any] | None:
        """The real solutions of an inequality whose variable stands alone on a side, and the variable; else None."""
        sympy = self.sympy
        if not self.grader.is_relation(relation):
            return (relation, None) if isinstance(relation, sympy.Set) else None
        parts = list(relation._unsorted_args) if hasattr(relation, "_unsorted_args") else [relation]
        symbols = {s for part in parts for s in part.free_symbols}
        if len(symbols) != 1:
            return None
        symbol = symbols.pop()
        found = sympy.S.Reals
        for part in parts:
            if not (symbol in (part.lhs, part.rhs) and {part.lhs, part.rhs} - {symbol}):
                return None
            bound = part.rhs if part.lhs == symbol else part.lhs
            bound = bound.doit()
            if bound.free_symbols or not bound.is_extended_real:
                return None
            below = isinstance(part, sympy.StrictLessThan | sympy.LessThan) == (part.lhs == symbol)
            strict = isinstance(part, sympy.StrictLessThan | sympy.StrictGreaterThan)
            if isinstance(part, sympy.Ne):
                one = sympy.Complement(sympy.S.Reals, sympy.FiniteSet(bound))
            elif isinstance(part, sympy.Eq):
                one = sympy.FiniteSet(bound)
            else:
                ends = (-sympy.oo, bound, True, strict) if below else (bound, sympy.oo, strict, True)
                one = sympy.Interval(*ends)
            found = sympy.Intersection(found, one)
        return found, symbol


def _apart(found: re.Match[str]) -> str:
    """Variables side by side: the library takes dx for one, and tr or det among others for a function."""
    run = found.group()
    if run[0] == "\\" or run in _FUNCTIONS or found.string[found.end() :].lstrip()[:1] in ("_", "'"):
        return run
    return re.sub("d", "d_{d}", " ".join(run) if _INSIDE.search(run) else run)


def _thin(found: re.Match[str]) -> str:
    """Bold letters are letters."""
    return f" {found[1] or found[2]} "


def _ordered(gold: str, answer: str) -> bool:
    """Whether one is a set in braces and the other a tuple or interval."""
    ends = [(text[:2] == "\\{", text[:1] in ("(", "[")) for text in (gold.strip(), answer.strip())]
    alone = all("\\cup" not in text and "=" not in text for text in (gold, answer))
    return alone and ((ends[0][0] and ends[1][1]) or (ends[0][1] and ends[1][0])) and "," in gold and "," in answer


def _sum(found: re.Match[str]) -> str:
    whole = found[1]
    above, below = found[2] or found[3] or found[6], found[4] or found[5] or found[7]
    return f"({whole}+\\frac{{{above}}}{{{below}}})"


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
    # A sum that cancels to zero is evaluated to noise, of which sympy says that no digit counts.
    noise = [all(part == 0 or getattr(part, "_prec", 99) < 12 for part in side.as_real_imag()) for side in (x, y)]
    return all(noise)


def _close(x: Any, y: Any) -> bool:
    """Whether one is the other rounded to six decimals, of which enough count."""
    apart, size = abs(x - y), max(abs(x), abs(y))
    if _ends(x) and _ends(y):
        return False
    return bool(apart <= 5.001e-7 and apart <= size * 1e-4)


def _ends(value: Any) -> bool:
    """Whether an exact number's decimals end."""
    if not value.is_Rational:
        return False
    rest = int(value.q)
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _inequality(relation: Any, sympy: Any) -> bool:
    parts = relation._unsorted_args if hasattr(relation, "_unsorted_args") else [relation]
    return not any(isinstance(part, sympy.Eq) for part in parts)


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
