"""What the page of two studies says first: what one side lacks, what is above and below, and what is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, NamedTuple

from foray.core.files import sealed
from foray.core.spelling import in_tokens
from foray.report.between_studies import ONLY_OURS, ONLY_THEIRS, OTHER_SEEDS, PAIRED, THE_SAME, Alike
from foray.report.model_table import beside_words
from foray.report.results import AVERAGE, TRAIN, Results, label, shots_rank

_NAMED = 4  # models that a line names
AVERAGE_WORDS = "general average"
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
    """Models of which one study has results that the other (``side``, A or B) has not.

    ``models``: of each, what is lacking; nothing is named where the side has no result of the model at all.
    ``asked``: whether that side asks for them. ``command``: what computes them; empty where nobody can know.
    """

    side: str
    asked: bool
    models: Mapping[Model, Sequence[str]]
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
        """Recipe and M_t of the first of the models, what is lacking of them, and how many more there are."""
        several = len({m.trained_on for m in self.models} - {""}) > 1
        named = [
            f"{m.words} at {in_tokens(m.tokens)}"
            + (f", trained on {m.trained_on}" if several and m.trained_on else "")
            + (f" ({', '.join(what)})" if what else "")
            for m, what in list(self.models.items())[:most]
        ]
        more = len(self.models) - most
        return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _count(models: Sized) -> str:
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
        alone, has = [row for row in rows if row["compared"] == there], _asked_of_models(rows, there)
        asked = _what_is_lacking((row for row in alone if _place(row) in planned), has)
        others = _what_is_lacking((row for row in alone if _place(row) not in planned), has)
        # A model that is lacking altogether is named once, among those that a command computes.
        others = {m: what for m, what in others.items() if what or m not in asked}
        found += [Lack(side, True, asked, command), Lack(side, False, others, "")]
    return [lack for lack in found if lack.models]


def _asked_of_models(rows: Sequence[Mapping[str, Any]], other: str) -> dict[Model, set[tuple[str, str]]]:
    """Task and split of what a side has of each model. ``other``: how rows of the other side alone are compared."""
    has: dict[Model, set[tuple[str, str]]] = {}
    for row in rows:
        if row["compared"] != other:
            has.setdefault(Model.of(row), set()).add((row["task"], row["split"]))
    return has


def _what_is_lacking(
    rows: Iterable[Mapping[str, Any]], has: Mapping[Model, set[tuple[str, str]]]
) -> dict[Model, list[str]]:
    found: dict[Model, list[str]] = {}
    for row in rows:
        model = Model.of(row)
        words = found.setdefault(model, [])
        if model in has and (what := _measurement(row, has[model])) not in words:
            words.append(what)
    return found


def _measurement(row: Mapping[str, Any], has: set[tuple[str, str]]) -> str:
    """What tells a row from what the side ``has`` of its model: the task, or else the split, or else the shots."""
    task, split = row["task"], row["split"]
    if task == AVERAGE:
        return AVERAGE_WORDS
    if (task, split) in has:
        return f"{row['shots']}-shot"
    if split or any(task == other for other, _ in has):
        return split_words(split)
    return str(task)


def split_words(split: str) -> str:
    """The problems of a split; of the evaluation's own split it is not known whose they are."""
    return {"": "the study's own problems", TRAIN: "training questions"}.get(split, f"{split} problems")


def _place(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was asked of which model. The general average is of no task."""
    names = (*Alike._fields, "tokens")
    return tuple("" if fields[name] == AVERAGE else fields[name] for name in names)


def asked_apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each task and split of which the studies asked other problems, but some that both asked."""
    said = []
    for row in rows:
        asked = row["ours_asked"], row["theirs_asked"]
        paired = row["compared"] in (PAIRED, OTHER_SEEDS) and row["task"] != AVERAGE
        if paired and asked != (row["n"], row["n"]):
            where = row["task"] + (f" ({split_words(row['split'])})" if row["split"] else "")
            said.append(
                f"On {where} A asked {asked[0]} problems and B asked {asked[1]}. A, B and A − B are over the "
                f"{row['n']} problems that both asked."
            )
    return list(dict.fromkeys(said))


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
    return f"the {AVERAGE_WORDS}" if row["task"] == AVERAGE else f"pass@k on {row['task']}"
