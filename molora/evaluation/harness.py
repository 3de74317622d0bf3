"""Published benchmarks by lm-evaluation-harness, for any model that this project loads: `evaluate --harness NAMES`.

lm-eval is an optional extra. Its own tasks are read from the hub, from its cache, or from local files; ours
(molora/evaluation/benchmarks) from local files alone. Code from data sets is never run.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molora.base import load_base
from molora.chat import CHATML
from molora.errors import MoloraError
from molora.loading import load

if TYPE_CHECKING:
    from molora.engine import Engine

BENCHMARKS = Path(__file__).parent / "benchmarks"

_SPLITS = ("train", "validation", "dev", "val", "test")
_FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


def run_harness(
    subject: Engine | tuple[Any, Any],
    tasks: Sequence[str],
    *,
    data: Path | None = None,
    limit: int | None = None,
    batch_size: int = 1,
    chat: bool = True,
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """Scores of a model on tasks of lm-eval, or of molora/evaluation/benchmarks.

    Args:
        subject: an engine, or (model, tokenizer) as Hugging Face makes them.
        tasks: names of tasks, groups or tags.
        data: folder with the benchmarks' files; `data/TASK/SPLIT.jsonl` (or .json, .parquet) takes the hub's place.
        limit: the first questions of each task only.
        chat: asks each question as a user's turn in the model's chat template, as these models were trained.
        max_new_tokens: of a written answer; None leaves it to each task (64 for exams, 512 for PromptCBLUE).

    Returns:
        {"tasks": {name: {"questions": n, metric: score, metric + "_stderr": its standard error}},
        "seconds_a_question": of the whole run, "chat_template", "limit", "versions"}.

    Raises:
        MoloraError: lm-eval is missing, a name is unknown, a file is missing or damaged, the hub is out of reach.
    """
    harness, hugging_face, manager_of = _import()
    model, tokenizer = subject if isinstance(subject, tuple) else (subject.model, subject.tokenizer)
    context: int = model.config.max_position_embeddings
    if max_new_tokens and max_new_tokens >= context:
        raise MoloraError(f"Answers of {max_new_tokens} tokens leave no room in this model's {context}; ask for fewer.")
    tokenizer = copy.deepcopy(tokenizer)  # the harness sets its padding
    tokenizer.chat_template = tokenizer.chat_template or CHATML
    manager = _manager(manager_of, tasks, {"data": str(data)} if data else {})
    specs = [spec_of(name, data, set(manager.all_tasks)) for name in tasks]
    _load(manager, specs)  # says what is missing before the model works
    started = time.perf_counter()
    report = harness(
        model=hugging_face(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, trust_remote_code=False),
        tasks=specs,
        task_manager=manager,
        batch_size=batch_size,
        limit=limit,
        bootstrap_iters=1000,
        log_samples=False,
        apply_chat_template=chat,
        gen_kwargs={"max_gen_toks": max_new_tokens} if max_new_tokens else None,
    )
    seconds = time.perf_counter() - started
    counts = {name: count["effective"] for name, count in report["n-samples"].items()}
    return {
        "tasks": {name: {"questions": counts[name]} | _scores(report["results"][name]) for name in counts},
        "chat_template": chat,
        "limit": limit,
        "seconds_a_question": round(seconds / max(sum(counts.values()), 1), 3),
        "versions": {name: version(name) for name in ("lm_eval", "datasets", "torch", "transformers")},
    }


def spec_of(name: str, data: Path | None, known: set[str]) -> str | dict[str, Any]:
    """The task's name; with files of its own under `data`, a group of that one task that reads them.

    Raises MoloraError for a name that is not known, or files of two kinds.
    """
    if name not in known:
        ours = sorted(path.stem for path in BENCHMARKS.glob("[!_]*.yaml"))
        raise MoloraError(
            f"There is no benchmark {name!r}. Of this project are {', '.join(ours)}, and the tags promptcblue, "
            "exams_zh and exams_zh_likelihood; of lm-eval for instance medqa_4options, medmcqa, pubmedqa."
        )
    files = sorted((data / name).glob("*")) if data else []
    local = {file.stem: str(file) for file in files if file.stem in _SPLITS and file.suffix in _FORMATS}
    if not local:
        return name
    formats = {_FORMATS[Path(file).suffix] for file in local.values()}
    if len(formats) > 1:
        raise MoloraError(f"The files of {name} in {data} are both JSON and Parquet; keep one kind.")
    task = {"task": name, "dataset_path": formats.pop(), "dataset_name": None, "dataset_kwargs": {"data_files": local}}
    return {"group": f"{name}_from_files", "task": [task]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line asks for: {"molora": a report, "base_alone": with --with-base}. Raises MoloraError."""
    names = [name.strip() for name in args.harness.split(",") if name.strip()]
    for option in ("limit", "batch_size", "max_new_tokens"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise MoloraError(f"--{option.replace('_', '-')} is {value}; give 1 or more.")
    _import()
    engine = load(args.model, args.base, args.quantize, args.device)
    info = engine.info
    settings = {key: getattr(args, key) for key in ("data", "limit", "batch_size", "chat", "max_new_tokens")}
    report: dict[str, Any] = {"model": info.model, "base": info.base, "quantization": info.quantization}
    report |= {"molora": run_harness(engine, names, **settings)}
    if args.with_base:
        del engine  # two models need not fit
        model, tokenizer = load_base(info.base, args.quantize, args.device)
        report |= {"base_alone": run_harness((model.eval(), tokenizer), names, **settings)}
    return report


def table(report: dict[str, Any]) -> str:
    """The report as Markdown, a row for each task and metric."""
    columns = [key for key in ("base_alone", "molora") if key in report]
    heads = {"base_alone": "base", "molora": "MoLoRA"}
    lines = [
        f"| task | questions | metric | {' | '.join(heads[key] for key in columns)} |",
        "| --- " * (3 + len(columns)) + "|",
    ]
    for name, scores in report["molora"]["tasks"].items():
        for metric in scores:
            if metric != "questions" and not metric.endswith("_stderr"):
                cells = " | ".join(_cell(report[key]["tasks"][name], metric) for key in columns)
                lines.append(f"| {name} | {scores['questions']} | {metric} | {cells} |")
    return "\n".join(lines)


def add_name(parser: Any) -> None:
    """The option that asks for this job; `parser` is a parser or a group of one."""
    parser.add_argument("--harness", metavar="NAMES", help="benchmarks, groups or tags, commas between them")


def add_options(parser: Any) -> None:
    """The options of this job, those of the model apart."""
    parser.add_argument("--limit", type=int, help="only the first questions of each task")
    parser.add_argument("--max-new-tokens", type=int, help="of a written answer; default: each task's own")
    parser.add_argument("--with-base", action="store_true", help="the base model alone as well, asked the same way")
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask in the chat template; --no-chat for plain text, as leaderboards of base models do",
    )


