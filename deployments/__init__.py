"""The two model-facing deployments, one room each, and what both rooms and the ingress share."""
