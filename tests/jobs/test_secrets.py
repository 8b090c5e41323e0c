"""A job that holds a credential is refused by the key's name, and the value is repeated nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.secrets import credential_faults
from jobs.spec import JobSpec, parse_spec
from pipeline.errors import SpecError

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("section", "key", "value", "why"),
    [
        ("output", "secret_access_key", SECRET, "this key is for a secret"),
        ("cluster", "token", SECRET, "this key is for a secret"),
        ("collection", "aws_access_key_id", "x", "this key is for a secret"),
        ("models", "password", "", "this key is for a secret"),
        ("output", "endpoint", f"https://me:{SECRET}@store.example", "holds a user or a password"),
        ("collection", "source", f"s3://AKIDEXAMPLE:{SECRET}@archive/scans", "holds a user or a password"),
        ("models", "mirror", f"https://mirror.example/m?X-Amz-Signature={SECRET}", "is a signed one"),
        ("models", "mirror", f"https://mirror.example/m?sv=2024&sig={SECRET}", "is a signed one"),
        ("collection", "name", "AKIAIOSFODNN7EXAMPLE", "holds an access key of AWS"),
        ("collection", "name", "-----BEGIN RSA PRIVATE KEY-----\nMIIE", "holds a private key"),
    ],
)
def test_what_looks_like_a_credential_is_refused_by_name(
    spec_data: dict[str, Any], tmp_path: Path, section: str, key: str, value: str, why: str
) -> None:
    spec_data.setdefault(section, {})[key] = value
    with pytest.raises(SpecError) as refused:
        parse_spec(spec_data, tmp_path)
    [fault] = [text for text in refused.value.faults if text.startswith(f"{section}.{key}: ")]
    assert why in fault
    assert "come from the environment or the cluster" in fault
    assert SECRET not in str(refused.value)


def test_the_environments_own_secrets_are_found_anywhere(
    spec_data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0f3a" * 16)
    spec_data["collection"]["name"] = f"albums {'0f3a' * 16}"
    with pytest.raises(SpecError, match=r"collection\.name: its value holds that of RAY_AUTH_TOKEN") as refused:
        parse_spec(spec_data, tmp_path)
    assert "0f3a0f3a" not in str(refused.value)


def test_other_faults_are_reported_beside_it(spec_data: dict[str, Any], tmp_path: Path) -> None:
    spec_data["output"] |= {"secret_key": "x", "format": "gif"}
    with pytest.raises(SpecError) as refused:
        parse_spec(spec_data, tmp_path)
    assert [text.partition(":")[0] for text in refused.value.faults] == ["output.secret_key", "output.format"]


def test_innocent_words_pass(make_spec: Callable[..., JobSpec], scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Too short to be told from a word.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "albums")
    spec = make_spec(collection={"name": "albums of the tokenhouse, keys and passwords: 1910 @ home"})
    assert credential_faults(spec.model_dump(mode="json")) == {}
    data = {
        "collection": {"source": "s3://archive/keys/token/a@b"},
        "models": {"mirror": "https://m.example:9000/x@y?page=2"},
    }
    assert credential_faults(data) == {}
