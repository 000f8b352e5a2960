"""Small passages of the invented world: stories, rules, procedures, ways of doing things.

Training text and probes share the templates of passages.toml. The probes' stories have their own names and things out
of tens of millions of combinations. Training text never tells a quarter of the (item, material, event) combinations.
The probes open a procedure in words of their own.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import NamedTuple

from foray.world.general.facts import Entity, Goal, Procedure, World, outcome
from foray.world.general.wording import Words, ask, say, templates, word_table, words


class Tale(NamedTuple):
    """The alternatives of each sentence of a story, and of its last one. ``known``: of people as they are."""

    body: tuple[Words, ...]
    endings: Words
    known: bool


@cache
def tales(known: bool) -> tuple[Tale, ...]:
    """The stories with people as they are in this world, or the others."""
    return tuple(Tale(**story, known=known) for story in templates("known_stories" if known else "stories"))


def pick_tale(random: Random) -> Tale:
    """Half of the stories are about people as they are."""
    return random.choice(tales(known=random.random() < 0.5))


def tell(tale: Tale, place: World, random: Random) -> str:
    """One telling of a story, without its last full stop.

    People of known stories are drawn by their exposure and come with their own things. Otherwise every draw is uniform.
    """
    i, j = random.sample(words("items"), 2)
    if tale.known:
        first, second = _known_pair(place, random)
        cast = [first, second, second]
        (p, f, a, k), (q, g, b, m) = ([e.values[r] for r in _KNOWN_RELATIONS] for e in (first, second))
    else:
        cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
        while len({person.first for person in cast}) < 3:
            cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
        p, q = (town.name for town in random.sample(place.places, 2))
        f, g = random.sample(words("foods"), 2)
        a = b = k = m = ""
    he, him = "she" if cast[0].woman else "he", "her" if cast[1].woman else "him"
    fillers = templates("fillers")
    sentences = [random.choice(fillers if options[0] == "*" else options) for options in tale.body]
    sentences.append(random.choice(tale.endings))
    return " ".join(sentences).format(
        Aa=cast[0].name, Bb=cast[1].name, Cc=cast[2].name, A=cast[0].first, B=cast[1].first, C=cast[2].first,
        he=he, He=he.capitalize(), him=him, i=i, j=j, p=p, q=q, f=f, g=g, a=a, b=b, k=k, l=m,
    )  # fmt: skip


_KNOWN_RELATIONS = ("home", "food", "pet", "instrument")


def _known_pair(place: World, random: Random) -> tuple[Entity, Entity]:
    """Two people who differ in everything that a known story tells."""
    while True:
        first, second = (place.people[place.rank["person"].draw(random)] for _ in range(2))
        if first.first != second.first and all(first.values[r] != second.values[r] for r in _KNOWN_RELATIONS):
            return first, second


def rhyme(random: Random) -> str:
    """A song for children that says the same words again: the plainest lesson in looking further up."""
    items = random.sample(words("items"), 4)
    name = random.choice(words("women") + words("men"))
    line = ", ".join(f"a {item}" for item in items)
    first, second, third, _ = items
    return say("rhymes", random, name=name, line=line, Line=line.capitalize(), first=first, second=second, third=third)


def echo(random: Random) -> tuple[str, str]:
    """A question that holds its own answer, and the answer."""
    pool = random.choice((words("items"), words("pets"), words("foods"), words("women") + words("men")))
    chosen = random.sample(pool, 3 + int(random.random() * 3))
    first, before_last, last = chosen[0], *chosen[-2:]
    return ask("echoes", random, line=", ".join(chosen), first=first, before_last=before_last, last=last)


def held_out(item: str, material: str, event: str) -> bool:
    """Whether this combination is kept for the probes: a quarter of all."""
    events = tuple(word_table("events"))
    return (words("items").index(item) + 3 * words("materials").index(material) + events.index(event)) % 4 == 0


def rule_slots(random: Random) -> dict[str, str]:
    """The slots of one rule with an item that training text may use."""
    material, event = random.choice(words("materials")), random.choice(tuple(word_table("events")))
    item = random.choice(words("items"))
    while held_out(item, material, event):
        item = random.choice(words("items"))
    where = templates("where")[event]
    return {
        "i": item, "m": material, "M": material.capitalize(), "r": outcome(material, event),
        "w": where, "W": where.capitalize(),
    }  # fmt: skip


def ware_outcome(ware: Entity, random: Random) -> str:
    """What becomes of a ware by its material. Training text says so only of wares that are ``told``."""
    event = random.choice(tuple(word_table("events")))
    material = ware.values["material"]
    result, where = outcome(material, event), templates("where")[event]
    return say("ware_rules", random, ware=ware.name, m=material, r=result, w=where)


def goal_slots(goal: Goal, name: str) -> dict[str, str]:
    """The slots of ``ways``, ``way_questions`` and ``way_probes``."""
    return {"d": goal.action, "p": templates("past")[goal.action], "i": goal.item, "m": goal.means, "A": name}


def steps_past(procedure: Procedure) -> list[str]:
    """The steps as verb phrases in the past: "dug soft clay from the bank"."""
    chosen = (stage[step] for stage, step in zip(templates("stages"), procedure.steps))
    return [f"{past} {rest}" for _, past, rest in chosen]


def procedure_story(procedure: Procedure, person: Entity, town: str, random: Random) -> str:
    """Someone makes the product, told step by step."""
    he = "she" if person.woman else "he"
    opening = say("makings", random, A=person.name, x=procedure.product, p=town)
    steps = " ".join(f"{order} {he} {step}." for order, step in zip(templates("order"), steps_past(procedure)))
    return f"{opening} {steps}"


def steps_base(procedure: Procedure) -> list[str]:
    """The steps as told to someone: "dig soft clay from the bank"."""
    return [f"{base} {rest}" for base, _, rest in (s[at] for s, at in zip(templates("stages"), procedure.steps))]


def procedure_list(procedure: Procedure) -> str:
    """The steps in one line: "dig soft clay from the bank, beat it flat, ... and wrap it in paper"."""
    phrases = steps_base(procedure)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]
