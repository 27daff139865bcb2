"""Files that say something about the code say the truth: settings, vendored files, pages, migrations."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory

from holdfast.core.settings import Settings
from holdfast.db import migrations

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "src" / "holdfast" / "page" / "static" / "vendor"
NAMES = [f"HOLDFAST_{name.upper()}" for name in Settings.model_fields]


def committed() -> list[Path]:
    """Every file that is or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_stands_in_the_example_file_and_in_the_readme(name: str) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.search(rf"^#? ?{name}=", example, re.MULTILINE), f"{name} is missing in .env.example"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|[^|]*`{name}`", readme, re.MULTILINE), f"{name} has no row in README's settings table"


def test_compose_hands_on_every_setting() -> None:
    """But for those that are the container's own: where it listens, and where its data lies."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(NAMES) - set(compose["x-settings"]) == {"HOLDFAST_HOST", "HOLDFAST_PORT", "HOLDFAST_DATA_DIR"}
    # What is not set is unset, not an empty text.
    empty = {name: "" for name, value in compose["x-settings"].items() if name in NAMES and value.endswith(":-}")}
    assert len(empty) > 20
    check = "from holdfast.core.settings import Settings; print(Settings(_env_file=None) == Settings.model_construct())"
    ran = subprocess.run([sys.executable, "-c", check], env={**os.environ, **empty}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_documents_name_no_setting_that_does_not_exist() -> None:
    # What Make and the tests read, and what compose hands to PostgreSQL, are no settings of the service.
    for name in (".env.example",):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"^#? ?(HOLDFAST_[A-Z_]+)=", text, re.MULTILINE))
        assert named <= set(NAMES), named - set(NAMES)
    rows = set(re.findall(r"^\| *`(HOLDFAST_[A-Z_]+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {row for row in rows if not row.startswith("HOLDFAST_TEST_")} <= set(NAMES)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def listed_files() -> dict[str, str]:
    text = (VENDOR / "VENDORED.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| ([\w./-]+) \| ([0-9a-f]{64}) \|$", text, re.MULTILINE))


def test_vendored_files_are_those_that_are_listed() -> None:
    there = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()} - {"VENDORED.md"}
    assert there == set(listed_files())


@pytest.mark.parametrize("name", listed_files())
def test_a_vendored_file_is_byte_identical(name: str) -> None:
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == listed_files()[name]


def test_vendored_packages_are_listed_with_version_licence_and_integrity() -> None:
    text = (VENDOR / "VENDORED.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w@/-]+) \| (\d+\.\d+\.\d+) \| ([\w.-]+) \| (sha512-[\w+/=]+) \|$", text, re.MULTILINE)
    assert len(rows) == len({name.split("/")[0] for name in listed_files()})
    for folder in {name.split("/")[0] for name in listed_files()}:
        assert (VENDOR / folder / "LICENSE").is_file()


_LOADED = re.compile(r"""(?:src|href|action|data|poster)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)|@import\s+["']([^"']+)""")


@pytest.mark.parametrize("page", ["/", "/docs", "/redoc"])
async def test_a_page_loads_nothing_from_elsewhere_and_starts_no_inline_script(page: str, client: httpx.AsyncClient) -> None:
    shown = await client.get(page)
    assert shown.status_code == 200
    assert shown.headers["content-type"].startswith("text/html")
    assert not re.findall(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", shown.text)
    assert not re.findall(r"\son\w+\s*=", shown.text)
    found = [next(filter(None, groups)) for groups in _LOADED.findall(shown.text)]
    assert found
    for address in found:
        assert address.startswith("/"), address
        assert not address.startswith("//"), address
        if address.startswith("/static/"):
            loaded = await client.get(address)
            assert loaded.status_code == 200, address
            if "/vendor/" not in address:
                foreign = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", loaded.text)
                assert [one for one in foreign if "w3.org" not in one] == [], address


def test_alembics_head_is_the_one_that_readiness_asks_for() -> None:
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(migrations.folder()))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.head()]


#: Put together here, so that this file does not name what it forbids.
_MIRRORS = ["--index-" + "url", "--extra-index-" + "url", "--trusted-" + "host", "art" + "ifactory", "nex" + "us/repository"]
_HOME = re.compile(rb"(?<![\w.$}~:/-])/(?:home|root|Users|work|tmp|private|var/folders)/[\w.-]+/?[\w./-]*")
#: Where the service itself may put a copy of the binaries for the account that drops root.
_FINE = (b"/tmp/holdfast-root",)


def test_no_committed_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found: list[str] = []
    for path in committed():
        if VENDOR in path.parents or path == Path(__file__):
            continue
        content = path.read_bytes()
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}: {word}" for word in _MIRRORS if word.encode() in content]
        found += [f"{name}: {one.decode()}" for one in _HOME.findall(content) if not one.startswith(_FINE)]
        if path.suffix in {".txt", ".lock", ".toml", ".cfg"} or path.name == "package-lock.json":
            hosts = re.findall(rb"https?://([\w.-]+)[^\s\"']*\.(?:whl|tar\.gz|tgz|zip)\b", content)
            found += [f"{name}: {host.decode()}" for host in hosts]
    assert found == []


def test_pinned_requirements_are_hashed() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        pins = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
        assert pins, path.name
        for line in pins:
            assert re.match(r"[\w.\[\],-]+==\S+", line), f"{path.name}: {line[:80]}"
            assert "--hash=sha256:" in line, f"{path.name}: {line[:80]}"
