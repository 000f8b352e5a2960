"""Hard stories of four to nine steps: several unknowns, a part of the rest, rates, remainders, hidden prices."""

from __future__ import annotations

from foray.world.math.kinds_people import chain, total_of
from foray.world.math.kinds_things import event, to_gain, to_lose
from foray.world.math.lexicon import CONTAINERS, GOODS, GROUPS, MADE, MOVES, listed, times
from foray.world.math.story import Draft, Story, Unfit


def sum_difference(d: Draft, steps: int) -> Story:
    """Two amounts from their sum and difference (three steps). Then the larger amount changes."""
    big, small, friend, thing = d.person(), d.person(), d.person(), d.thing()
    half, more = d.between(3, 60), d.between(2, 30)
    total, says = 2 * half + more, "{} " + thing.many
    d.say(f"{big} and {small} have {total} {thing.many} together.")
    d.say(f"{big} has {more} more than {small}.")
    rest = d.do(total, "-", more, "two equal parts", f"without the {more} more there are {says}")
    one = d.do(rest, "/", 2, str(small), f"{small} has {says}")
    have = d.do(one, "+", more, str(big), f"{big} has {says}")
    pair = steps >= 5 and d.chance(0.5)
    for _ in range(steps - 3 - 2 * pair):
        have = event(d, big, friend, thing, have, str(big))
    if not pair:
        ask = f"How many {thing.many} does {small} have, and how many does {big} have now?"
        return d.finish(one, have, ask)
    third, k = d.person(), d.between(2, 4)
    d.say(f"{third} has {times(k)} as many as {small}.")
    theirs = d.do(one, "*", k, str(third), f"{third} has {says}")
    root = d.do(have, "+", theirs, "together", f"together they have {says}")
    together = f"how many do {big} and {third} have together{' now' if steps > 5 else ''}"
    return d.finish(theirs, root, f"How many {thing.many} does {third} have, and {together}?")


PART = {2: "half", 3: "a third", 4: "a quarter"}


def rest_of_rest(d: Draft, steps: int) -> Story:
    """A person gives away a part, then a part of the rest, or a number. A half takes one step, another part two."""
    who, other, third, thing, box = d.person(), d.person(), d.person(), d.thing(), d.thing(CONTAINERS)
    k, m = d.between(2, 9), d.between(4, 20)
    d.say(f"{who} has {k} {box.many} with {m} {thing.many} each.")
    have = d.do(k, "*", m, "in all", f"{who} has {{}} {thing.many}")
    left, first, before = steps - 1, True, have
    says = f"{who} has {{}} {thing.many} left"
    while left:
        before = have
        v, options = have.value, [p for p in (2, 3, 4) if have.value % p == 0 and left >= 1 + (p > 2)]
        to = other if first else third
        if options and (first or d.chance(0.7)):
            p = d.pick(options)
            d.say(f"{who if first else who.He} gives {PART[p]} of {'them' if first else 'the rest'} to {to}.")
            if p == 2:
                have = d.do(have, "/", 2, "the rest", says)
            else:
                part = d.do(have, "/", p, f"for {to}", f"{to} gets {{}} {thing.many}")
                have = d.do(have, "-", part, "the rest", says)
            left -= 1 + (p > 2)
        elif first:
            raise Unfit
        else:
            c = d.between(2, min(v - 2, 20))
            d.say(f"{who.He} {d.pick(('loses', 'sells', 'uses'))} {c} of the rest.")
            have = d.do(have, "-", c, "the rest", says)
            left -= 1
        first = False
    ask = f"How many {thing.many} did {who} have before the last change, and how many does {who.he} have left?"
    return d.finish(before, have, ask)


