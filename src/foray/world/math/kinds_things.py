"""Easy stories of changing amounts: a collection, a bus, sharing, packing, a harvest. One to eight steps."""

from __future__ import annotations

from foray.world.math.lexicon import CONTAINERS, CROPS, FOOD, GROUPS, Person, Thing, times
from foray.world.math.story import Draft, Quantity, Step, Story, value_of


def event(d: Draft, who: Person, other: Person, thing: Thing, have: Quantity, subject: str, parts: int = 1) -> Step:
    """Changes the amount that ``who`` has. The new amount divides into ``parts``."""
    v, u = value_of(have), d.random()
    says = f"{who} has {{}} {thing.many}"
    if parts == 1 and u < 0.14 and v % 2 == 0 and v >= 6:
        d.say(f"{subject} {d.pick((f'gives {other}', 'sells'))} half of {who.his} {thing.many}.")
        return d.do(have, "/", 2, "the half", says)
    if parts == 1 and u < 0.24 and v <= 40:
        k = d.between(2, 4)
        d.say(f"Soon {who} has {times(k)} as many.")
        return d.do(have, "*", k, "soon", says)
    if u < 0.62 or v < 8:
        c = to_gain(v, d.between(2, 9), parts)
        verb = d.pick(("buys", "finds", "gets", "gives"))
        whom = who.him if subject == who.He else who
        d.say(f"{other} gives {whom} {c} more." if verb == "gives" else f"{subject} {verb} {c} more.")
        return d.do(have, "+", c, "with more", says)
    c = to_lose(v, d.between(2, min(v - 2, 9)), parts)
    verb = d.pick(("gives", "loses", "sells", "eats" if thing in FOOD else "loses"))
    d.say(f"{subject} gives {c} to {other}." if verb == "gives" else f"{subject} {verb} {c}.")
    return d.do(have, "-", c, "left", says)


def collect(d: Draft, steps: int) -> Story:
    """A person has things, gets some and loses some."""
    who, other, thing = d.person(), d.person(), d.thing()
    have: Quantity = d.count()
    d.say(f"{who} has {have} {thing.many}.")
    before: Quantity = have
    for _ in range(steps):
        before, have = have, event(d, who, other, thing, have, who.He)
    ask = f"How many {thing.many} did {who} have before the last change, and how many does {who.he} have now?"
    return d.finish(before, have, ask)


def bus(d: Draft, steps: int) -> Story:
    """People get on and off a bus or a train."""
    place = d.pick(("bus", "train", "ship"))
    have: Quantity = d.count()
    before = have
    d.say(f"There are {have} people on a {place}.")
    for _ in range(steps):
        before, v = have, value_of(have)
        if v < 8 or d.chance(0.5):
            c = d.between(2, 9)
            d.say(f"Then {c} get on.")
            have = d.do(have, "+", c, "after getting on", f"the {place} has {{}} people")
        else:
            c = d.between(2, min(v - 2, 9))
            d.say(f"Then {c} get off.")
            have = d.do(have, "-", c, "after getting off", f"the {place} has {{}} people")
    ask = f"How many people were on the {place} before the last stop, and how many are on it now?"
    return d.finish(before, have, ask)


def to_gain(have: int, more: int, parts: int) -> int:
    """``more``, raised until ``have + more`` divides into ``parts``."""
    return more + (-(have + more)) % parts


def to_lose(have: int, less: int, parts: int) -> int:
    """``less``, raised until ``have - less`` divides into ``parts``."""
    return less + (have - less) % parts


def sharing(d: Draft, steps: int) -> Story:
    """A person gathers things and shares them equally. In some stories each one already had some."""
    who, other, thing, group = d.person(), d.person(), d.thing(), d.pick(GROUPS)
    parts = d.between(2, 9)
    after = steps >= 3 and d.chance(0.5)
    before = steps - 1 - after
    have: Quantity = d.count() if before else parts * d.between(2, 9)
    d.say(f"{who} has {have} {thing.many}.")
    for i in range(before):
        have = event(d, who, other, thing, have, who.He, parts if i == before - 1 else 1)
    shared: Quantity = have
    d.say(f"{who.He} shares them equally among {parts} {group.many}.")
    share = d.do(have, "/", parts, "each", f"each {group.one} gets {{}} {thing.many}")
    if after:
        c = d.between(2, 9)
        d.say(f"Each {group.one} already had {c}.")
        now = d.do(share, "+", c, "each now", f"each {group.one} has {{}} {thing.many}")
        ask = f"How many {thing.many} does each {group.one} get, and how many does each {group.one} have now?"
        return d.finish(share, now, ask)
    ask = f"How many {thing.many} does {who} share, and how many does each {group.one} get?"
    return d.finish(shared, share, ask)


