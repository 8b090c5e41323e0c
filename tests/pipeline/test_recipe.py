from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.errors import SpecError
from pipeline.recipe import DEFAULT_STAGES, Recipe, make_recipe
from pipeline.stages import STAGES
from pipeline.stages.deliver import DeliverParameters
from pipeline.stages.ingest import IngestParameters


def recipe(
    stages: tuple[str, ...] = DEFAULT_STAGES,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    policy: str = "conservation",
    deliver: DeliverParameters | None = None,
) -> Recipe:
    return make_recipe(stages, parameters or {}, policy, IngestParameters(), deliver or DeliverParameters())


def faults(*arguments: Any, **more: Any) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        recipe(*arguments, **more)
    return caught.value.faults


def test_the_default_stages_are_all_stages_in_their_order() -> None:
    assert tuple(STAGES) == DEFAULT_STAGES
    assert [spec.name for spec in recipe().stages] == list(DEFAULT_STAGES)


def test_every_fault_is_named_at_once() -> None:
    found = faults(
        ("repair", "sharpen"),
        {"repair": {"radius": -1, "radios": 2}, "colour": {"balance": 0.5}, "colours": {}},
        "restoration",
    )
    assert [fault.split(":")[0] for fault in found] == [
        "recipe.policy",
        "recipe.repair.radius",
        "recipe.repair.radios",
        "recipe.stages",
        "recipe.colour",
        "recipe.colours",
    ]
    assert "conservation, presentation" in found[0]
    assert "'sharpen'" in found[3]


def test_stages_out_of_order_or_twice_are_refused() -> None:
    assert faults(("upscale", "repair")) == ("recipe.stages: the order must be repair, upscale",)
    assert "recipe.stages: a stage is named twice" in faults(("repair", "repair"))


def test_a_model_is_needed_once_and_required_wins() -> None:
    detector = {"detector": "retinaface-mobile0.25"}
    needs = recipe(("analyse", "faces"), {"analyse": detector, "faces": {**detector, "required": True}}).needs()
    assert [(need.model_id, need.required) for need in needs] == [
        ("retinaface-mobile0.25", True),
        ("albumen-damage", True),
        ("gfpgan-v1.4", True),
        ("parsenet", False),
        ("bisenet", False),
        ("mobilefacenet", False),
        ("sface-2021dec", False),
    ]


def test_without_detectors_analyse_needs_nothing() -> None:
    assert recipe(("analyse",), {"analyse": {"detector": None, "damage": "classical"}}).needs() == ()


def test_what_nobody_asked_for_or_the_policy_never_uses_nobody_needs() -> None:
    for policy in ("conservation", "presentation"):
        assert recipe(("repair",), {}, policy).needs() == ()
    asked = {"repair": {"denoise": 0.5}}
    assert recipe(("repair",), asked, "conservation").needs() == ()
    assert recipe(("repair",), asked, "conservation").stages[0].needs() == ()
    assert [need.model_id for need in recipe(("repair",), asked, "presentation").needs()] == ["albumen-noise"]


def test_a_stage_opens_what_it_cannot_do_without_and_the_rest_with_what_it_is_for() -> None:
    analyse, faces = recipe(("analyse", "faces")).stages
    detector, restorer, damage = "retinaface-resnet50", "gfpgan-v1.4", "albumen-damage"
    assert (analyse.opens({damage}), analyse.holds_network({damage})) == ((damage,), False)
    assert (analyse.opens({damage, detector}), analyse.holds_network({damage, detector})) == ((detector, damage), True)
    assert analyse.opens(set()) == ()
    # Without a restorer no face is restored, and what would lay it in is not needed.
    assert faces.opens({detector, "parsenet"}) == ()
    assert set(faces.opens({detector, restorer, "parsenet"})) == {detector, restorer, "parsenet"}


def test_the_same_recipe_has_the_same_identity() -> None:
    one, other = recipe(), recipe(parameters={"upscale": {"tile": 1024}})
    assert one == other
    assert one.identity({}) == other.identity({})
    assert len(one.identity({})) == 64


def test_what_decides_the_output_decides_the_identity() -> None:
    upscaler = "realesrgan-x4plus-embedded"
    variants = {
        recipe().identity({}),
        recipe(policy="presentation").identity({}),
        recipe(("upscale",)).identity({}),
        recipe(parameters={"upscale": {"precision": "fast"}}).identity({}),
        recipe(deliver=DeliverParameters(format="png")).identity({}),
        recipe().identity({upscaler: "1" * 64}),
        recipe().identity({upscaler: "2" * 64}),
    }
    assert len(variants) == 7


def test_models_that_no_stage_needs_do_not_count() -> None:
    assert recipe().identity({"codeformer": "1" * 64}) == recipe().identity({})


def test_a_new_version_of_a_stage_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe().identity({})
    monkeypatch.setattr(STAGES["repair"], "version", "next")
    assert recipe().identity({}) != before


def test_jpeg_quality_decides_nothing_for_tiff() -> None:
    assert recipe(deliver=DeliverParameters(jpeg_quality=80)).identity({}) == recipe().identity({})


@pytest.mark.parametrize("parameters", [{"tile": 64, "halo": 32}, {"tile": 32, "halo": 16}])
def test_a_tile_that_cannot_overlap_is_a_fault_of_the_spec(parameters: dict[str, int]) -> None:
    assert "halo" in faults(("upscale",), {"upscale": parameters})[0]
