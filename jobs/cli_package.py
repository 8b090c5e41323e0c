"""`albumen package`: a run's photographs, handed over in the forms that archives take in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.choices import PackageKind
from jobs.console import AsJson, Endpoint, Run, print_json, say
from pipeline.errors import SpecError


def package(
    run: Run,
    kind: Annotated[PackageKind, typer.Option("--as", help="What to make.")],
    output: Annotated[str, typer.Option(help="A folder that is not there yet; with ocfl also a storage root that is.")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also where photographs have no row yet; they are left out.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Sign copies of the restored files (C2PA): the certificate, then its chain, PEM."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's private key, PEM, PKCS #8.")] = None,
    algorithm: Annotated[str, typer.Option(help="Of the signature.")] = "es256",
    timestamps: Annotated[str | None, typer.Option(help="Address of a time-stamping authority (RFC 3161).")] = None,
    base: Annotated[
        str | None, typer.Option(help="For iiif: the https:// address below which the folder will be served.")
    ] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Package originals, restored files, masks and provenance, each held against its digest on the way."""
    from jobs.package import Credentials
    from jobs.package import package as make

    if (certificate is None) != (key is None):
        raise SpecError("package: --certificate and --key go together")
    if certificate is None and timestamps is not None:
        raise SpecError("package: --timestamps goes with --certificate and --key")
    credentials = None
    if certificate is not None and key is not None:
        credentials = Credentials(certificate, key, algorithm, timestamps)
    report = make(run, kind, output, endpoint=endpoint, unfinished=unfinished, credentials=credentials, base=base)
    if as_json:
        print_json(asdict(report))
        return
    statuses = ", ".join(f"{count:,} {status}" for status, count in report.photographs.items()) or "no photograph"
    say(f"Packaged  {statuses}" + (f"; {report.missing:,} have no row yet" if report.missing else ""))
    say(f"{report.kind:<9} {', '.join(f'{count:,} {name}' for name, count in report.counts.items())}")
    say(f"Folder    {report.output}")
