"""Public-domain prose and GSM8K's training questions, with an own tokenizer. The study of this name reads the mix.

foray prepare gsm8k_small --data-root DATA --out DATA/gsm8k_small

DATA holds ``gsm8k/train.jsonl``, ``gsm8k/test.jsonl`` and ``prose/standardebooks.jsonl``.
"""

from __future__ import annotations

from foray.data.prepare import Mix, OwnTokenizer
from foray.data.text import Text
from foray.tasks.gsm8k import GSM8K, GSM8KText

# A folder: its files are named after the splits, so ``datasets`` reads the folder as a data set of the hub.
TASK = GSM8K(train="gsm8k", test="gsm8k")


def mix() -> Mix:
    sources = ((0.7, Text("prose", "prose/standardebooks.jsonl", holdout=20)), (0.3, GSM8KText(task=TASK)))
    return Mix("gsm8k_small", OwnTokenizer(4096, 6_000_000), 3_000_000, sources)
