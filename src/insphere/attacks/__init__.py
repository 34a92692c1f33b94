"""Images changed so little that people hardly see it, and so that a network errs; the only room beside the detectors that uses PyTorch."""
