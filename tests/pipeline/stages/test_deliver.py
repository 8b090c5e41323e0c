from __future__ import annotations

import errno
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.codecs import decode
from pipeline.damage import REPAIRED, Kind, mask_png
from pipeline.errors import ItemError, Reason, StoreError
from pipeline.honesty.proof import proof_of
from pipeline.photograph import Container, Photograph, deepened
from pipeline.record import Event, Record
from pipeline.stages.deliver import Deliver, DeliverParameters, edits_uri, image_uri, invented_uri, mask_uri
from pipeline.storage import Store

ITEM = "abcdef"


class Forgetful(Store):
    """A store whose bytes come back altered."""

    def read(self, uri: str) -> bytes:
        return super().read(uri)[:-1] + b"?"


class Full(Store):
    """A store without room."""

    def create(self, uri: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")


def record(scale: int = 1, dtype: str = "uint8", dpi: tuple[float, float] | None = None) -> Record:
    pixels = np.arange(20 * 30 * 3).astype(dtype).reshape(20, 30, 3)
    photograph = Photograph(ITEM, pixels, Container("JPEG", dpi=dpi), scale=scale)
    return Record(1, ITEM, "/scans/a.jpg", photograph=photograph)


def deliver(run: Path, file_format: str = "tiff", store: Store | None = None) -> Deliver:
    return Deliver(DeliverParameters(format=file_format), store or Store(), str(run), "cd" * 32)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file_format", "suffix"),
    [("tiff", "tif"), ("png", "png"), ("jpeg", "jpg"), ("jp2", "jp2"), ("webp", "webp"), ("avif", "avif")],
)
def test_the_file_lies_under_its_digest_and_name(tmp_path: Path, file_format: str, suffix: str) -> None:
    after = deliver(tmp_path, file_format).write(record())
    path = tmp_path / "images" / "ab" / f"{ITEM}.{suffix}"
    assert after.output_uri == str(path) == image_uri(str(tmp_path), ITEM, file_format)
    data = path.read_bytes()
    assert after.output_sha256 == hashlib.sha256(data).hexdigest()
    assert (after.output_bytes, after.output_width, after.output_height) == (len(data), 30, 20)
    assert decode(data, ITEM, 10**6).pixels.shape == (20, 30, 3)


def test_a_second_delivery_writes_the_same_file(tmp_path: Path) -> None:
    first, second = deliver(tmp_path).write(record()), deliver(tmp_path).write(record())
    assert first == second
    assert [path.name for path in (tmp_path / "images" / "ab").iterdir()] == [f"{ITEM}.tif"]


def test_more_pixels_on_the_same_paper(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(record(scale=4, dpi=(300.0, 150.0)))
    assert after.output_uri is not None
    found = Image.open(io.BytesIO(Path(after.output_uri).read_bytes()))
    assert tuple(float(d) for d in found.info["dpi"]) == (1200.0, 600.0)


def test_what_comes_back_altered_is_not_delivered(tmp_path: Path) -> None:
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path, store=Forgetful()).write(record())
    assert caught.value.reason is Reason.DELIVERY_FAILED


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """And it stops the run: no photograph's row may say for ever that it failed."""
    with pytest.raises(StoreError, match="No space left"):
        deliver(tmp_path, store=Full()).write(record())


def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = record()
    assert given.photograph is not None
    clear = replace(given.photograph, alpha=np.zeros((20, 30), np.uint8))
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path, "jpeg").write(replace(given, photograph=clear))
    assert caught.value.reason is Reason.UNSUPPORTED
    assert list(tmp_path.iterdir()) == []


def test_a_quality_decides_the_bytes_of_its_own_formats_only() -> None:
    def decisive(file_format: str, **more: int) -> dict[str, object]:
        return DeliverParameters(format=file_format, **more).decisive()  # type: ignore[arg-type]

    assert decisive("tiff", quality=50, jpeg_quality=10) == decisive("tiff")
    assert decisive("jpeg", quality=50) == decisive("jpeg") != decisive("jpeg", jpeg_quality=10)
    assert decisive("avif", jpeg_quality=10) == decisive("avif") != decisive("avif", quality=50)


