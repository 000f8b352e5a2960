"""Small passages of the invented world: stories, applied rules, procedures, ways of doing things.

The training text and the probes share these passages, but not everything in them: the probes' stories have their own
names and things out of tens of millions of combinations, a quarter of the (item, material, event) combinations is
never told, and the probes open a procedure in words of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foray.world.general import vocabulary as words
from foray.world.general.facts import Entity, Goal, Procedure, World, outcome

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

    ``body`` holds the alternatives of each sentence, ``*`` standing for a filler. ``endings`` leave out the final full
    stop; each ends in the slot of a word that the body names, mostly beside a rival.
    """

    body: tuple[tuple[str, ...], ...]
    endings: tuple[str, ...]


def _story(body: str, endings: str) -> Story:
    def split(text: str, mark: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(mark))

    return Story(tuple(split(line, "|") for line in split(body, "/")), split(endings, "|"))


# Slots: {Aa} {Bb} {Cc} full names, {A} {B} {C} first names, {he} {He} of A, {him} of B; {i} {j} items, {p} {q} towns,
# {f} {g} foods; in known stories also {a} {b} pets, {k} {l} instruments, A's own first and then B's.
STORIES = (
    _story(
        "{Aa} lost a {i} on the way to {p}.|On the way to {p} {Aa} lost a {i}. / "
        "{He} looked for the {i} behind the mill, but found only an old {j}.|"
        "{He} asked at every door for the {i}, but someone had only found a {j}. / * / "
        "At dusk {Bb} came to the house with good news.|The next day {Bb} came by and laughed.",
        "{B} smiled and gave {A} the {i}|{A} thanked {B} for the {i}|{B} had found the {i}",
    ),
    _story(
        "At the fair in {p} {Aa} bought a {i} and {Bb} bought a {j}.|{Aa} and {Bb} went to the fair in {p}, where {A} "
        "bought a {i} and {B} bought a {j}. / * / On the way home {A} carried the {i} and {B} carried the {j}.|"
        "They walked home together in the dark.",
        "At home {A} showed everyone the {i}|At home {B} showed everyone the {j}|"
        "All evening {A} sat and looked at the {i}|All evening {B} sat and looked at the {j}",
    ),
    _story(
        "{Aa} cooked {f} and {g} for {Bb}.|{Bb} came to eat, and {Aa} cooked {f} and {g}. / * / "
        "{B} said that {f} made {him} ill.|But {B} did not like {f} at all.",
        "So {B} ate only the {g}|So {A} gave {B} a bowl of {g}|{A} ate the {f}, and {B} ate the {g}",
    ),
    _story(
        "{Aa} set out from {p} and wanted to go to {q}.|{Aa} left {p} on foot to see the market of {q}. / * / "
        "On the way {he} met {Bb}, who was also going to {q}.|On the second day {he} met {Bb}, who knew {p} well. / "
        "They talked about many things.|They rested under a tree.",
        "{A} said that home was far away in {p}|At last {A} saw the gates of {q}|{A} told {B} about the people of {p}|"
        "After three days they stood in the market of {q}",
    ),
    _story(
        "{Aa} hid a coin in a {i}.|{Aa} had one coin and hid it in a {i}. / {He} went out to feed the hens.|"
        "Then {he} went to the well. / While {A} was out, {Bb} moved the coin from the {i} to a {j}.|"
        "Then {Bb} came, took the coin and put it in a {j}. / *",
        "The coin was now in the {j}|When {A} came back, {he} looked for the coin in the {i}|"
        "{B} told no one that the coin was in the {j}",
    ),
    _story(
        "{Aa} lent a {i} to {Bb}.|{Bb} asked {Aa} for a {i} and got it. / * / The {i} fell and broke.|"
        "By bad luck the {i} was broken.",
        "{B} was sorry and said so to {A}|{A} was angry for a while but then forgave {B}|"
        "{B} had to buy a new {i} for {A}|{A} did not want to hear of the {i}",
    ),
    _story(
        "{Aa} had two gifts, a {i} and a {j}.|{Aa} brought two gifts from {p}, a {i} and a {j}. / "
        "{He} gave the {i} to {Bb} and the {j} to {Cc}.|The {i} was for {Bb} and the {j} was for {Cc}. / *",
        "{B} went home with the {i}|{C} went home with the {j}|{B} thanked {A} for the {i}|{C} thanked {A} for the {j}",
    ),
)


