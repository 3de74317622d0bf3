"""A report of the benchmark with round numbers."""

from __future__ import annotations

from typing import Any


def made_bench(device: str = "cpu") -> dict[str, Any]:
    return {
        "date": "2026-01-02",
        "machine": {
            "device": device,
            "processor": "A <fast> one",
            "threads": 2,
            "cores": 2,
            "versions": {"torch": "2.9"},
        },
        "model": "demo",
        "weights": "as loaded",
        "precision": "float32",
        "load_seconds": 3.25,
        "first_token_seconds": 0.5,
        "peak_host_bytes": 3 * 2**29,
        "peak_device_bytes": None,
        "milliseconds": {
            "decode": {
                "base": 10.0,
                "molora": 12.0,
                "molora_recorded": 13.0,
                "loop": 20.0,
                "generate": 30.0,
                "llamacpp": 5.0,
            },
            "prefill4096": {"base": 1000.0, "molora": 1250.0},
        },
        "ratios": {
            "decode_molora_over_base": 1.2,
            "decode_loop_over_molora": 1.667,
            "decode_generate_over_molora": 2.5,
            "decode_speed_over_llamacpp": 0.417,
            "decode_recording_on_over_off": None,
        },
        "bandwidth": {"copy_gb_a_second": 20.0, "share": {"base": 0.5, "molora": 0.4}},
    }