def _import() -> tuple[Any, Any, Any]:
    """(simple_evaluate, HFLM, TaskManager). Raises MoloraError without lm-eval."""
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MoloraError(
            f"The benchmarks need lm-evaluation-harness, which is missing or broken here ({error}). "
            "Install it with: pip install --group harness"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return simple_evaluate, HFLM, TaskManager


def _manager(manager_of: Any, names: Sequence[str], metadata: dict[str, str]) -> Any:
    """lm-eval's own thousands of tasks are indexed only for a name that is not ours: it takes many seconds."""
    ours = manager_of(include_path=BENCHMARKS, include_defaults=False, metadata=metadata)
    return ours if set(names) <= set(ours.all_tasks) else manager_of(include_path=BENCHMARKS, metadata=metadata)


def _load(manager: Any, specs: Iterable[Any]) -> None:
    """Raises MoloraError that says whose data is out of reach."""
    for spec in specs:
        name = spec if isinstance(spec, str) else spec["task"][0]["task"]
        try:
            manager.load([spec])
        except MoloraError:
            raise
        except Exception as error:  # the hub's, the readers' and the tasks' own errors have no base in common
            raise MoloraError(
                f"The data of {name} cannot be read: {error}. Without a network, give its splits as "
                f"DATA/{name}/test.jsonl (or .json, .parquet; train and validation likewise) with --data DATA."
            ) from error


def _scores(result: dict[str, Any]) -> dict[str, float]:
    """ "acc,none" -> acc; what is no number (the alias, a missing deviation) is left out."""
    scores = {key.partition(",")[0]: value for key, value in result.items() if isinstance(value, float | int)}
    return {key: round(float(value), 5) for key, value in scores.items() if key not in ("alias", "sample_len")}


def _cell(scores: dict[str, float], metric: str) -> str:
    deviation = scores.get(f"{metric}_stderr")
    return f"{scores[metric]:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")
