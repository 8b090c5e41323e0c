"""What a run should take, from what a few photographs took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.nodes import Node
from cluster.pools import Demand, allocate
from jobs.calibration import Calibration, Sample
from jobs.estimate import REQUESTS, Interval, Total, describe, forecast, totals
from jobs.forecast import compared
from jobs.spec import Price
from pipeline.record import MANIFEST

quick = settings(max_examples=20, deadline=None, database=None)
NONE: frozenset[str] = frozenset()


def sample(suffix: str, size: int, megapixels: float, seconds: float) -> Sample:
    return Sample(
        suffix, size, megapixels, "restored", round(3e6 * megapixels), {"ingest": seconds, "upscale": 9 * seconds}
    )


def calibration(*samples: Sample, device: str = "cpu", threads: int = 1) -> Calibration:
    return Calibration("r", "slice", device, threads, samples)


def manifest(uris: list[str], sizes: list[int | None], refused: int = 0) -> pa.Table:
    reasons = [None] * (len(uris) - refused) + ["duplicate"] * refused
    known = {"item_no": range(len(uris)), "item_id": uris, "source_uri": uris, "source_bytes": sizes, "reason": reasons}
    return pa.table([pa.array(list(known.get(f.name, [None] * len(uris))), f.type) for f in MANIFEST], schema=MANIFEST)


def test_bytes_are_added_up_by_suffix() -> None:
    first = manifest(["/a.b/one.TIF", "/a/two.tif", "/a/three.jpg", "/a.b/four"], [10, None, 5, 1])
    second = manifest(["s3://x/five.jpg", "s3://x/six.jpg"], [7, 100], refused=1)
    assert totals([first, second]) == {".tif": Total(2, 10, 1), ".jpg": Total(2, 12), "": Total(1, 1)}


def test_a_collection_of_photographs_like_those_measured_takes_as_many_times_as_long() -> None:
    found = forecast(calibration(*[sample(".tif", 1000, 2.0, 0.1)] * 5), {".tif": Total(100, 100_000)}, NONE)
    assert found.megapixels.middle == pytest.approx(200)
    assert found.core_hours.middle == pytest.approx(100 / 3600)
    assert found.output_bytes.middle == pytest.approx(600e6)
    assert (found.megapixels.low, found.megapixels.high) == (pytest.approx(200), pytest.approx(200))
    assert (found.photographs, found.measured, found.requests, found.wall_seconds) == (100, 5, 1000, None)


def test_each_format_is_predicted_from_its_own() -> None:
    measured = calibration(sample(".tif", 3_000_000, 1.0, 1.0), sample(".jpg", 300_000, 1.0, 1.0))
    found = forecast(measured, {".tif": Total(10, 30_000_000), ".jpg": Total(10, 3_000_000)}, NONE)
    assert found.megapixels.middle == pytest.approx(20)
    other = forecast(measured, {".png": Total(1, 3_300_000)}, NONE)
    assert other.megapixels.middle == pytest.approx(2)


def test_files_of_unknown_size_are_taken_for_ordinary_ones() -> None:
    found = forecast(calibration(sample(".tif", 1000, 2.0, 0.1)), {".tif": Total(10, 5000, unknown=5)}, NONE)
    assert found.megapixels.middle == pytest.approx(20)


def test_networks_count_with_all_their_threads_or_on_a_card() -> None:
    there, heavy = {".tif": Total(1, 1000)}, frozenset({"upscale"})
    one = sample(".tif", 1000, 1.0, 360.0)
    on_cpu = forecast(calibration(one, threads=4), there, heavy)
    assert (on_cpu.core_hours.middle, on_cpu.card_hours.middle) == (pytest.approx(0.1 + 4 * 0.9), 0)
    on_card = forecast(calibration(one, device="cuda", threads=4), there, heavy)
    assert (on_card.core_hours.middle, on_card.card_hours.middle) == (pytest.approx(0.1), pytest.approx(0.9))


def test_the_wall_time_is_that_of_the_slowest_pool() -> None:
    layout = allocate([Demand("ingest", False, 1.0), Demand("upscale", True, 9.0)], [Node(10.0)])
    found = forecast(
        calibration(*[sample(".tif", 1000, 1.0, 1.0)] * 3), {".tif": Total(1000, 10**6)}, frozenset({"upscale"}), layout
    )
    assert found.wall_seconds is not None
    # Ten cores, ten seconds of a core each: a second a photograph, if nothing is lost.
    assert 1000 <= found.wall_seconds.middle <= 1300


def test_money_is_for_machines_as_long_as_they_stand() -> None:
    layout = allocate([Demand("ingest", False, 1.0), Demand("upscale", True, 9.0)], [Node(10.0)])
    price = Price(cpu_hour=0.1, gigabyte=0.02, thousand_requests=0.005, currency="CHF")
    there, measured = {".tif": Total(1000, 10**6)}, calibration(*[sample(".tif", 1000, 1.0, 1.0)] * 3)
    found = forecast(measured, there, NONE, layout, price)
    assert found.money is not None
    assert found.wall_seconds is not None
    hours = found.wall_seconds.middle / 3600
    assert found.money.middle == pytest.approx(hours * 10 * 0.1 + 3 * 0.02 + 10 * 0.005)
    without = forecast(measured, there, NONE, None, price).money
    assert without is not None
    assert without.middle == pytest.approx(found.core_hours.middle * 0.1 + 3 * 0.02 + 10 * 0.005)
    assert describe(found)["currency"] == "CHF"


@quick
@given(st.integers(0, 10**6), st.integers(2, 24))
def test_an_interval_holds_its_middle_and_narrows_with_what_is_known(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    samples = [
        sample(".tif", int(s), s / 3e6, t)
        for s, t in zip(rng.uniform(1e6, 9e6, 64), rng.lognormal(0, 0.7, 64), strict=True)
    ]
    there = {".tif": Total(1000, 5 * 10**9)}
    few, many = forecast(calibration(*samples[:count]), there, NONE), forecast(calibration(*samples), there, NONE)
    for found in (few, many):
        assert 0 < found.core_hours.low <= found.core_hours.middle <= found.core_hours.high
    assert many.core_hours.high - many.core_hours.low <= 2.5 * many.core_hours.middle


def test_nine_of_ten_intervals_hold_the_truth() -> None:
    """Collections whose seconds a byte are drawn like those of the slice."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(40):
        sizes = rng.uniform(1e6, 9e6, 400)
        seconds = sizes / 1e6 * rng.lognormal(0, 0.5, 400)
        order = np.argsort(sizes)[10::20]
        measured = calibration(*(sample(".tif", int(sizes[i]), sizes[i] / 3e6, seconds[i] / 10) for i in order))
        found = forecast(measured, {".tif": Total(400, int(sizes.sum()))}, NONE)
        held += found.core_hours.low <= seconds.sum() / 3600 <= found.core_hours.high
    assert held >= 32


