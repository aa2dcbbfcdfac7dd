"""A corpus -> a trained model in a work dir."""
