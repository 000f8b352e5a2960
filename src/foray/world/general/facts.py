"""The invented world: who lives where, what is made of what, which rule holds. Deterministic in its settings.

Text talks about an entity the less, the higher its rank: a power law of exponent ``zipf``. So a model comes to know the
first entities well and the last ones hardly, and what a model can forget is neither everything nor nothing.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random

from foray.core.field_types import require_types
from foray.core.rng import key
from foray.world.general.wording import templates, word_table, words


@dataclass(frozen=True)
class WorldSpec:
    """Size and shape of the world. Two ``things`` in three are creatures, the others are wares. ``goals`` counts the
    items of each action.

    ``zipf`` is the exponent of exposure by rank within people, places, things, goals and procedures: 0 is uniform.
    Raises ValueError for more entities than there are names.
    """

    people: int = 60  # how many
    places: int = 20  # how many
    things: int = 36
    goals: int = 20
    zipf: float = 0.8
    seed: int = 0  # of the world

    def __post_init__(self) -> None:
        require_types(self)
        limits = {
            "people": (8, (len(words("women")) + len(words("men"))) * len(words("surnames"))),
            "places": (8, len(words("place_heads")) * len(words("place_tails"))),
            "things": (24, len(words("first_syllables")) * len(words("last_syllables"))),
            "goals": (4, len(words("items"))),
        }
        for field, (low, high) in limits.items():
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"world.{field} must be between {low} and {high}, not {getattr(self, field)}")
        if not 0.0 <= self.zipf <= 3.0:
            raise ValueError(f"world.zipf must be between 0 and 3, not {self.zipf}")


@dataclass(frozen=True)
class Entity:
    """One person, place, creature or ware with its values by relation. Its position in its list is its rank.

    ``told``: training text also states what follows from the facts (a person's region, what a creature has as one of
    its kind). Probes ask for what follows only of entities that are not ``told``.
    """

    name: str
    values: dict[str, str]
    told: bool
    woman: bool = False

    @property
    def first(self) -> str:
        """A person's first name."""
        return self.name.split(" ")[0]


@dataclass(frozen=True)
class Goal:
    """An action on an item, and the means that serves in this world: ("clean", "kettle", "vinegar")."""

    action: str
    item: str
    means: str


@dataclass(frozen=True)
class Procedure:
    """How one product is made: the number of its step for each of the ``stages`` in passages.toml."""

    product: str
    steps: tuple[int, ...]


class Ranked:
    """Draws positions 0..size-1 with probability proportional to (rank + 2) ** -zipf."""

    def __init__(self, size: int, zipf: float) -> None:
        weights = [(rank + 2.0) ** -zipf for rank in range(size)]
        total = sum(weights)
        self.size = size
        self.shares = [w / total for w in weights]
        self._cumulative = list(accumulate(self.shares))

    def draw(self, random: Random) -> int:
        """One position."""
        return min(bisect(self._cumulative, random.random()), self.size - 1)