def test_a_quality_reaches_its_format(tmp_path: Path) -> None:
    small = Deliver(DeliverParameters(format="webp", quality=20), Store(), str(tmp_path / "a"), "cd" * 32).write(
        record()
    )
    whole = Deliver(DeliverParameters(format="webp", jpeg_quality=20), Store(), str(tmp_path / "b"), "cd" * 32).write(
        record()
    )
    assert small.output_bytes is not None
    assert whole.output_bytes is not None
    assert small.output_sha256 != whole.output_sha256
    assert whole.output_uri is not None
    before = record().photograph
    assert before is not None
    assert np.array_equal(decode(Path(whole.output_uri).read_bytes(), ITEM, 10**6).pixels, before.pixels)


def delivered(run: Path, given: Record, **parameters: object) -> Photograph:
    stage = Deliver(DeliverParameters(**parameters), Store(), str(run), "cd" * 32)  # type: ignore[arg-type]
    after = stage.write(given)
    assert after.output_uri is not None
    return decode(Path(after.output_uri).read_bytes(), ITEM, 10**6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("file_format", ["tiff", "png"])
def test_untouched_pixels_come_back_bit_for_bit_through_16_bits(
    tmp_path: Path, rng: np.random.Generator, dtype: str, file_format: str
) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max, (20, 30, 3), dtype=dtype, endpoint=True)
    alpha = rng.integers(0, np.iinfo(dtype).max, (20, 30), dtype=dtype, endpoint=True)
    photograph = Photograph(ITEM, pixels, Container("TIFF"), alpha)
    bits = np.dtype(dtype).itemsize * 8
    given = Record(1, ITEM, "/a.tif", depth=bits, photograph=deepened(photograph))
    found = delivered(tmp_path, given, format=file_format)
    assert found.pixels.dtype == np.dtype(dtype)
    assert np.array_equal(found.pixels, pixels)
    assert found.alpha is not None
    assert np.array_equal(found.alpha, alpha)


@pytest.mark.parametrize(
    ("source", "wanted", "file_format", "bits"),
    [
        (8, "source", "tiff", 8),
        (16, "source", "tiff", 16),
        (8, 16, "tiff", 16),
        (16, 8, "png", 8),
        (16, "source", "jpeg", 8),
        (None, "source", "tiff", 16),
    ],
)
def test_the_job_decides_the_depth(
    tmp_path: Path, rng: np.random.Generator, source: int | None, wanted: object, file_format: str, bits: int
) -> None:
    pixels = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    given = Record(1, ITEM, "/a.tif", depth=source, photograph=Photograph(ITEM, pixels, Container("TIFF")))
    found = delivered(tmp_path, given, format=file_format, depth=wanted)
    assert found.pixels.dtype.itemsize * 8 == bits
    after = deliver(tmp_path, file_format).write(given)
    assert after.depth == source
    if bits == 8 and file_format != "jpeg":
        assert np.abs(found.pixels.astype(float) - pixels / 257).max() <= 0.5


def test_eight_bits_are_refused_sixteen_before_the_run() -> None:
    with pytest.raises(ValueError, match="jpeg holds 8 bits"):
        DeliverParameters(format="jpeg", depth=16)
    assert "depth" not in DeliverParameters(format="jpeg", depth=8).decisive()
    assert DeliverParameters(depth=16).decisive()["depth"] == 16


def event(stage: str, *models: str, outcome: str = "applied", changed: bool = True) -> Event:
    return Event(
        stage=stage,
        version="2",
        outcome=outcome,
        reason=None,
        parameters="{}",
        models=tuple({"id": model, "sha256": "0" * 64, "licence": "MIT"} for model in models),
        input_sha256="a" * 64,
        output_sha256=("b" if changed else "a") * 64,
        changed_fraction=None,
        seconds=0.0,
        device="cpu",
        precision=None,
        findings="{}",
    )


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


def stated(run: Path, *events: Event, xmp: bytes | None = XMP) -> tuple[bytes | None, dict[str, object]]:
    """The delivered XMP and what the record says of it."""
    photograph = Photograph(ITEM, np.zeros((4, 5, 3), np.uint8), Container("PNG", xmp=xmp))
    given = Record(1, ITEM, "/a.png", source_sha256="ab" * 32, depth=8, events=events, photograph=photograph)
    after = Deliver(DeliverParameters(), Store(), str(run), "cd" * 32).write(given)
    assert after.output_uri is not None
    return decode(Path(after.output_uri).read_bytes(), ITEM, 10**6).container.xmp, dict(after.findings)


INGEST = event("ingest")


