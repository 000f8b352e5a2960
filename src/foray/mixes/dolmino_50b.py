"""The DOLMino high-quality mix of 50B tokens. The paper pre-trains on the mix; OLMo 2 (arXiv 2501.00656) anneals on it.

    foray prepare dolmino_50b --out DIR                                   from the hub
    foray prepare dolmino_50b --out DIR --set sources.0.1.path=... ...    from a local copy, source by source

The shares of the sources are from the OLMo 2 report (table 13). The paper's project page rounds the shares. The math
subset has 10.7B tokens and is read once, so its parts have the shares of their sizes (table 5): MathCoder2 then has
7.5% of the mix, where the page says 6%.
"""

from __future__ import annotations

from foray.data.prepare import Mix
from foray.data.text import Text

HUB = "allenai/dolmino-mix-1124"
# Files below data/ on the hub, and the share in percent.
GENERAL = {
    "dclm": ("dclm/**/*.json.zst", 47.2),
    "flan": ("flan/*.json.gz", 16.6),
    "wiki": ("wiki/*.json.gz", 7.1),
    "pes2o": ("pes2o/*.json.gz", 5.9),
    "stackexchange": ("stackexchange/*.json.gz", 2.4),
}
# Files below data/math/, and billions of tokens.
MATH = {
    "tinygsm_mind": ("tinyGSM-MIND/**/*.jsonl.gz", 6.48),
    "mathcoder2": ("mathcoder2-synthmath/**/*.jsonl", 3.87),
    "tulu_math": ("tulu_math/**/*.jsonl", 0.23),
    "metamath": ("metamath-owmfilter/**/*.jsonl.gz", 0.0842),
    "synth_math": ("dolmino_math_synth/**/*.jsonl", 0.0287),
    "gsm8k_train": ("gsm8k/**/*.jsonl.zst", 0.00274),
    "codesearchnet": ("codesearchnet-owmfilter/**/*.jsonl.gz", 0.00178),
}


def mix(math_share: float = 20.8, tokens: int = 50_000_000_000, name: str = "dolmino_50b") -> Mix:
    """The mix with ``math_share`` percent of math. The other sources keep their proportions."""
    rest = sum(share for _, share in GENERAL.values())
    billions = sum(size for _, size in MATH.values())
    general = [
        (round((100 - math_share) * share / rest, 4), Text(source, f"data/{files}", HUB))
        for source, (files, share) in GENERAL.items()
    ]
    math = [
        (round(math_share * size / billions, 4), Text(source, f"data/math/{files}", HUB))
        for source, (files, size) in MATH.items()
    ]
    return Mix(name, "allenai/OLMo-2-0425-1B", tokens, (*general, *math))
