"""Settings: validated, frozen, and easy to bend."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.degradation import PRESETS, Degradation, Effect
from pipeline.degradation.settings import EFFECTS, LOCAL, SCAN, WHOLE


@pytest.mark.parametrize(
    "wrong",
    [
        {"intact": 1.5},
        {"neutral": 0.7, "toned": 0.6},
        {"real": -0.1},
        {"sparkles": Effect(chance=1)},
        {"dust": {"chance": 2}},
        {"dust": {"chance": 0.5, "strength": 0}},
        {"dust": {"chance": 0.5, "count": (5, 2)}},
        {"dust": {"chance": 0.5, "count": (0, 2)}},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Degradation(**wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Degradation().intact = 0.5  # type: ignore[misc]


def test_every_effect_has_a_setting_and_every_setting_of_an_effect_a_group() -> None:
    fields = {name for name, info in Degradation.model_fields.items() if info.annotation is Effect}
    assert fields == set(EFFECTS) == {*WHOLE, *LOCAL, *SCAN}


def test_without_and_stronger_change_only_what_they_name() -> None:
    bent = Degradation().without("dust").stronger(3, "hairs", "scratches")
    assert bent.dust.chance == 0
    assert bent.hairs.chance == pytest.approx(3 * Degradation().hairs.chance)
    assert bent.scratches.chance == 1
    assert bent.without("hairs", "scratches") == Degradation().without("dust", "hairs", "scratches")
    with pytest.raises(ValueError, match="sparkles"):
        bent.without("sparkles")
    with pytest.raises(ValueError, match="sparkles"):
        bent.stronger(2, "sparkles")


def test_every_setting_and_preset_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "degradation.md").read_text(encoding="utf-8")
    for name in (*Degradation.model_fields, *PRESETS):
        assert f"`{name}`" in text, name


def test_presets_survive_json() -> None:
    for preset in PRESETS.values():
        assert Degradation.model_validate_json(preset.model_dump_json()) == preset
