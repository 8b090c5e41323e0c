from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs import decode
from pipeline.errors import ItemError, JobError, Reason
from pipeline.guard import Decoder, Limits, Shared
from pipeline.memory import Size
from pipeline.photograph import Photograph, pixel_digest

ODD = (str(Path(__file__).with_name("odd_child.py")),)
LIMIT = 10**7


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


@pytest.fixture(scope="module")
def odd() -> Iterator[Decoder]:
    """A decoder whose child misbehaves where a file asks for it, with little memory."""
    made = Decoder(Limits(memory=64 << 20, memory_per_pixel=4), ODD)
    yield made
    made.close()


def png(pixels: NDArray[np.generic], **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", **options)  # type: ignore[arg-type]
    return target.getvalue()


def read(decoder: Decoder, data: bytes, limit: int = LIMIT) -> Photograph:
    with Shared(data) as source:
        return decoder.decode(source, "item", limit)


def refusal(decoder: Decoder, data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        read(decoder, data)
    return caught.value


def gone(pid: int, seconds: float = 20.0) -> bool:
    """True once the process has ended; waits for it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = bool(select.select([handle], [], [], seconds)[0])
    os.close(handle)
    return ended


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_gives_what_decode_gives(decoder: Decoder, rng: np.random.Generator, dtype: str, channels: int) -> None:
    samples = rng.integers(0, np.iinfo(dtype).max, (37, 23, channels), dtype=dtype).squeeze()
    target = io.BytesIO()
    tifffile.imwrite(
        target,
        samples,
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        resolution=(300, 400),
        iccprofile=b"profile" * 100,
        extratags=[(700, "B", 10, b"<x:xmp />\n", True), (0x013B, "s", 0, "Lotte Jacobi", True)],
    )
    found, wanted = read(decoder, target.getvalue()), decode(target.getvalue(), "item", LIMIT)
    assert (found.item_id, found.container) == ("item", wanted.container)
    assert pixel_digest(found) == pixel_digest(wanted)
    assert not found.pixels.flags.writeable


def test_what_it_refuses_is_what_decode_refuses(decoder: Decoder) -> None:
    assert refusal(decoder, b"a letter").reason is Reason.NOT_AN_IMAGE
    whole = png(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    assert refusal(decoder, whole[: len(whole) // 2]).reason is Reason.TRUNCATED
    with pytest.raises(ItemError) as caught:
        read(decoder, png(np.zeros((10, 10), np.uint8)), 99)
    assert caught.value.reason is Reason.TOO_LARGE


def test_one_child_serves_many(decoder: Decoder) -> None:
    read(decoder, png(np.zeros((9, 9), np.uint8)))
    pid = decoder.pid
    for side in range(1, 20):
        assert read(decoder, png(np.full((side, 3), side, np.uint8))).pixels[0, 0, 0] == side
    assert decoder.pid == pid


def test_pixels_outlive_the_child(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    one = Decoder()
    found = read(one, png(pixels))
    one.close()
    assert one.pid is None
    assert np.array_equal(found.pixels, pixels)


def test_a_child_is_replaced_after_its_time() -> None:
    one = Decoder(Limits(decodes=2))
    pids = []
    for _ in range(4):
        one.open()
        pids.append(one.pid)
        read(one, png(np.zeros((4, 4), np.uint8)))
    one.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (b"CRASH", "SIGSEGV"),
        (b"ABORT", "SIGABRT"),
        (b"RAISE", "nobody thought of this"),
        (b"LIE_1", "60000"),
        (b"LIE_2", "-5"),
        (b"LIE_3", "not sealed"),
    ],
)
def test_what_breaks_the_decoder_is_refused_and_says_how(odd: Decoder, kind: bytes, said: str) -> None:
    error = refusal(odd, kind)
    assert error.reason is Reason.DECODER_CRASHED
    assert said in error.detail


def test_after_a_crash_the_next_is_read(odd: Decoder) -> None:
    refusal(odd, b"CRASH")
    assert read(odd, png(np.full((5, 4), 7, np.uint8))).pixels[0, 0, 0] == 7


@pytest.mark.parametrize("kind", [b"SPIN!", b"SLEEP"])
def test_what_hangs_is_ended(kind: bytes) -> None:
    hasty = Decoder(Limits(seconds=1.0), ODD)
    assert refusal(hasty, kind).reason is Reason.DECODER_TIMED_OUT
    assert hasty.pid is None


def test_memory_without_end_is_refused(odd: Decoder) -> None:
    assert refusal(odd, b"HOARD").reason is Reason.TOO_LARGE
    assert read(odd, png(np.full((5, 4), 7, np.uint8))).pixels[0, 0, 0] == 7


def test_a_child_killed_from_outside_is_the_machines_trouble(odd: Decoder) -> None:
    assert refusal(odd, b"KILL!").reason is Reason.OUT_OF_MEMORY


def test_a_child_that_an_earlier_file_broke_is_not_held_against_the_next(odd: Decoder) -> None:
    read(odd, b"BREAK")
    pid = odd.pid
    assert read(odd, png(np.full((5, 4), 7, np.uint8))).pixels[0, 0, 0] == 7
    assert odd.pid != pid


def test_an_idle_child_that_died_is_replaced(odd: Decoder) -> None:
    odd.open()
    assert odd.pid is not None
    os.kill(odd.pid, signal.SIGKILL)
    assert gone(odd.pid)
    assert read(odd, png(np.full((5, 4), 7, np.uint8))).pixels[0, 0, 0] == 7


def test_what_libraries_print_does_not_pile_up(odd: Decoder) -> None:
    pid = None
    for _ in range(5):
        read(odd, b"CHATS")
        assert pid in (None, odd.pid)
        pid = odd.pid
    assert odd._child is not None
    assert os.fstat(odd._child.log).st_size < 2 * 13 * 20_000


def test_options_reach_the_codec(odd: Decoder) -> None:
    with Shared(b"CHATS") as source:
        assert odd.decode(source, "item", LIMIT, colour="LOUD").container.format == "LOUD"


def test_a_resolution_that_is_no_number_is_none(odd: Decoder) -> None:
    assert read(odd, b"NAN!!").container.dpi is None


def test_the_size_is_told_before_pixels_are_decoded(decoder: Decoder) -> None:
    sizes: list[Size] = []
    with Shared(png(np.zeros((7, 9, 3), np.uint8))) as source:
        decoder.decode(source, "item", LIMIT, sizes.append)
    assert [(size.width, size.height, size.channels) for size in sizes] == [(9, 7, 3)]


def test_who_is_not_admitted_is_not_decoded(decoder: Decoder) -> None:
    def full(size: Size) -> None:
        raise ItemError(Reason.OUT_OF_MEMORY, "no room")

    decoder.open()
    pid = decoder.pid
    with Shared(png(np.zeros((7, 9, 3), np.uint8))) as source, pytest.raises(ItemError) as caught:
        decoder.decode(source, "item", LIMIT, full)
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    assert read(decoder, png(np.full((5, 4), 7, np.uint8))).pixels[0, 0, 0] == 7
    assert decoder.pid == pid


def test_threads_take_turns(decoder: Decoder) -> None:
    answers: dict[int, bool] = {}

    def work(value: int) -> None:
        data = png(np.full((50, 40), value, np.uint8))
        answers[value] = all((read(decoder, data).pixels == value).all() for _ in range(10))

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), True)


def test_a_decoder_that_does_not_come_up_stops_the_run() -> None:
    with pytest.raises(JobError, match="no_such_module"):
        Decoder(program=("-m", "no_such_module")).open()


def test_no_core_file_and_no_children_are_left() -> None:
    one = Decoder()
    one.open()
    pid = one.pid
    assert pid is not None
    limits = Path(f"/proc/{pid}/limits").read_text()
    [core] = [line.split() for line in limits.splitlines() if line.startswith("Max core")]
    assert core[4] == "0"
    del one
    assert gone(pid)


@pytest.mark.parametrize("file", [b"SPIN!", b"SLEEP", b""], ids=["busy", "asleep", "idle"])
def test_an_orphan_ends_with_its_worker(file: bytes, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import sys, time\n"
        "from pipeline.guard import Decoder, Limits, Shared\n"
        f"one = Decoder(Limits(seconds=600), {ODD!r})\n"
        "one.open()\n"
        "print(one.pid, flush=True)\n"
        f"source = Shared({file!r} or b'GIF')\n"
        f"one.decode(source, 'item', 100) if {file!r} else time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, str(worker)], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert gone(pid)
