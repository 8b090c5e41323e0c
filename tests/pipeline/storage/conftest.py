"""What the tests of storage share: a bucket behind the misbehaving proxy, and a store that is not patient for long."""

from __future__ import annotations

import hashlib

import pytest
import s3fs

from pipeline.storage import Patience, Store, StoreOptions
from tests.faults import Faults

QUICK = Patience(pause=0.005, longest_pause=0.02, total=20.0)


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    """The name of a fresh bucket."""
    name = f"b{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir(name)
    return name


@pytest.fixture
def root(bucket: str) -> str:
    return f"s3://{bucket}/run"


@pytest.fixture
def store(faulty_s3: Faults) -> Store:
    """Goes through the proxy."""
    return Store(StoreOptions(endpoint=faulty_s3.address, patience=QUICK))


@pytest.fixture
def direct(s3: str) -> Store:
    """Goes past the proxy: what is really in the bucket."""
    return Store(StoreOptions(endpoint=s3))
