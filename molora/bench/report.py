"""A report as Markdown: for the terminal, and for the README between `<!-- speed:begin -->` and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LABELS = {
    "base": "base alone",
    "molora": "MoLoRA",
    "molora_recorded": "MoLoRA, recorded",
    "loop": "loop over experts",
    "lora": "LoRA (peft)",
    "xlora": "X-LoRA (peft)",
    "generate": "generate (transformers), base",
    "llamacpp": "llama.cpp, base",
}
RATIOS = {
    "molora_over_base": "MoLoRA / base",
    "loop_over_molora": "loop / MoLoRA",
    "recording_on_over_off": "recording on / off",
    "generate_over_molora": "generate / MoLoRA",
    "speed_over_llamacpp": "speed over llama.cpp",
}
JOBS = {
    "decode": "one token more",
    "decode_batch8": "one token more of 8 conversations",
    "prefill32": "a prompt of 32 tokens",
    "prefill512": "a prompt of 512 tokens",
    "prefill4096": "a prompt of 4,096 tokens",
}


def table(report: dict[str, Any]) -> str:
    """Milliseconds of every system and job, the ratios that matter, memory and bandwidth."""
    jobs = report["milliseconds"]
    systems = [name for name in LABELS if any(name in by_system for by_system in jobs.values())]
    lines = [where(report), "", f"| milliseconds | {' | '.join(LABELS[name] for name in systems)} |"]
    lines.append(f"| --- |{' ---: |' * len(systems)}")
    for job, medians in jobs.items():
        cells = (_number(medians.get(name)) for name in systems)
        lines.append(f"| {JOBS.get(job, job)} | {' | '.join(cells)} |")
    late = lengths_table(report["lengths"]) if report.get("lengths") else ""
    return "\n\n".join(part for part in ("\n".join(lines), _ratios(report), late, _memory(report)) if part)


def lengths_table(costs: list[dict[str, Any]]) -> str:
    """What a token costs after how many others: `length.Cost`s as they stand in a report."""
    lines = [
        "| one token more, recorded | ms | attention, ms | all else, ms | not recorded, ms | recording on / off |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in costs:
        attention = one["attention"]
        rest = None if attention is None else one["token"] - attention
        cells = (_number(each) for each in (one["token"], attention, rest, one["unrecorded"]))
        record = one.get("recording_on_over_off", one["token"] / one["unrecorded"])  # earlier reports lack it
        lines.append(f"| after {one['length']:,} others | {' | '.join(cells)} | {record:.2f} |")
    return "\n".join(lines)


def where(report: dict[str, Any]) -> str:
    """Model, machine, versions and date in a sentence."""
    machine = report["machine"]
    device = f"{machine['device']}, {machine['processor']}" if machine["device"] != "cpu" else machine["processor"]
    *_, name = Path(report["model"].removesuffix("/adapter")).parts  # of a folder the last; of a hub id what it names
    weights = "" if report["weights"] == "as loaded" else f" (weights {report['weights']})"
    threads = _count(machine["threads"], "thread")
    return (
        f"{name}{weights} in {report['precision']} on {device}, {threads}, torch "
        f"{machine['versions'].get('torch', '?')}, {report['date']}"
    )


def section(reports: list[dict[str, Any]]) -> str:
    """The README's part, from all reports that are committed: those of one shape each, or of several."""
    runs = [run for report in reports for run in report.get("shapes", {"": report}).values()]
    parts = [table(run) for run in runs]
    parts += [
        f"On {run['date']} that machine had other work as well (a load of {machine['load']} on {machine['cores']} "
        "cores), so small differences in this table mean nothing."
        for run in runs
        if ((machine := run["machine"]).get("load") or 0) > 1.5 * machine["cores"]
    ]
    if all(run["machine"]["device"] == "cpu" for run in runs):
        parts.append("No GPU was at hand for this table; `sh bench_cuda.sh` on a machine with one adds its rows.")
    return "\n\n".join(parts)


def _ratios(report: dict[str, Any]) -> str:
    found = report["ratios"]
    heads = [name for name in RATIOS if any(found.get(f"{job}_{name}") is not None for job in report["milliseconds"])]
    lines = [f"| ratios of times | {' | '.join(RATIOS[name] for name in heads)} |"]
    lines.append(f"| --- |{' ---: |' * len(heads)}")
    for job in report["milliseconds"]:
        cells = (_number(found.get(f"{job}_{name}"), 2) for name in heads)
        lines.append(f"| {JOBS.get(job, job)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory(report: dict[str, Any]) -> str:
    said = []
    if report.get("load_seconds") is not None:
        said.append(f"loaded in {report['load_seconds']:.1f} s")
    said.append(f"first token after {report['first_token_seconds']:.2f} s")
    for key, words in (("peak_host_bytes", "host"), ("peak_device_bytes", "device")):
        if report.get(key):
            said.append(f"at most {report[key] / 2**30:.2f} GiB on the {words}")
    if (ratio := report["ratios"].get("peak_device_over_needed")) is not None:
        said[-1] += f", {ratio:.2f} times what weights, adapter and cache take"
    if report.get("loading_bytes_beyond_weights"):
        said.append(f"loading held {report['loading_bytes_beyond_weights'] / 2**20:.0f} MiB beside the weights")
    bandwidth = report["bandwidth"]
    if bandwidth["share"]:
        said.append(
            f"decode reads its weights at {bandwidth['share']['molora']:.0%} of the speed at which memory is copied "
            f"({bandwidth['copy_gb_a_second']:.0f} GB/s), the base alone at {bandwidth['share']['base']:.0%}"
        )
    words = "; ".join(said)
    return f"{words[0].upper()}{words[1:]}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
