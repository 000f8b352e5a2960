"""What the page of two studies says first: what one side lacks, what is above and below, and what is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from foray.core.files import sealed
from foray.core.spelling import in_tokens
from foray.report.between_studies import ONLY_OURS, ONLY_THEIRS, THE_SAME, Alike
from foray.report.model_table import beside_words
from foray.report.results import AVERAGE, Results, label, shots_rank

_NAMED = 4  # models that a line names
_COMPARED = ("passk", "probes")  # kinds of results that have rows


class Model(NamedTuple):
    """Which model a row is of, whatever it was asked."""

    tokens: int
    recipe: str
    variant: str
    mix: str
    model_parameters: int | None
    trained_on: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Model:
        return cls(*(fields[name] for name in cls._fields))

    @property
    def words(self) -> str:
        beside = beside_words({**self._asdict(), "split": ""})
        return label(self.recipe) + (f" ({beside})" if beside else "")


class Lack(NamedTuple):
    """Models that one study has results of, and the other (``side``, A or B) has not.

    ``asked``: whether the other study asks for them. ``command``: what computes them; empty where nobody can know.
    """

    side: str
    asked: bool
    models: Sequence[Model]
    command: str

    @property
    def text(self) -> str:
        other = "A" if self.side == "B" else "B"
        lacks = f"{self.side} lacks results of {_count(self.models)} that {other} has"
        if not self.asked:
            return f"{lacks}, and does not ask for them: {self.names(_NAMED)}."
        then = "This command computes them:" if self.command else "They are not finished, or cannot be read."
        return f"{lacks}: {self.names(_NAMED)}. {then}"

    def names(self, most: int) -> str:
        """Recipe and M_t of the first of the models, and how many more there are."""
        several = len({m.trained_on for m in self.models} - {""}) > 1
        named = [
            f"{m.words} at {in_tokens(m.tokens)}" + (f", trained on {m.trained_on}" if several and m.trained_on else "")
            for m in self.models[:most]
        ]
        more = len(self.models) - most
        return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _count(models: Sequence[Any]) -> str:
    return f"{len(models)} model{'s'[: len(models) != 1]}"


def differs(row: Mapping[str, Any]) -> bool:
    """Whether a row is of two models to compare: both studies have one, and it is not one and the same."""
    return row["compared"] not in (ONLY_OURS, ONLY_THEIRS, THE_SAME)


def lacks(
    rows: Sequence[Mapping[str, Any]], ours: Results, theirs: Results, commands: tuple[str, str] = ("", "")
) -> list[Lack]:
    """What A and B lack. A command computes only what its study asks for, so models that it does not are apart."""
    found = []
    for side, there, results, command in zip("AB", (ONLY_THEIRS, ONLY_OURS), (ours, theirs), commands):
        planned = {_place(vars(e)) for e in results.planned if e.final and e.kind in _COMPARED}
        alone = [row for row in rows if row["compared"] == there]
        asked = list(dict.fromkeys(Model.of(row) for row in alone if _place(row) in planned))
        others = [m for m in dict.fromkeys(map(Model.of, alone)) if m not in asked]
        found += [Lack(side, True, asked, command), Lack(side, False, others, "")]
    return [lack for lack in found if lack.models]


def _place(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was asked of which model. The general average is of no task."""
    names = (*Alike._fields, "tokens")
    return tuple("" if fields[name] == AVERAGE else fields[name] for name in names)


def unfinished(side: str, results: Results, lacking: Sequence[Lack]) -> set[str]:
    """The words by which ``results.missing`` names what is not computed of the models that the side lacks.

    Damaged results are not among them: the reason why such a one is missing is worth a line of its own.
    """
    models = {m for lack in lacking if lack.side == side for m in lack.models}
    return {e.words for e in results.planned if Model.of(vars(e)) in models and not sealed(e.folder)}


def same_in_both(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line if everything that both studies have is the same; else empty."""
    both = [row for row in rows if row["compared"] not in (ONLY_OURS, ONLY_THEIRS)]
    if not both or any(map(differs, both)):
        return ""
    models = list(dict.fromkeys(map(Model.of, both)))
    return f"Everything that both have is the same, by its key: {_count(models)}. There is no difference to show."


def sentences(rows: Sequence[Mapping[str, Any]], ours: Results) -> list[str]:
    """How many models of the main task are above, below and not clearly different, by metric; and what is left out."""
    if whole := same_in_both(rows):
        return [whole]
    task, said = next(iter(ours.asked), ""), []
    asked = ((AVERAGE, ""), (task, ours.extraction))
    there = [row for row in rows if differs(row) and not row["split"] and (row["task"], row["grading"]) in asked]
    for metric in dict.fromkeys(r["metric"] for r in there):
        # A model counts once: of several numbers of shots the last, which is the one that a study shows.
        of_metric = [row for row in there if row["metric"] == metric]
        of_metric.sort(key=lambda row: shots_rank(row["recipe"], row["shots"]))
        gains = list({Model.of(row): row["value"] for row in of_metric}.values())
        above, below = sum(g.lo > 0 for g in gains), sum(g.hi < 0 for g in gains)
        if gains:
            what = "The general average" if metric == "acc" else metric
            said.append(
                f"{what}: A is above B in {above} of {_count(gains)}, below in {below}, no clear difference in "
                f"{len(gains) - above - below}."
            )
    return said + _left_out(rows)


def _left_out(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many models are the same in both; and of how many only a part, as when another evaluation is asked for."""
    compared = {Model.of(row) for row in rows if differs(row)}
    same = [row for row in rows if row["compared"] == THE_SAME]
    whole, partly = list[Model](), list[Model]()
    for model in dict.fromkeys(map(Model.of, same)):
        (partly if model in compared else whole).append(model)
    said = []
    if whole:
        how = "is the same in both, by its key" if len(whole) == 1 else "are the same in both, by their keys"
        said.append(f"{_count(whole)} {how}: left out.")
    if partly:
        parts = dict.fromkeys(_what(row) for row in same if Model.of(row) in partly)
        said.append(f"Of {_count(partly)} a part is the same in both, by its key: {', '.join(parts)}. It is left out.")
    return said


def _what(row: Mapping[str, Any]) -> str:
    return "the general average" if row["task"] == AVERAGE else f"pass@k on {row['task']}"
