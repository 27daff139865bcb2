"""Webhooks: other systems hear of every change, signed, at least once, and of one booking in order (api.md section 8)."""