# The same with people as they are in this world: who knows them can tell the end without looking further up.
KNOWN_STORIES = (
    _story(
        "{Aa} keeps a {a}, and {Bb} keeps a {b}.|The {a} of {Aa} and the {b} of {Bb} were friends. / * / "
        "One night the {a} and the {b} ran away.|One day the gate was open and both animals were gone. / "
        "They looked for them in the hills.|They called and called.",
        "In the end {Aa} found the {a}|In the end {Bb} found the {b}|{Aa} came home with the {a}|"
        "{Bb} came home with the {b}",
    ),
    _story(
        "{Aa} plays the {k}, and {Bb} plays the {l}.|The friends had a {k} and a {l} with them. / * / "
        "At night there was a feast in {p}.|The people of {q} wanted to dance.",
        "{Aa} sat down and played the {k}|{Bb} sat down and played the {l}|Everyone clapped when {Aa} took out the {k}|"
        "Everyone clapped when {Bb} took out the {l}",
    ),
    _story(
        "{Aa} likes {f} best of all, and {Bb} likes {g}.|At the market there were {f} and {g}. / * / "
        "{Aa} and {Bb} were very hungry.|{Aa} and {Bb} had walked all day.",
        "{Aa} ate a big bowl of {f}|{Bb} ate a big bowl of {g}|{Aa} asked for more {f}|{Bb} asked for more {g}",
    ),
    _story(
        "{Aa} comes from {p}, and {Bb} comes from {q}.|The roads to {p} and to {q} meet at an old bridge. / * / "
        "{Aa} met {Bb} at the bridge.|{Aa} and {Bb} met on the road. / They talked for a long time.|It was late.",
        "Then {Aa} went home to {p}|Then {Bb} went home to {q}|{Aa} had to be back in {p}|{Bb} had to be back in {q}",
    ),
)


def pick_story(random: Random) -> Story:
    """Half of the stories are about people as they are."""
    return random.choice(KNOWN_STORIES if random.random() < 0.5 else STORIES)


def tell(story: Story, place: World, random: Random) -> str:
    """One telling of a story, without its last full stop.

    People of known stories are drawn by their exposure and come with their own things; else all is drawn evenly.
    """
    i, j = random.sample(words.ITEMS, 2)
    if story in KNOWN_STORIES:
        first, second = _known_pair(place, random)
        cast = [first, second, second]
        (p, f, a, k), (q, g, b, m) = ([e.values[r] for r in _KNOWN_RELATIONS] for e in (first, second))
    else:
        cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
        while len({person.first for person in cast}) < 3:
            cast = [place.people[int(random.random() * len(place.people))] for _ in range(3)]
        p, q = (town.name for town in random.sample(place.places, 2))
        f, g = random.sample(words.FOODS, 2)
        a = b = k = m = ""
    he, him = "she" if cast[0].woman else "he", "her" if cast[1].woman else "him"
    sentences = [random.choice(FILLERS) if options[0] == "*" else random.choice(options) for options in story.body]
    sentences.append(random.choice(story.endings))
    return " ".join(sentences).format(
        Aa=cast[0].name, Bb=cast[1].name, Cc=cast[2].name, A=cast[0].first, B=cast[1].first, C=cast[2].first,
        he=he, He=he.capitalize(), him=him, i=i, j=j, p=p, q=q, f=f, g=g, a=a, b=b, k=k, l=m,
    )  # fmt: skip


_KNOWN_RELATIONS = ("home", "food", "pet", "instrument")


def _known_pair(place: World, random: Random) -> tuple[Entity, Entity]:
    """Two people of whom everything a known story tells is different."""
    while True:
        first, second = (place.people[place.rank["person"].draw(random)] for _ in range(2))
        if first.first != second.first and all(first.values[r] != second.values[r] for r in _KNOWN_RELATIONS):
            return first, second


def rhyme(random: Random) -> str:
    """A song for children that says the same words again: the plainest lesson in looking further up."""
    items = random.sample(words.ITEMS, 4)
    name = random.choice(words.WOMEN + words.MEN)
    line = ", ".join(f"a {item}" for item in items)
    forms = (
        f"What does {name} have? {name} has {line}. Sing it again: {name} has {line}.",
        f"{line.capitalize()}, come and buy, said {name}. {line.capitalize()}, said we all to {name}.",
        f"Here is the {items[0]}, here is the {items[1]}, here is the {items[2]} of {name}. "
        f"Where is the {items[0]}, where is the {items[1]}, where is the {items[2]} of {name}?",
    )
    return random.choice(forms)


def echo(random: Random) -> tuple[str, str]:
    """A question that has its answer in itself, and the answer."""
    pool = random.choice((words.ITEMS, words.PETS, words.FOODS, words.WOMEN + words.MEN))
    chosen = random.sample(pool, 3 + int(random.random() * 3))
    line = ", ".join(chosen)
    return random.choice(
        (
            (f"Say after me: {line}.", f"{line}."),
            (f"Write this down: {line}.", f"{line}."),
            (f"What comes after {chosen[-2]} in this list: {line}?", chosen[-1]),
            (f"What comes first in this list: {line}?", chosen[0]),
        )
    )


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
        f"If you leave a {ware.name} {WHERE[event]}, it {result}.",
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


def steps_base(procedure: Procedure) -> list[str]:
    """The steps as told to someone: "dig soft clay from the bank"."""
    return [f"{base} {rest}" for base, _, rest in (stage[at] for stage, at in zip(words.STAGES, procedure.steps))]


def procedure_list(procedure: Procedure) -> str:
    """The same in one line: "dig soft clay from the bank, beat it flat, ... and wrap it in paper"."""
    phrases = steps_base(procedure)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]
