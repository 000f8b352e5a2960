"""The tokenized text of one grid: for pre-training, for later stages that read text, and for held-out perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from foray.core.sources import Corpus
from foray.core.stage import Stage
from foray.study.kinds.tokens import SPARE, ShardNode, TokenizerNode
from foray.study.node import TokenizerOwner
from foray.study.spec import Pretrain, Study


@dataclass(eq=False)
class GridText:
    """The nodes of a grid's text. All readers of a text share one node object."""

    grid: Study
    _heldout: dict[str, tuple[ShardNode, ...]] = field(default_factory=dict, init=False)  # by the tokenizer's key

    @cached_property
    def tokenizer(self) -> TokenizerNode | None:
        """The tokenizer of the grid's pre-training."""
        data, pretrain = self.grid.data, self.grid.pretrain
        if not isinstance(pretrain, Pretrain):
            return None
        text = data.mixture or pretrain.corpus.mixture
        return TokenizerNode(text, data.vocab_size, data.tokenizer_characters, data.whole_numbers)

    @cached_property
    def pretraining(self) -> tuple[ShardNode, ...]:
        """All text that pre-training reads."""
        pretrain = self.grid.pretrain
        if not isinstance(pretrain, Pretrain) or self.tokenizer is None:
            return ()
        return _shards(pretrain.corpus, pretrain.tokens, self.tokenizer)

    def of_stage(self, stage: Stage, tokenizer: TokenizerOwner) -> tuple[ShardNode, ...]:
        """The text of all streams of a stage. A source has one shard, as large as its largest reader needs."""
        largest: dict[str, ShardNode] = {}
        corpora = (s.source for s in stage.members() if isinstance(s.source, Corpus))
        for shard in (s for corpus in corpora for s in self._of_stream(corpus, stage.steps, tokenizer)):
            other = largest.setdefault(shard.source.name, shard)
            if other.source != shard.source:
                raise ValueError(f"stage {stage.name}: two text sources are called {shard.source.name!r}; rename one")
            if other.max_tokens < shard.max_tokens:
                largest[shard.source.name] = shard
        return tuple(largest.values())

    def heldout(self, tokenizer: TokenizerOwner) -> tuple[ShardNode, ...]:
        """Validation text for the held-out perplexity; nothing if the study asks for no held-out perplexity."""
        corpus, tokens = self.grid.text, self.grid.evaluation.heldout_tokens
        if corpus is None or not tokens:
            return ()
        if tokenizer.key not in self._heldout:
            shards = (ShardNode(s, "validation", tokenizer, tokens) for w, s in corpus.mixture if w > 0)
            self._heldout[tokenizer.key] = tuple(shards)
        return self._heldout[tokenizer.key]

    def _of_stream(self, corpus: Corpus, steps: int, tokenizer: TokenizerOwner) -> tuple[ShardNode, ...]:
        """The shards of a stream's text: pre-training's own shards if the mixture is the same."""
        pretrain = self.grid.pretrain
        if isinstance(pretrain, Pretrain) and corpus.mixture == pretrain.corpus.mixture:
            return self.pretraining
        return _shards(corpus, steps * corpus.tokens_per_step, tokenizer)


def _shards(corpus: Corpus, tokens: int, tokenizer: TokenizerOwner) -> tuple[ShardNode, ...]:
    total = sum(w for w, _ in corpus.mixture)
    # A shard holds a little more than a source's share, so that no text repeats if chance draws more rows of a source.
    return tuple(
        ShardNode(s, "train", tokenizer, math.ceil(1.03 * w / total * tokens) + SPARE)
        for w, s in corpus.mixture
        if w > 0
    )
