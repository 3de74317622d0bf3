from __future__ import annotations

from pathlib import Path

import pytest

from molora.errors import MoloraError
from molora.tasks import TASKS
from molora.training.pools import ALL, pools_of, shares_of
from tests.sources import make_mts_dialog, make_pubmedqa


def test_shares_are_read_and_refused_by_name() -> None:
    assert shares_of("pubmedqa=2, ncbi_disease") == {"pubmedqa": 2.0, "ncbi_disease": 1.0}
    assert shares_of("medquad_causes, medquad_symptoms=1") == {"medquad_causes": 0.3, "medquad_symptoms": 1.0}
    assert shares_of("") == {}
    with pytest.raises(MoloraError, match=r"There is no task 'x'; known are .*pubmedqa"):
        shares_of("pubmedqa=1,x=2")
    with pytest.raises(MoloraError, match="The share of pubmedqa is 'much'; a number is expected"):
        shares_of("pubmedqa=much")
    with pytest.raises(MoloraError, match="a number above 0"):
        shares_of("pubmedqa=-1")


def test_pools_hold_conversations_with_their_share_and_licence(tmp_path: Path) -> None:
    make_pubmedqa(tmp_path, 50)
    pools = pools_of("pubmedqa", tmp_path, None, "refuse")
    assert pools["pubmedqa"].share == 1
    assert pools["pubmedqa"].licence == "MIT"
    assert pools["pubmedqa"].train[0][-1]["role"] == "assistant"
    assert pools_of("pubmedqa=0.5", tmp_path, None, "refuse")["pubmedqa"].share == 0.5


def test_all_tasks_have_their_own_shares(tmp_path: Path) -> None:
    make_pubmedqa(tmp_path, 50)
    pools = pools_of(ALL, tmp_path, None, "refuse")
    assert "pubmedqa" in pools
    assert {name: pool.share for name, pool in pools.items()} == {name: TASKS[name].share for name in pools}


def test_a_named_task_must_be_there(tmp_path: Path) -> None:
    make_mts_dialog(tmp_path)
    with pytest.raises(MoloraError, match="Task pubmedqa cannot be built: PubMedQA lacks"):
        pools_of("pubmedqa", tmp_path, None, "refuse")
    with pytest.raises(MoloraError, match="nothing to train on"):
        pools_of("", None, None, "refuse")
