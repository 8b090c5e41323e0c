from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.faces.identity import Gate
from pipeline.faces.masks import unpacked
from pipeline.faces.work import Workshop
from pipeline.models.faces import FaceDetector, FaceRestorer, align
from pipeline.models.identity import FaceEmbedder
from pipeline.models.parsing import FaceParser
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Decision, Face, Photograph, Tone, is_neutral
from pipeline.policy import POLICIES
from pipeline.stage import Device, Outcome, Step
from pipeline.stages import faces as module
from pipeline.stages.analyse import Analyse, AnalyseParameters
from pipeline.stages.compose import Compose, ComposeParameters
from pipeline.stages.faces import Faces, FacesParameters
from tests.planted import matched, subjects

MOBILE = "retinaface-mobile0.25"
Patch = NDArray[np.float32]
Samples = NDArray[np.uint8] | NDArray[np.uint16]


class Fake(FaceRestorer):
    """A restorer without a network, of one face or of a batch."""

    def __init__(self) -> None:
        super().__init__("fake", None, Device())

    def restore(self, aligned: Patch) -> Patch:
        return np.stack([self.one(face) for face in aligned]) if aligned.ndim == 4 else self.one(aligned)

    def one(self, aligned: Patch) -> Patch:
        raise NotImplementedError


class Sharpening(Fake):
    """Sharpens a face and turns it reddish by a shade, as a network might."""

    def one(self, aligned: Patch) -> Patch:
        sharp = aligned + 0.5 * (aligned - cv2.GaussianBlur(aligned, (0, 0), 3)) + np.array([0.01, 0, 0], np.float32)
        return np.clip(sharp, 0, 1).astype(np.float32)


class Swapping(Fake):
    """Puts another person's face in the place, in the colours of the first."""

    def __init__(self, other: Patch) -> None:
        super().__init__()
        self.other = other

    def one(self, aligned: Patch) -> Patch:
        return matched(self.other, aligned, Tone.COLOURED)


class Erasing(Fake):
    def one(self, aligned: Patch) -> Patch:
        return np.full_like(aligned, aligned.mean())


class Halving(FaceParser):
    """Sees a face in the left half of every patch, and a neck in the right."""

    def __init__(self) -> None:
        super().__init__("halving", "parsenet", None, Device())

    def parse(self, faces: Patch) -> tuple[NDArray[np.uint8], ...]:
        return tuple(np.where(np.mgrid[:512, :512][1] < 256, 1, 17).astype(np.uint8) for _ in faces)


@pytest.fixture(scope="module")
def hopper(mobile: FaceDetector) -> Patch:
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    aligned = align(image, mobile.find(image)[0])
    assert aligned is not None
    return aligned[0]


@pytest.fixture
def portrait() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])


@pytest.fixture
def made(mobile: FaceDetector, embedder: FaceEmbedder) -> Any:
    """Makes a stage with the real detector and gate, and a restorer without a network."""

    def make(
        restorer: Fake | None = None,
        policy: str = "conservation",
        *,
        gate: bool = True,
        parser: FaceParser | None = None,
        **parameters: float,
    ) -> Faces:
        ready = Faces(FacesParameters(detector=MOBILE, **parameters), POLICIES[policy])  # type: ignore[arg-type]
        ready.detector = mobile
        ready.workshop = Workshop(
            restorer=restorer or Sharpening(),
            sha256="f" * 64,
            parser=parser,
            gate=Gate(mobile, embedder if gate else None),
            limits=POLICIES[policy].gate,
            strength=ready.strength,
        )
        return ready

    return make


def photograph(pixels: Samples, *faces: Face) -> Photograph:
    return Photograph("item", pixels, Container("PNG"), faces=faces)


def restored(ready: Faces, pixels: Samples, *faces: Face) -> Step:
    step = ready.restore([photograph(pixels, *faces)])[0]
    assert isinstance(step, Step)
    return step


def composed(step: Step) -> Step:
    done = Compose(ComposeParameters(), POLICIES["conservation"]).restore([step.photograph])[0]
    assert isinstance(done, Step)
    return done


