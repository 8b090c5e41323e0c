"""C2PA (Technical Specification 2): content credentials on copies of restored photographs; the run's own stay as they are."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobs.package.contents import ANY_TYPE, Entry, Role, original_name
from pipeline import __version__
from pipeline.codecs.xmp import ENHANCED, GENERATIVE
from pipeline.errors import JobError, SpecError

# Into these the manifest goes; beside every other file lies one of its own, NAME.c2pa.
EMBEDDED = frozenset({"image/jpeg", "image/png", "image/tiff", "image/webp", "image/avif"})
ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
_ACTIONS: Mapping[str, str] = MappingProxyType({"colour": "c2pa.color_adjustments", "upscale": "c2pa.resized"})
# Nothing is fetched, and no preview of the photograph is put into the manifest.
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """certificate: PEM, the signer's own first, then those above it. key: PEM, PKCS #8. timestamps: address of a time-stamping
    authority (RFC 3161), or None for a signature without a time that others vouch for."""

    certificate: Path
    key: Path
    algorithm: str = "es256"
    timestamps: str | None = None


class Signer:
    """Signs with one key. Raises SpecError, naming all that is wrong, for credentials that sign nothing."""

    def __init__(self, credentials: Credentials) -> None:
        texts = _texts(credentials)
        try:
            import c2pa
        except ImportError as error:
            raise SpecError(
                "signing needs the library c2pa-python, which is not installed", hint="pip install 'albumen[c2pa]'"
            ) from error
        self._c2pa: Any = c2pa
        try:
            self._context = c2pa.Context.from_dict(dict(_SETTINGS))
            info = c2pa.C2paSignerInfo(credentials.algorithm, *texts, credentials.timestamps)
            self._signer = c2pa.Signer.from_info(info)
            # Whether key and certificate fit is known by trying, before hours of copying.
            self._write(_TRIAL, "image/png", io.BytesIO(_pixel()), io.BytesIO(), None)
        except c2pa.C2paError as error:
            raise SpecError(
                f"{credentials.certificate} and {credentials.key} do not sign with {credentials.algorithm}: {error}",
                hint="The certificate must be for signing (digitalSignature; an extended use such as emailProtection), with "
                "the chain above it in the same file; the key in PKCS #8.",
            ) from error

    def sign(self, entry: Entry, paths: Mapping[Role, Path], folder: Path) -> Path:
        """The signed copy of paths[RESTORED], or the manifest that belongs to it, in `folder`. Raises JobError."""
        restored, kind = paths[Role.RESTORED], _type_of(entry, Role.RESTORED)
        embeds = kind in EMBEDDED
        folder.mkdir()
        target = folder / (restored.name if embeds else restored.stem + ".c2pa")
        try:
            with restored.open("rb") as source, target.open("w+b") as sink:
                manifest, original = _manifest(entry, kind), paths.get(Role.ORIGINAL)
                if embeds:
                    self._write(manifest, kind, source, sink, (entry, original))
                else:
                    sink.write(self._write(manifest, ANY_TYPE, source, io.BytesIO(), (entry, original), embed=False))
        except self._c2pa.C2paError as error:
            raise JobError(f"{entry.item_id} cannot be signed: {error}") from error
        return target

    def _write(
        self,
        manifest: Mapping[str, Any],
        kind: str,
        source: Any,
        sink: Any,
        given: tuple[Entry, Path | None] | None,
        *,
        embed: bool = True,
    ) -> bytes:
        builder = self._c2pa.Builder(json.dumps(dict(_GENERATOR) | dict(manifest)), context=self._context)
        if not embed:
            builder.set_no_embed()
        if given is not None:
            self._add_original(builder, *given)
        data: bytes = builder.sign(self._signer, kind, source, sink)
        return data

    def _add_original(self, builder: Any, entry: Entry, path: Path | None) -> None:
        """path: None where the original is gone; its digest names it all the same."""
        name, digest = original_name(entry.row["source_uri"]), entry.row["source_sha256"]
        facts = json.dumps({"title": name, "relationship": "parentOf", "instance_id": _instance(digest)})
        with io.BytesIO() if path is None else path.open("rb") as original:
            kind = ANY_TYPE if path is None else _type_of(entry, Role.ORIGINAL)
            # Of a kind that the library reads, an original brings along the credentials that it has.
            known = kind in self._c2pa.Reader.get_supported_mime_types()
            builder.add_ingredient(facts, kind if known else ANY_TYPE, original)


_GENERATOR: Mapping[str, Any] = MappingProxyType(
    {"claim_generator_info": [{"name": "albumen", "version": __version__}]}
)


_TRIAL: Mapping[str, Any] = MappingProxyType(
    {
        "title": "trial",
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": ENHANCED}]},
            }
        ],
    }
)


def _texts(credentials: Credentials) -> tuple[bytes, bytes]:
    faults, texts = [], []
    for name, path in (("certificate", credentials.certificate), ("key", credentials.key)):
        try:
            texts.append(path.read_bytes())
        except OSError as error:
            faults.append(f"--{name}: {path} cannot be read: {error.strerror or error}")
    if credentials.algorithm not in ALGORITHMS:
        faults.append(f"--algorithm: {credentials.algorithm!r} is none of {', '.join(ALGORITHMS)}")
    if faults:
        raise SpecError(faults)
    return texts[0], texts[1]


def _pixel() -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.new("L", (1, 1)).save(target, "PNG")
    return target.getvalue()


def _type_of(entry: Entry, role: Role) -> str:
    file = entry.file(role)
    return ANY_TYPE if file is None else file.media_type


def _instance(sha256: str) -> str:
    return f"urn:sha256:{sha256}"


def _manifest(entry: Entry, kind: str) -> dict[str, Any]:
    row = entry.row
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_instance(row["source_sha256"])]}}
    names = ("item_id", "run_id", "recipe_id", "software", "source_sha256", "output_sha256")
    return {
        "title": row["output_uri"].rsplit("/", 1)[1],
        "format": kind,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [opened, *map(_action, _changes(row))]}},
            {"label": "albumen.provenance", "data": {name: row[name] for name in names}},
        ],
    }


def _changes(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Events that changed a pixel."""
    return [
        event
        for event in row["events"] or ()
        if event["stage"] not in ("ingest", "deliver")
        and event["outcome"] == "applied"
        and event["input_sha256"] != event["output_sha256"]
    ]


def _action(event: Mapping[str, Any]) -> dict[str, Any]:
    """digitalSourceType: as the delivered XMP has it, by what touched the pixels in this event."""
    models = [{name: model[name] for name in ("id", "sha256", "licence")} for model in event["models"] or ()]
    return {
        "action": _ACTIONS.get(event["stage"], "c2pa.edited"),
        "softwareAgent": {"name": f"albumen {event['stage']}", "version": event["version"]},
        "digitalSourceType": GENERATIVE if models else ENHANCED,
        "parameters": {"albumen.stage": event["stage"]} | ({"albumen.models": models} if models else {}),
    }
