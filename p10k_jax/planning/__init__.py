"""What a training will need of devices that are not there: compiling for them, and reading what was compiled."""
