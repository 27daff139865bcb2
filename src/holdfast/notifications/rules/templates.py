"""Where the templates are, and how they are filled in: HTML escapes what it is given, a missing value is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_LOADER = FileSystemLoader(Path(__file__).parents[1] / "templates")
HTML = Environment(loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
#: Plain text has nothing to escape.
TEXT = Environment(
    loader=_LOADER,
    autoescape=False,  # noqa: S701 - as above
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
