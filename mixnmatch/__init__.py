"""MixNMatch (arXiv 1911.11758) in plain PyTorch: networks, training, data, measures and mixing."""

__version__ = "0.1.0"
