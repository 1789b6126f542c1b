"""From uploaded bytes to a small upright picture in sRGB and its palette, within bounds of time and memory."""
