"""What a training will need of devices that are not there: topologies, compiling for them, reading what was compiled."""