def test_without_models_the_stage_is_a_recorded_skip_and_so_is_every_face(
    tmp_path: Path, portrait: NDArray[np.uint8]
) -> None:
    idle = Faces(FacesParameters(), POLICIES["conservation"])
    idle.open(ModelStore(ModelSource(cache=str(tmp_path))), Device())
    step = restored(idle, portrait, Face((1, 2, 30, 40), (5.0,) * 10, 0.9, detector=MOBILE))
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "not installed: retinaface-resnet50, gfpgan-v1.4")
    assert step.photograph.pixels is portrait
    (face,) = step.photograph.faces
    assert (face.decision, face.reason, face.detector) == (Decision.LEFT, "not-installed", MOBILE)


def test_required_models_have_to_be_there(tmp_path: Path) -> None:
    strict = Faces(FacesParameters(required=True), POLICIES["conservation"])
    with pytest.raises(ModelError, match="albumen models fetch retinaface-resnet50"):
        strict.open(ModelStore(ModelSource(cache=str(tmp_path))), Device())


def test_a_face_gets_a_patch_and_its_findings_and_the_pixels_stay(made: Any, portrait: NDArray[np.uint8]) -> None:
    step = restored(made(), portrait)
    assert step.photograph.pixels is portrait
    (face,) = step.photograph.faces
    assert face.patch is not None
    assert (face.patch.shape, face.patch.dtype) == ((512, 512, 3), np.uint16)
    assert face.affine is not None
    assert len(face.affine) == 6
    assert (face.strength, face.model_id, face.model_sha256, face.detector) == (0.5, "fake", "f" * 64, MOBILE)
    assert (face.decision, face.reason, face.mask_kind, face.mask) == (Decision.ACCEPTED, None, "square", None)
    seen = face.likeness
    assert seen is not None
    assert seen.identity_model == "mobilefacenet"
    assert (seen.identity or 0) > 0.9
    assert (seen.displacement or 0) < 0.1
    assert 0 < (seen.skin_drift or 0) < 5
    assert step.models == (MOBILE, "fake", "mobilefacenet")
    counts = {"faces": 1, "accepted": 1, "refused": 0, "left": 0, "gate": "mobilefacenet"}
    assert counts.items() <= dict(step.findings).items()
    assert step.findings["limits"]["mobilefacenet"] == POLICIES["conservation"].gate.mobilefacenet
    after = composed(step)
    assert after.outcome is Outcome.APPLIED
    assert after.photograph.faces[0].decision is Decision.RESTORED


def test_a_parsed_face_is_laid_in_where_the_parser_saw_it(made: Any, portrait: NDArray[np.uint8]) -> None:
    step = restored(made(parser=Halving()), portrait)
    (face,) = step.photograph.faces
    assert face.mask_kind == "halving"
    assert face.mask is not None
    assert np.array_equal(unpacked(face.mask), np.mgrid[:512, :512][1] < 256)
    assert step.models == (MOBILE, "fake", "halving", "mobilefacenet")
    after = composed(step).photograph
    changed = np.any(after.pixels != portrait.astype(np.uint16) * 257, axis=2)
    assert changed.any()
    # Towards the picture's right the blur ends, some forty pixels of the patch beyond its middle.
    matrix = np.reshape(face.affine, (2, 3))
    columns = np.argwhere(changed)[:, ::-1] @ matrix[:, :2].T + matrix[:, 2]
    assert columns[:, 0].max() < 256 + 110


def test_another_person_is_refused_and_the_original_stays(
    made: Any, portrait: NDArray[np.uint8], hopper: Patch
) -> None:
    for policy in POLICIES:
        step = restored(made(Swapping(hopper), policy), portrait)
        (face,) = step.photograph.faces
        assert face.decision is Decision.REFUSED
        assert face.reason is not None
        assert face.reason.startswith("identity")
        assert (face.strength, face.patch, face.model_id) == (0.0, None, "fake")
        assert face.likeness is not None
        assert (face.likeness.identity or 1) < 0.3
        assert (step.findings["refused"], step.findings["accepted"]) == (1, 0)
        after = composed(step)
        assert (after.outcome, after.photograph.pixels is portrait) == (Outcome.SKIPPED, True)


