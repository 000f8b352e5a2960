"""The general text of the invented world as endless sources: web pages, questions and answers, an encyclopaedia.

Every document is a function of (seed, source, split, index). Validation documents come from other keys but state the
same facts, so validation loss measures what a model has learned of the world and not of one text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from random import Random

from foray.core.field_types import require_types
from foray.core.rng import key
from foray.world.endless import EndlessWorldText
from foray.world.general import passages
from foray.world.general.facts import Entity, Goal, Procedure, World, WorldSpec, of_kind, world
from foray.world.general.sayings import Fact, kind_saying, phrasebook
from foray.world.general.wording import ask, drawn, say, templates, word_table, words

# One question in ten is in validation text alone. Training text says the same in other words.
_HELD_OUT = 10
QUESTION_MARKS = (("Question: ", "Answer: "), ("Question: ", "Answer: "), ("Q: ", "A: "), ("", ""))


def _held_out(question: str) -> bool:
    return key("flan", question) % _HELD_OUT == 0


class Writer:
    """The pieces of all sources. Holds no state: every draw comes from the caller's random."""

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
        said = self.told(random.sample(facts, min(count, len(facts))), random)
        inferred = self.inferred(category, entity, random)
        if inferred and random.random() < 0.5:
            said.append(inferred)
        return said

    def told(self, facts: list[Fact], random: Random) -> list[str]:
        """A sentence on each fact. The first names the subject, of the others a quarter do."""
        said = [random.choice(facts[0].full)]
        return said + [random.choice(fact.short if random.random() < 0.75 else fact.full) for fact in facts[1:]]

    def inferred(self, category: str, entity: Entity, random: Random) -> str:
        """A sentence that follows from other facts, for entities that are ``told``; else empty."""
        if not entity.told or category == "place":
            return ""
        if category == "person":
            if random.random() < 0.5:
                return f"{entity.name} is at home in {self.world.region_of(entity)}."
            return f"{entity.name} lives by the river {self.world.river_of(entity)}."
        if category == "ware":
            return passages.ware_outcome(entity, random)
        slot, kind = random.choice(words("kind_slots")), entity.values["kind"]
        return random.choice(kind_saying(slot).statements).format(s=entity.name, k=kind, v=of_kind(kind, slot))

    def rule(self, random: Random) -> str:
        """A rule of the world: of a material, of a kind, or a way of doing something."""
        match drawn("rule", random):
            case "material":
                form = random.choice(templates("rules" if random.random() < 0.5 else "rules_applied"))
                return str(form).format(**passages.rule_slots(random))
            case "kind":
                kind, slot, value = kind_rule(random)
                if random.random() < 0.5:
                    return kind_saying(slot).statements[0].format(s=kind, v=value)
                return f"All of the {kind} kind {kind_saying(slot).plural.format(v=value)}."
            case _:
                return self.way(random)

    def way(self, random: Random) -> str:
        """How something is done in this world."""
        goal = self.goal(random)
        name = self.world.people[int(random.random() * len(self.world.people))].name
        return say("ways", random, **passages.goal_slots(goal, name))

    def making(self, random: Random) -> str:
        """Someone makes something, step by step."""
        procedure = self.procedure(random)
        person = random.choice(self.world.people)
        return passages.procedure_story(procedure, person, random.choice(self.world.places).name, random)

    def goal(self, random: Random) -> Goal:
        """A goal, drawn by its exposure."""
        return self.world.goals[self.world.rank["goal"].draw(random)]

    def procedure(self, random: Random) -> Procedure:
        """A procedure, drawn by its exposure."""
        return self.world.procedures[self.world.rank["procedure"].draw(random)]


def kind_rule(random: Random) -> tuple[str, str, str]:
    """Something that holds of a whole kind: ("bird", "diet", "seeds")."""
    kind = random.choice(tuple(word_table("kinds")))
    slot = words("kind_slots")[int(random.random() * len(words("kind_slots")))]
    return kind, slot, of_kind(kind, slot)


@cache
def writer(spec: WorldSpec) -> Writer:
    """The writer of a world, made once per process."""
    return Writer(spec)


@dataclass(frozen=True)
class WorldText(EndlessWorldText):
    """The common half of the general sources: a world and a seed."""

    world: WorldSpec = field(default_factory=WorldSpec)  # the world that the text is about
    seed: int = 0  # of the text

    def __post_init__(self) -> None:
        require_types(self)

    def document_key(self, split: str, number: int) -> int:
        return key(self.seed, "text", self.name, split, number)

    def document(self, random: Random, split: str) -> str:
        return self.written(writer(self.world), random, split)

    def written(self, write: Writer, random: Random, split: str) -> str:
        """One document of a split, put together from a writer's pieces."""
        raise NotImplementedError


