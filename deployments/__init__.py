"""The two model-facing deployments, one room each, and the two modules that both rooms and the ingress share."""
