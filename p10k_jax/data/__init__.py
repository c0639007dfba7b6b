"""Data: a prepared split to uint8 batches on the mesh, and augmented views on the device."""
