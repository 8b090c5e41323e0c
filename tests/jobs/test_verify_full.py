"""Quick and full verification: what each of them finds, and that a full one finds every flipped bit, wherever it is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import lease, manifest
from jobs.rundir import Plan
from jobs.verify import Depth, Report, verify
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason
from pipeline.provenance import Compactor
from pipeline.record import from_manifest
from pipeline.storage import Store

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kept(finished: Plan) -> Plan:
    """A run with everything in it: two seals, a part, and a loose commit of the last photograph."""
    with lease.hold(Store(), finished.run, "run") as held:
        Compactor(Store(), finished.run, held.term).compact()
    before = provenance.live(Store(), finished.run, ["item_no", "source_sha256"]).to_pylist()
    with lease.hold(Store(), finished.run, "run") as held:
        [table] = list(manifest.parts(Store(), finished.run))
        record = from_manifest(table)[3]
        ended = replace(record, source_sha256=before[3]["source_sha256"]).ended(ItemError(Reason.STAGE_FAILED, "again"))
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [ended])
    return finished


def one(plan: Plan, pattern: str) -> Path:
    return sorted(Path(plan.run).glob(pattern))[0]


# Where the file is, the kind of fault, and the beginning of what is said about it.
PLACES: dict[str, tuple[Callable[[Plan], Path], str, str]] = {
    "output": (lambda plan: one(plan, "images/*/*"), "altered", "sha256 is "),
    "mask": (lambda plan: one(plan, "masks/*/*"), "altered", "sha256 is "),
    "edit map": (lambda plan: one(plan, "edits/*/*"), "altered", "sha256 is "),
    "map of invented detail": (lambda plan: one(plan, "invented/*/*"), "altered", "sha256 is "),
    "source": (lambda plan: Path(plan.spec.collection.source, "b.png"), "source", "the original has changed since"),
    "part": (lambda plan: one(plan, "provenance/parts/*"), "provenance", "sha256 is "),
    "commit": (lambda plan: one(plan, "provenance/terms/*/*"), "provenance", "it is not as it was written"),
    "first seal": (lambda plan: one(plan, "provenance/seals/*1.json"), "provenance", "it is not as it was written"),
    "last seal": (lambda plan: one(plan, "provenance/seals/*2.json"), "provenance", "it is not as it was written"),
    "manifest part": (lambda plan: one(plan, "manifest/part-*"), "manifest", "sha256 is "),
    "index": (lambda plan: one(plan, "manifest/index-*"), "manifest", "it is not as it was written"),
    "run.json": (lambda plan: one(plan, "run.json"), "run", "it is not as it was written"),
}


def test_a_sound_run_has_no_fault_however_closely_one_looks(kept: Plan) -> None:
    assert len(list(Path(kept.run, "provenance/seals").iterdir())) == 2
    assert verify(kept.run, depth=Depth.QUICK) == Report(4, 2, 1, 4, 0, ())
    assert verify(kept.run) == Report(4, 2, 1, 4, 0, ())
    assert verify(kept.run, depth=Depth.FULL) == Report(4, 2, 1, 4, 4, ())


@pytest.mark.parametrize("what", PLACES)
def test_one_flipped_bit_is_found_wherever_it_is(kept: Plan, what: str) -> None:
    place, kind, said = PLACES[what]
    path = place(kept)
    whole = path.read_bytes()
    bits = random.Random(what).sample(range(len(whole) * 8), 6)
    # The ends, where formats keep what they are known by.
    for bit in (0, len(whole) * 8 - 1, *bits):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        faults = verify(kept.run, depth=Depth.FULL).faults
        assert any(f.kind == kind and f.place == str(path) and f.message.startswith(said) for f in faults), bit
    path.write_bytes(whole)
    assert verify(kept.run, depth=Depth.FULL).faults == ()


def test_flipped_bits_everywhere_are_all_reported(kept: Plan) -> None:
    # Without a part that can be read nobody knows what its photographs' files should be.
    names = sorted(set(PLACES) - {"part"})
    for name in names:
        path = PLACES[name][0](kept)
        data = bytearray(path.read_bytes())
        data[-12] ^= 1
        path.write_bytes(data)
    hit = {(PLACES[name][1], str(PLACES[name][0](kept))) for name in names}
    assert hit <= {(fault.kind, fault.place) for fault in verify(kept.run, depth=Depth.FULL).faults}


def test_a_digest_that_is_gone_is_a_fault(kept: Plan) -> None:
    for pattern in ("run.json", "manifest/index-*", "provenance/seals/*2.json"):
        path = one(kept, pattern)
        whole = path.read_text()
        facts = json.loads(whole)
        del facts["self_sha256"]
        path.write_text(json.dumps(facts))
        faults = verify(kept.run, depth=Depth.FULL).faults
        assert [(fault.place, "lost its digest" in fault.message) for fault in faults] == [(str(path), True)]
        path.write_text(whole)


def test_a_run_of_before_there_were_digests_has_no_fault(kept: Plan) -> None:
    paths = [one(kept, "run.json"), one(kept, "manifest/index-*"), *Path(kept.run, "provenance/seals").iterdir()]
    for path in paths:
        facts = json.loads(path.read_text())
        del facts["self_sha256"]
        path.write_text(json.dumps(facts))
    assert verify(kept.run, depth=Depth.FULL).faults == ()


def test_a_quick_look_opens_no_image(kept: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Store.read

    def checked(self: Store, uri: str) -> bytes:
        assert "/images/" not in uri
        assert "/masks/" not in uri
        return read(self, uri)

    monkeypatch.setattr(Store, "read", checked)
    assert verify(kept.run, depth=Depth.QUICK).faults == ()


def test_a_quick_look_finds_what_is_gone_too_much_or_cut(kept: Plan) -> None:
    image, other = sorted(Path(kept.run, "images").rglob("*.png"))
    image.unlink()
    other.write_bytes(other.read_bytes()[:-1])
    one(kept, "masks/*/*").unlink()
    stranger = Path(kept.run, "images/notes.txt")
    stranger.touch()
    faults = verify(kept.run, depth=Depth.QUICK).faults
    assert sorted((fault.kind, fault.place) for fault in faults if "/masks/" not in fault.place) == [
        ("altered", str(other)),
        ("lost", str(image)),
        ("unexplained", str(stranger)),
    ]
    assert [fault.message[:8] for fault in faults if "/masks/" in fault.place] == ["the mask"]


def test_a_run_without_a_readable_run_json_is_an_error_where_nothing_says_that_it_was_one(kept: Plan) -> None:
    one(kept, "run.json").write_text("{")
    with pytest.raises(JobError, match=r"run\.json is damaged"):
        verify(kept.run, depth=Depth.FULL)


def test_the_command_line(kept: Plan, albumen: Call) -> None:
    assert albumen("verify", kept.run, "--quick") == (
        0,
        "4 photographs, 2 outputs listed, 1 masks listed, 4 maps listed: no fault\n",
        "",
    )
    said = "4 photographs, 2 outputs hashed, 1 masks hashed, 4 maps hashed, 4 sources hashed: no fault\n"
    assert albumen("verify", kept.run, "--full") == (0, said, "")
    code, _, err = albumen("verify", kept.run, "--quick", "--sources")
    assert (code, err.startswith("albumen: verify: --quick opens no file")) == (2, True)
    path = one(kept, "provenance/parts/*")
    path.write_bytes(path.read_bytes() + b"x")
    code, out, _ = albumen("verify", kept.run, "--full", "--json")
    report: dict[str, Any] = json.loads(out)
    assert (code, report["photographs"]) == (1, 4)
    assert [(fault["kind"], fault["place"]) for fault in report["faults"]] == [("provenance", str(path))]
