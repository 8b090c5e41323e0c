"""`make bench`: parts a to h, m and t, each a table of medians with their spread, each figure beside what it is held against.

    a  our upscaler beside RealESRGANer
    b  the rate of the networks beside the fastest of their own layers
    c  the stages around the network beside the network alone; with --engine also the real graph with Ray
    d  photographs of 0.1 to 20 megapixels beside photographs of one size
    e  from the command to the first photograph (with --engine)
    f  decoding and encoding, format by format
    g  megapixels a second of the stages without a pool of their own; the detectors of damage
    h  the restorer of faces beside GFPGANer; and what there is to say of a GPU
    m  memory: for a megapixel, and over five hundred photographs
    t  how far tiles are from the whole, by halo

`--only a,f` runs some of them. --json FILE is written after every part, with what there is. Ratios are what counts; absolute
times belong to the machine, and to what else it does (`load`). docs/performance.md says how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from tests.bench import codecs, engine, memory, peak, seams, sizes, stages, upscalers
from tests.bench.gpu import busy
from tests.bench.ground import Found, Options, each, machine
from tests.bench_faces import face_rows
from tests.tables import show

Part = Callable[[Options, Console], Found]


def upscaler_part(options: Options, console: Console) -> Found:
    found = list(upscalers.rows(options))
    show("upscaler", "RealESRGANer", found)
    return {"rows": [asdict(row) for row in found]}


def peak_part(options: Options, console: Console) -> Found:
    return {"rows": each(peak.rows(options), "the network's rate", console)}


def engine_part(options: Options, console: Console) -> Found:
    found = {"rows": each(engine.efficiency(options), "engine", console)}
    if options.engine:
        found["with_ray"] = each(engine.steady_state(options), "engine with Ray", console)
    return found


def sizes_part(options: Options, console: Console) -> Found:
    return {"rows": each(sizes.rows(options), "sizes", console)}


def first_part(options: Options, console: Console) -> Found:
    if not options.engine:
        console.print("e: starts Ray; asked for with --engine")
        return {"rows": []}
    return {"rows": each(engine.first_photograph(options), "first photograph", console)}


def codecs_part(options: Options, console: Console) -> Found:
    return {"rows": each(codecs.rows(options), "codecs", console)}


def stages_part(options: Options, console: Console) -> Found:
    found: Found = {"rows": each(stages.rows(options), "stages", console), "damage": stages.damage_quality()}
    for detector, quality in (found["damage"] or {}).items():
        console.print(f"damage, {detector}: " + ", ".join(f"{name} {value:.4f}" for name, value in quality.items()))
    return found


def faces_part(options: Options, console: Console) -> Found:
    card = torch.cuda.is_available()
    found = face_rows(options.runs, 8 if card else 1)
    show("faces", "GFPGANer", found)
    if not card:
        console.print("GPU: there was none; nothing of a, b, c, d or h was measured on one.")
    return {"rows": [asdict(row) for row in found], "gpu": each(busy(), "GPU", console) if card else None}


def memory_part(options: Options, console: Console) -> Found:
    return {"rows": each(memory.rows(options), "memory", console)}


def seams_part(options: Options, console: Console) -> Found:
    return {"rows": each(seams.rows(options), "tiles beside the whole", console)}


PARTS: Mapping[str, Part] = {
    "a": upscaler_part,
    "b": peak_part,
    "c": engine_part,
    "d": sizes_part,
    "e": first_part,
    "f": codecs_part,
    "g": stages_part,
    "h": faces_part,
    "m": memory_part,
    "t": seams_part,
}


def chosen(text: str) -> tuple[str, ...]:
    """Parts of `a,c,f`, in the order of the alphabet."""
    wanted = {part.strip() for part in text.split(",")}
    if odd := sorted(wanted - set(PARTS)):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(odd)}; there are {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", type=chosen, default=tuple(PARTS), metavar="PARTS")
    parser.add_argument("--engine", action="store_true", help="also what starts Ray: the graph of c, and e")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options, console = Options(arguments.runs, arguments.engine), Console(width=160)
    torch.set_num_threads(os.cpu_count() or 1)
    found: Found = {"machine": machine(), "runs": options.runs, "parts": {}}
    console.print(", ".join(f"{key} {value}" for key, value in found["machine"].items() if value is not None))
    for name in arguments.only:
        started = time.perf_counter()
        part = PARTS[name](options, console)
        found["parts"][name] = part | {"seconds": round(time.perf_counter() - started, 1), "load": os.getloadavg()[0]}
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
