"""`make` on a machine that is not ready: one clear sentence with the way out."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "environment.sh"


def make_environment(python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(SCRIPT), python, str(folder)], capture_output=True, text=True, timeout=60, check=False)


def fake_python(folder: Path, version: str) -> str:
    """An interpreter of another age: what is installed is the outside world."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in\n*version_info*) exit 1 ;;\n*python_version*) echo {version} ;;\n*) exit 1 ;;\nesac\n'
    )
    script.chmod(0o755)
    return str(script)


def test_no_python_at_all(tmp_path: Path) -> None:
    said = make_environment("", tmp_path / ".venv")
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "Python 3.11 or newer is needed and was not found" in said.stderr


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    said = make_environment(fake_python(tmp_path, "3.9.18"), tmp_path / ".venv")
    assert said.returncode == 1
    assert "is 3.9.18, and 3.11 or newer is needed" in said.stderr
    assert "make run PYTHON=" in said.stderr


if os.geteuid() != 0:  # root may write everywhere

    def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        said = make_environment(sys.executable, tmp_path / ".venv")
        assert (said.returncode, "cannot be written to" in said.stderr) == (1, True)


def test_a_python_without_its_venv_module(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\ncase "$*" in\n*"-m venv"*) echo "ensurepip is not available"; exit 1 ;;\nesac\n')
    script.chmod(0o755)
    said = make_environment(str(script), tmp_path / ".venv")
    assert (said.returncode, "apt install python3-venv" in said.stderr) == (1, True)


def test_without_an_engine_make_up_says_what_to_do_instead(tmp_path: Path) -> None:
    no_docker = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "DOCKER_HOST": "unix:///nowhere.sock"}
    said = subprocess.run(["make", "-C", str(ROOT), "up"], capture_output=True, text=True, env=no_docker, timeout=60, check=False)
    assert said.returncode != 0
    assert "make run" in said.stderr


def test_make_alone_lists_every_target_of_the_readme() -> None:
    said = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, timeout=60, check=True).stdout
    names = "run up down seed check fmt test test-cover load-test bench torture openapi migrate help doctor fuzz"
    for target in names.split(" "):
        assert f"  {target} " in said, target
