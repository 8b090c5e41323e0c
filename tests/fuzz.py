"""Coverage-guided fuzzing of the decoder: `make fuzz SECONDS=600`.

Atheris mutates real files and watches which lines of the codecs' Python are reached. Anything but a photograph or an ItemError
is a finding, and so is a file that takes longer than SLOW seconds: it is written to fuzz-findings/, from where the smallest of
each kind goes to tests/hostile/found/ as a test.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import subprocess
import sys
import time
import traceback
from pathlib import Path

SLOW = 5.0
LIMIT = 20_000_000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="start with seeds whose names hold this, and not with all")
    parser.add_argument("--within", action="store_true", help="fuzz in this process")
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    return _within(options) if options.within else _watch(options)


def _watch(options: argparse.Namespace) -> int:
    """Start the fuzzer again whenever a file takes its process down, until the time is over."""
    corpus = options.findings / "corpus"
    _write_seeds(corpus, options.only)
    over = time.monotonic() + options.seconds
    while (left := int(over - time.monotonic())) > 5:
        command = [sys.executable, "-m", "tests.fuzz", "--within", "--findings", str(options.findings)]
        code = subprocess.run([*command, "--seconds", str(left), "--seed", str(options.seed)], check=False).returncode
        print(f"the fuzzer ended with {code}", flush=True)
        options.seed += 1
    found = sorted(path.name for path in options.findings.iterdir() if path.is_file())
    print(f"{len(found)} findings in {options.findings}: {', '.join(found) or 'none'}")
    return 1 if found else 0


def _write_seeds(corpus: Path, only: str) -> None:
    from tests.hostile.seeds import seeds

    corpus.mkdir(exist_ok=True)
    for name, data in seeds().items():
        if only in name:
            (corpus / name).write_bytes(data)


def _within(options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["pipeline.codecs", "tifffile", "PIL"]):
        from pipeline.codecs import decode
    from pipeline.errors import ItemError

    # tifffile logs what is odd about each file; writing that down would be most of the work.
    logging.disable(logging.CRITICAL)

    def one(data: bytes) -> None:
        started = time.monotonic()
        try:
            decode(data, "item", LIMIT)
        except (ItemError, MemoryError):
            pass
        except Exception as error:  # noqa: BLE001 - every other type is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
            _keep(options.findings, kind, data, traceback.format_exc())
        seconds = time.monotonic() - started
        if seconds > SLOW:
            _keep(options.findings, f"slow-{int(seconds)}s-{hashlib.sha256(data).hexdigest()[:6]}", data, "")

    flags = {
        "max_total_time": options.seconds,
        "timeout": 25,
        "rss_limit_mb": 4096,
        "malloc_limit_mb": 4096,
        "max_len": 20480,
        "seed": options.seed,
        "print_final_stats": 1,
        "artifact_prefix": f"{options.findings}/",
    }
    arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in flags.items()), str(options.findings / "corpus")]
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    return 0


def _keep(folder: Path, kind: str, data: bytes, story: str) -> None:
    """The smallest file of each kind of finding."""
    path = folder / f"{kind}.bin"
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        if story:
            path.with_suffix(".txt").write_text(story)


if __name__ == "__main__":
    sys.exit(main())
