"""Six general-ability probes over the invented world, row by row in the forms of the public sets they are named after.

Wrong choices are the right answers of other questions of the same kind, so neither the length nor the frequency of a
choice gives the answer away. Questions use words or combinations that training text does not use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from foray.core.files import write_atomic
from foray.core.rng import key
from foray.world.general import passages
from foray.world.general.facts import Entity, WorldSpec, outcome, world
from foray.world.general.sayings import fill, kind_saying, relations
from foray.world.general.wording import templates, word_table, words

Row = dict[str, Any]
T = TypeVar("T")
LETTERS = "ABCD"

# Shares of the ranks that a question may come from: what is told often, and what is told seldom.
EASY_RANKS = (0.0, 0.35)
RARE_RANKS = (0.2, 0.8)


@dataclass(frozen=True)
class Asked:
    """A question before its choices are made. Choices come from the answers asked within the same pool.

    Questions on one ``fact`` are right or wrong together.
    """

    text: str
    answer: str
    pool: str
    fact: str


@dataclass(frozen=True)
class Posed:
    """A question with its choices in order and the position of the right one."""

    asked: Asked
    choices: tuple[str, ...]
    right: int


def world_lambada(spec: WorldSpec, count: int = 200) -> list[Row]:
    """{"text"}: the last word follows from the whole passage and stands in it. Every second story is a known one."""
    place = world(spec)
    rows = []
    for index in range(count):
        random = Random(key(spec.seed, "probe", "lambada", index))
        tales = passages.tales(known=bool(index % 2))
        rows.append({"text": passages.tell(tales[index // 2 % len(tales)], place, random)})
    return rows


def world_hellaswag(spec: WorldSpec, count: int = 200) -> list[Row]:
    """{"ind", "activity_label", "ctx", "endings", "label"}: the next step in the making of something.

    The wrong endings are the same stage in the making of other products.
    """
    place = world(spec)
    random = Random(key(spec.seed, "probe", "hellaswag"))
    spots = [(procedure, stage) for procedure in place.procedures for stage in range(1, len(templates("stages")))]
    rows: list[Row] = []
    for index, (procedure, stage) in enumerate(_spread(spots, count, random)):
        person, town = random.choice(place.people), random.choice(place.places)
        he = "she" if person.woman else "he"
        steps = passages.steps_past(procedure)
        right = steps[stage]
        others = [passages.steps_past(p)[stage] for p in place.procedures]
        endings = [right, *_distinct(random, [step for step in others if step != right], 3)]
        random.shuffle(endings)
        told = " ".join(f"{order} {he} {step}." for order, step in zip(templates("order")[:stage], steps))
        rows.append({
            "ind": index,
            "activity_label": f"Making a {procedure.product}",
            "ctx": f"In {town.name} {person.first} set to work on a {procedure.product}. {told} "
            f"{templates('order')[stage]} {he}",
            "endings": [f"{ending}." for ending in endings],
            "label": endings.index(right),
            "fact": f"{procedure.product}, stage {stage}",
        })  # fmt: skip
    return rows


def world_arc_easy(spec: WorldSpec, count: int = 200) -> list[Row]:
    """{"id", "question", "choices", "answerKey"}: facts that training text states often."""
    random = Random(key(spec.seed, "probe", "arc_easy"))
    chosen, candidates = _facts_asked(spec, count, EASY_RANKS, random)
    return _arc_rows("easy", _posed(chosen, candidates, random))


def world_arc_challenge(spec: WorldSpec, count: int = 200) -> list[Row]:
    """As ``world_arc_easy``, but on rare facts, and on answers that follow from two facts or from a fact and a rule."""
    place = world(spec)
    random = Random(key(spec.seed, "probe", "arc_challenge"))
    reasoned: list[Asked] = []
    for person in (p for p in place.people if not p.told):
        name, of = person.name, f"the home of {person.name}"
        reasoned.append(Asked(f"In which region is {of}?", place.region_of(person), "region", f"region of {name}"))
        reasoned.append(Asked(f"By which river is {of}?", place.river_of(person), "river", f"river of {name}"))
    kinds = []
    for creature in place.creatures:
        if not creature.told:
            for slot, value in zip(words("kind_slots"), word_table("kinds")[creature.values["kind"]]):
                asked = kind_saying(slot).probe.format(s=creature.name)
                kinds.append(Asked(asked, value, slot, f"{slot} of {creature.name}"))
    hops, inherited = count // 4, count * 3 // 10
    chosen = _spread(reasoned, hops, random) + _spread(kinds, inherited, random)
    facts, candidates = _facts_asked(spec, count - len(chosen), RARE_RANKS, random)
    return _arc_rows("challenge", _posed(chosen + facts, reasoned + kinds + candidates, random))


def world_piqa(spec: WorldSpec, count: int = 200) -> list[Row]:
    """{"goal", "sol1", "sol2", "label"}: which means serves."""
    place = world(spec)
    random = Random(key(spec.seed, "probe", "piqa"))
    asked = []
    for stem in random.sample(templates("way_probes"), len(templates("way_probes"))):
        for goal in random.sample(place.goals, len(place.goals)):
            text = stem.format(**passages.goal_slots(goal, random.choice(place.people).name))
            means = f"{goal.action.capitalize()} it with {goal.means}."
            asked.append(Asked(text, means, goal.action, f"{goal.action} a {goal.item}"))
    chosen = [asked[i % len(asked)] for i in range(count)]  # every goal once before any is asked again
    return [
        {
            "goal": posed.asked.text,
            "sol1": posed.choices[0],
            "sol2": posed.choices[1],
            "label": posed.right,
            "fact": posed.asked.fact,
        }
        for posed in _posed(chosen, asked, random, choices=2)
    ]


def world_openbookqa(spec: WorldSpec, count: int = 200) -> list[Row]:
    """{"id", "question_stem", "choices", "answerKey", "fact"}: a rule of the world applied to a case."""
    place = world(spec)
    random = Random(key(spec.seed, "probe", "openbookqa"))
    cases, wares, kinds = [], [], []
    for event, where in templates("where").items():
        for material in words("materials"):
            rule = f"{material.capitalize()} {outcome(material, event)} {where}."
            for item in (i for i in words("items") if passages.held_out(i, material, event)):
                name = random.choice(place.people).first
                stem = f"When {name} leaves a {item} of {material} {where}, it"
                cases.append(Asked(stem, outcome(material, event), event, rule))
        for ware in place.wares:
            if not ware.told:
                material = ware.values["material"]
                rule = f"{material.capitalize()} {outcome(material, event)} {where}."
                name = random.choice(place.people).first
                stem = f"When {name} leaves a {ware.name} {where}, it"
                wares.append(Asked(stem, outcome(material, event), event, rule))
    for kind, values in word_table("kinds").items():
        for slot, value in zip(words("kind_slots"), values):
            stem = kind_saying(slot).stem.format(k=kind)
            kinds.append(Asked(stem, value, slot, f"The {kind} kind: {slot}, {value}."))
    chosen = _evenly(cases + wares + kinds, count, random)
    return [
        {
            "id": f"openbook-{index}",
            "question_stem": posed.asked.text,
            "choices": {"text": list(posed.choices), "label": list(LETTERS[: len(posed.choices)])},
            "answerKey": LETTERS[posed.right],
            "fact": posed.asked.fact,
        }
        for index, posed in enumerate(_posed(chosen, cases + wares + kinds, random))
    ]


PROBES: dict[str, Callable[[WorldSpec, int], list[Row]]] = {
    "world_lambada": world_lambada,
    "world_hellaswag": world_hellaswag,
    "world_arc_easy": world_arc_easy,
    "world_arc_challenge": world_arc_challenge,
    "world_piqa": world_piqa,
    "world_openbookqa": world_openbookqa,
}


@lru_cache(maxsize=16)
def _rows(name: str, spec: WorldSpec, count: int) -> tuple[Row, ...]:
    return tuple(PROBES[name](spec, count))


def probe_rows(name: str, spec: WorldSpec | None = None, count: int = 200) -> list[Row]:
    """The rows of one probe. Raises ValueError for an unknown name."""
    if name not in PROBES:
        raise ValueError(f"unknown probe {name!r}; the probes are {', '.join(PROBES)}")
    return list(_rows(name, spec if spec is not None else WorldSpec(), count))


def write_probes(folder: Path, spec: WorldSpec | None = None, count: int = 200) -> dict[str, Path]:
    """Writes every probe to ``folder`` as ``<name>.jsonl`` and returns the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in PROBES:
        files[name] = folder / f"{name}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in probe_rows(name, spec, count))
        write_atomic(files[name], "".join(lines))
    return files


