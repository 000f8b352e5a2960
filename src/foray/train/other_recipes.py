"""Recipes that the paper does not show: mixtures that its authors tried, controls, and pre-training beside RL.

Half steps, sums and other weights are settings of `parallel`: ``weights=0.5,0``, ``weights=1,1``.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.canonical import require
from foray.core.schedules import Follow, Ramp, Shift, Turns
from foray.core.stage import Joint, Merge, PostTraining, Recipe, Stage, Stream
from foray.train.recipes import gold, parallel, rl


def primed(post: PostTraining) -> Recipe:
    """The base after a few updates of SFT: it knows the form of an answer, and little more of the task."""
    return (Stage("primed", ((1.0, post.sft),), post.prime_steps),)


def parallel_gold(post: PostTraining) -> Recipe:
    """Parallel averaging whose SFT is on all solutions."""
    return parallel(_on_gold(post))


def parallel_ramp(post: PostTraining) -> Recipe:
    """Parallel averaging that begins as SFT alone and ends as RL alone."""
    both = post.side_by_side()
    return (Stage("parallel_ramp", ((Ramp(0.0, 1.0), both.rl), (Ramp(1.0, 0.0), both.sft)), both.steps),)


def parallel_adaptive(post: PostTraining) -> Recipe:
    """Parallel averaging where the weight of RL is the share of groups with a signal, and SFT has the rest."""
    both = post.side_by_side()
    signal = f"{both.rl.name}/signal"
    streams = ((Follow(signal), both.rl), (Follow(signal, rest=True), both.sft))
    return (Stage("parallel_adaptive", streams, both.steps, post.stop),)


def combined(post: PostTraining) -> Recipe:
    """The losses of RL and SFT, summed at `parallel`'s weights, for one optimizer: RL's."""
    both, (rl_weight, sft_weight) = post.side_by_side(), post.weights
    joint = Joint("combined", ((rl_weight, both.rl), (sft_weight, both.sft)), both.rl.optimizer)
    return (Stage("combined", ((1.0, joint),), both.steps, post.stop),)


def combined_gold(post: PostTraining) -> Recipe:
    """`combined` with SFT on all solutions."""
    return combined(_on_gold(post))


def interleaved(post: PostTraining) -> Recipe:
    """Rounds of SFT updates, then RL updates, in one optimizer: RL's.

    The rounds end where RL has had as many updates as in `parallel`, or more by part of a round.
    """
    (sft, rl), both = post.turns, post.side_by_side()
    members = ((Turns(sft + rl, sft, length=rl), both.rl), (Turns(sft + rl, 0, length=sft), both.sft))
    joint = Joint("interleaved", members, both.rl.optimizer)
    rounds = -(-both.steps // rl)
    return (Stage("interleaved", ((1.0, joint),), rounds * (sft + rl), post.stop),)


def interleaved_gold(post: PostTraining) -> Recipe:
    """`interleaved` with SFT on all solutions."""
    return interleaved(_on_gold(post))


def curriculum(post: PostTraining) -> Recipe:
    """Rounds that shift from SFT to RL by an update a round, in one optimizer: RL's.

    The rounds end where RL has had as many updates as in `parallel`, or more by part of a round.
    """
    (sft, rl), both = post.curriculum, post.side_by_side()
    joint = Joint("curriculum", ((Shift(sft, rl, True), both.rl), (Shift(sft, rl), both.sft)), both.rl.optimizer)
    rounds, updates = 0, 0
    while updates < both.steps:
        updates += min(rl + rounds, sft + rl)
        rounds += 1
    return (Stage("curriculum", ((1.0, joint),), rounds * (sft + rl), post.stop),)


def curriculum_gold(post: PostTraining) -> Recipe:
    """`curriculum` with SFT on all solutions."""
    return curriculum(_on_gold(post))


def alternating(post: PostTraining) -> Recipe:
    """RL and SFT updates in turn, each with its own moments, as many of each as in `parallel`, at its weights."""
    both, (rl_weight, sft_weight) = post.side_by_side(), post.weights
    streams = ((Turns(2, 0, rl_weight), both.rl), (Turns(2, 1, sft_weight), both.sft))
    return (Stage("alternating", streams, 2 * both.steps, post.stop),)


def interpolated(post: PostTraining) -> Recipe:
    """The mean of the weights of finished RL and finished SFT, each with as many updates as in `parallel`."""
    both, (rl_weight, sft_weight) = post.side_by_side(), post.weights
    total = rl_weight + sft_weight
    require(total > 0, f"interpolated divides by the sum of post.weights, which must be above 0: {post.weights}")
    ends = [(Stage(name, ((1.0, s),), both.steps, post.stop),) for name, s in (("rl", both.rl), ("sft", both.sft))]
    return (Merge("interpolated", ((rl_weight / total, ends[0]), (sft_weight / total, ends[1]))),)


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
    return (Stage("anchored", ((1.0, post.rl), (1.0, _text(post))), post.rl_steps, post.stop),)


def rl_and_text(post: PostTraining) -> Recipe:
    """Updates of RL and of pre-training in turn."""
    return (Stage("rl_and_text", ((Turns(2, 0), post.rl), (Turns(2, 1), _text(post))), 2 * post.rl_steps, post.stop),)


def _text(post: PostTraining) -> Stream:
    require(post.text is not None, "this recipe trains on pre-training text: set post.text to a stream of it")
    assert post.text is not None
    return post.text


def _on_gold(post: PostTraining) -> PostTraining:
    both = post.side_by_side()
    return replace(post, together=replace(both, sft=gold(both.sft)), sft_ratio=1.0)
