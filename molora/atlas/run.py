"""`python -m molora.atlas`: which experts do the routers pick for which task?

Runs held-out prompts of every task through a model, counts each router's picks while prompt and answer are read, and
says how much a pick tells about the task, beside the same with shuffled labels. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from molora.analysis import pick_counts
from molora.atlas.analysis import report
from molora.atlas.data import ATLASES, SIDES, Atlas
from molora.base import QUANTIZE
from molora.chat import encode_chat
from molora.demo import DEMO
from molora.engine import Engine
from molora.errors import MoloraError
from molora.layers import Router
from molora.loading import load
from molora.tasks import TASKS, Built, Item, build, known
from molora.wrap import wrapped_linears

_TOGETHER = 16
"""Prompts answered in the same passes."""
_SETTINGS = ("prompts", "max_new_tokens", "max_prompt_tokens", "seed", "untrained_routers")

FEWEST = 2
"""Prompts that a task needs: one to be told, and another to tell it by."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.atlas",
        description=__doc__,
        epilog="Writes atlas.npz, which the page's Atlas tab shows for the very adapter it was made with, and "
        "atlas.json. There nmi is the mean over routers of the mutual information between task and picked expert, "
        "divided by the geometric mean of their entropies, on prompt tokens; nmi_shuffled is the same with the tasks' "
        "names shuffled over prompts; task_recovery is how often the task with the nearest mean routing is the right "
        "one for a prompt that was left out of that mean, and task_recovery_chance is one over the number of tasks. "
        "Prompts of one task share words, which even a router that was never trained sends to the same experts: "
        "--untrained-routers measures how much that explains. "
        "The demo model takes two to three seconds a prompt on 2 CPU cores.",
    )
    parser.add_argument("--model", default=DEMO, help="hub id, folder, or 'demo' (default: %(default)s)")
    parser.add_argument("--base", help="hub id or folder of the base (default: the one the checkpoint names)")
    parser.add_argument("--quantize", choices=QUANTIZE, default="auto", help="of the base (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder with the data sets (see the README)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: every task whose source is there")
    parser.add_argument("--prompts", type=int, default=12, help="held-out prompts a task (default: %(default)s)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=24, help="the longest answer, which is greedy (default: %(default)s)"
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        default=300,
        help="prompts with more tokens are passed over for others of the task (default: %(default)s)",
    )
    parser.add_argument(
        "--untrained-routers",
        action="store_true",
        help="draw every router anew, as before training: what is left of the figures is no merit of the routers. "
        "Needs --out; the page does not show it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of prompts and of shuffling (default: 0)")
    parser.add_argument(
        "--out", type=Path, help="folder for the result (default: the model's own below assets/atlas, for the page)"
    )
    args = parser.parse_args(argv)
    if args.prompts < FEWEST or args.max_new_tokens < 1 or not 1 <= args.max_prompt_tokens <= 30_000:
        parser.error("--prompts is 2 or more, --max-new-tokens 1 or more, --max-prompt-tokens 1 to 30000")
    if args.untrained_routers and not args.out:
        parser.error("--untrained-routers needs --out: it must not take the place of the model's own atlas")
    return args


def draw_routers(model: nn.Module, seed: int) -> None:
    """Gives every router of MoLoRA the weights of one that was never trained; experts and base stay.

    Raises MoloraError for a model whose routers are its own.
    """
    routers = [linear.router for linear in wrapped_linears(model).values() if linear.router is not None]
    if not routers:
        raise MoloraError("--untrained-routers draws MoLoRA's routers anew; the routers of this model are its own.")
    torch.manual_seed(seed)
    for router in routers:
        fresh = Router(router.weight.shape[1], router.num_experts, router.top_k)
        router.load_state_dict(fresh.state_dict())


def chosen(engine: Engine, items: Sequence[Item], count: int, longest: int, seed: int) -> list[str]:
    """Up to `count` different prompts of at most `longest` tokens, template included, drawn at random."""
    prompts = sorted({item.prompt for item in items})
    random.Random(seed).shuffle(prompts)
    kept: list[str] = []
    for prompt in prompts:
        if len(kept) == count:
            break
        if len(encode_chat(engine.tokenizer, [{"role": "user", "content": prompt}]).token_ids) <= longest:
            kept.append(prompt)
    return kept


