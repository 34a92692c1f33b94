"""Objectives and the only training loop. Tensors in, tensors out: nothing here knows estimators or files of rows."""
