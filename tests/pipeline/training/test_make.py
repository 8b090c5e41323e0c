"""`make train-damage` goes all the way: what it ends with is the file that ships, with its bounds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607


def test_training_ends_with_calibrated_weights(tmp_path: Path) -> None:
    told = make("--dry-run", "train-damage", "SHAPES=shapes", f"OTHER={tmp_path}")
    assert told.returncode == 0, told.stderr
    commands = re.findall(r"-m pipeline\.training\.(\w+) (.*)", told.stdout.replace("\\\n", " "))
    assert [name for name, _ in commands] == ["photographs", "samples", "damage", "damage", "calibrate"]
    first, second, bounds = (dict(re.findall(r"--([a-z]+) (\S+)", words)) for _, words in commands[2:])
    assert second["start"] == f"{first['output']}/state.pt"
    assert bounds == {
        "photographs": str(tmp_path),
        "weights": f"{second['output']}/state.pt",
        "output": "training/damage.safetensors",
    }
    # What is trained on is not what bounds are set on.
    assert tmp_path.name not in second["photographs"]


def test_it_is_as_the_model_card_says() -> None:
    """Folders' names aside: the card writes the same commands down."""
    card = (ROOT / "docs" / "damage-model.md").read_text(encoding="utf-8")
    written = re.findall(r"-m pipeline\.training\.damage (.*)", card.replace("\\\n", " "))
    told = make("--dry-run", "train-damage", "SHAPES=shapes", f"OTHER={ROOT}").stdout.replace("\\\n", " ")
    run = re.findall(r"-m pipeline\.training\.damage (.*)", told)
    for name in ("epochs", "shards", "rate", "seed"):
        assert [re.findall(rf"--{name} (\S+)", words) for words in run] == [
            re.findall(rf"--{name} (\S+)", words) for words in written
        ]
