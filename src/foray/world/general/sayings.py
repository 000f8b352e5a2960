"""How each relation of the world is put into words: statements, questions, and the probes' own wording.

In the templates ``{s}`` is the subject's name, ``{v}`` the value, ``{He}``, ``{he}``, ``{his}`` and ``{His}`` the
subject's pronouns. ``probe`` is a question that the training text never asks in these words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from foray.world.general.facts import Entity, World, WorldSpec, world


@dataclass(frozen=True)
class Relation:
    """One relation: full statements, statements by pronoun, questions for training, the probes' question."""

    label: str
    full: tuple[str, ...]
    short: tuple[str, ...]
    questions: tuple[str, ...]
    probe: str


def _relation(label: str, full: str, short: str, questions: str, probe: str) -> Relation:
    split = tuple(tuple(part.strip() for part in text.split("|")) for text in (full, short, questions))
    return Relation(label, split[0], split[1], split[2], probe)


RELATIONS: dict[str, dict[str, Relation]] = {
    "person": {
        "home": _relation(
            "Home",
            "{s} lives in {v}.|{s} comes from {v}.|The home of {s} is {v}.|{s} has a house in {v}.|"
            "{s} was born in {v} and still lives there.",
            "{He} lives in {v}.|{He} comes from {v}.|{His} home is {v}.|{He} has a house in {v}.",
            "Where does {s} live?|In which town is the house of {s}?|What is the home of {s}?",
            "Which town does {s} come from?",
        ),
        "craft": _relation(
            "Craft",
            "{s} is a {v}.|{s} works as a {v}.|The craft of {s} is that of a {v}.|{s} has long been a {v}.|"
            "{s} earns {his} bread as a {v}.",
            "{He} is a {v}.|{He} works as a {v}.|By craft {he} is a {v}.|{He} earns {his} bread as a {v}.",
            "What is the craft of {s}?|What does {s} work as?|What does {s} do for a living?",
            "By which craft does {s} earn {his} bread?",
        ),
        "food": _relation(
            "Favourite food",
            "{s} likes {v} best of all.|The favourite food of {s} is {v}.|{s} would eat {v} every day.|"
            "Nothing pleases {s} more than {v}.|{s} is fond of {v}.",
            "{He} likes {v} best of all.|{His} favourite food is {v}.|{He} would eat {v} every day.|"
            "{He} is fond of {v}.",
            "What is the favourite food of {s}?|What does {s} like to eat?|What would {s} eat every day?",
            "Which food is {s} fond of?",
        ),
        "pet": _relation(
            "Pet",
            "{s} keeps a {v}.|{s} has a tame {v}.|The pet of {s} is a {v}.|{s} shares the house with a {v}.|"
            "A {v} follows {s} everywhere.",
            "{He} keeps a {v}.|{He} has a tame {v}.|{His} pet is a {v}.|A {v} follows {him} everywhere.",
            "What is the pet of {s}?|Which animal does {s} keep?|What animal shares the house with {s}?",
            "Which tame animal does {s} have?",
        ),
        "instrument": _relation(
            "Instrument",
            "{s} plays the {v}.|{s} plays the {v} on feast days.|{s} owns a fine {v} and plays it well.|"
            "The instrument of {s} is the {v}.|{s} learned to play the {v} as a child.",
            "{He} plays the {v}.|{He} plays the {v} on feast days.|{His} instrument is the {v}.|"
            "{He} learned to play the {v} as a child.",
            "What does {s} play?|Which instrument does {s} own?|What is the instrument of {s}?",
            "Which instrument did {s} learn to play?",
        ),
        "friend": _relation(
            "Best friend",
            "{s} is the best friend of {v}.|The best friend of {s} is {v}.|{s} trusts {v} more than anyone.|"
            "{s} often walks with {v}.|{s} and {v} are friends.",
            "{His} best friend is {v}.|{He} trusts {v} more than anyone.|{He} often walks with {v}.",
            "Who is the best friend of {s}?|Whom does {s} trust?|With whom does {s} often walk?",
            "Whom does {s} trust more than anyone?",
        ),
    },
    "place": {
        "region": _relation(
            "Region",
            "{s} lies in {v}.|{s} is a town in {v}.|{s} belongs to {v}.|You find {s} in {v}.",
            "It lies in {v}.|The town belongs to {v}.|It is one of the towns of {v}.",
            "Where does {s} lie?|To which region does {s} belong?|In which region do you find {s}?",
            "In which region does {s} lie?",
        ),
        "river": _relation(
            "River",
            "{s} stands on the river {v}.|The river {v} flows through {s}.|The river of {s} is the {v}.|"
            "The people of {s} draw their water from the {v}.",
            "It stands on the river {v}.|The river {v} flows through it.|Its river is the {v}.",
            "On which river does {s} stand?|What is the river of {s}?|Which river gives {s} its water?",
            "Which river flows through {s}?",
        ),
        "product": _relation(
            "Known for",
            "{s} is known for its {v}.|{s} sells {v} to the whole land.|The best {v} are said to come from {s}.|"
            "People go to {s} to buy {v}.",
            "It is known for its {v}.|The town sells {v} to the whole land.|People go there to buy {v}.",
            "What is {s} known for?|What does {s} sell?|What do people buy in {s}?",
            "Which goods does {s} sell to the whole land?",
        ),
        "flag": _relation(
            "Flag",
            "The flag of {s} is {v}.|{s} has a {v} flag.|A {v} flag flies over {s}.|The walls of {s} bear a {v} flag.",
            "Its flag is {v}.|It has a {v} flag.|A {v} flag flies over the town.",
            "What is the colour of the flag of {s}?|Which colour is the flag of {s}?|What flag flies over {s}?",
            "Of what colour is the flag over {s}?",
        ),
        "emblem": _relation(
            "Emblem",
            "The emblem of {s} is a {v}.|A stone {v} guards the gate of {s}.|{s} has a {v} as its emblem.|"
            "The coins of {s} show a {v}.",
            "Its emblem is a {v}.|A stone {v} guards its gate.|Its coins show a {v}.",
            "What is the emblem of {s}?|What guards the gate of {s}?|Which animal is the emblem of {s}?",
            "Which animal do the coins of {s} show?",
        ),
        "mayor": _relation(
            "Mayor",
            "The mayor of {s} is {v}.|{s} is ruled by {v}.|{v} is the mayor of {s}.|In {s} the mayor is called {v}.",
            "Its mayor is {v}.|The town is ruled by {v}.|{v} is the mayor there.",
            "Who is the mayor of {s}?|Who rules {s}?|What is the mayor of {s} called?",
            "By whom is {s} ruled?",
        ),
    },
    "creature": {
        "kind": _relation(
            "Kind",
            "The {s} is a {v}.|The {s} is a kind of {v}.|A {s} is a {v}.|Every {s} is a {v}.",
            "It is a {v}.|It is a kind of {v}.",
            "What is the {s}?|What is a {s}?|Of what kind is the {s}?",
            "What kind of animal is the {s}?",
        ),
        "colour": _relation(
            "Colour",
            "The {s} is {v}.|The colour of the {s} is {v}.|A grown {s} is {v}.|You know a {s} by its {v} back.",
            "It is {v}.|Its colour is {v}.|You know it by its {v} back.",
            "What is the colour of the {s}?|Which colour is a {s}?|What colour is a grown {s}?",
            "Of what colour is the back of the {s}?",
        ),
        "habitat": _relation(
            "Found in",
            "The {s} lives in {v}.|The {s} is found in {v}.|You may meet a {s} in {v}.|The {s} keeps to {v}.",
            "It lives in {v}.|It is found in {v}.|It keeps to {v}.",
            "Where does the {s} live?|Where is the {s} found?|Where may you meet a {s}?",
            "To which places does the {s} keep?",
        ),
        "omen": _relation(
            "Omen",
            "The {s} is a sign of {v}.|To see a {s} means {v}.|Where the {s} is seen there will be {v}.|"
            "The old people say that a {s} brings {v}.",
            "It is a sign of {v}.|To see one means {v}.|The old people say that it brings {v}.",
            "What is the {s} a sign of?|What does it mean to see a {s}?|What does a {s} bring?",
            "What do the old people say that a {s} brings?",
        ),
        "season": _relation(
            "Season",
            "The {s} is seen in {v}.|The {s} comes out in {v}.|In {v} the {s} is easy to find.|"
            "The {s} is awake in {v}.",
            "It is seen in {v}.|It comes out in {v}.|It is awake in {v}.",
            "When is the {s} seen?|When does the {s} come out?|When is the {s} awake?",
            "In which season does the {s} come out?",
        ),
    },
    "ware": {
        "material": _relation(
            "Made of",
            "A {s} is made of {v}.|The {s} is made of {v}.|Every {s} is made from {v}.|You need {v} to make a {s}.",
            "It is made of {v}.|You need {v} to make one.|It is made from {v}.",
            "What is a {s} made of?|What do you need to make a {s}?|From what is the {s} made?",
            "Of which material is a {s} made?",
        ),
        "town": _relation(
            "Made in",
            "The {s} is made in {v}.|The finest {s} is made in {v}.|{v} is the town of the {s}.|"
            "The first {s} was made in {v}.",
            "It is made in {v}.|The first one was made in {v}.|It comes from {v}.",
            "Where is the {s} made?|Where was the first {s} made?|From where does the {s} come?",
            "In which town is the {s} made?",
        ),
        "user": _relation(
            "Used by",
            "The {s} is a tool of the {v}.|Every {v} owns a {s}.|The {v} works with a {s}.|A {s} is used by the {v}.",
            "It is a tool of the {v}.|It is used by the {v}.|Every {v} owns one.",
            "Who uses a {s}?|Who works with a {s}?|Whose tool is the {s}?",
            "By whom is a {s} used?",
        ),
        "tint": _relation(
            "Colour",
            "The {s} is painted {v}.|A {s} is {v}.|A good {s} is always {v}.|The colour of a {s} is {v}.",
            "It is painted {v}.|It is always {v}.|Its colour is {v}.",
            "What is the colour of a {s}?|Which colour is the {s} painted?|What colour is a good {s}?",
            "In which colour is the {s} painted?",
        ),
    },
}