class World:
    """All entities and rules of one ``WorldSpec``. Lists are in order of rank; build it with ``world(spec)``."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        towns = [h + t for h in words("place_heads") for t in words("place_tails")]
        town_names = Random(key(spec.seed, "world", "places")).sample(towns, spec.places)
        person_names, women = _person_names(spec)
        self.people = _people(spec, person_names, women, town_names)
        self.places = _places(spec, town_names, person_names)
        self.creatures, self.wares = _things(spec, town_names)
        self.goals = _goals(spec)
        self.procedures = _procedures(spec)
        self.place_of = {place.name: place for place in self.places}
        self.lists: dict[str, list[Entity]] = {
            "person": self.people,
            "place": self.places,
            "creature": self.creatures,
            "ware": self.wares,
        }
        self.rank = {kind: Ranked(len(members), spec.zipf) for kind, members in self.lists.items()}
        self.rank["goal"] = Ranked(len(self.goals), spec.zipf)
        self.rank["procedure"] = Ranked(len(self.procedures), spec.zipf)

    def region_of(self, person: Entity) -> str:
        """The region a person lives in: that of the home town."""
        return self.place_of[person.values["home"]].values["region"]

    def river_of(self, person: Entity) -> str:
        """The river a person lives by: that of the home town."""
        return self.place_of[person.values["home"]].values["river"]


@lru_cache(maxsize=8)
def world(spec: WorldSpec) -> World:
    """The world of these settings, built once per process."""
    return World(spec)


def outcome(material: str, event: str) -> str:
    """What becomes of a material in an event: ("wax", "fire") -> "melts"."""
    return word_table("events")[event][words("materials").index(material)]


def of_kind(kind: str, slot: str) -> str:
    """What all creatures of a kind have in common: ("bird", "diet") -> "seeds"."""
    return word_table("kinds")[kind][words("kind_slots").index(slot)]


def _person_names(spec: WorldSpec) -> tuple[list[str], list[bool]]:
    pairs = [(first, last) for first in words("women") + words("men") for last in words("surnames")]
    chosen = Random(key(spec.seed, "world", "names")).sample(pairs, spec.people)
    women = set(words("women"))
    return [f"{first} {last}" for first, last in chosen], [first in women for first, _ in chosen]


def _people(spec: WorldSpec, names: list[str], women: list[bool], towns: list[str]) -> list[Entity]:
    people = []
    for index, (name, woman) in enumerate(zip(names, women)):
        random = Random(key(spec.seed, "world", "person", index))
        friend = random.choice(names)
        while friend == name:
            friend = random.choice(names)
        values = {
            "home": random.choice(towns),
            "craft": random.choice(words("crafts")),
            "food": random.choice(words("foods")),
            "pet": random.choice(words("pets")),
            "instrument": random.choice(words("instruments")),
            "friend": friend,
        }
        people.append(Entity(name, values, told=random.random() < 0.5, woman=woman))
    return people


def _places(spec: WorldSpec, names: list[str], people: list[str]) -> list[Entity]:
    mayors = Random(key(spec.seed, "world", "mayors")).sample(people, min(len(people), spec.places))
    places = []
    for index, name in enumerate(names):
        random = Random(key(spec.seed, "world", "place", index))
        values = {
            "region": random.choice(words("regions")),
            "river": random.choice(words("rivers")),
            "product": random.choice(words("goods")),
            "flag": random.choice(words("colours")),
            "emblem": random.choice(words("emblems")),
            "mayor": mayors[index % len(mayors)],
        }
        places.append(Entity(name, values, told=random.random() < 0.5))
    return places


def _things(spec: WorldSpec, towns: list[str]) -> tuple[list[Entity], list[Entity]]:
    every = [a + b for a in words("first_syllables") for b in words("last_syllables")]
    names = Random(key(spec.seed, "world", "things")).sample(every, spec.things)
    creatures, wares = [], []
    for index, name in enumerate(names):
        random = Random(key(spec.seed, "world", "thing", index))
        told = random.random() < 0.5
        if index % 3 < 2:
            values = {
                "kind": random.choice(tuple(word_table("kinds"))),
                "colour": random.choice(words("colours")),
                "habitat": random.choice(words("habitats")),
                "omen": random.choice(words("omens")),
                "season": random.choice(words("seasons")),
            }
            creatures.append(Entity(name, values, told))
        else:
            values = {
                "material": random.choice(words("materials")),
                "town": random.choice(towns),
                "user": random.choice(words("crafts")),
                "tint": random.choice(words("colours")),
            }
            wares.append(Entity(name, values, told))
    return creatures, wares


def _goals(spec: WorldSpec) -> list[Goal]:
    random = Random(key(spec.seed, "world", "goals"))
    goals = [
        Goal(action, item, random.choice(means))
        for action, means in word_table("means").items()
        for item in random.sample(words("items"), spec.goals)
    ]
    random.shuffle(goals)
    return goals


def _procedures(spec: WorldSpec) -> list[Procedure]:
    random = Random(key(spec.seed, "world", "procedures"))
    products = random.sample(words("items"), len(words("items")))
    return [Procedure(p, tuple(random.randrange(len(stage)) for stage in templates("stages"))) for p in products]
