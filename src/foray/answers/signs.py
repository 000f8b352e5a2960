"""Signs of Unicode and the plain text that each stands for."""

from __future__ import annotations

import unicodedata

#: Dashes for a minus, in any text; and those that are a minus in a formula only.
MINUS, FORMULA_MINUS = "−‐‑‒–﹣", "—－˗"
#: Signs without width, in any text; and the operators of a formula that nobody sees.
WIDTHLESS, UNSEEN_OPERATORS = "\u200b\u200c\u200d\u2060\ufeff", "\u2061\u2062\u2063"
#: Spaces of other widths, in any text; and the one of formulas.
SPACES, FORMULA_SPACE = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000", "\u205f"


def fraction_of(sign: str) -> str:
    """``½`` as ``1/2``."""
    return unicodedata.normalize("NFKC", sign).replace("\u2044", "/")


#: Fractions of one sign; the others are read in LaTeX only.
FRACTIONS, OTHER_FRACTIONS = {sign: fraction_of(sign) for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}, "⅐⅑⅒↉"
#: Raised and lowered signs; digits and signs of a power stand first among the raised ones.
RAISED_DIGITS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-"))
RAISED = RAISED_DIGITS | dict(zip("⁽⁾ⁿⁱˣ", "()nix"))
SUNK = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-"))

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
    "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma",
    "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_COMMANDS = _GREEK | {
    "×": "times", "÷": "div", "⋅": "cdot", "·": "cdot", "∙": "cdot", "∞": "infty", "≤": "le", "≦": "le", "⩽": "le",
    "≥": "ge", "≧": "ge", "⩾": "ge", "≠": "ne", "∪": "cup", "∩": "cap", "∅": "emptyset", "⌀": "emptyset", "∈": "in",
    "±": "pm", "∓": "mp", "…": "ldots", "⋯": "cdots", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil",
    "⟨": "langle", "⟩": "rangle", "∖": "setminus", "∧": "land", "∨": "lor", "→": "to", "≡": "equiv", "≈": "approx",
    "∠": "angle", "△": "triangle", "⊥": "perp", "∥": "parallel", "£": "pounds", "∑": "sum", "∏": "prod", "∫": "int",
}  # fmt: skip
_LETTERS = {"ℝ": "R", "ℤ": "Z", "ℚ": "Q", "ℕ": "N", "ℂ": "C"}
#: Signs that LaTeX has a command or a plain sign for.
AS_LATEX = (
    {sign: f"\\{name} " for sign, name in _COMMANDS.items()}
    | {sign: f"\\mathbb{{{letter}}}" for sign, letter in _LETTERS.items()}
    | dict.fromkeys(MINUS + FORMULA_MINUS, "-")
    | dict.fromkeys(SPACES + FORMULA_SPACE, " ")
    | dict.fromkeys(WIDTHLESS + UNSEEN_OPERATORS, "")
    | dict.fromkeys("′‘’ʹ", "'")
    | dict.fromkeys("⁄∕", "/")
    | {"°": "^\\circ ", "″": "''", "“": '"', "”": '"'}
    | {"º": "^\\circ ", "∗": "*", "∣": "|", "￥": "¥", "、": ",", "﹪": "%"}
)
#: Signs that a typewriter has: of full width, dashes and signs without width.
AS_TYPED = (
    {at: at - 0xFEE0 for at in range(0xFF01, 0xFF5F)}
    | dict.fromkeys(map(ord, MINUS), "-")
    | dict.fromkeys(map(ord, WIDTHLESS))
)
