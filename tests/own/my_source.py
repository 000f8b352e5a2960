"""A source of training batches in a file of the user's own: `replace(post.sft, name="echo", source=Echoes())`."""

from __future__ import annotations

from dataclasses import dataclass

from foray.core.batch import from_rows
from foray.core.stage import Stream
from foray.train.draw import Drawn, Training, draw


@dataclass(frozen=True)
class Echoes:
    """Rows of a number that is written twice. Update ``step`` has the next numbers."""

    batch_size: int = 4


@draw.register
def _(source: Echoes, stream: Stream, step: int, training: Training) -> Drawn:
    first = step * source.batch_size
    rows = [training.tokenizer.encode(f" {n}") for n in range(first, first + source.batch_size)]
    prompts = [[*training.tokenizer.start, *row] for row in rows]
    targets = [[*row, training.tokenizer.end_id] for row in rows]
    count = float(sum(map(len, targets)))
    return from_rows(prompts, targets, [1.0] * len(rows), count), {"tokens": count, "samples": float(len(rows))}
