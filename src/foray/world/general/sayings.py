"""Each relation of the world in words: statements, questions, and the probes' own question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from foray.world.general.facts import Entity, World, WorldSpec, world
from foray.world.general.wording import Words, read, templates


@dataclass(frozen=True)
class Relation:
    """The templates of one relation. ``short`` ones name the subject by pronoun; ``probe`` is the probes' question."""

    label: str
    full: Words
    short: Words
    questions: Words
    probe: str


@dataclass(frozen=True)
class KindSaying:
    """The templates of what creatures of a kind have in common. ``plural`` stands behind "All of the bird kind"."""

    question: str
    statements: Words
    plural: str
    probe: str
    stem: str


@cache
def relations(category: str) -> dict[str, Relation]:
    """The relations of people, places, creatures or wares by name."""
    return {name: Relation(**templates) for name, templates in read("sayings")[category].items()}


@cache
def kind_saying(slot: str) -> KindSaying:
    """The templates of one of ``kind_slots``."""
    return KindSaying(**templates("of_kind")[slot])


@dataclass(frozen=True)
class Fact:
    """All training forms of one (subject, relation)."""

    label: str
    value: str
    full: Words
    short: Words
    questions: Words


def fill(template: str, entity: Entity, value: str) -> str:
    """A template with its subject, value and pronouns put in."""
    he, his, him = ("she", "her", "her") if entity.woman else ("he", "his", "him")
    return template.format(s=entity.name, v=value, he=he, He=he.capitalize(), his=his, His=his.capitalize(), him=him)


@lru_cache(maxsize=8)
def phrasebook(spec: WorldSpec) -> dict[str, list[list[Fact]]]:
    """Every fact in all its training forms: [category][rank][relation]. Made once, so that writing is only choosing."""
    place = world(spec)
    return {category: [_facts(category, e, place) for e in members] for category, members in place.lists.items()}


def _facts(category: str, entity: Entity, place: World) -> list[Fact]:
    facts = []
    for name, relation in relations(category).items():
        value = entity.values[name]
        full, short, questions = (
            tuple(fill(t, entity, value) for t in templates)
            for templates in (relation.full, relation.short, relation.questions)
        )
        facts.append(Fact(relation.label, value, full, short, questions))
    return facts
