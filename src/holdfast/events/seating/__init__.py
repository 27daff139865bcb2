"""Seats side by side: a `Layout` says where they are and can be kept; a `Hall` says which are free, for one batch of requests."""

from holdfast.events.seating.hall import Hall
from holdfast.events.seating.layout import Layout, Seat, parse_label

__all__ = ["Hall", "Layout", "Seat", "parse_label"]
