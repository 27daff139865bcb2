"""The README's tour, line by line, against a real server: what it says is what happens."""

import doctest
import re
import subprocess
from pathlib import Path

from support.servers import served

README = Path(__file__).parents[2] / "README.md"
MARK = "@@ end of step @@"


def tour() -> list[tuple[str, str]]:
    """The tour's steps: shell lines, and what they print (empty where nothing is shown)."""
    text = README.read_text()
    section = text[text.index("## A tour") : text.index("## Settings")]
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    steps: list[tuple[str, str]] = []
    for kind, content in blocks:
        if kind == "sh":
            steps.append((content, ""))
        else:
            steps[-1] = (steps[-1][0], content)
    return steps


def test_the_tour_prints_what_the_readme_says(own_database: str, tmp_path: Path) -> None:
    steps = tour()
    assert len(steps) == 12
    with served({"HOLDFAST_DATABASE_URL": own_database}, "--migrate", "--demo", log=tmp_path / "serve.log") as server:
        script = f"\necho '{MARK}'\n".join(commands for commands, _ in steps)
        script = script.replace("http://127.0.0.1:8080", server.url)
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    printed = done.stdout.split(f"{MARK}\n")
    assert len(printed) == len(steps), done.stderr
    checker = doctest.OutputChecker()
    for (commands, wanted), got in zip(steps, printed, strict=True):
        if wanted:
            # An answer's body ends without a line end, a block of the README with one.
            same = checker.check_output(wanted.strip(), got.strip(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert same, f"{commands}\nwanted: {wanted}\ngot: {got}"
        else:
            assert not got.strip(), commands