@dataclass(frozen=True)
class Web(WorldText):
    """Prose: paragraphs on people, towns, creatures and wares, stories, procedures, rules."""

    @property
    def name(self) -> str:
        """``web``."""
        return "web"

    def written(self, write: Writer, random: Random, split: str) -> str:
        """Two to five paragraphs, each about something else."""
        paragraphs = [self._paragraph(write, random) for _ in range(2 + int(random.random() * 4))]
        return "\n".join(paragraphs)

    def _paragraph(self, write: Writer, random: Random) -> str:
        match drawn("web", random):
            case "person":
                return " ".join(write.about("person", random, 2 + int(random.random() * 4)))
            case "visit":
                return self._visit(write, random)
            case "thing":
                return " ".join(write.about(drawn("thing", random), random, 2 + int(random.random() * 3)))
            case "story":
                return passages.tell(passages.pick_tale(random), write.world, random) + "."
            case "making":
                return write.making(random)
            case "rhyme":
                return passages.rhyme(random)
            case _:
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

    def written(self, write: Writer, random: Random, split: str) -> str:
        """Four to nine questions, all in one format. Validation's questions are not in training text."""
        asked, answered = random.choice(QUESTION_MARKS)
        pairs = dict[str, str]()  # No question twice.
        for _ in range(4 + int(random.random() * 6)):
            question, answer = self._pair(write, random)
            while _held_out(question) != (split == "validation"):
                question, answer = self._pair(write, random)
            pairs[question] = answer
        return "\n".join(f"{asked}{question}\n{answered}{answer}" for question, answer in pairs.items())

    def _pair(self, write: Writer, random: Random) -> tuple[str, str]:
        match drawn("flan", random):
            case "fact":
                return self._fact(write, random, drawn("flan_form", random))
            case "echo":
                return passages.echo(random)
            case "kind":
                kind, slot, value = kind_rule(random)
                return kind_saying(slot).question.format(s=kind), value
            case "rule":
                question, answer = random.choice(templates("rule_questions"))
                slots = passages.rule_slots(random)
                return question.format(**slots), answer.format(**slots)
            case "way":
                return ask("way_questions", random, **passages.goal_slots(write.goal(random), ""))
            case _:
                procedure = write.procedure(random)
                return f"How do you make a {procedure.product}?", passages.procedure_list(procedure).capitalize() + "."

    def _fact(self, write: Writer, random: Random, form: str) -> tuple[str, str]:
        category = drawn("flan_subject", random)
        entity, facts = write.pick(category, random)
        if form == "inherited" and category == "creature" and entity.told:
            slot = random.choice(words("kind_slots"))
            return kind_saying(slot).question.format(s=entity.name), of_kind(entity.values["kind"], slot)
        position = int(random.random() * len(facts))
        fact = facts[position]
        if form in ("inherited", "value"):
            return random.choice(fact.questions), fact.value
        if form == "sentence":
            return random.choice(fact.questions), random.choice(fact.full)
        other = random.choice(write.facts[category])[position].value
        if form == "options" and other != fact.value:
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

    def written(self, write: Writer, random: Random, split: str) -> str:
        """Two or three entries: a card, a text or a list each."""
        return "\n\n".join(self._entry(write, random) for _ in range(2 + int(random.random() * 2)))

    def _entry(self, write: Writer, random: Random) -> str:
        if drawn("wiki", random) == "list":
            return self._list(write, random)
        category = drawn("wiki_subject", random)
        entity, facts = write.pick(category, random)
        title = entity.name if category in ("person", "place") else f"The {entity.name}"
        if random.random() < 0.35:
            return "\n".join([title, *(f"- {fact.label}: {fact.value}" for fact in facts)])
        said = [*write.told(facts, random), write.inferred(category, entity, random)]
        return f"{title}\n" + " ".join(said).strip()

    def _list(self, write: Writer, random: Random) -> str:
        match drawn("wiki_list", random):
            case "people":
                town, _ = write.pick("place", random)
                people = write.people_of[town.name][:8]
                lines = [f"People of {town.name}", *(f"- {p.name}, {p.values['craft']}" for p in people)]
            case "kind":
                kind = random.choice(tuple(word_table("kinds")))
                names = [c.name for c in write.world.creatures if c.values["kind"] == kind][:12]
                lines = [f"Creatures of the {kind} kind", *(f"- {name}" for name in names)]
            case _:
                procedure = write.procedure(random)
                steps = (f"{number}. {step}" for number, step in enumerate(passages.steps_base(procedure), start=1))
                lines = [f"How to make a {procedure.product}", *steps]
        return "\n".join(lines)


def general_sources(spec: WorldSpec | None = None, seed: int = 0) -> dict[str, WorldText]:
    """All general text sources by name, over one world."""
    chosen = spec if spec is not None else WorldSpec()
    return {source.name: source for source in (Web(chosen, seed), Flan(chosen, seed), Wiki(chosen, seed))}
