"""C2PA: the library's own reader trusts what was signed, in every format, and sees every change."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bagit
import c2pa
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from jobs.choices import PackageKind
from jobs.package import Credentials, package
from jobs.package.contents import Contents, Entry, File, Role, media_type
from jobs.package.signing import Signer
from pipeline.codecs import ENCODERS, SUFFIXES, encode
from pipeline.codecs.xmp import ENHANCED, GENERATIVE, Statement, restated
from pipeline.errors import SpecError
from pipeline.photograph import Container, Photograph
from tests.jobs.package.conftest import srgb

if TYPE_CHECKING:
    from tests.jobs.package.conftest import Keys

FORMATS = sorted(ENCODERS)


def read(keys: Keys, kind: str, data: bytes, sidecar: bytes | None = None) -> tuple[str, dict[str, Any]]:
    """What the library thinks of a file, and its manifest."""
    settings = {
        "trust": {"trust_anchors": keys.authority},
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    context = c2pa.Context.from_dict(settings)
    reader = c2pa.Reader(kind, io.BytesIO(data), manifest_data=sidecar, context=context)
    facts = json.loads(reader.json())
    return reader.get_validation_state(), facts["manifests"][facts["active_manifest"]]


@pytest.fixture(scope="module")
def signer(keys: Keys) -> Signer:
    return Signer(Credentials(keys.certificate, keys.key))


@pytest.fixture(scope="module")
def entry(sound: Path) -> Entry:
    """The photograph whose record names a network."""
    return next(entry for entry in Contents(str(sound)).entries() if entry.row["item_no"] == 0)


def delivered(
    entry: Entry,
    file_format: str,
    folder: Path,
    depth: type[np.generic] = np.uint8,
    container: Container | None = None,
) -> tuple[Entry, dict[Role, Path]]:
    """The photograph as a run in another format would have delivered it."""
    pixels = np.random.default_rng(1).integers(0, np.iinfo(depth).max, (24, 40, 3)).astype(depth)
    data = encode(Photograph(entry.item_id, pixels, container or Container("PNG")), file_format, None)
    restored = folder / f"{entry.item_id}{SUFFIXES[file_format]}"
    restored.write_bytes(data)
    original = entry.file(Role.ORIGINAL)
    assert original is not None
    file = File(
        Role.RESTORED,
        str(restored),
        hashlib.sha256(data).hexdigest(),
        len(data),
        restored.name,
        media_type(None, restored.name),
    )
    row = dict(entry.row) | {"output_uri": str(restored)}
    return replace(entry, row=row, files=(original, file)), {Role.ORIGINAL: Path(original.uri), Role.RESTORED: restored}


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_that_is_delivered_can_be_signed(
    signer: Signer, keys: Keys, entry: Entry, tmp_path: Path, file_format: str
) -> None:
    given, paths = delivered(entry, file_format, tmp_path)
    before = paths[Role.RESTORED].read_bytes()
    signed = signer.sign(given, paths, tmp_path / "signed")
    kind = media_type(None, paths[Role.RESTORED].name)
    data, sidecar = (before, signed.read_bytes()) if signed.suffix == ".c2pa" else (signed.read_bytes(), None)
    assert (sidecar is not None) == (file_format == "jp2")
    state, manifest = read(keys, kind, data, sidecar)
    assert state == "Trusted"
    assert manifest["signature_info"]["issuer"] == "City Archive"
    assert paths[Role.RESTORED].read_bytes() == before

    changed = bytearray(data)
    changed[-2 if file_format != "webp" else -20] ^= 1
    try:
        assert read(keys, kind, bytes(changed), sidecar)[0] == "Invalid"
    except c2pa.C2paError:
        # Where the bit makes the file unreadable, the library says so instead.
        assert file_format in ("png", "avif")


@pytest.mark.parametrize("file_format", sorted(set(FORMATS) - {"jp2"}))
def test_not_a_pixel_of_a_signed_copy_is_another(
    signer: Signer, entry: Entry, tmp_path: Path, file_format: str
) -> None:
    depth = np.uint8 if file_format in ("jpeg", "webp", "avif") else np.uint16
    given, paths = delivered(entry, file_format, tmp_path, depth)
    signed = signer.sign(given, paths, tmp_path / "signed")
    before, after = (imagecodecs.imread(str(path)) for path in (paths[Role.RESTORED], signed))
    assert before.dtype == depth
    assert np.array_equal(before, after)


def test_the_manifest_says_what_was_done_and_from_what(
    signer: Signer, keys: Keys, entry: Entry, tmp_path: Path
) -> None:
    given, paths = delivered(entry, "png", tmp_path)
    signed = signer.sign(given, paths, tmp_path / "signed")
    _, manifest = read(keys, "image/png", signed.read_bytes())
    [ingredient] = manifest["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert ingredient["instance_id"] == f"urn:sha256:{entry.row['source_sha256']}"
    assert ingredient["title"] == "1 with blanks & Ä_é_.png"
    assertions = {one["label"]: one["data"] for one in manifest["assertions"]}
    opened, *done = assertions["c2pa.actions.v2"]["actions"]
    assert opened["action"] == "c2pa.opened"
    stages = [event["stage"] for event in entry.row["events"] if event["input_sha256"] != event["output_sha256"]]
    changed = [stage for stage in stages if stage not in ("ingest", "deliver")]
    assert [action["softwareAgent"]["name"] for action in done] == [f"albumen {stage}" for stage in changed]
    repair = done[changed.index("repair")]
    assert repair["digitalSourceType"] == GENERATIVE
    assert repair["parameters"]["albumen.models"] == [
        {"id": "gfpgan-v1.4", "sha256": "e" * 64, "licence": "LicenseRef-NVIDIA-CC-BY-NC-SA-4.0-parts"}
    ]
    assert {action["digitalSourceType"] for action in done if action is not repair} <= {ENHANCED}
    record = assertions["albumen.provenance"]
    assert record["output_sha256"] == entry.row["output_sha256"]
    assert record["recipe_id"] == entry.row["recipe_id"]


def test_an_original_with_credentials_of_its_own_keeps_them(
    signer: Signer, keys: Keys, entry: Entry, tmp_path: Path
) -> None:
    given, paths = delivered(entry, "png", tmp_path)
    first = signer.sign(given, paths, tmp_path / "first")
    signed = signer.sign(given, paths | {Role.ORIGINAL: first}, tmp_path / "second")
    _, manifest = read(keys, "image/png", signed.read_bytes())
    assert manifest["ingredients"][0]["active_manifest"].startswith("urn:c2pa:")


def test_an_original_that_is_gone_is_named_by_its_digest(
    signer: Signer, keys: Keys, entry: Entry, tmp_path: Path
) -> None:
    given, paths = delivered(entry, "jpeg", tmp_path)
    given = replace(given, files=tuple(file for file in given.files if file.role is not Role.ORIGINAL))
    signed = signer.sign(given, {Role.RESTORED: paths[Role.RESTORED]}, tmp_path / "signed")
    state, manifest = read(keys, "image/jpeg", signed.read_bytes())
    assert state == "Trusted"
    assert manifest["ingredients"][0]["instance_id"] == f"urn:sha256:{entry.row['source_sha256']}"


def test_signed_copies_stand_beside_what_was_delivered(sound: Path, tmp_path: Path, keys: Keys) -> None:
    before = {path: path.read_bytes() for path in sound.rglob("*") if path.is_file()}
    package(str(sound), PackageKind.BAGIT, str(tmp_path / "bags"), credentials=Credentials(keys.certificate, keys.key))
    bag = tmp_path / "bags" / "bag-00001"
    assert bagit.Bag(str(bag)).validate()
    signed = sorted(bag.rglob("signed/*"))
    assert len(signed) == 6
    for path in signed:
        assert read(keys, "image/tiff", path.read_bytes())[0] == "Trusted"
        restored = path.parent.parent / "restored" / path.name
        assert restored.read_bytes() == (sound / "images" / path.stem[:2] / path.name).read_bytes()
    assert {path: path.read_bytes() for path in sound.rglob("*") if path.is_file()} == before


def test_exiftool_reads_source_type_and_profile_of_what_was_delivered_and_of_signed_copies(
    signer: Signer, entry: Entry, tmp_path: Path
) -> None:
    """The run's own TIFF, one file of each other format with the same statement and profile, and what is signed of them."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    own = Path(entry.row["output_uri"])
    files = [
        own,
        signer.sign(entry, {Role.ORIGINAL: Path(entry.row["source_uri"]), Role.RESTORED: own}, tmp_path / "own"),
    ]
    statement = Statement(
        generative=True,
        item_id=entry.item_id,
        source_sha256=entry.row["source_sha256"],
        recipe_id=None,
        stages=(),
        models=(),
        width=40,
        height=24,
        dpi=None,
    )
    packet, kind, _ = restated(None, statement)
    assert kind == GENERATIVE
    for file_format in FORMATS:
        folder = tmp_path / file_format
        folder.mkdir()
        given, paths = delivered(entry, file_format, folder, container=Container("PNG", icc=srgb(), xmp=packet))
        files += [paths[Role.RESTORED], signer.sign(given, paths, folder / "signed")]
    files = [file for file in files if file.suffix != ".c2pa"]
    command = [program, "-json", "-n", "-XMP:DigitalSourceType", "-ICC_Profile:ProfileDescription", *map(str, files)]
    answers = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert len(answers) == 2 + 2 * len(FORMATS) - 1
    for answer in answers:
        assert answer["DigitalSourceType"] == GENERATIVE, answer
        assert answer["ProfileDescription"] == "sRGB built-in", answer


