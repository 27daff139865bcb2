"""`holdfast openapi`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.base import console
from holdfast.core.settings import load_settings


def openapi(
    output: Annotated[Path | None, typer.Option(help="A file; standard output without it.")] = None,
) -> None:
    """Write the OpenAPI document."""
    from holdfast.main import build_app, build_state

    # Describing the routes needs no database, so none is opened.
    settings = load_settings(database_url="postgresql://nobody@127.0.0.1/none")
    document = json.dumps(build_app(build_state(settings)).openapi(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(document)
        return
    output.write_text(document)
    console.print(f"{output} is written.")
