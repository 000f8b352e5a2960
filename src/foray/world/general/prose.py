"""The general text of the invented world as endless sources: web pages, questions and answers, an encyclopaedia.

Every document is a function of (seed, source, split, index). Validation documents come from other keys but speak of
the same facts, so validation loss measures what was learned of the world and not of one text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from foray.core.rng import key
from foray.world.general import narratives as tales
from foray.world.general import vocabulary as words
from foray.world.general.facts import Entity, World, WorldSpec, world
from foray.world.general.sayings import KIND_SAYINGS, Fact, phrasebook
from foray.world.version import WORLD_VERSION

SPLITS = ("train", "validation")
QUESTION_MARKS = (("Question: ", "Answer: "), ("Question: ", "Answer: "), ("Q: ", "A: "), ("", ""))


class Writer:
    """The pieces that all sources are put together from. Holds no state: every draw comes from the caller's random."""

    def __init__(self, spec: WorldSpec) -> None:
        self.world: World = world(spec)
        self.facts = phrasebook(spec)
        self.people_of: dict[str, list[Entity]] = {town.name: [] for town in self.world.places}
        for person in self.world.people:
            self.people_of[person.values["home"]].append(person)
        self.place_rank = {town.name: rank for rank, town in enumerate(self.world.places)}

    def pick(self, category: str, random: Random) -> tuple[Entity, list[Fact]]:
        """An entity, drawn by its exposure, with its facts."""
        rank = self.world.rank[category].draw(random)
        return self.world.lists[category][rank], self.facts[category][rank]

    def about(self, category: str, random: Random, count: int) -> list[str]:
        """A few sentences on one entity: the first names it, later ones may use a pronoun."""
        entity, facts = self.pick(category, random)
        chosen = random.sample(facts, min(count, len(facts)))
        said = [random.choice(chosen[0].full)]
        said += [random.choice(fact.short if random.random() < 0.75 else fact.full) for fact in chosen[1:]]
        inferred = self.inferred(category, entity, random)
        if inferred and random.random() < 0.5:
            said.append(inferred)
        return said

    def inferred(self, category: str, entity: Entity, random: Random) -> str:
        """A sentence that follows from other facts, for entities that are ``told``; else empty."""
        if not entity.told or category == "place":
            return ""
        if category == "person":
            if random.random() < 0.5:
                return f"{entity.name} is at home in {self.world.region_of(entity)}."
            return f"{entity.name} lives by the river {self.world.river_of(entity)}."
        if category == "ware":
            return tales.ware_outcome(entity, random)
        slot = random.choice(words.KIND_SLOTS)
        kind = entity.values["kind"]
        value = words.KINDS[kind][words.KIND_SLOTS.index(slot)]
        return random.choice(KIND_SAYINGS[slot][1]).format(s=entity.name, k=kind, v=value)

    def rule(self, random: Random) -> str:
        """A rule of the world: of a material, of a kind, or a way of doing something."""
        draw = random.random()
        if draw < 0.3:
            form = random.choice(tales.RULE_FORMS if random.random() < 0.5 else tales.APPLIED_FORMS)
            return form.format(**tales.rule_slots(random))
        if draw < 0.5:
            kind, slot, value = kind_rule(random)
            _, statements, plural = KIND_SAYINGS[slot]
            if random.random() < 0.5:
                return statements[0].format(s=kind, v=value)
            return f"All of the {kind} kind {plural.format(v=value)}."
        return self.way(random)

    def way(self, random: Random) -> str:
        """How something is done in this world."""
        goal = self.world.goals[self.world.rank["goal"].draw(random)]
        name = self.world.people[int(random.random() * len(self.world.people))].name
        return random.choice(tales.GOAL_FORMS).format(**tales.goal_slots(goal, name))

    def making(self, random: Random) -> str:
        """Someone makes something, step by step."""
        procedure = self.world.procedures[self.world.rank["procedure"].draw(random)]
        person = random.choice(self.world.people)
        return tales.procedure_story(procedure, person, random.choice(self.world.places).name, random)