@pytest.mark.parametrize(
    "events",
    [
        (INGEST,),
        (INGEST, event("analyse", "retinaface-resnet50", changed=False)),
        (INGEST, event("repair", outcome="skipped", changed=False), event("colour", outcome="skipped", changed=False)),
    ],
)
def test_where_no_pixel_changed_the_packet_is_the_source_s(tmp_path: Path, events: tuple[Event, ...]) -> None:
    assert stated(tmp_path, *events) == (XMP, {"depth": 8})
    assert stated(tmp_path, *events, xmp=None) == (None, {"depth": 8})


@pytest.mark.parametrize(
    ("events", "term"),
    [
        ((event("repair"), event("colour")), "algorithmicallyEnhanced"),
        ((event("analyse", "retinaface-resnet50", changed=False), event("colour")), "algorithmicallyEnhanced"),
        ((event("repair", "albumen-noise"),), "algorithmicallyEnhanced"),
        ((event("analyse", "albumen-damage", changed=False), event("repair")), "algorithmicallyEnhanced"),
        ((event("repair", "a job's own model"),), "compositeWithTrainedAlgorithmicMedia"),
        ((event("repair"), event("upscale", "realesrgan-x4plus")), "compositeWithTrainedAlgorithmicMedia"),
        ((event("faces", "gfpgan-v1.4", changed=False), event("colour")), "algorithmicallyEnhanced"),
        ((event("compose", "gfpgan-v1.4"),), "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_the_file_says_how_its_pixels_came_about(tmp_path: Path, events: tuple[Event, ...], term: str) -> None:
    packet, findings = stated(tmp_path, INGEST, *events)
    assert packet is not None
    assert f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}<".encode() in packet
    assert findings["digital_source_type"] == f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}"
    for event_ in events:
        named = f">{event_.stage} {event_.version}<".encode() in packet
        assert named == (event_.input_sha256 != event_.output_sha256)
    assert b"cd" * 32 in packet
    assert ITEM.encode() in packet


def test_a_packet_that_is_no_xml_is_left_out_and_said(tmp_path: Path) -> None:
    packet, findings = stated(tmp_path, INGEST, event("colour"), xmp=b"not XML")
    assert packet is not None
    assert b"not XML" not in packet
    assert str(findings["xmp"]).startswith("the source's XMP is no XML")


def test_the_same_photograph_gives_the_same_file_in_another_run(tmp_path: Path) -> None:
    one = stated(tmp_path / "one", INGEST, event("colour"))[0]
    other = stated(tmp_path / "other", replace(INGEST, seconds=9.0), replace(event("colour"), seconds=3.0))[0]
    assert one == other


def test_equal_bytes_that_are_there_already_count_as_delivered_and_are_not_written_again(tmp_path: Path) -> None:
    first = deliver(tmp_path).write(record())
    assert first.output_uri is not None
    before = Path(first.output_uri).stat().st_mtime_ns
    assert deliver(tmp_path).write(record()) == first
    assert Path(first.output_uri).stat().st_mtime_ns == before


def test_other_bytes_are_not_touched_and_the_name_says_the_digest(tmp_path: Path) -> None:
    """Left by an attempt that was never committed, with another library's encoder perhaps."""
    old = tmp_path / "images" / "ab" / f"{ITEM}.tif"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of another attempt")
    after = deliver(tmp_path).write(record())
    assert old.read_bytes() == b"of another attempt"
    assert after.output_sha256 is not None
    assert after.output_uri == str(old.with_name(f"{ITEM}-{after.output_sha256[:12]}.tif"))
    assert hashlib.sha256(Path(after.output_uri).read_bytes()).hexdigest() == after.output_sha256
    assert deliver(tmp_path).write(record()) == after


def test_where_both_names_hold_other_bytes_nothing_is_delivered(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(record())
    folder = tmp_path / "images" / "ab"
    (folder / f"{ITEM}.tif").write_bytes(b"one")
    assert after.output_sha256 is not None
    (folder / f"{ITEM}-{after.output_sha256[:12]}.tif").write_bytes(b"two")
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path).write(record())
    assert caught.value.reason is Reason.DELIVERY_FAILED
    assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"one", b"two"]


def codes() -> np.ndarray:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[4, 3:28], drawn[10:13, 5:8], drawn[15:, 20:] = Kind.LINE | REPAIRED, Kind.SPOT, Kind.MISSING
    return drawn