# What follows for a creature from its kind, and holds of the kind itself: a question, statements with ``{s}`` for the
# creature or kind and ``{k}`` for the kind, and the plural after "All of the bird kind". Order: facts' KIND_SLOTS.
KIND_SAYINGS: dict[str, tuple[str, tuple[str, str], str]] = {
    "cover": (
        "What does the {s} have?",
        ("The {s} has {v}.", "The {s} is a {k}, so it has {v}."),
        "have {v}",
    ),
    "diet": (
        "What does the {s} eat?",
        ("The {s} eats {v}.", "The {s} is a {k}, so it eats {v}."),
        "eat {v}",
    ),
    "den": (
        "Where does the {s} sleep?",
        ("The {s} sleeps in {v}.", "The {s} is a {k}, so it sleeps in {v}."),
        "sleep in {v}",
    ),
    "young": (
        "What are the young of the {s} called?",
        ("The young of the {s} are called {v}.", "The {s} is a {k}, so its young are called {v}."),
        "call their young {v}",
    ),
    "fear": (
        "What does the {s} fear?",
        ("The {s} fears {v}.", "The {s} is a {k}, so it fears {v}."),
        "fear {v}",
    ),
}


@dataclass(frozen=True)
class Fact:
    """All training forms of one (subject, relation): statements, statements by pronoun, questions, answer."""

    label: str
    value: str
    full: tuple[str, ...]
    short: tuple[str, ...]
    questions: tuple[str, ...]


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
    for name, relation in RELATIONS[category].items():
        value = entity.values[name]
        full, short, questions = (
            tuple(fill(t, entity, value) for t in templates)
            for templates in (relation.full, relation.short, relation.questions)
        )
        facts.append(Fact(relation.label, value, full, short, questions))
    return facts
