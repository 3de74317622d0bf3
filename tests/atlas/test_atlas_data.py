"""The atlas as data: counts and parts by hand, files that are whole or refused, found by the adapter they belong to."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molora.atlas.data import Atlas, find_atlas
from molora.errors import MoloraError
from tests.fake_atlas import fake_atlas


def assert_same(a: Atlas, b: Atlas) -> None:
    for name in ("labels", "picks", "weights", "layer_indices"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert (a.tasks, a.families, a.projections, a.meta) == (b.tasks, b.families, b.projections, b.meta)


def tiny(picks: list[list[list[int]]], labels: list[int], **changes: Any) -> Atlas:
    """One router. picks: prompt -> (of the prompt, of the answer) -> expert."""
    counts = np.array(picks, np.uint16)[:, :, None, None]  # [N, S, 1, 1, E]
    tasks = max(labels) + 1
    return fake_atlas(
        tasks=tuple("abc"[:tasks]),
        families=("x",) * tasks,
        layers=1,
        projections=("mlp",),
        experts=counts.shape[-1],
        picks=counts,
        labels=np.array(labels, np.int16),
        **changes,
    )


def test_counts_and_profiles_by_hand() -> None:
    atlas = tiny([[[3, 1], [0, 2]], [[1, 1], [4, 0]], [[0, 8], [0, 0]]], [0, 0, 1])
    assert atlas.counts("prompt")[:, 0, 0].tolist() == [[4, 2], [0, 8]]
    assert atlas.counts("answer")[:, 0, 0].tolist() == [[4, 2], [0, 0]]
    assert atlas.counts()[:, 0, 0].tolist() == [[8, 4], [0, 8]]
    assert atlas.profiles("prompt")[:, 0, 0].tolist() == [[0.75, 0.25], [0.5, 0.5], [0, 1]]
    assert np.isnan(atlas.profiles("answer")[2]).all(), "an answer without a token has no routing"
    assert atlas.num_experts == 2


def test_weights_become_shares() -> None:
    weights = np.array([[[6, 2], [0, 5]]], np.float32)[:, :, None, None]  # [G, S, 1, 1, E]
    atlas = tiny([[[1, 1], [1, 1]]], [0], weights=weights)
    assert atlas.weight_shares("prompt")[0, 0, 0].tolist() == [0.75, 0.25]
    assert atlas.weight_shares("answer")[0, 0, 0].tolist() == [0, 1]


def test_select_takes_layers_by_their_numbers_and_projections_by_name() -> None:
    atlas = fake_atlas(layer_indices=np.array([2, 5, 7, 9], np.int16))
    part = atlas.select(layers=[9, 5], projections=["down_proj"])
    np.testing.assert_array_equal(part.picks[:, :, :, 0], atlas.picks[:, :, [3, 1], 2])
    np.testing.assert_array_equal(part.weights[:, :, :, 0], atlas.weights[:, :, [3, 1], 2])
    assert part.layer_indices.tolist() == [9, 5]
    assert part.projections == ("down_proj",)
    assert_same(atlas.select(), atlas)
    with pytest.raises(MoloraError, match=r"^The atlas has no layer 3; it has 2, 5, 7, 9\.$"):
        atlas.select(layers=[3])
    with pytest.raises(MoloraError, match=r"^The atlas has no projection 'mlp'; it has gate_proj, up_proj, down_proj"):
        atlas.select(projections=["mlp"])


def test_tasks_can_be_taken_apart_and_joined() -> None:
    atlas = fake_atlas(meta={"prompts": {"ask": "1", "sort": "2", "list": "3", "find": "4"}})
    one, rest = atlas.of_tasks(["ask"]), atlas.of_tasks(["sort", "list", "find"])
    assert_same(one.joined(rest), atlas)
    turned = rest.joined(one)
    assert turned.families == ("classification", "extraction", "extraction", "generation")
    np.testing.assert_array_equal(turned.counts()[3], atlas.counts()[0])
    assert_same(turned.of_tasks(list(atlas.tasks)), atlas)


def test_round_trip_in_memory_and_on_disk(tmp_path: Path) -> None:
    atlas, file = fake_atlas(), io.BytesIO()
    atlas.save(file)
    file.seek(0)
    assert_same(Atlas.load(file), atlas)
    atlas.save(tmp_path / "atlas.npz")
    assert_same(Atlas.load(tmp_path / "atlas.npz"), atlas)
    with np.load(tmp_path / "atlas.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "iuf" for name in arrays.files)


@pytest.mark.parametrize("length", [0, 3, 200, -1, -60])
def test_a_damaged_file_is_refused_with_the_mend(tmp_path: Path, length: int) -> None:
    path = tmp_path / "atlas.npz"
    fake_atlas().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(MoloraError, match=r"is no routing atlas, or is damaged \(.*again with python -m molora\.atlas"):
        Atlas.load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.full(20, 4, np.int16)}, "labels holds 4; expected 0 to 3."),
        ({"labels": np.zeros(3, np.int16)}, "picks has N = 20 where the rest of the atlas has 3."),
        ({"families": ("x",)}, "The atlas has 1 families for 4 tasks."),
        ({"tasks": ("x",), "families": ("x",)}, "weights has G = 4 where the rest of the atlas has 1."),
        ({"weights": np.zeros((4, 1, 4, 3, 8), np.float32)}, "weights has S = 1 where the rest of the atlas has 2."),
    ],
)
def test_what_does_not_agree_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MoloraError) as refused:
        replace(fake_atlas(), **changes)
    assert str(refused.value) == words


def test_an_atlas_is_found_by_its_adapter_alone(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"m{number}").mkdir()
        fake_atlas(seed=number, meta={"adapter_sha256": str(number)}).save(tmp_path / f"m{number}/atlas.npz")
    found = find_atlas("1", tmp_path)
    assert found is not None
    assert_same(found, fake_atlas(seed=1, meta={"adapter_sha256": "1"}))
    assert find_atlas("9", tmp_path) is None
    (tmp_path / "whole").mkdir()
    fake_atlas(meta={"adapter_sha256": "", "base": "owner/whole"}).save(tmp_path / "whole/atlas.npz")
    assert find_atlas("", tmp_path, "owner/whole") is not None
    assert find_atlas("", tmp_path, "owner/other") is None, "a model without an adapter is known by its name"
    assert find_atlas("1", tmp_path / "nowhere") is None
    (tmp_path / "m0/atlas.npz").write_bytes(b"damage")
    assert find_atlas("1", tmp_path) is not None, "another model's damage does not matter"
    with pytest.raises(MoloraError, match=r"m0/atlas\.npz is no routing atlas"):
        find_atlas("9", tmp_path)