def kind_rule(random: Random) -> tuple[str, str, str]:
    """Something that holds of a whole kind: ("bird", "diet", "seeds")."""
    kind = random.choice(tuple(words.KINDS))
    position = int(random.random() * len(words.KIND_SLOTS))
    return kind, words.KIND_SLOTS[position], words.KINDS[kind][position]


_writers: dict[WorldSpec, Writer] = {}


def writer(spec: WorldSpec) -> Writer:
    """The writer of a world, made once per process."""
    if spec not in _writers:
        _writers[spec] = Writer(spec)
    return _writers[spec]


@dataclass(frozen=True)
class WorldText:
    """What the sources share: a world, a seed, and documents by index."""

    endless: ClassVar[bool] = True

    world: WorldSpec = field(default_factory=WorldSpec)
    seed: int = 0

    def fingerprint(self) -> str:
        return WORLD_VERSION

    @property
    def name(self) -> str:
        """Short name for mixtures and tables."""
        raise NotImplementedError

    def document(self, write: Writer, random: Random) -> str:
        """One document from one stream of random numbers."""
        raise NotImplementedError

    def documents(self, split: str, first: int = 0) -> Iterator[str]:
        """Endless documents of a split, "train" or "validation", from number ``first`` on, always the same."""
        if split not in SPLITS:
            raise ValueError(f"{self.name}: split {split!r} is unknown; the splits are {', '.join(SPLITS)}")
        write = writer(self.world)
        index = first
        while True:
            yield self.document(write, Random(key(self.seed, "text", self.name, split, index)))
            index += 1


@dataclass(frozen=True)
class Web(WorldText):
    """Prose: paragraphs on people, towns, creatures and wares, stories, procedures, rules."""

    @property
    def name(self) -> str:
        """``web``."""
        return "web"

    def document(self, write: Writer, random: Random) -> str:
        """Two to five paragraphs, each about something else."""
        paragraphs = [self._paragraph(write, random) for _ in range(2 + int(random.random() * 4))]
        return "\n".join(paragraphs)

    def _paragraph(self, write: Writer, random: Random) -> str:
        draw = random.random()
        if draw < 0.24:
            return " ".join(write.about("person", random, 2 + int(random.random() * 4)))
        if draw < 0.32:
            return self._visit(write, random)
        if draw < 0.42:
            category = "creature" if random.random() < 0.7 else "ware"
            return " ".join(write.about(category, random, 2 + int(random.random() * 3)))
        if draw < 0.69:
            return tales.tell(tales.pick_story(random), write.world, random) + "."
        if draw < 0.75:
            return write.making(random)
        if draw < 0.85:
            return tales.rhyme(random)
        return " ".join(write.rule(random) for _ in range(2 + int(random.random() * 3)))

    def _visit(self, write: Writer, random: Random) -> str:
        town, facts = write.pick("place", random)
        said = [random.choice(fact.full if random.random() < 0.5 else fact.short) for fact in random.sample(facts, 2)]
        neighbours = write.people_of[town.name]
        if neighbours:
            said.append(f"{random.choice(neighbours).name} lives there.")
        return f"We came to {town.name}. " + " ".join(said)