def test_what_is_no_face_any_more_is_refused(made: Any, portrait: NDArray[np.uint8]) -> None:
    (face,) = restored(made(Erasing(), "presentation"), portrait).photograph.faces
    assert face.decision is Decision.REFUSED
    assert face.reason is not None
    assert face.reason.startswith("lost")
    assert face.likeness is not None
    assert face.likeness.displacement is None


def test_without_anybody_to_tell_people_apart_conservation_leaves_faces(
    made: Any, portrait: NDArray[np.uint8], hopper: Patch
) -> None:
    step = restored(made(Swapping(hopper), gate=False), portrait)
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "every face was left as it is")
    (face,) = step.photograph.faces
    assert (face.decision, face.reason, face.patch) == (Decision.LEFT, "unchecked", None)
    assert step.findings["gate"] == "unavailable"


def test_without_anybody_to_tell_people_apart_presentation_goes_half_way_and_says_so(
    made: Any, portrait: NDArray[np.uint8]
) -> None:
    step = restored(made(policy="presentation", gate=False), portrait)
    (face,) = step.photograph.faces
    assert (face.decision, face.reason, face.strength) == (Decision.ACCEPTED, "unchecked", 0.5)
    assert face.likeness is not None
    assert (face.likeness.identity_model, face.likeness.identity) == (None, None)
    assert face.likeness.skin_drift is not None
    assert step.findings["gate"] == "unavailable"


def test_a_grey_photograph_gets_a_grey_patch(made: Any, portrait: NDArray[np.uint8]) -> None:
    for pixels in (np.ascontiguousarray(portrait[..., :1]), np.repeat(portrait[..., :1], 3, axis=2)):
        (face,) = restored(made(), pixels).photograph.faces
        assert face.patch is not None
        assert is_neutral(face.patch)
    (face,) = restored(made(), portrait).photograph.faces
    assert face.patch is not None
    assert not is_neutral(face.patch)


def test_the_policy_caps_the_strength_and_says_so(made: Any, portrait: NDArray[np.uint8]) -> None:
    capped = restored(made(strength=0.9), portrait)
    assert capped.photograph.faces[0].strength == 0.5
    assert "0.9 was asked for" in capped.findings["faces_refused"]
    free = restored(made(policy="presentation", strength=0.9), portrait)
    assert free.photograph.faces[0].strength == 0.9
    assert "faces_refused" not in free.findings


def test_at_no_strength_faces_are_left(made: Any, portrait: NDArray[np.uint8]) -> None:
    step = restored(made(strength=0.0), portrait)
    (face,) = step.photograph.faces
    assert (step.outcome, face.decision, face.reason) == (Outcome.SKIPPED, Decision.LEFT, "no-strength")


def test_no_face_is_a_skip(made: Any) -> None:
    step = restored(made(), np.full((60, 80, 3), 90, np.uint8))
    assert (step.outcome, step.reason, step.models) == (Outcome.SKIPPED, "no face was found", (MOBILE,))
    assert step.photograph.faces == ()


def test_a_face_that_repair_took_away_is_left_and_not_forgotten(made: Any) -> None:
    before = Face((1, 2, 30, 40), (5.0,) * 10, 0.9)
    (face,) = restored(made(), np.full((60, 80, 3), 90, np.uint8), before).photograph.faces
    assert (face.decision, face.reason) == (Decision.LEFT, "not-found-again")


def test_a_face_of_twenty_pixels_is_left_as_it_is(made: Any, portrait: NDArray[np.uint8]) -> None:
    small = cv2.resize(portrait, (51, 51), interpolation=cv2.INTER_AREA)
    sheet = cv2.copyMakeBorder(small, 60, 60, 60, 60, cv2.BORDER_REFLECT_101)
    step = restored(made(), sheet)
    assert step.outcome is Outcome.SKIPPED
    assert len(step.photograph.faces) >= 1
    for face in step.photograph.faces:
        assert 15 < face.size < 30
        assert (face.decision, face.reason, face.affine) == (Decision.LEFT, "too-small", None)
    assert composed(step).photograph.pixels is sheet


