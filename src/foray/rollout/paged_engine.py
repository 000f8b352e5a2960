"""The embedded engine for GPUs. Rows come and go in a decoder of fixed shape (``graph_decoder.py``).

Slots hold rows; a finished row leaves its slot to a waiting row. A step waits for nothing: the device draws tokens,
records them and compares them with the end tokens. Every ``LOOK`` steps the host reads the result. On a CPU the same
steps run one by one, for tests. The CPU's fast engine is ``TorchEngine``.

Shapes: B prompts read together, K heads of keys and values, d head width, L positions, D width, T tokens.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.cascade import Recorder, Segment
from foray.rollout.embedded import EmbeddedEngine, read_prefix, read_prompts, sample, uniforms
from foray.rollout.engine import Precision, Sampling
from foray.rollout.graph_decoder import Decoder, Shape, decoding_model
from foray.rollout.pages import LANES
from foray.rollout.stopping import Endings

LOOK = 16  # steps between two looks; a row may draw so many tokens in vain after a stop string


class PagedEngine(EmbeddedEngine):
    """Samples with a model that the owner keeps up to date, in bf16 with a copy of the model's matrices.

    ``reserve``: bytes of the GPU's memory that training will take.
    """

    cached_casts = False  # the copies would live in the memory of the CUDA graph

    def __init__(
        self, model: Transformer, tokenizer: TextTokenizer, *, slots: int = 512, page: int = 128, reserve: float = 0.0
    ) -> None:
        super().__init__(model, tokenizer, slots)
        self.page, self.reserve = page, reserve
        self._decoders: dict[Precision, Decoder] = {}

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        super().sync(weights, version)
        for decoder in self._decoders.values():
            decoder.stale = True

    def samples(
        self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        if not prompts:
            return [], []
        return _Generation(self._decoder(prompts, n, sampling), self.endings, prompts, n, sampling, seeds).run()

    def slots(self, precision: Precision) -> int:
        """Rows that are decoded at once. Before the first call, this is the number asked for."""
        made = self._decoders.get(precision)
        return self.max_rows if made is None else made.shape.slots

    def _decoder(self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> Decoder:
        """A decoder with room for these prompts: the last decoder, or a new one if the last is too small."""
        shape = Shape.wanted(self.max_rows, self.page, prompts, n, sampling)
        decoder = self._decoders.get(sampling.precision)
        if decoder is None or not decoder.wanted.holds(shape):
            model = decoding_model(self.model, sampling.precision) if decoder is None else decoder.model
            if decoder is not None:  # otherwise two uses in turn would each make a new decoder
                shape = shape.covering(decoder.wanted)
            self._decoders.pop(sampling.precision, None)
            del decoder  # frees memory before more is taken
            fitted = shape.fitted(self.config, self.model.device, self.reserve)
            decoder = Decoder(model, self.model, shape, fitted, self.endings.ends(self.model.device))
            self._decoders[sampling.precision] = decoder
        decoder.refresh()
        return decoder


@dataclass
class _Prompt:
    """A prompt: its unfinished rows, its pages, and the hidden state that gives the rows' first tokens.

    ``open``: free lanes of its bunches.
    """

    tokens: list[int]
    left: int
    pages: list[int] = field(default_factory=list)
    hidden: Tensor | None = None  # (D,)
    open: list[int] = field(default_factory=list)


@dataclass
class _Row:
    """A row in a slot. ``drawn``: the number of its tokens at the last look. No stop string ends in these tokens."""

    number: int
    prompt: _Prompt
    lane: int
    own: list[int]
    drawn: int = 1


class _Generation:
    """One call of ``generate``: rows wait, enter slots, end."""

    def __init__(
        self, decoder: Decoder, endings: Endings, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling,
        seeds: Sequence[int],
    ) -> None:  # fmt: skip
        self.decoder, self.endings, self.sampling, self.n = decoder, endings, sampling, n
        self.pages, self.device = decoder.pages, decoder.device
        self.prompts = [_Prompt(list(p), n) for p in prompts]
        self.waiting = deque(range(len(prompts) * n))
        self.rows: dict[int, _Row] = {}  # by slot
        self.u = uniforms(seeds, n, sampling.max_new_tokens)
        self.tokens: list[list[int]] = [[] for _ in self.waiting]
        self.logprobs: list[list[float]] = [[] for _ in self.waiting]
        self.closing = endings.closing(sampling.stop, torch.device("cpu")).tolist() if sampling.stop else []
        self.prefix: Segment | None = None
        self.prefix_pages: list[int] = []
        self.opened: dict[int, _Prompt] = {}  # bunches taken since rows last entered
        self.riders: Counter[int] = Counter()  # rows in each bunch
        self.shared = 0  # positions in the pages of the prefix, all of them full

    def run(self) -> tuple[list[list[int]], list[list[float]]]:
        """Tokens and log-probabilities of every row, in the order of prompts and samples."""
        d = self.decoder
        longest = max(len(p.tokens) for p in self.prompts)
        if d.shape.pages < 1 + self.pages.needed(longest) + self.pages.needed(self.sampling.max_new_tokens):
            raise ValueError("the GPU's free memory holds not even one row's keys and values")
        d.ready(self.sampling)
        d.limit.fill_(self.sampling.max_new_tokens)
        d.pages.clear()
        self._read_prefix()
        while self.waiting or self.rows:
            self._admit()
            left = self.sampling.max_new_tokens - min((r.drawn for r in self.rows.values()), default=0)
            d.steps(min(LOOK, left), self.sampling)
            self._collect()
        return self.tokens, self.logprobs

    def _read_prefix(self) -> None:
        """Computes and stores once the full pages of the prefix that all prompts share."""
        prompts, size = [p.tokens for p in self.prompts], self.pages.size
        self.shared, recorder = read_prefix(self.decoder.model, prompts, least=size, multiple=size)
        if not self.shared:
            return
        self.prefix = Segment(recorder.keys, recorder.values)
        self.prefix_pages = self.pages.take(self.shared)
        self._store(self.pages.places(self.prefix_pages, self.shared), recorder, torch.arange(self.shared))

    def _admit(self) -> None:
        """Moves waiting rows into free slots, while pages are left for the rows and for their prompts."""
        empty = [s for s in range(self.decoder.shape.slots) if s not in self.rows]
        left, own = len(self.pages.free), self.pages.needed(self.sampling.max_new_tokens)
        taken: list[int] = []
        lanes: list[int] = []
        unread: dict[int, _Prompt] = {}
        while self.waiting and len(taken) < len(empty):
            row = self.waiting[0]
            p = self.prompts[row // self.n]
            new = p.hidden is None and id(p) not in unread
            needed = own + (self.pages.needed(len(p.tokens) - self.shared) if new else 0)
            if needed > left or (lane := self._lane(p)) is None:
                break
            lanes.append(lane)
            left -= needed
            if new:
                unread[id(p)] = p
            taken.append(self.waiting.popleft())
        if not taken:
            return
        for part in self._batches(list(unread.values())):
            self._read_prompts(part)
        self._enter(taken, lanes, empty[: len(taken)])

    def _lane(self, prompt: _Prompt) -> int | None:
        """A lane of the prompt's bunches, or of a new bunch; None if there is none."""
        if not prompt.open:
            if not self.pages.bunches:
                return None
            bunch = self.pages.bunches.pop()
            self.opened[bunch] = prompt
            prompt.open = list(range((bunch + 1) * LANES - 1, bunch * LANES - 1, -1))
        lane = prompt.open.pop()
        self.riders[lane // LANES] += 1
        return lane

    def _leave(self, row: _Row) -> None:
        """Frees the row's lane, and its bunch with the last row."""
        bunch = row.lane // LANES
        self.riders[bunch] -= 1
        row.prompt.open.append(row.lane)
        if not self.riders[bunch]:
            row.prompt.open = [lane for lane in row.prompt.open if lane // LANES != bunch]
            self.pages.bunches.append(bunch)

    def _batches(self, prompts: list[_Prompt]) -> Iterator[list[_Prompt]]:
        """Prompts that are read at once: as many as a forward pass takes, with padding."""
        part: list[_Prompt] = []
        for p in sorted(prompts, key=lambda p: len(p.tokens)):
            longest = len(p.tokens) - self.shared  # of the part with p in it
            if part and (len(part) + 1) * longest > self.decoder.trained.machine.microbatch_tokens:
                yield part
                part = []
            part.append(p)
        if part:
            yield part

    def _read_prompts(self, prompts: list[_Prompt]) -> None:
        rests = [p.tokens[self.shared :] for p in prompts]
        h, mask, recorder = read_prompts(self.decoder.model, rests, self.shared, self.prefix)
        places: list[int] = []
        for i, (p, rest) in enumerate(zip(prompts, rests)):
            p.hidden, p.pages = h[i, len(rest) - 1].clone(), self.pages.take(len(rest))  # a clone does not keep h alive
            places += self.pages.places(p.pages, len(rest))
        self._store(places, recorder, mask.flatten().nonzero()[:, 0])

    def _store(self, places: list[int], recorder: Recorder, at: Tensor) -> None:
        """Writes to ``places`` the keys and values of the positions ``at`` (L,), counted over the (B, T) recorded."""
        at = at.to(self.device)
        keys, values = (
            [x.transpose(0, 1).flatten(1, 2).index_select(1, at) for x in kept]  # (B, K, T, d) -> (K, L, d)
            for kept in (recorder.keys, recorder.values)
        )
        self.pages.store(places, keys, values)

    def _enter(self, numbers: list[int], lanes: list[int], slots: list[int]) -> None:
        """Puts rows into slots and lanes. The last hidden state of a prompt gives the first tokens of its rows."""
        d, device = self.decoder, self.device
        new = self.sampling.max_new_tokens
        rows = [_Row(i, self.prompts[i // self.n], lane, self.pages.take(new)) for i, lane in zip(numbers, lanes)]
        self.rows |= dict(zip(slots, rows))
        at = torch.tensor(slots, device=device)
        u = torch.from_numpy(self.u[numbers]).to(device)
        hidden = torch.stack([r.prompt.hidden for r in rows if r.prompt.hidden is not None])
        token, logprob = sample(d.model.lm_head(hidden), u[:, 0], self.sampling)
        lengths = [len(r.prompt.tokens) for r in rows]
        self.pages.own.show(at, [r.own for r in rows], [0] * len(rows))
        bunches, prompts = torch.tensor(list(self.opened), device=device), list(self.opened.values())
        if prompts:
            before = [[*self.prefix_pages, *p.pages] for p in prompts]
            self.pages.prompts.show(bunches, before, [len(p.tokens) for p in prompts])
            self.opened = {}
        lane = torch.tensor(lanes, device=device)
        self.pages.lane[at], self.pages.slot[lane] = lane, at
        own = torch.zeros(len(rows), d.own.shape[1], dtype=torch.long)
        for i, r in enumerate(rows):
            own[i, : len(r.own)] = torch.tensor(r.own)
        d.own[at] = own.to(device)
        d.u[at, : u.shape[1]] = u
        d.token[at], d.position[at], d.count[at] = token, torch.tensor(lengths, device=device), 1
        d.tokens[at, 0], d.logprobs[at, 0] = token, logprob
        d.live[at] = ~d.ends[token] & (d.limit > 1)

    def _collect(self) -> None:
        """Takes ended rows out of their slots. The host waits for the device here and nowhere else."""
        d = self.decoder
        slots, ends = list(self.rows), dict[int, int]()  # slot -> tokens of its row
        at = torch.tensor(slots, device=self.device)
        live, count = torch.stack([d.live[at].long(), d.count[at]]).tolist()
        # With stop strings, all tokens are read at every look. Otherwise a row is read when the row has ended.
        tokens = d.tokens[at, : max(count)].tolist() if self.sampling.stop else [[] for _ in slots]
        for slot, alive, length, ids in zip(slots, live, count, tokens):
            stopped = self._stopped(self.rows[slot], ids, length)
            if stopped or not alive:
                ends[slot] = stopped or length
        if not ends:
            return
        gone = list(ends)
        for slot, ids, values in zip(gone, d.tokens[gone].tolist(), d.logprobs[gone].tolist()):
            row = self.rows.pop(slot)
            self.tokens[row.number], self.logprobs[row.number] = ids[: ends[slot]], values[: ends[slot]]
            self.pages.free += row.own
            self._leave(row)
            row.prompt.left -= 1
            if not row.prompt.left:
                self.pages.free += row.prompt.pages
        d.live[gone] = False
        self.pages.lane[gone] = 0
        free = torch.tensor(self.pages.bunches, dtype=torch.long, device=self.device)
        self.pages.prompts.listed[free] = 1  # nothing but a first page is read for a free bunch

    def _stopped(self, row: _Row, ids: list[int], length: int) -> int:
        """The number of tokens, of ``length``, up to the end of the first stop string; 0 if no stop string is there."""
        for t in range(row.drawn - 1 if self.sampling.stop else length, length):
            if self.closing[ids[t]] and self.endings.stopped([ids[: t + 1]], self.sampling.stop)[0]:
                return t + 1
        row.drawn = length
        return 0
