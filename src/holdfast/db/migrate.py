"""Run the migrations (Alembic is slow to import: only whoever migrates pays for it)."""

from alembic import command
from alembic.config import Config

from holdfast.db import migrations


def alembic_config(url: str) -> Config:
    """Alembic's configuration for one database, without a file."""
    config = Config()
    config.set_main_option("script_location", str(migrations.folder()).replace("%", "%%"))
    config.attributes["database_url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring a database to a revision."""
    command.upgrade(alembic_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take a database back to a revision (`base`: before the first)."""
    command.downgrade(alembic_config(url), revision)
