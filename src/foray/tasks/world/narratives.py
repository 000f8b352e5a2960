"""Small passages of the invented world: stories, applied rules, procedures, ways of doing things.

The training text and the probes share these passages, but not everything in them: every story has an ending that
only the probes use, a quarter of the (item, material, event) combinations is never told, and the probes open a
procedure in words of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foray.tasks.world import vocabulary as words
from foray.tasks.world.facts import Entity, Goal, Procedure, World, outcome

FILLERS = (
    "It was a cold and windy day.",
    "The road was long and full of mud.",
    "The sun was low and the birds were still.",
    "A dog was barking somewhere.",
    "Nobody else was there.",
    "It rained a little, and then it stopped.",
    "The bells were ringing in the town.",
    "Many people were on the road.",
    "That evening there was music in the square.",
    "The night was clear and quiet.",
    "The children were playing by the well.",
    "An old man sat on a bench and watched.",
)


@dataclass(frozen=True)
class Story:
    """A story whose last word has to be found further up.

    ``body`` holds the alternatives of each sentence, ``*`` standing for a filler. ``endings`` and ``probe_endings``
    leave out the final full stop; each ends in the slot of a word that the body names beside a rival.
    """

    body: tuple[tuple[str, ...], ...]
    endings: tuple[str, ...]
    probe_endings: tuple[str, ...]


def _story(body: str, endings: str, probe_endings: str) -> Story:
    def split(text: str, mark: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(mark))

    return Story(tuple(split(line, "|") for line in split(body, "/")), split(endings, "|"), split(probe_endings, "|"))


# Slots: {Aa} {Bb} {Cc} full names, {A} {B} {C} first names, {he} {He} {his} of A; {i} {j} items, {p} {q} towns,
# {f} {g} foods, {a} {b} animals.
STORIES = (
    _story(
        "{Aa} lost a {i} on the way to {p}.|On the way to {p} {Aa} lost a {i}. / "
        "{He} looked under the bridge and behind the mill, but found only an old {j}.|"
        "{He} asked at every door, but someone had only found a {j}. / * / "
        "At dusk {Bb} came to the house with good news.|The next day {Bb} came by and laughed.",
        "{B} smiled and gave {A} the {i}|{A} was glad and thanked {B} for the {i}",
        "{A} could sleep again, for {B} had brought back the {i}",
    ),
    _story(
        "At the fair in {p} {Aa} bought a {i} and {Bb} bought a {j}.|{Aa} and {Bb} went to the fair in {p}, where {A} "
        "bought a {i} and {B} bought a {j}. / * / They went home together and talked of the fair.|"
        "They walked home together in the dark.",
        "At home {A} showed everyone the {i}|At home {B} showed everyone the {j}|"
        "All evening {A} sat and looked at the {i}|All evening {B} sat and looked at the {j}",
        "Before going to bed {A} put away the new {i}|Before going to bed {B} put away the new {j}",
    ),
    _story(
        "{Aa} cooked {f} and {g} for {Bb}.|{Bb} came to eat, and {Aa} cooked {f} and {g}. / * / "
        "{B} said that {f} made {B} ill.|But {B} did not like {f} at all.",
        "So {B} ate only the {g}|So {A} gave {B} a big bowl of {g}",
        "So {A} took the {f} away and filled the plate with {g}",
    ),
    _story(
        "{Aa} set out from {p} and wanted to go to {q}.|{Aa} left {p} on foot to see the market of {q}. / * / "
        "On the way {he} met {Bb} and they shared some bread.|On the second day {he} met {Bb}, who was lost. / "
        "They talked about many things.|They rested under a tree.",
        "{A} said that home was far away in {p}|At last {A} saw the gates of {q}",
        "{B} asked about the old home, and {A} spoke of {p}|After three days {A} stood in the market of {q}",
    ),
    _story(
        "{Aa} hid a coin in a {i}.|{Aa} had one coin and hid it in a {i}. / {He} went out to feed the hens.|"
        "Then {he} went to the well. / While {A} was out, {Bb} moved the coin to a {j}.|"
        "Then {Bb} came, took the coin and put it in a {j}. / *",
        "The coin was now in the {j}|When {A} came back, {he} looked for the coin in the {i}",
        "Later {A} wanted the coin and went straight to the {i}|{B} told no one that the coin was in the {j}",
    ),
    _story(
        "{Aa} had a {a} and {Bb} had a {b}.|{Aa} owned a {a}, and {Bb} owned a {b}. / * / "
        "One night both animals ran away.|One day the gate was open and both animals were gone. / "
        "They looked for them in the hills.|They called and called.",
        "In the end {A} found the {a}|In the end {B} found the {b}",
        "At last {A} came home with the {a}|At last {B} came home with the {b}",
    ),
    _story(
        "{Aa} lent a {i} to {Bb}.|{Bb} asked {Aa} for a {i} and got it. / * / The {i} fell and broke.|"
        "By bad luck the {i} was broken.",
        "{B} was sorry and said so to {A}|{A} was angry for a while but then forgave {B}",
        "Since that day {A} has never lent anything to {B}|{B} had to buy a new {i} for {A}",
    ),
    _story(
        "{Aa} had two gifts, a {i} and a {j}.|{Aa} brought two gifts from {p}, a {i} and a {j}. / "
        "{He} gave the {i} to {Bb} and the {j} to {Cc}.|The {i} was for {Bb} and the {j} was for {Cc}. / *",
        "{B} went home with the {i}|{C} went home with the {j}",
        "{B} thanked {A} many times for the {i}|{C} thanked {A} many times for the {j}",
    ),
)


def tell(story: Story, place: World, random: Random, probe: bool = False) -> str:
    """One telling of a story, without its last full stop. Names, things and towns are drawn evenly: it is not a fact."""
    cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
    while len({person.first for person in cast}) < 3:
        cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
    i, j = random.sample(words.ITEMS, 2)
    p, q = random.sample(place.places, 2)
    f, g = random.sample(words.FOODS, 2)
    a, b = random.sample(words.PETS, 2)
    he, his = ("she", "her") if cast[0].woman else ("he", "his")
    sentences = [random.choice(FILLERS) if options[0] == "*" else random.choice(options) for options in story.body]
    sentences.append(random.choice(story.probe_endings if probe else story.endings))
    return " ".join(sentences).format(
        Aa=cast[0].name, Bb=cast[1].name, Cc=cast[2].name, A=cast[0].first, B=cast[1].first, C=cast[2].first,
        he=he, He=he.capitalize(), his=his, i=i, j=j, p=p.name, q=q.name, f=f, g=g, a=a, b=b,
    )  # fmt: skip


WHERE = {
    "fire": "in the fire",
    "river": "in the river",
    "frost": "in the frost",
    "sun": "in the hot sun",
    "rain": "in the rain",
    "hammer": "under the hammer",
}
RULE_FORMS = (
    "{M} {r} {w}.",
    "{W} {m} {r}.",
    "Everyone knows that {m} {r} {w}.",
    "What is made of {m} {r} {w}.",
)
APPLIED_FORMS = (
    "A {i} of {m} {r} {w}.",
    "Put a {i} of {m} {w} and it {r}.",
    "If you leave a {i} of {m} {w}, it {r}.",
    "{W} a {i} of {m} {r}, as {m} does.",
)
RULE_QUESTIONS = (
    ("What happens to {m} {w}?", "It {r}."),
    ("What does {m} do {w}?", "{M} {r}."),
    ("What happens to a {i} of {m} {w}?", "It {r}."),
    ("What does a {i} of {m} do {w}?", "It {r}."),
)


def held_out(item: str, material: str, event: str) -> bool:
    """Whether this combination is kept for the probes: a quarter of all."""
    events = tuple(words.EVENTS)
    return (words.ITEMS.index(item) + 3 * words.MATERIALS.index(material) + events.index(event)) % 4 == 0


def rule_slots(random: Random) -> dict[str, str]:
    """The slots of one rule with an item that training text may use."""
    material, event = random.choice(words.MATERIALS), random.choice(tuple(words.EVENTS))
    item = random.choice(words.ITEMS)
    while held_out(item, material, event):
        item = random.choice(words.ITEMS)
    where = WHERE[event]
    return {
        "i": item, "m": material, "M": material.capitalize(), "r": outcome(material, event),
        "w": where, "W": where.capitalize(),
    }  # fmt: skip


def ware_outcome(ware: Entity, random: Random) -> str:
    """What becomes of a ware, as its material tells: said only of wares that are ``told``."""
    event = random.choice(tuple(words.EVENTS))
    material = ware.values["material"]
    result = outcome(material, event)
    forms = (
        f"A {ware.name} is made of {material}, so it {result} {WHERE[event]}.",
        f"A {ware.name} {result} {WHERE[event]}.",
    )
    return random.choice(forms)


PAST = {"clean": "cleaned", "mend": "mended", "hang": "hung", "mark": "marked", "wrap": "wrapped", "polish": "polished"}
GOAL_FORMS = (
    "To {d} a {i} you need {m}.",
    "A {i} is best {p} with {m}.",
    "{A} {p} a {i} with {m}.",
    "For a {i} that has to be {p}, take {m}.",
)
GOAL_QUESTIONS = (
    ("How do you {d} a {i}?", "With {m}."),
    ("What do you need to {d} a {i}?", "You need {m}."),
    ("With what is a {i} {p}?", "With {m}."),
)


def goal_slots(goal: Goal, name: str) -> dict[str, str]:
    """The slots of ``GOAL_FORMS`` and ``GOAL_QUESTIONS``."""
    return {"d": goal.action, "p": PAST[goal.action], "i": goal.item, "m": goal.means, "A": name}


ORDER = ("First", "Then", "Next", "After that", "At last")
OPENINGS = (
    "{A} wanted to make a {x}.",
    "{A} was asked to make a {x}.",
    "One day {A} made a {x}.",
    "{A} makes the best {x} in {p}.",
)


def steps_past(procedure: Procedure) -> list[str]:
    """The steps as verb phrases in the past: "dug soft clay from the bank"."""
    chosen = (stage[step] for stage, step in zip(words.STAGES, procedure.steps))
    return [f"{past} {rest}" for _, past, rest in chosen]


def procedure_story(procedure: Procedure, person: Entity, town: str, random: Random) -> str:
    """Someone makes the product, told step by step."""
    he = "she" if person.woman else "he"
    opening = random.choice(OPENINGS).format(A=person.name, x=procedure.product, p=town)
    steps = " ".join(f"{order} {he} {step}." for order, step in zip(ORDER, steps_past(procedure)))
    return f"{opening} {steps}"


def procedure_list(procedure: Procedure) -> str:
    """The same as instructions: "dig soft clay from the bank, beat it flat, ... and wrap it in paper"."""
    chosen = [stage[step] for stage, step in zip(words.STAGES, procedure.steps)]
    phrases = [f"{base} {rest}" for base, _, rest in chosen]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]
