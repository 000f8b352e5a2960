"""How recipes, numbers of tokens and the classes of values are written wherever a person reads them."""

from __future__ import annotations

from typing import Any

#: The names of recipes, as in the paper.
LABELS = {
    "base": "Base",
    "rl": "RL",
    "sft": "SFT",
    "sft_rl": "SFT→RL",
    "sft_gold": "SFT-Gold",
    "sft_gold_rl": "SFT-Gold→RL",
    "parallel": "Parallel",
}


def in_tokens(tokens: int) -> str:
    """A number of tokens in its own unit, exactly, so that two M_t never look alike: 768, 40.96k, 2.3M, 44B."""
    if tokens < 1000:
        return str(tokens)
    size, unit = (1e9, "B") if tokens >= 1e9 else (1e6, "M") if tokens >= 1e5 else (1e3, "k")
    return f"{tokens / size:.15g}{unit}"


def per_parameter(ratio: float) -> str:
    """Tokens per parameter: 0.35, 2.8, 19, 2,694."""
    return f"{ratio:,.0f}" if ratio >= 99.5 else f"{ratio:.2g}"


def with_article(word: str) -> str:
    """``an int``, ``a float``"""
    return f"{'an' if word[:1].lower() in tuple('aeiou') else 'a'} {word}"


def in_words(value: Any) -> str:
    """What a value is: ``None``, ``an int``, ``an empty tuple``, ``a list of Part and str``"""
    if value is None:
        return "None"
    name = type(value).__name__
    if not isinstance(value, tuple | list):
        return with_article(name)
    inner = sorted({type(v).__name__ for v in value})
    return f"{with_article(name)} of {' and '.join(inner)}" if inner else f"an empty {name}"
