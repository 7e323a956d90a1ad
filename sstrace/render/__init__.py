"""Rows → text or NDJSON. Renderers get values and a file object; they open and fetch nothing."""
