"""The stand-in: what can be measured in the pixels themselves, as the same five categories."""
