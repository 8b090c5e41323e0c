"""Whether two machines have the same software."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import pipeline
from pipeline import software as module
from pipeline.errors import JobError
from pipeline.software import LOCK_VARIABLE, PACKAGES, check_same, differences, fingerprint, lock_digest, software


def test_what_is_installed_is_named() -> None:
    found = software()
    assert set(PACKAGES) < set(found)
    assert found["albumen"] == pipeline.__version__
    assert all(found[name] for name in ("ray", "torch", "pyarrow", "pillow", "python"))


def test_a_machine_is_like_itself() -> None:
    check_same(fingerprint(), "here")


def test_every_difference_is_a_clause() -> None:
    one = {"torch": "2.15.0", "pillow": "12.0.0", "pyarrow": "26.0.0", "python": "3.11.9"}
    other = {"torch": "2.14.0", "pillow": "12.0.0", "pyarrow": None, "python": "3.12.1"}
    assert differences(one, other) == (
        "torch is 2.14.0 instead of 2.15.0",
        "pyarrow is not installed instead of 26.0.0",
        "python is 3.12 instead of 3.11",
    )


def test_wheels_with_and_without_cuda_and_patches_of_python_are_the_same() -> None:
    assert differences({"torch": "2.15.0+cu130", "python": "3.11.9"}, {"torch": "2.15.0+cpu", "python": "3.11.2"}) == ()


def test_a_lock_that_nobody_knows_is_no_difference_and_another_one_is() -> None:
    one = {"requirements.lock": "a" * 64}
    assert differences(one, {"requirements.lock": None}) == ()
    assert differences(one, {}) == ()
    assert differences(one, {"requirements.lock": "b" * 64}) == (
        f"requirements.lock is {'b' * 12} instead of {'a' * 12}",
    )


def test_a_node_with_other_software_refuses_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fingerprint()
    monkeypatch.setattr(module, "fingerprint", lambda: mine | {"torch": "1.0", "albumen's code": "0" * 64})
    with pytest.raises(JobError) as refused:
        check_same(mine, "10.0.0.7")
    [text] = refused.value.faults
    assert text.startswith("the software of node 10.0.0.7 is not the driver's: torch is 1.0 instead of ")
    assert "albumen's code is 000000000000 instead of " in text
    assert "requirements.lock" in str(refused.value.hint)


def test_an_image_says_by_a_variable_which_lock_it_was_installed_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCK_VARIABLE, raising=False)
    lock = Path(pipeline.__file__).parent.parent / "requirements.lock"
    assert lock_digest() == hashlib.sha256(lock.read_bytes()).hexdigest()
    monkeypatch.setenv(LOCK_VARIABLE, "c" * 64)
    assert lock_digest() == "c" * 64


def test_the_code_has_another_digest_after_any_change(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("a = 1\n")
    first = module._code_digest(tmp_path)
    (tmp_path / "data.csv").write_text("no code")
    assert module._code_digest(tmp_path) == first
    (tmp_path / "one.py").write_text("a = 2\n")
    second = module._code_digest(tmp_path)
    (tmp_path / "one.py").rename(tmp_path / "two.py")
    assert len({first, second, module._code_digest(tmp_path)}) == 3
