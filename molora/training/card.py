"""The card of a trained checkpoint: data, licences, settings, losses, limits. Says only what `training.json` holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

_LIMITS = """\
## Limits
- The base has {size} million weights. It writes fluent English and gets facts wrong; treat every answer as a sample of
  the model's behaviour, not as medical advice.
- Answers were shortened for training, and what the sources do not cover was not learned. Losses were measured on
  held-out items of the same sources and say nothing of other questions.
- Which experts a token gets is what training made of it; no expert was assigned a subject."""


def model_card(training: dict[str, Any]) -> str:
    """Markdown with the hub's front matter, from the content of `training.json`: a table for each stage."""
    weights, settings = training["weights"], training["settings"]
    rows = "\n".join(
        f"| {name} | {task['source']} | {task['licence']} | {task['train']:,} | {task['held_out']} "
        f"| {task['loss_base']:.3f} | {task['loss_after']:.3f} |"
        for name, task in training["tasks"].items()
    )
    told = stages(training)
    names = [f"stage {number}" for number in range(1, len(told) + 1)] if len(told) > 1 else ["setting"]
    tables = "\n\n".join(map(_stage, names, told))
    return f"""\
---
license: apache-2.0
library_name: molora
tags: [medical, lora, mixture-of-experts, molora]
---
# A MoLoRA adapter

{settings["experts"]} low-rank experts and a router, top-{settings["top_k"]}, on each FFN projection, and LoRA on the
attention, of a frozen base ({training["base"]}): the architecture of MING-MOE (arXiv 2404.09027) at a small size.
{weights["trained"]:,} of {weights["total"]:,} weights ({100 * weights["trained"] / weights["total"]:.1f}%) are trained.
The files are in MING-MOE's released layout, as safetensors.

## Data
| task | source | licence | items | held out | base | this model |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The last two columns are losses on the held-out answers: means over their tokens, in nats, of the base alone and of this
model, on the same items.

<!-- results-by-task:begin -->
<!-- results-by-task:end -->

## Training
![Training loss](training.png)

{tables}

{_LIMITS.format(size=round((weights["total"] - weights["trained"]) / 1e6))}
"""


def stages(training: dict[str, Any]) -> list[dict[str, Any]]:
    """The content of `training.json` of each stage, from the first to this one."""
    earlier = training.get("earlier")
    return [*(stages(earlier) if earlier else []), training]


def _stage(name: str, stage: dict[str, Any]) -> str:
    settings, tasks = stage["settings"], stage["tasks"]
    shares = _shares({name: task["share"] for name, task in tasks.items()})
    return f"""\
| {name} | value |
| --- | --- |
| shares of the sequences | {shares} |
| rank, alpha | {settings["rank"]}, {settings["alpha"]:g} |
| steps | {settings["steps"]:,} of {settings["batch_size"]} sequences, up to {settings["max_length"]} tokens each |
| tokens read | {stage["tokens"]:,} |
| learning rate | {settings["learning_rate"]:g}, 20 steps of warm-up, cosine |
| load-balance loss | {settings["balance"]:g} |
| seed | {settings["seed"]} |
| wall time | {stage["seconds"] / 60:.0f} minutes on {stage["machine"]} |"""


def _shares(shares: dict[str, float]) -> str:
    """What most tasks have is said once, for all of them."""
    usual, count = Counter(shares.values()).most_common(1)[0]
    if count == 1:
        return ", ".join(f"{name} {share:g}" for name, share in shares.items())
    if count == len(shares):
        return f"the same for each of the {count} tasks"
    others = [name for name in shares if shares[name] != usual]
    return f"{usual:g} for each of {count} tasks; " + ", ".join(f"{name} {shares[name]:g}" for name in others)
