"""The `image-analyzer` command: start the service, check the machine, send pictures."""
