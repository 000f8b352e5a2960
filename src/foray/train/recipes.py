"""The named recipes: functions from a study's post-training settings to stages. A new recipe is a new function."""

from __future__ import annotations

from dataclasses import replace

from foray.core.stage import PostTraining, Recipe, Stage, Stream


def rl(post: PostTraining) -> Recipe:
    """RL directly from the base."""
    return (Stage("rl", ((1.0, post.rl),), post.rl_steps, post.stop),)


def sft(post: PostTraining) -> Recipe:
    """SFT on one solution a question."""
    return (Stage("sft", ((1.0, post.sft),), post.sft_steps, post.stop),)


def sft_gold(post: PostTraining) -> Recipe:
    """SFT on all solutions, for as many updates as ``sft``."""
    return (Stage("sft_gold", ((1.0, gold(post.sft)),), post.sft_steps, post.stop),)


def sft_rl(post: PostTraining) -> Recipe:
    """SFT, then RL."""
    return sft(replace(post, sft_steps=post.rl_after_sft().sft_steps)) + _rl_after(post)


def sft_gold_rl(post: PostTraining) -> Recipe:
    """SFT on all solutions, then RL."""
    return sft_gold(replace(post, sft_steps=post.rl_after_sft().gold_steps)) + _rl_after(post)


def parallel(post: PostTraining) -> Recipe:
    """Parallel averaging: an RL and an SFT update from the same weights, each with its own moments, averaged."""
    both, (rl_weight, sft_weight) = post.side_by_side(), post.weights
    return (Stage("parallel", ((rl_weight, both.rl), (sft_weight, both.sft)), both.steps, post.stop),)


def gold(stream: Stream) -> Stream:
    """The same SFT stream over all solutions of every question."""
    return replace(stream, source=replace(stream.source, solutions="all"))


def _rl_after(post: PostTraining) -> Recipe:
    after = post.rl_after_sft()
    return (Stage("rl", ((1.0, after.rl),), after.steps, post.stop),)