def damaged(drawn: np.ndarray | None = None) -> Record:
    given = record()
    assert given.photograph is not None
    return replace(given, photograph=replace(given.photograph, damage=codes() if drawn is None else drawn))


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def test_the_mask_lies_beside_the_images_under_its_digest(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(damaged())
    assert files(tmp_path) == [f"images/ab/{ITEM}.tif", f"masks/ab/{ITEM}.png"]
    assert after.mask_uri == str(tmp_path / f"masks/ab/{ITEM}.png") == mask_uri(str(tmp_path), ITEM)
    data = Path(after.mask_uri).read_bytes()
    assert after.mask_sha256 == hashlib.sha256(data).hexdigest()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), codes())
    assert deliver(tmp_path).write(damaged()) == after


@pytest.mark.parametrize("drawn", [None, np.zeros((20, 30), np.uint8)], ids=["not looked for", "none found"])
def test_without_damage_there_is_no_mask(tmp_path: Path, drawn: np.ndarray | None) -> None:
    after = deliver(tmp_path).write(record() if drawn is None else damaged(drawn))
    assert (after.mask_uri, after.mask_sha256) == (None, None)
    assert files(tmp_path) == [f"images/ab/{ITEM}.tif"]


def test_the_mask_has_the_size_of_the_scan_also_where_the_photograph_grew(tmp_path: Path) -> None:
    given = record(scale=2)
    assert given.photograph is not None
    small = codes()[::2, ::2]
    after = deliver(tmp_path).write(replace(given, photograph=replace(given.photograph, mask=mask_png(small))))
    assert after.mask_uri is not None
    assert np.array_equal(np.asarray(Image.open(after.mask_uri)), small)


def test_another_mask_under_its_name_is_not_touched(tmp_path: Path) -> None:
    old = Path(mask_uri(str(tmp_path), ITEM))
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of another attempt")
    after = deliver(tmp_path).write(damaged())
    assert old.read_bytes() == b"of another attempt"
    assert after.mask_sha256 is not None
    assert after.mask_uri == str(old.with_name(f"{ITEM}-{after.mask_sha256[:12]}.png"))


def test_a_mask_that_comes_back_altered_is_not_delivered(tmp_path: Path) -> None:
    class ForgetsMasks(Store):
        def read(self, uri: str) -> bytes:
            data = super().read(uri)
            return data[:-1] + b"?" if "/masks/" in uri else data

    with pytest.raises(ItemError, match=r"masks/ab/abcdef\.png") as caught:
        deliver(tmp_path, store=ForgetsMasks()).write(damaged())
    assert caught.value.reason is Reason.DELIVERY_FAILED


def measured() -> Record:
    """A record whose scan left its proof, and whose pixels have changed since."""
    given = record()
    assert given.photograph is not None
    proof = proof_of(given.photograph)
    return replace(given, photograph=replace(given.photograph, pixels=given.photograph.pixels // 2, proof=proof))


def test_the_maps_lie_beside_the_images_under_their_digests(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(measured())
    assert files(tmp_path) == [f"edits/ab/{ITEM}.png", f"images/ab/{ITEM}.tif", f"invented/ab/{ITEM}.png"]
    assert after.honesty is not None
    assert after.honesty.measures.de00_mean > 5
    for uri, digest, named in (
        (after.edits_uri, after.edits_sha256, edits_uri),
        (after.invented_uri, after.invented_sha256, invented_uri),
    ):
        assert uri == named(str(tmp_path), ITEM)
        assert hashlib.sha256(Path(uri).read_bytes()).hexdigest() == digest
        assert np.asarray(Image.open(uri)).shape == (20, 30)
    assert deliver(tmp_path).write(measured()) == after


def test_without_a_proof_nothing_is_measured(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(record())
    assert (after.honesty, after.edits_uri, after.edits_sha256, after.invented_uri) == (None, None, None, None)


def test_other_maps_under_their_names_are_not_touched(tmp_path: Path) -> None:
    old = Path(edits_uri(str(tmp_path), ITEM))
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of another attempt")
    after = deliver(tmp_path).write(measured())
    assert old.read_bytes() == b"of another attempt"
    assert after.edits_sha256 is not None
    assert after.edits_uri == str(old.with_name(f"{ITEM}-{after.edits_sha256[:12]}.png"))


def test_what_is_measured_is_what_is_delivered(tmp_path: Path) -> None:
    """Depth is set before: 16 bits that are rounded to 8 are measured rounded."""
    given = measured()
    assert given.photograph is not None
    deep = replace(given, photograph=deepened(given.photograph), depth=8)
    assert deliver(tmp_path / "one").write(deep).honesty == deliver(tmp_path / "other").write(given).honesty
