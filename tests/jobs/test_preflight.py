"""What is looked at on every node before a job begins. Nodes are plain values here; tests of submit have real ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cluster.ask import Told, gpu_memory
from cluster.connect import Resources
from cluster.nodes import Node
from jobs import preflight
from jobs.preflight import Look, card_faults, gathered, look, on_cluster
from jobs.spec import JobSpec
from pipeline.errors import JobError
from pipeline.models.catalogue import CARDS
from pipeline.software import fingerprint

GIB = 1 << 30
SOUND = Look((), {"one": "a" * 64}, None)


def test_a_machine_that_has_everything_has_no_fault(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    found = look(make_spec(), fingerprint())
    assert found.faults == ()
    card = next(card for card in CARDS if card.id == "albumen-damage")
    assert found.models == {"retinaface-resnet50": None, card.id: card.sha256}
    assert not (scans.parent / "run").exists()


def test_every_fault_of_a_machine_at_once(make_spec: Callable[..., JobSpec], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    spec = make_spec(
        output={"uri": "file/run"},
        recipe={"stages": ["upscale"], "upscale": {"model": "realesrgan-x2plus"}},
        models={"mirror": str(tmp_path / "no-mirror")},
    )
    faults = look(spec, fingerprint() | {"pillow": "1.0"}).faults
    assert len(faults) == 4
    for text, beginning in zip(
        faults,
        (
            "the software differs: pillow is ",
            f"collection.source: {tmp_path / 'scans'} is not there",
            f"output.uri: {tmp_path / 'file'} is no folder",
            f"model realesrgan-x2plus: cannot fetch {tmp_path / 'no-mirror'}",
        ),
        strict=True,
    ):
        assert text.startswith(beginning)
    assert "[models] mirror" in faults[3]


def test_an_output_that_cannot_be_written_is_a_fault(
    make_spec: Callable[..., JobSpec], scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    [fault] = look(make_spec(), fingerprint()).faults
    assert fault == f"output.uri: {scans.parent} cannot be written"


def test_a_bucket_that_is_not_there_is_a_fault(make_spec: Callable[..., JobSpec], s3: str) -> None:
    faults = look(make_spec(collection={"source": "s3://no-bucket/scans"}), fingerprint()).faults
    assert faults == ("collection.source: s3://no-bucket/scans: there is no bucket 'no-bucket'",)


def test_what_several_nodes_lack_is_said_once_with_their_names() -> None:
    other = Look(("output.uri: /run cannot be written",), {"one": None}, None)
    told = [Told("10.0.0.1", 0, SOUND), Told("10.0.0.2", 0, other), Told("10.0.0.3", 0, other)]
    told.append(Told("10.0.0.4", 0, None, "node 10.0.0.4 did not answer within 60 s"))
    assert gathered(SOUND, told) == [
        "node 10.0.0.4 did not answer within 60 s",
        "node 10.0.0.2, 10.0.0.3: output.uri: /run cannot be written",
        "node 10.0.0.2, 10.0.0.3: model one is installed for the driver and cannot be had there",
    ]
    # What the driver's machine lacks as well has nothing to do with the nodes.
    assert gathered(Look(other.faults, {"one": None}, None), told[:3]) == ["output.uri: /run cannot be written"]


def test_a_card_that_cannot_hold_the_networks_is_a_fault(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    spec = make_spec(recipe={"stages": ["upscale"]})
    models = {"realesrgan-x4plus-embedded": "a" * 64}
    small = Told("10.0.0.1", 1, Look((), models, (GIB,)))
    large = Told("10.0.0.2", 2, Look((), models, (16 * GIB, 16 * GIB)))
    [fault] = card_faults(spec, models, [small, large])
    assert fault == "node 10.0.0.1: a GPU with 1.0 GiB cannot hold upscale, which takes 1.1 GiB at least"
    # Nobody can say, no GPU is given to Ray, or no network would run there.
    assert card_faults(spec, models, [Told("10.0.0.1", 1, Look((), models, None)), large]) == []
    assert card_faults(spec, models, [Told("10.0.0.1", 0, small.answer)]) == []
    assert card_faults(spec, {"realesrgan-x4plus-embedded": None}, [small]) == []


def test_networks_that_share_a_card_are_added_up(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    spec = make_spec(recipe={"stages": ["faces", "upscale"]})
    models = {"gfpgan-v1.4": "b" * 64, "retinaface-resnet50": "c" * 64, "realesrgan-x4plus-embedded": "a" * 64}
    card = Told("10.0.0.1", 1, Look((), models, (int(2.2 * GIB),)))
    [fault] = card_faults(spec, models, [card])
    assert "(faces, upscale)" in fault
    # One that only a detector is there for will be skipped, and takes no card.
    assert card_faults(spec, models | {"gfpgan-v1.4": None}, [card]) == []
    # With a card for each, none has to hold both.
    assert card_faults(spec, models, [card, Told("10.0.0.2", 1, card.answer)]) == []


def test_a_network_without_a_pool_of_its_own_needs_no_card(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    models = {"albumen-damage": "a" * 64, "retinaface-resnet50": None}
    card = Told("10.0.0.1", 1, Look((), models, (GIB // 2,)))
    assert card_faults(make_spec(), models, [card]) == []
    [fault] = card_faults(make_spec(), models | {"retinaface-resnet50": "c" * 64}, [card])
    assert "analyse" in fault


def test_memory_of_cards_is_what_the_drivers_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() is None
    program.write_text("#!/bin/sh\necho 81559\necho 4096\n")
    program.chmod(0o755)
    assert gpu_memory() == (81559 << 20, 4096 << 20)
    program.write_text("#!/bin/sh\necho No devices were found\n")
    assert gpu_memory() is None
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_memory() is None


def test_an_address_where_nobody_is_is_one_message(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    spec = make_spec(cluster={"address": "127.0.0.1:9"})
    with pytest.raises(JobError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"), on_cluster(spec, print):
        pass


@pytest.mark.parametrize(("sound", "client"), [(True, False), (False, False), (True, True)])
def test_the_drivers_machine_is_looked_at_once(
    make_spec: Callable[..., JobSpec], scans: Path, monkeypatch: pytest.MonkeyPatch, *, sound: bool, client: bool
) -> None:
    """Its node's answer is the driver's own, unless that complains: then the driver tells its faults from the node's."""
    looked: list[JobSpec] = []

    @contextmanager
    def connected(address: str, cpus: int | None) -> Iterator[Resources]:
        yield Resources((Node(2.0),))

    def looking(spec: JobSpec, software: object) -> Look:
        looked.append(spec)
        return SOUND

    answer = SOUND if sound else Look(("output.uri: /run cannot be written",), {}, None)
    told = [Told("10.0.0.1", 0, SOUND), Told("10.0.0.2", 0, answer, here=not client)]
    monkeypatch.setattr(preflight, "connect", connected)
    monkeypatch.setattr(preflight, "look", looking)
    monkeypatch.setattr(preflight, "ask_every_node", lambda question: told)
    monkeypatch.setattr(preflight, "sender_faults", lambda folder: [])
    refused = pytest.raises(JobError, match=r"node 10\.0\.0\.2: output\.uri: /run cannot be written")
    with nullcontext() if sound else refused, on_cluster(make_spec(cluster={"address": "10.0.0.2:6379"}), print):
        assert sound
    assert len(looked) == (0 if sound and not client else 1)


def test_an_embedded_ray_is_not_asked(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    said: list[str] = []
    with on_cluster(make_spec(), said.append):
        pass
    assert said == []
