"""Recipes beyond the paper: controls of parallel averaging, and pre-training beside RL.

Half steps, sums and other weights are settings of `parallel`: ``weights=0.5,0``, ``weights=1,1``.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.canonical import require
from foray.core.stage import Follow, Joint, Merge, PostTraining, Ramp, Recipe, Stage, Stream, Turns
from foray.train.recipes import rl


def parallel_ramp(post: PostTraining) -> Recipe:
    """Parallel averaging that begins as SFT alone and ends as RL alone."""
    return (Stage("parallel_ramp", ((Ramp(0.0, 1.0), post.rl), (Ramp(1.0, 0.0), post.sft)), post.rl_steps),)


def parallel_adaptive(post: PostTraining) -> Recipe:
    """Parallel averaging where the weight of RL is the share of groups with a signal, and SFT has the rest."""
    signal = f"{post.rl.name}/signal"
    streams = ((Follow(signal), post.rl), (Follow(signal, rest=True), post.sft))
    return (Stage("parallel_adaptive", streams, post.rl_steps),)


def summed(post: PostTraining) -> Recipe:
    """The gradients of RL and SFT, summed at `parallel`'s weights, for one optimizer: RL's."""
    rl_weight, sft_weight = post.weights
    joint = Joint("summed", ((rl_weight, post.rl), (sft_weight, post.sft)), post.rl.optimizer)
    return (Stage("summed", ((1.0, joint),), post.rl_steps),)


def alternating(post: PostTraining) -> Recipe:
    """RL and SFT updates in turn, as many of each as in `parallel`, at `parallel`'s weights."""
    rl_weight, sft_weight = post.weights
    streams = ((Turns(2, 0, rl_weight), post.rl), (Turns(2, 1, sft_weight), post.sft))
    return (Stage("alternating", streams, 2 * post.rl_steps),)


def interpolated(post: PostTraining) -> Recipe:
    """The mean of the weights of finished RL and finished SFT, each with as many updates as in `parallel`."""
    sft = (Stage("sft", ((1.0, post.sft),), post.rl_steps),)
    rl_weight, sft_weight = post.weights
    total = rl_weight + sft_weight
    require(total > 0, f"interpolated divides by the sum of post.weights, which must be above 0: {post.weights}")
    return (Merge("interpolated", ((rl_weight / total, rl(post)), (sft_weight / total, sft))),)


def anneal(post: PostTraining) -> Recipe:
    """M_t annealed on pre-training text: a finished model instead of a snapshot.

    The learning rate falls in a line that would reach zero one update after the last.
    """
    text = _text(post)
    falling = replace(text, optimizer=replace(text.optimizer, schedule="linear", final=0.0))
    return (Stage("anneal", ((1.0, falling),), post.anneal_steps),)


def anneal_rl(post: PostTraining) -> Recipe:
    """RL from the annealed M_t."""
    return anneal(post) + rl(post)


def anchored(post: PostTraining) -> Recipe:
    """RL, with an update on pre-training text added to every update."""
    return (Stage("anchored", ((1.0, post.rl), (1.0, _text(post))), post.rl_steps),)


def interleaved(post: PostTraining) -> Recipe:
    """Updates of RL and of pre-training in turn."""
    return (Stage("interleaved", ((Turns(2, 0), post.rl), (Turns(2, 1), _text(post))), 2 * post.rl_steps),)


def _text(post: PostTraining) -> Stream:
    require(post.text is not None, "this recipe trains on pre-training text: set post.text to a stream of it")
    assert post.text is not None
    return post.text