def packing(d: Draft, steps: int) -> Story:
    """Containers with equal numbers of things. Some things come or get lost. The rest is packed again."""
    who, thing = d.person(), d.thing()
    into, outof = d.thing(CONTAINERS), d.thing(CONTAINERS)
    double = steps >= 4 or (steps == 3 and d.chance(0.4))
    left = steps - (3 if double else 1)
    repack = left == 2 or (left == 1 and d.chance(0.5))
    loose = left - repack == 1
    held: list[Step] = []
    for i in range(1 + double):
        k, m = d.between(2, 9), d.between(2, 9)
        d.say(f"{who if i == 0 else who.He + ' also'} has {k} {outof.many} with {m} {thing.many} each.")
        held.append(d.do(k, "*", m, f"in the {outof.many}", f"the {outof.many} hold {{}} {thing.many}"))
    total = held[0]
    if double:
        total = d.do(held[0], "+", held[1], "in all", f"{who} has {{}} {thing.many} in all")
    before, parts = total, d.between(2, 9) if repack else 1
    if loose:
        v = total.value
        if v < 10 or d.chance(0.5):
            c = to_gain(v, d.between(2, 9), parts)
            d.say(f"{who.He} gets {c} more {thing.many}.")
            total = d.do(total, "+", c, "with more", f"{who} has {{}} {thing.many}")
        else:
            c = to_lose(v, d.between(2, min(v - 2, 9)), parts)
            d.say(f"{c} {thing.many} get lost.")
            total = d.do(total, "-", c, "left", f"{who} has {{}} {thing.many} left")
    if repack:
        if not loose:
            parts = d.pick([n for n in range(2, 10) if total.value % n == 0 and total.value > n] or [0])
        d.say(f"{who.He} puts all the {thing.many} into {into.many} of {parts}.")
        root = d.do(total, "/", parts, str(into.many), f"{who} needs {{}} {into.many}")
        ask = f"How many {thing.many} does {who} pack, and how many {into.many} does {who.he} need?"
        return d.finish(total, root, ask)
    if loose:
        ask = f"How many {thing.many} did {who} have before the last change, and how many does {who.he} have now?"
        return d.finish(before, total, ask)
    if double:
        ask = f"How many {thing.many} are in the first {outof.many}, and how many does {who} have in all?"
        return d.finish(held[0], total, ask)
    return d.finish(k, total, f"How many {outof.many} does {who} have, and how many {thing.many} are in them?")


def harvest(d: Draft, steps: int) -> Story:
    """People pick a number each day, eat or lose some and sell the rest."""
    both, sells = steps >= 4, steps in (3, 5)
    who, crop = d.person(), d.thing(CROPS)
    k, m = d.between(2, 9), d.between(2, 7)
    d.say(f"{who} picks {k} {crop.many} each day for {m} days.")
    have = d.do(k, "*", m, f"picked by {who}", f"{who} picks {{}} {crop.many}")
    if both:
        other = d.person()
        k, m = d.between(2, 9), d.between(2, 7)
        d.say(f"{other} picks {k} each day for {m} days.")
        more = d.do(k, "*", m, f"picked by {other}", f"{other} picks {{}} {crop.many}")
        have = d.do(have, "+", more, "together", f"together they have {{}} {crop.many}")
    if steps == 1:
        return d.finish(k, have, f"How many {crop.many} does {who} pick each day, and how many in all?")
    if sells:  # few enough to sell that the product stays small
        less = have.value - d.between(2, min(9, have.value - 2))
    else:
        less = d.between(2, min(9, have.value - 2))
    verb = d.pick(("eat", "lose", "use"))
    d.say(f"They {verb} {less}." if both else f"{who.He} {verb}s {less}.")
    rest = d.do(have, "-", less, "left", f"{{}} {crop.many} are left")
    they, does = (f"{who} and {other}", "do") if both else (str(who), "does")
    if not sells:
        return d.finish(have, rest, f"How many {crop.many} {does} {they} pick, and how many are left?")
    price = d.between(2, 6)
    d.say(f"{'They sell' if both else who.He + ' sells'} the rest for {price} dollars each.")
    money = d.do(rest, "*", price, "money", f"{'they get' if both else f'{who} gets'} {{}} dollars")
    return d.finish(rest, money, f"How many {crop.many} {does} {they} sell, and how many dollars {does} {they} get?")