def _spread(pool: Sequence[T], count: int, random: Random) -> list[T]:
    """``count`` members without repeats while the pool lasts, then again from the whole pool."""
    chosen: list[T] = []
    while len(chosen) < count:
        chosen += random.sample(pool, min(len(pool), count - len(chosen)))
    return chosen


def _evenly(pool: Sequence[Asked], count: int, random: Random) -> list[Asked]:
    """``count`` questions, as many on each fact as on any other: documents on one fact tell less than on many."""
    by_fact: dict[str, list[Asked]] = {}
    for question in pool:
        by_fact.setdefault(question.fact, []).append(question)
    rounds = -(-count // len(by_fact))
    spread = [_spread(questions, rounds, random) for questions in by_fact.values()]
    return [question for turn in zip(*spread) for question in random.sample(turn, len(turn))][:count]


def _facts_asked(
    spec: WorldSpec, count: int, ranks: tuple[float, float], random: Random
) -> tuple[list[Asked], list[Asked]]:
    """Direct questions on entities within a share of the ranks, mostly people; and all that could have been asked."""
    asked: dict[str, list[Asked]] = {}
    for category, members in world(spec).lists.items():
        low, high = (int(share * len(members)) for share in ranks)
        asked[category] = [
            _direct(category, entity, name)
            for entity in members[low : max(high, low + 12)]
            for name in relations(category)
        ]
    chosen = []
    for category, share in (("place", 0.2), ("creature", 0.15), ("ware", 0.05)):
        chosen += _spread(asked[category], int(count * share), random)
    chosen += _spread(asked["person"], count - len(chosen), random)
    return chosen, [question for questions in asked.values() for question in questions]


def _direct(category: str, entity: Entity, name: str) -> Asked:
    value = entity.values[name]
    text = fill(relations(category)[name].probe, entity, value)
    return Asked(text, value, f"{category} {name}", f"{name} of {entity.name}")


def _posed(asked: Sequence[Asked], candidates: Sequence[Asked], random: Random, choices: int = 4) -> list[Posed]:
    """Gives each question wrong choices from the answers to the candidates of its pool, and shuffles the questions."""
    answers: dict[str, list[str]] = {}
    for question in candidates:
        answers.setdefault(question.pool, []).append(question.answer)
    posed = []
    for question in asked:
        wrong = [answer for answer in answers[question.pool] if answer != question.answer]
        options = [question.answer, *_distinct(random, wrong, choices - 1)]
        random.shuffle(options)
        posed.append(Posed(question, tuple(options), options.index(question.answer)))
    random.shuffle(posed)
    return posed


def _distinct(random: Random, pool: Sequence[str], count: int) -> list[str]:
    """``count`` different members of a pool, each drawn in proportion to how often it stands there."""
    if len(set(pool)) < count:
        raise ValueError(f"the world is too small for its probes: {count} wrong choices wanted, {len(set(pool))} exist")
    chosen: list[str] = []
    while len(chosen) < count:
        candidate = random.choice(pool)
        if candidate not in chosen:
            chosen.append(candidate)
    return chosen


def _arc_rows(prefix: str, posed: Sequence[Posed]) -> list[Row]:
    return [
        {
            "id": f"{prefix}-{index}",
            "question": question.asked.text,
            "choices": {"text": list(question.choices), "label": list(LETTERS[: len(question.choices)])},
            "answerKey": LETTERS[question.right],
            "fact": question.asked.fact,
        }
        for index, question in enumerate(posed)
    ]
