"""The HTTP application, and the composition of the three deployments."""