def rates(d: Draft, steps: int) -> Story:
    """Two people work together, then one works alone. The last steps ask for the missing things, hours or dollars."""
    who, other, thing = d.person(), d.person(), d.thing(MADE)
    r, q, t, u = d.between(2, 12), d.between(2, 12), d.between(2, 8), d.between(2, 6)
    d.say(f"{who} makes {r} {thing.many} each hour. {other} makes {q} each hour.")
    d.say(f"They work together for {t} hours.")
    both = d.do(r, "+", q, "each hour", f"together they make {{}} {thing.many} each hour")
    done = d.do(both, "*", t, "together", f"together they make {{}} {thing.many}")
    d.say(f"Then {other} works alone for {u} hours.")
    alone = d.do(q, "*", u, f"{other} alone", f"{other} alone makes {{}} {thing.many}")
    total = d.do(done, "+", alone, "in all", f"in all they make {{}} {thing.many}")
    if steps == 4:
        return d.finish(
            alone, total, f"How many {thing.many} does {other} make alone, and how many do they make in all?"
        )
    if steps == 6 and d.chance(0.5):
        hours = d.between(2, 9)
        d.say(f"They need {total.value + hours * r} {thing.many}. {who} makes the rest alone.")
        rest = d.do(total.value + hours * r, "-", total, "the rest", f"{{}} {thing.many} are missing")
        root = d.do(rest, "/", r, "hours", f"{who} needs {{}} hours")
        return d.finish(rest, root, f"How many {thing.many} are missing, and how many hours does {who} need for them?")
    lost = d.between(2, min(40, total.value - 2)) if steps < 6 else total.value - d.between(5, 60)
    if not 2 <= lost < total.value:
        raise Unfit
    d.say(f"{lost} of the {thing.many} break.")
    good = d.do(total, "-", lost, "good ones", f"{{}} {thing.many} are left")
    if steps == 5:
        return d.finish(total, good, f"How many {thing.many} do they make, and how many are left?")
    price = d.between(2, 6)
    d.say(f"They sell the rest for {price} dollars each.")
    money = d.do(good, "*", price, "money", "they get {} dollars")
    return d.finish(good, money, f"How many {thing.many} do they sell, and how many dollars do they get?")


def remainder(d: Draft, steps: int) -> Story:
    """A person packs things into full containers. The other things are left over."""
    who, other, thing = d.person(), d.person(), d.thing()
    box, bag = d.thing(CONTAINERS), d.thing(CONTAINERS)
    k, m = d.between(2, 9), d.between(3, 15)
    d.say(f"{who} has {k} {box.many} with {m} {thing.many} each.")
    have = d.do(k, "*", m, "in all", f"{who} has {{}} {thing.many}")
    after = int(steps >= 5 and d.chance(0.5))
    for _ in range(steps - 3 - after):  # at least one
        have = event(d, who, other, thing, have, who.He)
    size = d.between(4, 12)
    full, over = divmod(have.value, size)
    if full < 2 or over < 2:
        raise Unfit
    d.say(f"{who.He} puts the {thing.many} into {bag.many} of {size} until no more {bag.many} can be filled.")
    packed = d.do(full, "*", size, f"in full {bag.many}", f"{full} full {bag.many} hold {{}} {thing.many}")
    packed.after = have
    left = d.do(have, "-", packed, "left over", f"{{}} {thing.many} are left over")
    if not after:
        return d.finish(packed, left, f"How many {thing.many} are in full {bag.many}, and how many are left over?")
    c = d.between(2, 30)
    d.say(f"{who.He} has {c} more at home and adds what is left over.")
    root = d.do(left, "+", c, "at home", f"at home {who} has {{}} {thing.many}")
    return d.finish(left, root, f"How many {thing.many} are left over, and how many does {who} have at home now?")


def long_compare(d: Draft, steps: int) -> Story:
    """A long chain of comparisons and the sum of all amounts. Then the sum changes."""
    thing = d.thing()
    links = {4: 2, 5: 2, 6: 2 if d.chance(0.5) else 3, 7: 3, 8: 3 if d.chance(0.5) else 4, 9: 4}[steps]
    people, owned = chain(d, thing, links)
    total = total_of(d, owned, thing)
    extra, v, before = steps - 2 * links, total.value, total
    if extra >= 1:
        parts = d.between(2, 9) if extra == 2 else 1
        if d.chance(0.5):
            c = to_lose(v, d.between(2, min(v - 2, 30)), parts)
            d.say(f"They give away {c} {thing.many}.")
            total = d.do(total, "-", c, "left", f"{{}} {thing.many} are left")
        else:
            c = to_gain(v, d.between(2, 30), parts)
            d.say(f"They buy {c} more {thing.many}.")
            total = d.do(total, "+", c, "with more", f"they have {{}} {thing.many}")
        if extra == 2:
            group = d.pick(GROUPS)
            d.say(f"{parts} {group.many} share all of these equally.")
            each = d.do(total, "/", parts, "each", f"each {group.one} gets {{}} {thing.many}")
            ask = f"How many {thing.many} do the {group.many} share, and how many does each {group.one} get?"
            return d.finish(total, each, ask)
        ask = f"How many {thing.many} did {listed(people)} have together before that, and how many now?"
        return d.finish(before, total, ask)
    ask = f"How many {thing.many} does {people[-1]} have, and how many do {listed(people)} have together?"
    return d.finish(owned[-1], total, ask)