def test_a_face_cut_by_the_border_is_restored_as_far_as_it_goes(made: Any, portrait: NDArray[np.uint8]) -> None:
    # The face reaches from column 77 to 170; of its left side a sixth is missing, and of the patch a third.
    cut = np.ascontiguousarray(portrait[:, 92:])
    step = restored(made(), cut)
    (face,) = step.photograph.faces
    assert face.box[0] < 3
    assert face.decision is Decision.ACCEPTED
    after = composed(step).photograph
    assert after.faces[0].decision is Decision.RESTORED
    changed = np.any(after.pixels != cut.astype(np.uint16) * 257, axis=2)
    assert changed[:, 0].any()
    assert not changed[:, -20:].any()


def a_group(shared: Path, mobile: FaceDetector) -> NDArray[np.uint8]:
    """Sixty faces in six rows: of six persons, as they are and mirrored, and none twice with the same light."""
    names = frozenset({"astronaut.png", "grace_hopper.jpg", "gfpgan_10045.png", "old_a.png"})
    people = [subject.scan for subject in subjects(shared, mobile, 19.0, names)]
    people += [person[:, ::-1] for person in people]
    cells = [cv2.resize(person, (120, 120), interpolation=cv2.INTER_AREA) for person in people]
    lit = [cells[n % len(cells)] * (1.0 - 0.04 * (n // len(cells))) for n in range(60)]
    sheet = np.vstack([np.hstack(lit[10 * row : 10 * row + 10]) for row in range(6)])
    return np.ascontiguousarray(np.rint(np.clip(sheet, 0, 1) * 255).astype(np.uint8))


def test_sixty_faces_each_have_their_say(made: Any, mobile: FaceDetector, shared: Path) -> None:
    step = restored(made(policy="presentation"), a_group(shared, mobile))
    faces = step.photograph.faces
    places = {(int((f.box[0] + f.box[2]) / 240), int((f.box[1] + f.box[3]) / 240)) for f in faces}
    # One or another at an edge may be seen twice, or not at all.
    assert len(places) >= 57
    counts = [step.findings[decision] for decision in ("accepted", "refused", "left")]
    assert sum(counts) == step.findings["faces"] == len(faces)
    assert counts[0] >= 54
    for face in faces:
        assert face.decision is not None
        assert (face.reason is None) == (face.decision is Decision.ACCEPTED)
        if face.decision is not Decision.LEFT:
            assert face.likeness is not None
            assert face.likeness.identity_model == "mobilefacenet"
            assert face.likeness.identity is not None
    after = composed(step).photograph.faces
    assert [face.decision for face in after].count(Decision.RESTORED) == counts[0]


def test_a_painted_face_is_a_face(made: Any, portrait: NDArray[np.uint8], hopper: Patch) -> None:
    """Flat colours and hard contours: it is restored mildly as it is, and becomes nobody else."""
    smooth = cv2.pyrMeanShiftFiltering(portrait, 6, 24)
    painting = np.asarray(cv2.stylization(smooth, sigma_s=30, sigma_r=0.3), np.uint8)
    (face,) = restored(made(), painting).photograph.faces
    assert face.decision is Decision.ACCEPTED
    assert face.likeness is not None
    assert (face.likeness.identity or 0) > POLICIES["conservation"].gate.mobilefacenet
    (other,) = restored(made(Swapping(hopper)), painting).photograph.faces
    assert other.decision is Decision.REFUSED
    assert "identity" in (other.reason or "")


def test_what_analyse_found_is_not_looked_for_again_and_the_record_says_so(
    made: Any, models: ModelStore, portrait: NDArray[np.uint8]
) -> None:
    analyse = Analyse(AnalyseParameters(detector=MOBILE), POLICIES["conservation"])
    analyse.open(models, Device())
    [found] = analyse.restore([photograph(portrait)])
    assert isinstance(found, Step)
    [step] = made().restore([found.photograph])
    assert step.findings["search"] == {"kept": 1, "again": 0, "lost": 0, "new": 0}
    whole = restored(made(), portrait)
    assert whole.findings["search"] == "whole"
    for one, other in zip(step.photograph.faces, whole.photograph.faces, strict=True):
        assert np.array_equal(one.patch, other.patch)
        assert replace(one, patch=None) == replace(other, patch=None)
    [bare] = analyse.restore([photograph(np.full((60, 80, 3), 90, np.uint8))])
    assert isinstance(bare, Step)
    [step] = made().restore([bare.photograph])
    # No network was at work here: the one that looked is in the event of analyse.
    assert (step.outcome, step.reason, step.models, step.precision) == (
        Outcome.SKIPPED,
        "no face was found",
        (),
        None,
    )


def test_a_face_that_was_painted_over_beside_another_is_left_and_not_forgotten(
    made: Any, models: ModelStore, portrait: NDArray[np.uint8]
) -> None:
    analyse = Analyse(AnalyseParameters(detector=MOBILE), POLICIES["conservation"])
    analyse.open(models, Device())
    [found] = analyse.restore([photograph(np.ascontiguousarray(np.hstack([portrait, portrait[:, ::-1]])))])
    assert isinstance(found, Step)
    assert len(found.photograph.faces) == 2
    pixels = found.photograph.pixels.copy()
    pixels[:, 256:] = 90
    [step] = made().restore([replace(found.photograph, pixels=pixels)])
    assert [(face.decision, face.reason) for face in step.photograph.faces] == [
        (Decision.ACCEPTED, None),
        (Decision.LEFT, "not-found-again"),
    ]
    assert (step.findings["faces"], step.findings["left"], step.findings["search"]["lost"]) == (2, 1, 1)


def test_the_restorer_is_asked_for_what_the_recipe_says(models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def opened(*_: object, **wishes: Any) -> Fake:
        asked.append(wishes)
        return Sharpening()

    monkeypatch.setattr(module, "open_restorer", opened)
    source = replace(models.source, planned=frozenset({MOBILE, "codeformer"}))
    wanted: tuple[dict[str, Any], ...] = ({}, {"precision": "fast", "fidelity": 0.7})
    for given in wanted:
        parameters = FacesParameters.model_validate({"detector": MOBILE, "restorer": "codeformer"} | given)
        Faces(parameters, POLICIES["conservation"]).open(ModelStore(source), Device())
    assert asked == [{"precision": "exact", "fidelity": None}, {"precision": "fast", "fidelity": 0.7}]


def test_what_the_recipe_may_ask_for() -> None:
    recorded = FacesParameters(restorer="codeformer", precision="fast", fidelity=0.25).model_dump(mode="json")
    assert (recorded["precision"], recorded["fidelity"]) == ("fast", 0.25)
    with pytest.raises(ValidationError, match=r"for CodeFormer, and gfpgan-v1\.4 has none"):
        FacesParameters(fidelity=0.5)
    for wrong in ({"precision": "bf16"}, {"restorer": "codeformer", "fidelity": 1.5}):
        with pytest.raises(ValidationError):
            FacesParameters.model_validate(wrong)


def test_an_altered_file_stops_the_run_before_a_face_is_touched(models: ModelStore, tmp_path: Path) -> None:
    shutil.copytree(models.source.cache, tmp_path, dirs_exist_ok=True)
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    store.path("gfpgan-v1.4").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"gfpgan-v1\.4.* is not the published file"):
        Faces(FacesParameters(detector=MOBILE), POLICIES["conservation"]).open(store, Device())


def test_a_licence_that_was_not_accepted_stops_the_run(models: ModelStore, tmp_path: Path) -> None:
    shutil.copytree(models.source.cache, tmp_path, dirs_exist_ok=True)
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    store.path("codeformer").write_bytes(b"its weights")
    with pytest.raises(ModelError, match="which the job does not accept") as refused:
        Faces(FacesParameters(detector=MOBILE, restorer="codeformer"), POLICIES["conservation"]).open(store, Device())
    assert 'accept = ["LicenseRef-S-Lab-1.0"]' in (refused.value.hint or "")


def test_faces_of_several_photographs_go_home(made: Any, portrait: NDArray[np.uint8]) -> None:
    empty = np.full((60, 80, 3), 90, np.uint8)
    other = np.ascontiguousarray(portrait[:, ::-1])
    ready = made()
    together = ready.restore([photograph(portrait), photograph(empty), photograph(other)])
    alone = [ready.restore([photograph(pixels)])[0] for pixels in (portrait, empty, other)]
    for step, single in zip(together, alone, strict=True):
        assert isinstance(step, Step)
        assert isinstance(single, Step)
        assert step.outcome is single.outcome
        for face, same in zip(step.photograph.faces, single.photograph.faces, strict=True):
            assert np.array_equal(face.patch, same.patch)
            assert replace(face, patch=None) == replace(same, patch=None)
    assert [len(step.photograph.faces) for step in together] == [1, 0, 1]  # type: ignore[union-attr]


def test_a_node_that_has_models_the_plan_had_not_does_not_use_them(tmp_path: Path) -> None:
    """Whether optional models are used is the plan's to say: a recipe id must mean the same on every node."""
    stage = Faces(FacesParameters(), POLICIES["conservation"])
    stage.open(ModelStore(ModelSource(cache=str(tmp_path), planned=frozenset())), Device())
    assert stage.missing == ("retinaface-resnet50", "gfpgan-v1.4")


def test_a_node_that_lacks_models_the_plan_had_stops_the_run(tmp_path: Path) -> None:
    stage = Faces(FacesParameters(), POLICIES["conservation"])
    planned = frozenset({"retinaface-resnet50", "gfpgan-v1.4"})
    with pytest.raises(ModelError, match="is not installed"):
        stage.open(ModelStore(ModelSource(cache=str(tmp_path), planned=planned)), Device())


def test_a_gate_that_the_plan_had_must_be_there(models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_restorer", lambda *_, **__: Sharpening())
    planned = frozenset({MOBILE, "gfpgan-v1.4", "sface-2021dec"})
    source = replace(models.source, planned=planned)
    stage = Faces(FacesParameters(detector=MOBILE), POLICIES["conservation"])
    with pytest.raises(ModelError, match="sface-2021dec is not installed"):
        stage.open(ModelStore(source), Device())


@pytest.mark.parametrize(("planned", "gate"), [(frozenset({"mobilefacenet"}), "mobilefacenet"), (frozenset(), None)])
def test_the_gate_is_what_the_plan_says(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, planned: frozenset[str], gate: str | None
) -> None:
    monkeypatch.setattr(module, "open_restorer", lambda *_, **__: Sharpening())
    source = replace(models.source, planned=planned | {MOBILE, "gfpgan-v1.4"})
    stage = Faces(FacesParameters(detector=MOBILE), POLICIES["conservation"])
    stage.open(ModelStore(source), Device())
    assert stage.workshop is not None
    assert stage.workshop.parser is None
    found = stage.workshop.gate.embedder
    assert (None if found is None else found.model_id) == gate


def test_needs_name_every_model_that_may_be_used() -> None:
    needs = {need.model_id: need for need in Faces.needs(FacesParameters())}
    assert set(needs) == {
        "retinaface-resnet50", "gfpgan-v1.4", "parsenet", "bisenet", "mobilefacenet", "sface-2021dec",
    }  # fmt: skip
    assert not any(need.required for need in needs.values())
    chosen = Faces.needs(FacesParameters(parser="square", identity="sface-2021dec", required=True))
    assert [(need.model_id, need.required) for need in chosen] == [
        ("retinaface-resnet50", True),
        ("gfpgan-v1.4", True),
        ("sface-2021dec", True),
    ]
