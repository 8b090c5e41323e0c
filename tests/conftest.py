"""What every test may use: the shared data where they are there, scans made on the spot, and one Ray for the session."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.data
from PIL import Image

if TYPE_CHECKING:
    from tests.faults import Faults

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Audits run only where they are asked for by name, whatever else is chosen."""
    if "audit" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("audit")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data; tests that ask for it are skipped where there is none."""
    folder = Path(os.environ.get("ALBUMEN_SHARED") or ROOT.parent / "shared")
    if not (folder / "weights").is_dir():
        pytest.skip(f"no shared test data at {folder}; name the folder in ALBUMEN_SHARED")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 service on this machine (moto's), named by the usual AWS variables while the session lasts."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    variables = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret-that-must-not-be-written-anywhere",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield address
    server.stop()


@pytest.fixture(scope="session")
def _fault_proxy(s3: str) -> Iterator[Faults]:
    from tests.faults import Faults

    proxy = Faults(s3).start()
    yield proxy
    proxy.stop()


@pytest.fixture
def faulty_s3(_fault_proxy: Faults) -> Iterator[Faults]:
    """The service of `s3` behind a proxy that misbehaves when told to; its `address` is the endpoint to use."""
    _fault_proxy.reset()
    _fault_proxy.hold = 0.1
    yield _fault_proxy
    _fault_proxy.reset()


@pytest.fixture(scope="session")
def ray_session(s3: str) -> Iterator[None]:
    """One embedded Ray for all tests that run the graph in this process. Its workers inherit the variables of `s3`."""
    from cluster.connect import connect

    with connect(None, 2):
        yield


@pytest.fixture(scope="session")
def photo() -> Callable[[int], bytes]:
    """Makes a PNG of a real photograph, `side` pixels square; another crop for every side."""

    def make(side: int) -> bytes:
        image = Image.fromarray(skimage.data.astronaut()[0:320, 60:380]).resize((side, side), Image.Resampling.LANCZOS)
        target = io.BytesIO()
        image.save(target, "PNG", dpi=(300, 300))
        return target.getvalue()

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)
