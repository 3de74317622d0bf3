from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from molora.base import load_base
from molora.bench import measuring
from molora.bench.generate import generate_turn
from molora.bench.measuring import BATCH, CONTEXT, TURN, Effort, Turn, interleaved, ratio
from molora.bench.systems import BASE, LOOP, LORA, MOLORA, RECORDED, XLORA, System, systems_of
from molora.engine import Engine
from molora.layers import Router

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's


@pytest.fixture(scope="module")
def systems(engine: Engine) -> Iterator[dict[str, System]]:
    base, _ = load_base(engine.info.base)
    with systems_of(engine, base.eval(), xlora=True) as found:
        yield found


def _logits(system: System, ids: list[int]) -> torch.Tensor:
    reading = system.reading(len(ids))
    with reading.recording():
        return reading.read(ids, [""] * len(ids), [1] * len(ids))


def test_all_systems_read_and_only_one_records(systems: dict[str, System], engine: Engine) -> None:
    assert list(systems) == [BASE, MOLORA, RECORDED, LOOP, LORA, XLORA]
    ids, logits = list(range(40)), {}
    for name, system in systems.items():
        reading = system.reading(len(ids))
        with reading.recording():
            logits[name] = reading.read(ids, [""] * len(ids), [1] * len(ids))
        recorded = reading.trace({}).router_logits
        assert recorded.shape[1] == (engine.info.num_layers if name == RECORDED else 0)
    assert torch.equal(logits[MOLORA], logits[RECORDED])
    torch.testing.assert_close(logits[LOOP], logits[MOLORA], msg="the loop computes the same")
    assert not torch.allclose(logits[MOLORA], logits[BASE]), "the adapter changes the answer"
    expected = systems[BASE].model(torch.tensor([ids])).logits[:, -1]
    torch.testing.assert_close(logits[BASE], expected)
    torch.testing.assert_close(logits[LORA], expected)  # peft's B begins at zero
    torch.testing.assert_close(logits[XLORA], expected)


def test_the_base_stays_bare_and_its_weights_are_shared(systems: dict[str, System]) -> None:
    base, lora = systems[BASE].model, systems[LORA].model
    assert type(base.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert lora.model.layers[0].mlp.up_proj.base_layer is base.model.layers[0].mlp.up_proj
    assert lora.model.layers[0].mlp.up_proj.lora_A["default"].weight.shape[0] == 2 * 4, "as much as two experts"
    assert lora.model.layers[0].self_attn.q_proj.lora_A["default"].weight.shape[0] == 4


def test_every_round_times_every_system_and_leaves_no_hooks(systems: dict[str, System], engine: Engine) -> None:
    effort = Effort(60, 2, 3)
    for turns in (
        measuring.decode_turns(systems, 4),
        measuring.prefill_turns(systems, 600),
    ):
        seconds = interleaved("job", turns, effort)
        assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys(systems, 3)
        assert all(time > 0 for times in seconds.values() for time in times.values())
    assert not any(module._forward_hooks for module in engine.model.modules() if isinstance(module, Router))


def test_conversations_read_together_are_those_read_alone(systems: dict[str, System]) -> None:
    seen: list[torch.Tensor] = []
    model = systems[MOLORA].model
    handle = model.register_forward_hook(lambda *args: seen.append(args[2].logits))
    turn = measuring.batch_turns({MOLORA: systems[MOLORA]}, 2)[MOLORA]
    turn()
    handle.remove()
    ids = measuring.tokens(systems, CONTEXT)
    assert seen[-1].shape[:2] == (1, BATCH)
    alone = _logits(systems[MOLORA], [*ids, ids[3]])
    torch.testing.assert_close(seen[-1][0, 3:4], alone, atol=1e-4, rtol=1e-4)
    assert XLORA not in measuring.batch_turns(systems, 2), "it has no cache"


def test_decode_reads_one_token_after_the_other(systems: dict[str, System]) -> None:
    shapes: list[torch.Size] = []
    model = systems[MOLORA].model
    handle = model.register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    measuring.decode_turns({MOLORA: systems[MOLORA]}, 1)[MOLORA]()
    handle.remove()
    assert shapes == [(1, CONTEXT), *[(1, 1)] * TURN]


def test_generate_is_timed_from_its_first_token_to_its_last(systems: dict[str, System]) -> None:
    lengths: list[int] = []
    base = systems[BASE].model
    handle = base.register_forward_hook(
        lambda _module, _args, given, _output: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    turn = generate_turn(base, measuring.tokens(systems, CONTEXT))
    started = time.perf_counter()
    seconds = turn()
    took = time.perf_counter() - started
    handle.remove()
    assert lengths == [CONTEXT, *[1] * TURN], "a prompt, and a token each, from a cache"
    assert 0 < TURN * seconds < took


def test_rounds_go_on_until_the_time_is_spent_but_not_too_few() -> None:
    calls: list[str] = []

    def turn(name: str) -> Turn:
        def read() -> float:
            calls.append(name)
            return float(len(calls))

        return read

    turns = {name: turn(name) for name in "ab"}
    found = interleaved("x", turns, Effort(0.0, 2, 9))
    assert found == {name: {n: 1.0 + calls.index(name, 2 + 2 * n) for n in (0, 1)} for name in "ab"}, (
        "the first warms up"
    )
    assert len(calls) == 6
    calls.clear()
    assert len(interleaved("x", turns, Effort(60.0, 2, 9), warm=0)["a"]) == 9
    first, *rounds = "".join(calls[:1]), *("".join(calls[at : at + 2]) for at in range(1, 19, 2))
    assert first == "a"
    assert set(rounds) == {"ab", "ba"}, "none is always the one after the other"
    calls.clear()
    seconds = interleaved("x", turns, Effort(60.0, 2, 9), seldom={"b"})
    each = iter(calls)
    together = ["".join(sorted(islice(each, count))) for count in (2, *[2, 1, 1, 1] * 2, 2)]
    assert together == ["ab", *["ab", "a", "a", "a"] * 2, "ab"], (
        "a slow one has a turn where it warms up, and in every fourth round"
    )
    assert list(seconds["b"]) == [0, 4, 8]


def test_ratios_are_medians_of_those_within_a_round() -> None:
    rounds = {BASE: [1.0, 2.0, 4.0], MOLORA: [2.0, 3.0, 8.0], RECORDED: [2.0, 6.0, 16.0]}
    seconds = {name: dict(enumerate(times)) for name, times in rounds.items()}
    assert ratio(seconds, MOLORA, BASE) == 2.0
    assert ratio(seconds, RECORDED, MOLORA) == 2.0
    assert ratio(seconds, LOOP, MOLORA) is None
    assert ratio(seconds | {LOOP: {1: 12.0}}, LOOP, MOLORA) == 4.0, "of the one round that it took part in"
