"""What ``foray plan`` prints: the same tables for this machine and for given cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields

from rich.table import Column, Table
from rich.text import Text

from foray.core.terminal import plain
from foray.study.node import Node
from foray.study.price import cards
from foray.study.price.cards import Hardware
from foray.study.price.forecast import Forecast, name_of
from foray.study.price.placement import PHASES, PREPARATION, Memory, Placement
from foray.study.price.work import node_work


def cards_named(hardware: Hardware) -> str:
    return f"{hardware.count} workers of this machine" if hardware.here else f"{hardware.count} x {hardware.name}"


def in_flops(n: float) -> str:
    """Three digits and a prefix: ``12.3 G``, ``483,399 P``; ``0``."""
    if n == 0:
        return "0"
    size, prefix = next(((s, p) for s, p in ((1e15, "P"), (1e12, "T"), (1e9, "G")) if n >= s), (1e6, "M"))
    return f"{n / size:,.0f} {prefix}" if n >= 100 * size else f"{n / size:.3g} {prefix}"


def parts_table(made: Mapping[str, tuple[int, Forecast]]) -> Table:
    """The parts of a study, each with its number of nodes, as if it were run first."""
    table = _table("part", "nodes", "to run", "FLOPs", "minutes", text=1)
    for name, (count, f) in made.items():
        numbers = count, len(f.nodes), in_flops(f.flops.total()), f"{f.wall / 60:,.0f}"
        table.add_row(cell(name), *map(str, numbers))
    return table


def nodes_table(nodes: Sequence[Node], made: Forecast) -> Table:
    """Every node, with the numbers of those that are to be run."""
    table = _table("", "node", "ranks", "FLOPs", "seconds", "disk MB", text=2)
    placed = {p.node.key: p for p in made.placed}
    left = {n.key for n in made.nodes}
    for node in nodes:
        numbers: tuple[str, ...] = ()
        if node.key in left:
            work, p = node_work(node), placed.get(node.key)
            ranks, seconds = (str(p.ranks or ""), f"{p.wall:,.0f}") if p else ("", "")
            numbers = ranks, in_flops(work.flops), seconds, f"{work.disk / 1e6:,.1f}"
        table.add_row("to run" if node.key in left else "done", cell(node.label()), *numbers)
    return table


def phase_table(made: Forecast) -> Table:
    table = _table("phase", "minutes of workers" if made.hardware.here else "GPU hours", text=1)
    phases, times = (*PHASES, PREPARATION) if made.hardware.here else PHASES, 60 if made.hardware.here else 1
    for phase in phases:
        table.add_row(phase, f"{times * made.hours(phase):,.2f}")
    table.add_row("all", f"{times * sum(map(made.hours, phases)):,.2f}")
    return table


def level_table(made: Forecast) -> Table:
    here = made.hardware.here
    table = _table("level", "minutes" if here else "hours", text=1)
    table.add_column("nodes side by side" + ("" if here else " (each on so many ranks)"))
    for number, level in enumerate(made.levels, 1):
        same = Counter((name_of(p.node), p.ranks) for p in level.placed)
        words = [f"{n} {name}" + ("" if here else f" ({ranks or 'no card'})") for (name, ranks), n in same.items()]
        table.add_row(str(number), f"{level.wall / (60 if here else 3600):.2f}", ", ".join(words))
    return table


def memory_table(made: Forecast) -> Table:
    """The fullest rank of every kind of node."""
    fullest: dict[str, Placement] = {}
    for p in made.placed:
        name = name_of(p.node)
        if p.ranks and (name not in fullest or p.memory.total > fullest[name].memory.total):
            fullest[name] = p
    parts = [f.name for f in fields(Memory) if any(getattr(p.memory, f.name) for p in fullest.values())] + ["total"]
    short = {"gradients": "grads", "reference": "ref.", "gathered": "layers", "activations": "activ.", "cache": "KV"}
    table = _table("GB a rank", "ranks", *(short.get(n, n) for n in parts), text=1)
    table.collapse_padding = True
    for name, p in fullest.items():
        numbers = [getattr(p.memory, n) / 1e9 for n in parts]
        table.add_row(name, str(p.ranks), *(f"{x:.1f}" if x else "" for x in numbers))
    return table


def remarks(made: Forecast) -> list[str]:
    """What does not fit, work, wall time, and disk, in plain lines."""
    hardware, out = made.hardware, list(made.notes)
    phases = ", ".join(f"{phase} {in_flops(n)}" for phase, n in made.flops.most_common())
    out.append(f"{in_flops(made.flops.total())} FLOPs" + (f" ({phases})" if phases else ""))
    held = hardware.count * made.wall / 3600
    busy = f", at work for {sum(map(made.hours, (*PHASES, PREPARATION))) / held:.0%} of it" if held else ""
    if hardware.here:
        minutes = f"about {made.wall / 60:,.1f} minutes of wall time"
        out.append(f"{minutes}, level after level, with {hardware.count} workers{busy}")
    else:
        out.append(
            f"about {made.wall / 3600:,.1f} hours of wall time, level after level: {held:,.1f} GPU hours held on "
            f"{cards_named(hardware)}{busy}"
        )
    if made.beside > 60:
        out.append(f"beside them, on no card and with nothing waiting for it: up to {made.beside / 3600:.1f} hours")
    out.append(
        f"disk: {made.disk / 1e9:,.2f} GB stay, and up to {made.rolling / 1e9:,.2f} GB of rolling checkpoints "
        "while nodes run"
    )
    return out


def assumptions(made: Forecast) -> list[str]:
    """Everything that the numbers rest on, in plain lines."""
    hardware, card = made.hardware, made.hardware.card
    activations = (
        f"activations are those of {hardware.microbatch_tokens:,} tokens, "
        + ("of one layer at a time" if hardware.recompute else "of all layers")
        + " (--machine microbatch_tokens, recompute)"
    )
    without = "RL's validation, and without KL the estimate of it, a tenth of its updates"
    left_out = f"left out: {without}; every group has a signal"
    if hardware.here:
        shares = ", ".join(f"{phase} {share:.0%}" for phase, share in cards.CPU_SHARES.items())
        return [
            f"a worker multiplies the model's matrices at {card.fp32 / 1e9:.0f} GFLOP/s, measured now",
            f"phases reach so much of it: {shares}",
            activations,
            left_out,
        ]
    return [
        f"{hardware.name} (datasheet): {card.bf16 / 1e12:,.0f} TFLOP/s in dense bf16, {card.fp32 / 1e12:,.0f} in fp32, "
        f"{card.memory / 1e9:.0f} GB, {cards.USABLE:.0%} of it used, {card.bandwidth / 1e12:.2f} TB/s",
        f"matrix products reach {cards.MFU:.0%} of the peak (MFU), in updates as in sampling, on any number of ranks",
        f"a step of decode reads all weights, and the KV cache of every row's prompt and own tokens, at "
        f"{cards.BANDWIDTH_SHARE:.0%} of the bandwidth",
        f"up to {card.in_flight} rows are sampled at a time; a finished one makes room for the next",
        f"a layer takes at least {card.launch * 1e6:.0f} µs a pass, a node {card.start:.0f} s to begin and end",
        "a node has the number of ranks (a power of two) that costs least and fits, more where its level ends sooner",
        f"machines have {cards.MACHINE} cards; a node on several machines loses nothing to the network between them",
        "fp32 is without tensor cores; probes and perplexity are in fp32, all else in its own precision",
        "weights, both Adam moments, gradients and RL's reference model (ref.) are fp32 shards (FSDP)",
        "of several ranks each holds two layers and the embeddings whole (layers)",
        activations,
        "an engine has a copy of the weights in bf16 where it samples so, and of several ranks each has a whole one",
        left_out,
    ]


def cell(text: str) -> Text:
    """Any text in a table: no markup, and nothing that a terminal obeys."""
    return Text(plain(text))


def _table(*heads: str, text: int) -> Table:
    """A plain table whose columns after the first ``text`` are numbers."""
    columns = (Column(h, justify="right", no_wrap=True) for h in heads[text:])
    return Table(*heads[:text], *columns, box=None, pad_edge=False)
