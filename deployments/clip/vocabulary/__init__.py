"""Thousands of phrases that a picture is compared with, for tags: see docs/tags.md."""
