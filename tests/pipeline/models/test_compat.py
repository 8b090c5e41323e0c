from __future__ import annotations

import subprocess
import sys


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
    in_a_fresh_python(
        "from pipeline.models import compat\n"
        "compat.install()\n"
        "compat.install()\n"
        "import basicsr, facexlib, gfpgan, realesrgan\n"
    )