def map_task(engine: Engine, name: str, prompts: Sequence[str], max_new_tokens: int, settings: dict[str, Any]) -> Atlas:
    """The atlas of one task. Raises MoloraError for a model without routers."""
    picks, weights = [], []
    talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
    groups = [talks[at : at + _TOGETHER] for at in range(0, len(talks), _TOGETHER)]
    steps = [step for group in groups for step in engine.answers(group, max_new_tokens=max_new_tokens)]
    for trace in (step.trace for step in steps):
        sides = [trace.select(tokens=trace.phase == side) for side in SIDES]
        picks.append(np.stack([pick_counts(part) for part in sides]))
        weights.append(np.stack([pick_counts(part, weighted=True) for part in sides]))
    trace = steps[0].trace
    keys = ("model", "base", "adapter_sha256", "quantization", "dtype", "device", "versions")
    return Atlas(
        tasks=(name,),
        families=(TASKS[name].family,),
        labels=np.zeros(len(prompts), np.int16),
        picks=np.stack(picks).astype(np.uint16),
        weights=np.sum(weights, axis=0)[None].astype(np.float32),
        layer_indices=trace.layer_indices,
        projections=trace.projections,
        meta={key: trace.meta[key] for key in keys} | {"settings": settings, "prompts": {name: _checksum(prompts)}},
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Makes the atlas, saves it after every task, and returns the report. Raises MoloraError if nothing can be made."""
    built = build([task.name for task in known(args.tasks)] if args.tasks else TASKS, args.data)
    engine = load(args.model, args.base, args.quantize, args.device)
    if not engine.info.top_k:
        raise MoloraError(f"{args.model} has no routers, so there is nothing to map.")
    out: Path = args.out or ATLASES / args.model.strip("/.").replace("/", "--")
    path = out / "atlas.npz"
    settings = {name: getattr(args, name) for name in _SETTINGS}
    if args.untrained_routers:
        draw_routers(engine.model, args.seed)
        engine.info = replace(engine.info, adapter_sha256=f"untrained routers, {engine.info.adapter_sha256}")
    prompts = {
        name: chosen(engine, split.test, args.prompts, args.max_prompt_tokens, args.seed)
        for name, split in built.splits.items()
    }
    too_few = {name: len(found) for name, found in prompts.items() if len(found) < FEWEST}
    prompts = {name: found for name, found in prompts.items() if name not in too_few}
    if len(prompts) < 2:
        raise MoloraError(_nothing(built, too_few))
    kept = _kept(path, engine, settings, prompts)
    out.mkdir(parents=True, exist_ok=True)
    started, made = time.monotonic(), 0
    for name, found in tqdm(prompts.items(), desc="Mapping tasks", unit="task"):
        if kept and name in kept.tasks:
            continue
        one = map_task(engine, name, found, args.max_new_tokens, settings)
        kept = kept.joined(one) if kept else one
        made += len(found)
        _save(kept, path)
    assert kept is not None
    atlas = kept.of_tasks(list(prompts))
    _save(atlas, path)
    result = report(atlas, args.seed) | {"missing": built.missing, "too_few_prompts": too_few}
    (out / "atlas.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if made:
        print(f"{(time.monotonic() - started) / made:.2f} seconds a prompt", flush=True)
    return result


def tell(result: dict[str, Any]) -> str:
    """The report in a few lines."""
    prompt = result["parts"]["prompt"]
    lines = [
        f"{len(result['tasks'])} tasks, {prompt['task_recovery_prompts']} prompts",
        "          nmi     shuffled  highest router          task recovered (chance)",
    ]
    for name, part in result["parts"].items():
        best = part["nmi_highest"]
        where = f"{best['nmi']:.3f} layer {best['layer']} {best['projection']}"
        told = "none" if part["task_recovery"] is None else f"{part['task_recovery']:.1%}"
        lines.append(
            f"{name:<8}  {part['nmi']:.4f}  {part['nmi_shuffled']:.4f}    {where:<22}  {told} "
            f"({part['task_recovery_chance']:.1%})"
        )
    dead = len(result["dead_experts"])
    lines.append(f"{dead} dead experts (load below {result['dead_below']:.2%})")
    lines += [f"{name} is left out: {why}" for name, why in result["missing"].items()]
    lines += [f"{name} is left out: only {n} prompts fit" for name, n in result["too_few_prompts"].items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        print(tell(run(args)))
    except MoloraError as error:
        print(f"molora.atlas: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("molora.atlas: interrupted; the same command goes on after the last whole task.", file=sys.stderr)
        return 130
    return 0


def _kept(path: Path, engine: Engine, settings: dict[str, Any], prompts: dict[str, list[str]]) -> Atlas | None:
    """What an earlier run left of this very atlas: the same model, settings and prompts; None if nothing."""
    try:
        atlas = Atlas.load(path)
    except MoloraError:
        return None
    info = engine.info
    made = {"adapter_sha256": info.adapter_sha256, "base": info.base, "quantization": info.quantization}
    if any(atlas.meta.get(key) != value for key, value in (made | {"settings": settings}).items()):
        return None
    sums = atlas.meta.get("prompts", {})
    same = [name for name in atlas.tasks if name in prompts and sums.get(name) == _checksum(prompts[name])]
    if not same:
        return None
    return atlas.of_tasks(same)


def _save(atlas: Atlas, path: Path) -> None:
    """Whole or not at all."""
    unfinished = path.with_suffix(".part")
    atlas.save(unfinished)
    unfinished.replace(path)


def _checksum(prompts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16]


def _nothing(built: Built, too_few: dict[str, int]) -> str:
    reasons = [
        *dict.fromkeys(built.missing.values()),
        *(f"{name} has {n} short prompts." for name, n in too_few.items()),
    ]
    return "An atlas needs two tasks with two prompts each. " + " ".join(reasons)
