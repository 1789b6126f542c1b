"""Reads a picture: one score per label, from CLIP or, until its weights are there, from measured pixels."""
