from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

import molora
from molora import reading
from molora.chat import encode_chat
from molora.engine import Engine, Step
from molora.errors import MoloraError
from molora.layers import Router
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace
from tests.released import make_checkpoint

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma? 哮喘有哪些症状？"}]
OTHER = [{"role": "user", "content": "How is diabetes treated?"}]


def hooks(engine: Engine) -> int:
    return sum(len(module._forward_hooks) for module in engine.model.modules() if isinstance(module, Router))


def assert_same(one: RoutingTrace, other: RoutingTrace) -> None:
    assert one.token_text == other.token_text
    for name in ("token_ids", "phase", "expert_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("router_logits", "expert_weights"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)


def test_greedy_answer_is_that_of_transformers(engine: Engine) -> None:
    prompt = encode_chat(engine.tokenizer, QUESTION).token_ids
    expected = engine.model.generate(
        torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=1.2, pad_token_id=0
    )[0].tolist()
    step = engine.answer(QUESTION, max_new_tokens=20, repetition_penalty=1.2)
    read = step.trace.token_ids.tolist()
    assert read == expected[: len(read)]
    assert len(expected) - len(read) == 1, "the last sampled token is not read"


def test_trace_is_what_the_routers_computed_from_their_inputs(engine: Engine) -> None:
    """Against an independent computation, in float64, from the inputs that each router saw in one plain pass."""
    step = engine.answer(QUESTION, max_new_tokens=6)
    inputs: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, args, name=name: inputs.update({name: args[0][0].double()}))
        for name, module in engine.model.named_modules()
        if isinstance(module, Router)
    ]
    with torch.inference_mode():
        engine.model(torch.from_numpy(step.trace.token_ids.astype(np.int64))[None])
    for handle in handles:
        handle.remove()
    for at, layer in enumerate(step.trace.layer_indices):
        for p, projection in enumerate(step.trace.projections):
            name = f"model.layers.{layer}.mlp.{projection}.router"
            router = engine.model.get_submodule(name)
            with torch.inference_mode():
                logits = inputs[name] @ router.weight.double().T + router.bias.double()  # [T, E]
            values, ids = logits.sort(dim=-1, descending=True)
            np.testing.assert_allclose(step.trace.router_logits[:, at, p], logits, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(step.trace.expert_ids[:, at, p], ids[:, :2])
            weights = torch.softmax(values[:, :2], dim=-1)
            np.testing.assert_allclose(step.trace.expert_weights[:, at, p], weights, rtol=1e-4, atol=1e-5)


def test_rows_grow_and_stay(engine: Engine) -> None:
    steps = list(engine.stream(QUESTION, max_new_tokens=8))
    prompt = len(encode_chat(engine.tokenizer, QUESTION).token_ids)
    assert [len(step.trace) for step in steps] == list(range(prompt, prompt + len(steps)))
    assert [step.num_tokens for step in steps] == list(range(1, len(steps) + 1))
    last = steps[-1].trace
    for step in steps:
        assert_same(step.trace, last.select(tokens=slice(len(step.trace))))
        assert np.shares_memory(step.trace.router_logits, last.router_logits), "rows are appended, not copied"
    assert [step.finished for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].finished == "length"


def test_phases_and_text(engine: Engine) -> None:
    trace = engine.answer(QUESTION, max_new_tokens=8).trace
    text = {phase: "".join(t for t, p in zip(trace.token_text, trace.phase, strict=True) if p == phase)
            for phase in (TEMPLATE, PROMPT, ANSWER)}  # fmt: skip
    assert text[PROMPT] == QUESTION[0]["content"]
    assert text[TEMPLATE].startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>")
    assert np.all(np.diff(trace.phase.astype(int)[trace.phase == ANSWER]) == 0)
    assert "\ufffd" not in "".join(trace.token_text)


def test_stops_at_the_end_of_the_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list(engine.stream(QUESTION, max_new_tokens=8))
    third = int(steps[-1].trace.token_ids[-5])  # an answer token that comes before the limit
    monkeypatch.setattr(engine, "_stop_ids", {third})
    last = engine.answer(QUESTION, max_new_tokens=8)
    assert last.finished == "stop"
    assert last.num_tokens < 8
    assert third not in last.trace.token_ids[last.trace.phase == ANSWER]


def test_long_prompts_are_read_in_chunks_with_the_same_result(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.answer(QUESTION, max_new_tokens=4)
    monkeypatch.setattr(reading, "PREFILL_CHUNK", 16)
    steps = list(engine.stream(QUESTION, max_new_tokens=4))
    assert [step.num_tokens for step in steps[:3]] == [0, 0, 0], "a step after each chunk, so that it can be stopped"
    assert steps[-1].text == whole.text
    assert_same(steps[-1].trace, whole.trace)


def test_seed_decides_and_greedy_ignores_it(engine: Engine) -> None:
    def drawn(seed: int, temperature: float) -> list[int]:
        step = engine.answer(QUESTION, max_new_tokens=12, temperature=temperature, top_p=0.95, seed=seed)
        return step.trace.token_ids.tolist()

    assert drawn(1, 1.5) == drawn(1, 1.5)
    assert drawn(1, 1.5) != drawn(2, 1.5)
    assert drawn(1, 0.0) == drawn(2, 0.0)


def test_routers_that_sample_are_reproducible(base: Path, tmp_path: Path) -> None:
    engine = molora.load(str(make_checkpoint(tmp_path, base, config={"expert_selection": "sampling"})))
    one, same, other = (engine.answer(QUESTION, max_new_tokens=4, seed=seed).trace for seed in (1, 1, 2))
    assert_same(one, same)
    assert not np.array_equal(one.expert_ids[:20], other.expert_ids[:20])
    top = np.argsort(-one.router_logits, axis=-1)[..., :2]
    assert not np.array_equal(np.sort(top), np.sort(one.expert_ids)), "drawn, not ranked"


def test_interleaved_requests_do_not_mix(engine: Engine) -> None:
    alone = [engine.answer(question, max_new_tokens=6) for question in (QUESTION, OTHER)]
    one, other = engine.stream(QUESTION, max_new_tokens=6), engine.stream(OTHER, max_new_tokens=6)
    together: list[Step] = []
    for pair in zip(one, other, strict=True):
        together = list(pair)
    for apart, mixed in zip(alone, together, strict=True):
        assert mixed.text == apart.text
        assert_same(mixed.trace, apart.trace)


def test_threads_do_not_mix(engine: Engine, checkpoint: Path) -> None:
    second = molora.load(str(checkpoint))
    jobs = [(engine, QUESTION), (engine, OTHER), (second, OTHER), (second, QUESTION)]
    alone = [e.answer(question, max_new_tokens=6) for e, question in jobs]
    results: dict[int, Step] = {}

    def work(number: int) -> None:
        worker, question = jobs[number]
        results[number] = worker.answer(question, max_new_tokens=6)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, apart in enumerate(alone):
        assert results[number].text == apart.text
        assert_same(results[number].trace, apart.trace)


def test_a_generator_may_be_driven_from_changing_threads(engine: Engine) -> None:
    alone = engine.answer(QUESTION, max_new_tokens=4)
    stream, steps = engine.stream(QUESTION, max_new_tokens=4), []
    for _ in range(4):
        thread = threading.Thread(target=lambda: steps.append(next(stream)))
        thread.start()
        thread.join()
    assert steps[-1].text == alone.text
    assert torch.is_inference_mode_enabled() is False


def test_the_lean_pass_is_recorded_without_hooks(engine: Engine) -> None:
    stream = engine.stream(QUESTION, max_new_tokens=4)
    assert np.isfinite(next(stream).trace.router_logits).all()
    assert hooks(engine) == 0


def test_hooks_come_off_on_every_way_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molora.fast.lean_step", lambda _model: None)
    assert hooks(engine) == 0
    stream = engine.stream(QUESTION, max_new_tokens=4)
    next(stream)
    assert hooks(engine) == 9
    stream.close()
    assert hooks(engine) == 0
    list(engine.stream(QUESTION, max_new_tokens=4))
    assert hooks(engine) == 0

    def broken(**_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine.model.model, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.answer(QUESTION, max_new_tokens=4)
    assert hooks(engine) == 0


def test_warming_up_does_what_the_first_answer_would_wait_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine.answer(QUESTION, max_new_tokens=4).text
    monkeypatch.setattr("molora.fast.store._known", WeakKeyDictionary())
    engine.warm_up()
    monkeypatch.setattr("molora.fast.store._made", lambda _model: pytest.fail("made again"))
    assert engine.answer(QUESTION, max_new_tokens=4).text == expected


def test_trace_text_reads_without_template_or_answer(engine: Engine) -> None:
    trace = engine.trace_text("糖尿病 <|im_end|> 😀")
    assert "".join(trace.token_text) == "糖尿病 <|im_end|> 😀"
    assert set(trace.phase.tolist()) == {PROMPT}
    assert engine.tokenizer.eos_token_id not in trace.token_ids
    assert np.isfinite(trace.router_logits).all()


def test_meta_tells_what_ran(engine: Engine, tmp_path: Path) -> None:
    trace = engine.answer(QUESTION, max_new_tokens=2, temperature=0.5, seed=7).trace
    assert trace.meta["model"] == engine.info.model
    assert trace.meta["adapter_sha256"] == engine.info.adapter_sha256
    assert trace.meta["sampling"]["temperature"] == 0.5
    assert trace.meta["seed"] == 7
    assert set(trace.meta["versions"]) == {"torch", "transformers", "bitsandbytes", "python"}
    trace.save(tmp_path / "run.npz")
    again = RoutingTrace.load(tmp_path / "run.npz")
    assert again.meta == trace.meta
    assert_same(again, trace)


def test_plain_lora_answers_with_an_empty_trace(base: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, base, config={"num_experts": 1})
    (folder / "non_lora_trainables.bin").unlink()
    engine = molora.load(str(folder))
    step = engine.answer(QUESTION, max_new_tokens=3)
    assert step.num_tokens == 3
    assert step.trace.expert_ids.shape[1:] == (0, 0, 0)
    assert engine.info.projections == ()


@pytest.mark.parametrize(
    ("messages", "settings", "message"),
    [
        ([], {}, "There is no message to answer"),
        ([{"role": "user", "content": "  \n"}], {}, "The question is empty; type one."),
        ([{"role": "robot", "content": "hi"}], {}, "Message 0 needs a 'role', one of system, user, assistant"),
        ([{"role": "user", "content": 3}], {}, "Message 0 needs 'content' that is text"),
        ([{"role": "assistant", "content": "hi"}], {}, "The last message must be the user's"),
        ([{"role": "user", "content": "asthma " * 2000}], {}, r"has \d+ tokens; the model reads at most 1024"),
        (QUESTION, {"max_new_tokens": 0}, "max_new_tokens is 0; it must lie between 1 and"),
        (QUESTION, {"temperature": -1}, "temperature is -1; it must lie between 0.0 and 100.0"),
        (QUESTION, {"temperature": float("nan")}, "temperature is nan"),
        (QUESTION, {"top_p": 2}, "top_p is 2"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    engine: Engine, messages: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(MoloraError, match=message):
        engine.stream(messages, **settings)


def test_answer_is_cut_to_what_the_context_has_left(engine: Engine) -> None:
    content = "asthma " * 500
    long = [{"role": "user", "content": content}]
    size = len(encode_chat(engine.tokenizer, long).token_ids)
    while size < 1020:
        content += "a"
        long = [{"role": "user", "content": content}]
        size = len(encode_chat(engine.tokenizer, long).token_ids)
    step = engine.answer(long, max_new_tokens=500)
    assert step.num_tokens <= 1024 - size
    assert len(step.trace) <= 1024
