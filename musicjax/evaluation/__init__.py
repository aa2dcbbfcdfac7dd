"""A work dir or pieces -> figures, beside baselines."""
