"""The commands that prepare a corpus and show the text that pre-training read."""

from __future__ import annotations

import argparse

from foray.commands.options import jobs_of, opened
from foray.core.canonical import require
from foray.core.cores import cores
from foray.core.rng import key
from foray.core.terminal import tell
from foray.data.corpus import window_order
from foray.study.graph import expand
from foray.study.kinds.training import TrainNode


def prepare(args: argparse.Namespace) -> None:
    from foray.data.prepare import load_mix
    from foray.data.prepare import prepare as make

    jobs = jobs_of(args, most=256)
    if jobs > cores():
        print(f"{jobs} workers share the {cores()} cores that may be used here and wait for each other", flush=True)
    tell(str(make(load_mix(args.mix, args.settings, args.data_root), args.out, jobs, tell)))


def data(args: argparse.Namespace) -> None:
    study, store = opened(args)
    pretrain = study.bound().pretraining
    corpus = pretrain.corpus
    seed = pretrain.seeds[0] if args.seed is None else args.seed
    require(seed in pretrain.seeds, f"no pre-training has the seed {seed}: the study's seeds are {pretrain.seeds}")
    require(0 < args.step <= pretrain.stage.steps, f"--step must lie between 1 and {pretrain.stage.steps}")
    node = next(n for n in expand(study).nodes if isinstance(n, TrainNode) and n.stage == pretrain.stage)
    missing = [s for s in (*node.shards, node.tokenizer) if not s.done(store)]
    require(not missing, f"{store.root} does not hold the text yet ({len(missing)} nodes to run): run the study first")
    shards = {s.source.name: s.open_shard(store, verified=False) for s in node.shards}
    tokenizer = node.tokenizer.open_tokenizer(store)
    mixture = [(w, s.name) for w, s in corpus.mixture]
    first, seed_key = (args.step - 1) * corpus.batch_size, key(seed, "corpus", pretrain.stage.name)
    order = window_order(shards, mixture, corpus.length, seed_key, first, corpus.batch_size)
    for row, (source, window, before) in enumerate(order):
        ids = shards[source].window(window, corpus.length)[:-1].tolist()
        text = tokenizer.tokenizer.decode(ids, skip_special_tokens=False)
        place = f"{source}, window {window} of {shards[source].windows(corpus.length)}"
        tell(f"--- step {args.step}, row {row}: {place}" + (f", read {before} times before" if before else ""))
        tell(text)