def test_how_far_off_is_said() -> None:
    assert compared(Interval(100, 80, 130), 110).endswith("it took 10% more, within the interval.")
    assert compared(Interval(100, 80, 130), 60).endswith("it took 40% less, outside the interval.")


def test_a_photograph_takes_as_many_requests_as_are_counted_on(
    s3: str, scan: Callable[..., bytes], tmp_path: Path
) -> None:
    """Counted at the last door before the network, from the source to what a compaction takes."""
    from collections import Counter
    from dataclasses import replace

    import boto3
    from botocore.httpsession import URLLib3Session

    from jobs import lease
    from jobs import manifest as manifests
    from jobs.rundir import prepare
    from jobs.spec import parse_spec
    from pipeline import provenance
    from pipeline.errors import Status
    from pipeline.provenance import Compactor
    from pipeline.record import from_manifest
    from pipeline.stages.deliver import Deliver
    from pipeline.stages.ingest import Ingest
    from pipeline.storage import Store
    from pipeline.supervision import run_end

    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="counted-requests")
    for number in range(6):
        client.put_object(Bucket="counted-requests", Key=f"scans/{number}.png", Body=scan(number))
    spec = parse_spec(
        {
            "collection": {"name": "counted", "source": "s3://counted-requests/scans"},
            "output": {"uri": "s3://counted-requests/run", "format": "png"},
            "recipe": {"stages": []},
        },
        tmp_path,
    )
    plan = prepare(spec)
    store, asked = Store(spec.output_options), Counter[str]()
    send = URLLib3Session.send

    def counted(session: URLLib3Session, request: object) -> object:
        method, url = str(getattr(request, "method", "")), str(getattr(request, "url", ""))
        asked["LIST" if "list-type" in url else method] += 1
        return send(session, request)

    with lease.hold(store, plan.run, "run") as held, pytest.MonkeyPatch.context() as patch:
        [rows] = manifests.parts(store, plan.run)
        ingest = Ingest(plan.recipe.ingest, Store(spec.source_options), spec.collection.allowed_roots)
        deliver = Deliver(plan.recipe.deliver, store, plan.run, plan.recipe_id)
        compactor = Compactor(store, plan.run, held.term)
        compactor.compact()
        seen: list[Counter[str]] = []
        for count, record in enumerate(from_manifest(rows)):
            if count == 2:
                # Connections and what a bucket can do were looked up with the first.
                patch.setattr(URLLib3Session, "send", counted)
            record = run_end(ingest, ingest.parameters, ingest.read, record)
            record = run_end(deliver, deliver.parameters, deliver.write, record)
            record = replace(record, status=Status.RESTORED, photograph=None)
            provenance.commit(store, plan.run, plan.stamp(held.term), [record])
            seen.append(Counter(asked))
        each = seen[4] - seen[3]
        assert each == seen[3] - seen[2]
        asked.clear()
        compactor.compact()
        ingest.close()
    # Each loose commit is got once; the rest of a compaction is a dozen requests, however many there are.
    assert asked["GET"] >= 6
    assert asked.total() <= 6 + 12
    assert each + Counter({"GET": 1}) == Counter(REQUESTS)
