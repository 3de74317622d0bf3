from __future__ import annotations

from molora.bench.report import JOBS, section, table
from tests.made_bench import made_bench


def rows(text: str) -> dict[str, list[list[str]]]:
    """First cell -> the others, of each row that begins so."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("|"):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(first, []).append(cells)
    return found


def test_the_table_holds_times_and_ratios_and_leaves_out_what_was_not_measured() -> None:
    text = table(made_bench())
    found = rows(text)
    assert found["milliseconds"] == [
        [
            "base alone",
            "MoLoRA",
            "MoLoRA, recorded",
            "loop over experts",
            "generate (transformers), base",
            "llama.cpp, base",
        ]
    ]
    assert found["ratios of times"] == [
        ["MoLoRA / base", "loop / MoLoRA", "generate / MoLoRA", "speed over llama.cpp"]
    ], "recording has no ratio"
    assert found[JOBS["decode"]] == [["10.0", "12.0", "13.0", "20.0", "30.0", "5.0"], ["1.20", "1.67", "2.50", "0.42"]]
    assert found[JOBS["prefill4096"]][0] == ["1000.0", "1250.0", "", "", "", ""]
    assert text.startswith("demo in float32 on A <fast> one, 2 threads, torch 2.9, 2026-01-02")
    assert "Loaded in 3.2 s; first token after 0.50 s; at most 1.50 GiB on the host; decode reads" in text
    assert "at 40% of the speed at which memory is copied (20 GB/s), the base alone at 50%." in text


def test_the_device_s_memory_is_told_beside_what_is_needed() -> None:
    report = made_bench("cuda card") | {"peak_device_bytes": 11 * 2**30}
    report["ratios"]["peak_device_over_needed"] = 1.1
    assert "1.50 GiB on the host; at most 11.00 GiB on the device, 1.10 times what weights, adapter" in table(report)


def test_what_a_late_token_costs_is_told_where_it_was_measured() -> None:
    late = {"length": 3950, "token": 12.0, "unrecorded": 10.0, "attention": 4.5, "recording_on_over_off": 1.03}
    found = rows(table(made_bench() | {"lengths": [late]}))
    assert found["one token more, recorded"][0][0] == "ms"
    assert found["after 3,950 others"] == [["12.0", "4.5", "7.5", "10.0", "1.03"]]
    found = rows(table(made_bench() | {"lengths": [late | {"attention": None}]}))
    assert found["after 3,950 others"] == [["12.0", "", "", "10.0", "1.03"]], "attention is not told apart on a GPU"
    assert "one token more, recorded" not in rows(table(made_bench()))
    del late["recording_on_over_off"]
    assert rows(table(made_bench() | {"lengths": [late]}))["after 3,950 others"][0][-1] == "1.20", "as once reported"


def test_the_section_holds_every_shape_and_says_where_a_gpu_is_lacking() -> None:
    cpu, gpu = made_bench(), made_bench("cuda card") | {"model": "MING-MOE-7B", "weights": "random"}
    assert section([cpu]).startswith(table(cpu))
    assert "No GPU was at hand" in section([cpu])
    both = section([cpu, {"shapes": {"MING-MOE-7B": gpu}}])
    assert table(cpu) in both
    assert table(gpu) in both
    assert "No GPU was at hand" not in both
    assert "other work" not in both
    cpu["machine"] |= {"load": 4.5}
    assert "On 2026-01-02 that machine had other work as well (a load of 4.5 on 2 cores)" in section([cpu])
    assert "MING-MOE-7B (weights random) in float32 on cuda card, A <fast> one" in both