def hidden_price(d: Draft, steps: int) -> Story:
    """One price from a bill and the other price (three steps). Then another person buys at these prices."""
    who, other, known, hidden = d.person(), d.person(), d.thing(GOODS), d.thing(GOODS)
    p, q, k, m, n, j = d.between(2, 9), d.between(3, 12), *(d.between(2, 6) for _ in range(4))
    bill = p * k + q * m
    d.say(f"{who} buys {k} {known.many} and {m} {hidden.many} for {bill} dollars.")
    d.say(f"{known.a} costs {p} dollars.")
    paid = d.do(k, "*", p, f"cost of the {known.many}", f"the {known.many} cost {{}} dollars")
    rest = d.do(bill, "-", paid, f"cost of the {hidden.many}", f"the {hidden.many} cost {{}} dollars")
    one = d.do(rest, "/", m, f"price of one {hidden.one}", f"one {hidden.one} costs {{}} dollars")
    cost = d.do(n, "*", one, f"{n} {hidden.many}", f"{n} {hidden.many} cost {{}} dollars")
    bought, change = f"{n} {hidden.many}", steps in (5, 7)
    if steps >= 6:
        more = d.do(j, "*", p, f"{j} {known.many}", f"{j} {known.many} cost {{}} dollars")
        cost = d.do(cost, "+", more, "in all", "the cost is {} dollars in all")
        bought += f" and {j} {known.many}"
    d.say(f"{other} buys {bought}{' at the same prices' if steps >= 6 else ' at the same price'}.")
    if not change:
        ask = f"How many dollars does one {hidden.one} cost, and how many does {other} spend?"
        return d.finish(one, cost, ask)
    note = -(-(cost.value + d.between(2, 20)) // 10) * 10
    d.say(f"{other.He} pays with {note} dollars.")
    back = d.do(note, "-", cost, "change", f"{other} gets back {{}} dollars")
    return d.finish(cost, back, f"How many dollars does {other} spend, and how many does {other.he} get back?")


def trip(d: Draft, steps: int) -> Story:
    """A way in two parts at two speeds: the rest of the way, its hours, the hours in all, the cost of the hours."""
    who = d.person()
    verb, speeds = d.pick(MOVES)
    fast = d.pick(speeds)
    slow = d.pick([s for s in speeds if s != fast])
    t, u = d.between(2, 6), d.between(2, 6)
    far = fast * t + slow * u
    d.say(f"A town is {far} miles away. {who} {verb} {fast} miles each hour for {t} hours.")
    d.say(f"Then {who.he} {verb} {slow} miles each hour for the rest of the way.")
    way = d.do(fast, "*", t, "first part", "the first part is {} miles")
    rest = d.do(far, "-", way, "the rest", "the rest is {} miles")
    hours = d.do(rest, "/", slow, "hours for the rest", "the rest takes {} hours")
    total = d.do(t, "+", hours, "hours in all", "the way takes {} hours")
    if steps == 4:
        return d.finish(hours, total, "How many hours does the rest of the way take, and how many in all?")
    if steps == 6 or d.chance(0.5):
        back = d.between(2, 9)
        d.say(f"The way back takes {back} hours.")
        there = total
        total = d.do(there, "+", back, "with the way back", "both ways take {} hours")
        if steps == 5:
            ask = f"How many hours does {who} need for the way to the town, and how many for both ways?"
            return d.finish(there, total, ask)
    cost = d.between(2, 9)
    d.say(f"Each hour costs {who.him} {cost} dollars.")
    money = d.do(total, "*", cost, "cost", f"{who} pays {{}} dollars")
    return d.finish(total, money, f"How many hours does {who} need, and how many dollars does {who.he} pay in all?")
