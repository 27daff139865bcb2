"""Holdfast: a self-hosted booking service in which nothing is ever booked twice."""

from importlib.metadata import version

__version__ = version("holdfast")
