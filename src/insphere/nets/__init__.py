"""Encoders and decoders. They know tensors only: not what they are trained for, nor where rows come from."""
