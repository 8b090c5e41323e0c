"""The parts of the harness that need no process: the mix, the blame, the table, the photographs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.audit.collection import make_photographs, put_files
from tests.audit.ground import Folders, digests
from tests.audit.ledger import (
    DRIVER_ENDS,
    IN_SESSION,
    KINDS,
    STOPPED,
    Deck,
    Kill,
    Log,
    Lost,
    Results,
    Round,
    share_out,
    table,
    work_lost,
)
from tests.audit.opens import Open


@given(st.integers(0, 2000))
def test_the_mix_has_as_many_kills_as_were_asked_for(kills: int) -> None:
    counts = share_out(kills)
    assert sum(counts.values()) == kills
    assert set(counts) == set(KINDS)
    if kills >= len(KINDS):
        assert min(counts.values()) >= 1


def test_two_hundred_kills_hit_workers_most_and_everything_some_times() -> None:
    counts = share_out(200)
    assert max(counts, key=lambda kind: counts[kind]) == "worker"
    assert min(counts.values()) >= 4
    assert set(IN_SESSION) | set(DRIVER_ENDS) | {"planning", "gc", "update"} == set(KINDS)


@given(st.integers(0, 60), st.integers(0, 1000))
def test_a_deck_is_drawn_to_its_end_the_same_way_for_the_same_seed(kills: int, seed: int) -> None:
    def draw_all() -> list[str]:
        deck, drawn = Deck(kills, random.Random(seed)), []
        while (kind := deck.draw(list(KINDS))) is not None:
            drawn.append(kind)
        return drawn

    drawn = draw_all()
    assert len(drawn) == kills
    assert drawn == draw_all()


def test_a_kill_that_met_nobody_is_drawn_again() -> None:
    deck = Deck(1, random.Random(1))
    assert deck.draw(["gc"]) is None
    assert deck.draw(["worker"]) == "worker"
    assert len(deck) == 0
    deck.put_back("worker")
    assert deck.draw(["worker"]) == "worker"


def kill(kind: str, at: float) -> Kill:
    return Kill(kind, at, "a moment", (1,))


def test_work_that_is_done_again_is_put_down_to_the_kill_in_between() -> None:
    kills = [kill("worker", 10), kill("working", 20), kill("gc", 50)]
    opens = [Open("a", 9.5), Open("b", 9.9), Open("a", 12), Open("c", 19), Open("c", 30), Open("d", 31)]
    # b was taken up before the first kill and committed all the same; nobody opened it again.
    assert work_lost(opens, kills) == Lost({"worker": 1, "working": 1}, ())


def test_work_of_a_worker_that_outlived_its_driver_is_put_down_to_the_drivers_kill() -> None:
    assert work_lost([Open("a", 21), Open("a", 40)], [kill("working", 20)]) == Lost({"working": 1}, ())


def test_work_that_is_done_again_without_a_kill_is_named() -> None:
    opens = [Open("a", 1), Open("a", 2), Open("b", 22), Open("b", 23), Open("c", 80), Open("c", 90)]
    assert work_lost(opens, [kill("worker", 20), kill("working", 30)]) == Lost({}, ("a", "b", "c"))


ROUND = Round(
    kills={"worker": 8, "gc": 2},
    photographs=40,
    ended={"restored": 37, "refused: truncated": 2, "failed: worker-died": 1},
    faults={},
    lost=Lost({"worker": 4, STOPPED: 3}, ()),
    orphans_before=5,
    orphans_after=0,
    quarantined=1,
    gave_up=0,
    stalled=0,
    refusals=1,
    woken=1,
    seconds=90,
)


def test_the_table_counts_kills_and_what_the_auditor_found() -> None:
    faulty = replace(ROUND, faults={"missing": 2, "altered": 1, "lost": 1, "unequal": 3, "source": 4}, orphans_after=1)
    text = table(Results(1, "folder", (ROUND, faulty)))
    assert "| a worker with photographs in hand | 16 | 8 | 0.50 |" in text
    assert "| **all** | **20** | **8** | **0.40** |" in text
    assert "stopped, overtaken and woken: 6 photographs" in text
    clean, wrong = text.splitlines()[-2:]
    assert clean.split(" | ")[4:13] == ["2", "0", "0", "0", "0", "0", "5", "0", "1"]
    assert wrong.split(" | ")[4:13] == ["2", "2", "0", "2", "3", "4", "5", "1", "1"]
    lengths = {line.count("|") for line in text.splitlines()[-4:]}
    assert len(lengths) == 1


@pytest.mark.parametrize("change", [{"faults": {"lost": 1}}, {"wrong": ("a driver hung",)}, {"orphans_after": 1}])
def test_results_are_clean_only_where_every_round_is(change: dict[str, object]) -> None:
    assert Results(1, "folder", (ROUND,)).clean
    assert not Results(1, "folder", (ROUND, replace(ROUND, **change))).clean  # type: ignore[arg-type]
    assert not Results(1, "folder", ()).clean
    assert not Results(1, "folder", (ROUND,), ("the reference's driver died of a signal",)).clean


def test_results_are_json() -> None:
    facts = json.loads(json.dumps(Results(7, "folder", (ROUND,)).as_json()))
    assert (facts["seed"], facts["clean"], facts["kills"]) == (7, True, {"worker": 8, "gc": 2})
    assert facts["rounds"][0]["worked_on_again"] == {"worker": 4, STOPPED: 3}


def test_the_log_is_a_line_an_event(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.write("kill", kind="gc", pids=(1, 2))
    log.write("round", clean=True)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["kill", "round"]
    assert lines[0]["pids"] == [1, 2]


def test_the_collection_is_the_same_for_the_same_seed_and_partly_broken(tmp_path: Path) -> None:
    files = make_photographs(60, 1)
    assert files == make_photographs(60, 1)
    assert files != make_photographs(60, 2)
    put_files(tmp_path / "scans", files)
    sizes, broken = set(), 0
    for path in sorted((tmp_path / "scans").iterdir()):
        try:
            with Image.open(path) as image:
                image.load()
                sizes |= {image.width, image.height}
        except (OSError, SyntaxError):
            broken += 1
    assert broken == 3
    assert min(sizes) >= 64
    assert max(sizes) <= 200
    assert {path.stat().st_mtime for path in (tmp_path / "scans").iterdir()} == {1_700_000_000}


def test_every_open_of_an_original_is_seen_and_those_of_the_audit_are_not(tmp_path: Path) -> None:
    ground = Folders(tmp_path / "round")
    try:
        ground.put({"a.png": b"1", "b.png": b"2"}, 1)
        for name in ("a.png", "b.png", "a.png"):
            (tmp_path / "round" / "scans" / name).read_bytes()
        assert len(digests(ground)) == 2
        assert [one.name for one in ground.opens()] == ["a.png", "b.png", "a.png"]
    finally:
        ground.close()
