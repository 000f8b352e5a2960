"""Easy stories of people who compare, shop, travel, earn and read. One to eight steps."""

from __future__ import annotations

from foray.world.math.lexicon import DAYS, GOODS, MOVES, Person, Thing, listed, times
from foray.world.math.story import Draft, Quantity, Step, Story, value_of


def relation(d: Draft, who: Person, ref: Person, thing: Thing, amount: Quantity) -> Step:
    """``who`` has more, fewer, half or several times as many as ``ref``."""
    v, u, says = value_of(amount), d.random(), f"{who} has {{}} {thing.many}"
    if u < 0.2 and v % 2 == 0 and v >= 4:
        d.say(f"{who} has half as many as {ref}.")
        return d.do(amount, "/", 2, str(who), says)
    if u < 0.5 and v <= 30:
        k = d.pick((2, 2, 3, 4))
        d.say(f"{who} has {times(k)} as many as {ref}.")
        return d.do(amount, "*", k, str(who), says)
    if u < 0.75 or v < 6:
        c = d.between(2, 9)
        d.say(f"{who} has {c} more than {ref}.")
        return d.do(amount, "+", c, str(who), says)
    c = d.between(2, min(v - 2, 9))
    d.say(f"{who} has {c} fewer than {ref}.")
    return d.do(amount, "-", c, str(who), says)


def chain(d: Draft, thing: Thing, links: int) -> tuple[list[Person], list[Quantity]]:
    """People in a row. Each has more, fewer or several times as many things as the person before."""
    people, amounts = [d.person()], [d.count()]
    owned: list[Quantity] = list(amounts)
    d.say(f"{people[0]} has {owned[0]} {thing.many}.")
    for _ in range(links):
        people.append(d.person())
        owned.append(relation(d, people[-1], people[-2], thing, owned[-1]))
    return people, owned


def total_of(d: Draft, amounts: list[Quantity], thing: Thing) -> Step:
    """The sum of the amounts, added one by one."""
    total = amounts[0]
    for amount in amounts[1:]:
        total = d.do(total, "+", amount, "together", f"together they have {{}} {thing.many}")
    assert isinstance(total, Step)
    return total


