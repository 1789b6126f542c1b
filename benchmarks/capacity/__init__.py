"""A model of what the service can carry: measured costs, a simulation, and how many of each a given load needs."""
