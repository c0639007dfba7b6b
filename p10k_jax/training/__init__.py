"""Learning: mesh and sharding rules, train state, the step, losses, optimizer, checkpoints."""
