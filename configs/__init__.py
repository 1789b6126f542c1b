"""YAML only; a package so that an installed copy carries its configuration."""
