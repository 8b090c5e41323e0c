"""The `albumen` command in processes of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.audit.machine import ROOT


class Command:
    """One call. What it prints goes to files beside each other in `folder`."""

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.words = words
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs", *words],
                stdout=out,
                stderr=err,
                cwd=ROOT,
                start_new_session=True,
                env=dict(os.environ),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> bool:
        """SIGKILL. False where it had ended by itself."""
        if self._process.poll() is not None:
            return False
        self._process.kill()
        self._process.wait()
        return self._process.returncode == -signal.SIGKILL

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")
