"""A formula's text as a sympy object: all of the text, or none. Runs in the process of ``judge_process`` alone."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_TO_THE_T = re.compile(r"\^[ ]?(?:T(?![A-Za-z_])|\{[ ]?T[ ]?\}|\{?[ ]?\\(?:top|intercal)(?![A-Za-z])[ ]?\}?)")
_AND = re.compile(r",?[ ]?(?:\\text\{[ ]?,?[ ]?and[ ]?\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\land(?![A-Za-z]))[ ]?")
_OR = re.compile(r",?[ ]?(?:\\text\{[ ]?,?[ ]?or[ ]?\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![A-Za-z]))[ ]?")
_RELATION = re.compile(r"[<>]|\\(?:le|ge)(?![A-Za-z])")
_PRIMES = re.compile(r"([A-Za-z])('{1,4}|\^\{?[ ]?(?:\\prime[ ]?){1,4}\}?)")
_DOTS = re.compile(r"\\ldots(?![A-Za-z])|\.\.\.")
_BOUNDLESS = re.compile(r"\\(sum|lim)(?![A-Za-z]|[ ]?[_^])")
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
# Text that the library drops or misreads: numerals with a base, two numbers side by side, quotes, questions.
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


def read_numbers_without_eval() -> None:
    """Makes sympy read digits as digits and decimals exactly. By itself sympy runs a number's text as a program."""
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
    """A text that is no formula, or that has something behind one."""


class FormulaReader:
    """math-verify's reader, with ``i`` as the imaginary unit where ``imaginary`` is set."""

    def __init__(self, grader: Any) -> None:
        import sympy
        from latex2sympy2_extended import latex2sympy2
        from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex

        self.sympy, self.grader, self.library = sympy, grader, latex2sympy2
        # No units: math-verify takes a last variable for one.
        self.settings = NormalizationConfig(True, units=False, malformed_operators=True, nits=False, boxed="none")
        self.normal = normalize_latex
        self.imaginary = True
        symbol = latex2sympy2.get_symbol

        def named(text: str, *rest: Any, **settings: Any) -> Any:
            return sympy.I if text.strip() == "i" and self.imaginary else symbol(text, *rest, **settings)

        latex2sympy2.get_symbol = named
        # A reference is compared with many answers.
        self._remembered = lru_cache(maxsize=64)(lambda text, imaginary: self._read(text))

    def read(self, text: str, imaginary: bool) -> Any:
        """The sympy object of a formula, or the set of an inequality's solutions. Raises Unread."""
        self.imaginary = imaginary
        return self._remembered(text, imaginary)

    def _read(self, text: str) -> Any:
        for pattern, join in ((_OR, "Union"), (_AND, "Intersection")):
            parts = [part for part in pattern.split(text) if part.strip()]
            if len(parts) > 1 and all(_RELATION.search(part) for part in parts):
                sets = [self.solutions(self._read(part)) for part in parts]
                known = [found for found in sets if found is not None]
                if len(known) < len(sets) or len({symbol for _, symbol in known}) > 1:
                    raise Unread(text)
                return getattr(self.sympy, join)(*(found for found, _ in known))
        return self._formula(text)

    def _formula(self, text: str) -> Any:
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
        # The library reads no sum and no limit without bounds. Both are linear, as a factor is.
        text = _BOUNDLESS.sub(r"L_{\1} ", _DOTS.sub(r"D_{dots}", text))
        text = _MIXED.sub(_sum, text)
        text = _CLOSED_TIMES.sub(r") \\cdot ", _TIMES.sub(r"\1 \\cdot ", text))
        text = self.normal(text, self.settings)
        converter = self._converter()
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

    def _converter(self) -> Any:
        sympy = self.sympy
        from antlr4 import PredictionMode

        class Converter(self.library._Latex2Sympy):  # type: ignore[name-defined]
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
        return Converter(None, True, False, config=self.library.ConversionConfig(lowercase_symbols=False))

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
    """Variables side by side, apart: the library takes dx for one variable, and tr or det in a word for a function."""
    run = found.group()
    if run[0] == "\\" or run in _FUNCTIONS or found.string[found.end() :].lstrip()[:1] in ("_", "'"):
        return run
    return re.sub("d", "d_{d}", " ".join(run) if _INSIDE.search(run) else run)


def _sum(found: re.Match[str]) -> str:
    whole = found[1]
    above, below = found[2] or found[3] or found[6], found[4] or found[5] or found[7]
    return f"({whole}+\\frac{{{above}}}{{{below}}})"