@dataclass(frozen=True)
class Flan(WorldText):
    """Questions and answers, some with options to choose from, some true or false, and short instructions."""

    @property
    def name(self) -> str:
        """``flan``."""
        return "flan"

    def document(self, write: Writer, random: Random) -> str:
        """Four to nine questions, all in one format."""
        asked, answered = random.choice(QUESTION_MARKS)
        pairs = dict(self._pair(write, random) for _ in range(4 + int(random.random() * 6)))  # No question twice.
        return "\n".join(f"{asked}{question}\n{answered}{answer}" for question, answer in pairs.items())

    def _pair(self, write: Writer, random: Random) -> tuple[str, str]:
        draw = random.random()
        if draw < 0.5:
            return self._fact(write, random, random.random())
        if draw < 0.6:
            return tales.echo(random)
        if draw < 0.65:
            kind, slot, value = kind_rule(random)
            return KIND_SAYINGS[slot][0].format(s=kind), value
        if draw < 0.75:
            question, answer = random.choice(tales.RULE_QUESTIONS)
            slots = tales.rule_slots(random)
            return question.format(**slots), answer.format(**slots)
        if draw < 0.93:
            goal = write.world.goals[write.world.rank["goal"].draw(random)]
            question, answer = random.choice(tales.GOAL_QUESTIONS)
            slots = tales.goal_slots(goal, "")
            return question.format(**slots), answer.format(**slots)
        procedure = write.world.procedures[write.world.rank["procedure"].draw(random)]
        return f"How do you make a {procedure.product}?", tales.procedure_list(procedure).capitalize() + "."

    def _fact(self, write: Writer, random: Random, form: float) -> tuple[str, str]:
        category = random.choices(("person", "place", "creature", "ware"), cum_weights=(0.55, 0.75, 0.9, 1.0))[0]
        entity, facts = write.pick(category, random)
        if category == "creature" and entity.told and form < 0.3:
            slot = random.choice(words.KIND_SLOTS)
            value = words.KINDS[entity.values["kind"]][words.KIND_SLOTS.index(slot)]
            return KIND_SAYINGS[slot][0].format(s=entity.name), value
        position = int(random.random() * len(facts))
        fact = facts[position]
        if form < 0.6:
            return random.choice(fact.questions), fact.value
        if form < 0.7:
            return random.choice(fact.questions), random.choice(fact.full)
        other = random.choice(write.facts[category])[position].value
        if form < 0.85 and other != fact.value:
            options = f"{other} or {fact.value}" if random.random() < 0.5 else f"{fact.value} or {other}"
            return f"{random.choice(fact.questions)} {options[0].upper()}{options[1:]}?", fact.value
        said = random.choice(fact.full)
        if other != fact.value and random.random() < 0.5:
            wrong = re.sub(rf"\b{fact.value}\b", other, said)
            return f"True or false? {wrong}", "false"
        return f"True or false? {said}", "true"


@dataclass(frozen=True)
class Wiki(WorldText):
    """Encyclopaedic entries and lists."""

    @property
    def name(self) -> str:
        """``wiki``."""
        return "wiki"

    def document(self, write: Writer, random: Random) -> str:
        """Two or three entries: a card, a text or a list each."""
        return "\n\n".join(self._entry(write, random) for _ in range(2 + int(random.random() * 2)))

    def _entry(self, write: Writer, random: Random) -> str:
        draw = random.random()
        if draw < 0.12:
            return self._list(write, random)
        category = random.choices(("person", "place", "creature", "ware"), cum_weights=(0.5, 0.72, 0.88, 1.0))[0]
        entity, facts = write.pick(category, random)
        title = entity.name if category in ("person", "place") else f"The {entity.name}"
        if random.random() < 0.35:
            return "\n".join([title, *(f"- {fact.label}: {fact.value}" for fact in facts)])
        said = [random.choice(facts[0].full)]
        said += [random.choice(fact.short if random.random() < 0.75 else fact.full) for fact in facts[1:]]
        inferred = write.inferred(category, entity, random)
        return f"{title}\n" + " ".join([*said, inferred]).strip()

    def _list(self, write: Writer, random: Random) -> str:
        draw = random.random()
        if draw < 0.4:
            town, _ = write.pick("place", random)
            people = write.people_of[town.name][:8]
            return "\n".join([f"People of {town.name}", *(f"- {p.name}, {p.values['craft']}" for p in people)])
        if draw < 0.7:
            kind = random.choice(tuple(words.KINDS))
            names = [c.name for c in write.world.creatures if c.values["kind"] == kind][:12]
            return "\n".join([f"Creatures of the {kind} kind", *(f"- {name}" for name in names)])
        procedure = write.world.procedures[write.world.rank["procedure"].draw(random)]
        chosen = [f"{number}. {step}" for number, step in enumerate(tales.steps_base(procedure), start=1)]
        return "\n".join([f"How to make a {procedure.product}", *chosen])


def general_sources(spec: WorldSpec | None = None, seed: int = 0) -> dict[str, WorldText]:
    """All general text sources by name, over one world."""
    chosen = spec if spec is not None else WorldSpec()
    return {source.name: source for source in (Web(chosen, seed), Flan(chosen, seed), Wiki(chosen, seed))}
