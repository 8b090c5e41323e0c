from __future__ import annotations

import importlib
import subprocess
import sys

from pipeline.models import compat


def in_a_fresh_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_pipeline_loads_no_network_library() -> None:
    in_a_fresh_python(
        "import sys\n"
        "import pipeline.recipe, pipeline.supervision, pipeline.provenance, pipeline.models.compat\n"
        "heavy = {'torch', 'torchvision', 'basicsr', 'gfpgan', 'realesrgan', 'facexlib', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'torchvision.transforms.functional_tensor' not in sys.modules"
    )


def test_the_reference_packages_import_once_installed() -> None:
    compat.install()
    stand_in = sys.modules["torchvision.transforms.functional_tensor"]
    compat.install()
    assert sys.modules["torchvision.transforms.functional_tensor"] is stand_in
    for name in ("basicsr.data.degradations", "facexlib", "gfpgan", "realesrgan"):
        assert importlib.import_module(name)