def test_wrong_credentials_are_told_before_anything_is_read(sound: Path, tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(SpecError) as caught:
        package(
            str(sound),
            PackageKind.BAGIT,
            str(tmp_path / "bags"),
            credentials=Credentials(tmp_path / "none.pem", tmp_path / "no.key", "md5"),
        )
    assert len(caught.value.faults) == 3
    for certificate, key in ((tmp_path / "junk.pem", keys.key), (keys.certificate, tmp_path / "junk.pem")):
        with pytest.raises(SpecError, match="do not sign"):
            package(str(sound), PackageKind.BAGIT, str(tmp_path / "bags"), credentials=Credentials(certificate, key))
    with pytest.raises(SpecError, match="do not sign"):
        package(
            str(sound),
            PackageKind.BAGIT,
            str(tmp_path / "bags"),
            credentials=Credentials(keys.certificate, keys.key, "ps256"),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["junk.pem"]


def test_without_the_library_it_is_said_what_to_install(
    sound: Path, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(SpecError, match=r"albumen\[c2pa\]"):
        package(str(sound), PackageKind.BAGIT, str(tmp_path / "b"), credentials=Credentials(keys.certificate, keys.key))


def test_kinds_without_files_cannot_be_signed(sound: Path, tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(SpecError, match="premis carries no restored file"):
        package(
            str(sound), PackageKind.PREMIS, str(tmp_path / "p"), credentials=Credentials(keys.certificate, keys.key)
        )


def test_the_picture_that_is_signed_on_trial_is_one() -> None:
    from jobs.package.signing import _pixel

    with Image.open(io.BytesIO(_pixel())) as image:
        assert image.size == (1, 1)