def compare(d: Draft, steps: int) -> Story:
    """A chain of comparisons: the last one's amount, the sum of all, the sum without the first, or a difference."""
    thing = d.thing()
    forms = ((), ("last",), ("last", "all", "all"), ("last", "others"), ("all", "gap"), ("others",), ("all",))
    form = d.pick(forms[steps]) if steps < len(forms) else "last"
    links = {"last": steps, "all": steps // 2, "others": (steps + 1) // 2, "gap": steps - 1}[form]
    people, owned = chain(d, thing, links)
    if form == "last":
        ask = f"How many {thing.many} does {people[-2]} have, and how many does {people[-1]} have?"
        return d.finish(owned[-2], owned[-1], ask)
    last = f"How many {thing.many} does {people[-1]} have, and how many"
    if form == "gap":
        big, small = (0, -1) if value_of(owned[0]) > value_of(owned[-1]) else (-1, 0)
        gap = d.do(owned[big], "-", owned[small], "more", f"{people[big]} has {{}} more than {people[small]}")
        return d.finish(owned[-1], gap, f"{last} more does {people[big]} have than {people[small]}?")
    first = form == "others"
    root = total_of(d, owned[first:], thing)
    return d.finish(owned[-1], root, f"{last} do {listed(people[first:])} have together?")


def shopping(d: Draft, steps: int) -> Story:
    """Prices, amounts and change. Three steps: two goods. Five steps: three goods. One step more: the change."""
    who, change = d.person(), steps in (2, 4, 6)
    lines: list[tuple[Thing, int, int]] = []
    for _ in range((steps + 1) // 2):
        thing, price, amount = d.thing(GOODS), d.between(2, 9), d.between(2, 9)
        lines.append((thing, price, amount))
        d.say(f"{thing.a} costs {price} dollars.")
    d.say(f"{who} buys {listed([f'{amount} {thing.many}' for thing, _, amount in lines])}.")
    total: Step | None = None
    for thing, price, amount in lines:
        cost = d.do(amount, "*", price, f"cost of the {thing.many}", f"the {thing.many} cost {{}} dollars")
        total = cost if total is None else d.do(total, "+", cost, "in all", "the cost is {} dollars in all")
    assert total is not None
    if not change and steps == 1:
        ask = f"How many {thing.many} does {who} buy, and how many dollars does {who.he} spend?"
        return d.finish(amount, total, ask)
    if not change:
        return d.finish(
            cost, total, f"How many dollars do the {thing.many} cost, and how many does {who} spend in all?"
        )
    spent = f"How many dollars does {who} spend, and how many does {who.he}"
    paid = total.value + d.between(2, 9)
    paid = paid if d.chance(0.4) else -(-paid // 10) * 10
    if d.chance(0.5):
        d.say(f"{who.He} pays with {paid} dollars.")
        back = d.do(paid, "-", total, "change", f"{who} gets back {{}} dollars")
        return d.finish(total, back, f"{spent} get back?")
    d.facts.insert(0, f"{who} has {paid} dollars.")
    left = d.do(paid, "-", total, "left", f"{who} has {{}} dollars left")
    return d.finish(total, left, f"{spent} have left?")


def leg(d: Draft, who: str, verb: str, speed: int, hours: int) -> Step:
    """One leg of the way: a speed for a number of hours."""
    d.say(f"{who} {verb} {speed} miles each hour for {hours} hours.")
    return d.do(speed, "*", hours, "on the way", "that is {} miles")


def travel(d: Draft, steps: int) -> Story:
    """Speed, time and distance: one or two legs, a last walk, the rest of the way."""
    who = d.person()
    if steps == 1 and d.chance(0.4):
        verb, speeds = d.pick(MOVES)
        speed, hours = d.pick(speeds), d.between(2, 6)
        d.say(f"{who} {verb} {speed} miles each hour. The lake is {speed * hours} miles away.")
        root = d.do(speed * hours, "/", speed, "hours", f"{who} needs {{}} hours")
        return d.finish(speed * hours, root, f"How many miles does {who} go, and how many hours does {who.he} need?")
    legs = 1 if steps <= 2 else 2
    extra = steps == 5 or (steps in (2, 4) and d.chance(0.5))
    away = steps - (1 if legs == 1 else 3) - extra == 1
    ways: list[Step] = []
    for i, (verb, speeds) in enumerate(d.pick((MOVES, MOVES[::-1]))[:legs]):
        hours = d.between(2, 5)
        ways.append(leg(d, str(who) if i == 0 else f"Then {who.he}", verb, d.pick(speeds), hours))
    way = ways[0]
    if legs == 2:
        way = d.do(way, "+", ways[1], "both", f"{who} goes {{}} miles in all")
    part = way if extra else ways[0]
    if extra:
        c = d.between(2, 9)
        d.say(f"Then {who.he} goes {c} more miles.")
        way = d.do(way, "+", c, "in all", f"{who} goes {{}} miles in all")
    if not away and steps == 1:
        return d.finish(hours, way, f"How many hours does {who} need, and how many miles does {who.he} go?")
    if not away:
        until = "before the last miles" if extra else "in the first part"
        return d.finish(part, way, f"How many miles does {who} go {until}, and how many in all?")
    far = value_of(way) + d.between(2, 9)
    d.facts.insert(0, f"The lake is {far} miles away.")
    left = d.do(far, "-", way, "left", "{} miles are left")
    return d.finish(way, left, f"How many miles does {who} go, and how many are left to the lake?")


def earning(d: Draft, steps: int) -> Story:
    """Hours of work, the pay of an hour, money from before, money spent after."""
    who, pay = d.person(), d.between(3, 10)
    days = 2 if steps >= 2 and (steps >= 4 or d.chance(0.6)) else 1
    rest = steps - days
    first, second = (d.between(2, 9) for _ in range(2))
    monday, friday = DAYS[d.between(0, 1)], DAYS[d.between(3, 4)]
    d.say(f"{who} earns {pay} dollars each hour.")
    if days == 1:
        d.say(f"{who.He} works {first} hours.")
        hours: Quantity = first
    else:
        d.say(f"{who.He} works {first} hours on {monday} and {second} hours on {friday}.")
        hours = d.do(first, "+", second, "hours", f"{who} works {{}} hours")
    earned = money = d.do(hours, "*", pay, "earned", f"{who} earns {{}} dollars")
    if rest == 0:
        return d.finish(hours, money, f"How many hours does {who} work, and how many dollars does {who.he} earn?")
    before = d.chance(0.4) or rest == 3
    for i in range(rest):
        if i == 0 and before:
            c = d.between(3, 12)
            d.facts.insert(0, f"{who} has {c} dollars.")
            d.facts[1] = d.facts[1].replace(str(who), who.He, 1)
            money = d.do(c, "+", money, "with the money before", f"{who} has {{}} dollars")
        else:
            c = d.between(2, min(9, money.value - 2))
            d.say(f"{who.He} spends {c} dollars{d.pick((' on food', ' on books', ''))}.")
            money = d.do(money, "-", c, "left", f"{who} has {{}} dollars left")
    ask = f"How many dollars does {who} earn, and how many does {who.he} have {'now' if before else 'left'}?"
    return d.finish(earned, money, ask)


def reading(d: Draft, steps: int) -> Story:
    """A person reads a book day by day. In some stories the person reads the rest in equal parts."""
    who, pages = d.person(), d.between(3, 12)
    parts = d.between(2, 6) if steps >= 3 and d.chance(0.5) else 1
    left = steps - 1 - (parts > 1)  # steps spent on the pages read
    read: Quantity = pages
    today = 0
    d.say(f"{who} reads {pages} pages on {DAYS[0]}.")
    last: Quantity = pages
    while left:
        if left >= 2 and value_of(last) <= 30:
            k, name = d.between(2, 3), DAYS[today + 1]
            than = f" as on {DAYS[today]}" if today else ""
            d.say(f"On {name} {who.he} reads {times(k)} as many{than}.")
            last = d.do(last, "*", k, f"on {name}", f"on {name} {who} reads {{}} pages")
            left -= 2
        else:
            last, name = d.between(3, 12), DAYS[today + 1]
            d.say(f"On {name} {who.he} reads {last}.")
            left -= 1
        today += 1
        read = d.do(read, "+", last, "read", f"{who} has read {{}} pages")
    v = value_of(read)
    book = v + parts * d.between(3, 12 if parts > 1 else 20)
    d.facts.insert(0, f"A book has {book} pages.")
    rest = d.do(book, "-", read, "left", "{} pages are left")
    if parts == 1:
        return d.finish(read, rest, f"How many pages has {who} read, and how many are left?")
    d.say(f"{who.He} reads the rest in {parts} days, the same each day.")
    each = d.do(rest, "/", parts, "each day", f"each day {who} reads {{}} pages")
    ask = f"How many pages are left, and how many does {who} read on each of the last days?"
    return d.finish(rest, each, ask)
