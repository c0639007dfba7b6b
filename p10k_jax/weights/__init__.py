"""Weights: public checkpoints into a model, and a trained model back to timm."""
