"""Networks of MixNMatch: generator, discriminators, encoders and shape extractor."""

from mixnmatch.networks.discriminators import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    FeatureDiscriminator,
    ParentClassifier,
    PatchScores,
)
from mixnmatch.networks.encoders import Encoders, PairDiscriminator, PairDiscriminators
from mixnmatch.networks.extractor import ShapeExtractor
from mixnmatch.networks.generator import Generator, Layers, composite

__all__ = [
    "BackgroundDiscriminator",
    "ChildDiscriminator",
    "Encoders",
    "FeatureDiscriminator",
    "Generator",
    "Layers",
    "PairDiscriminator",
    "PairDiscriminators",
    "ParentClassifier",
    "PatchScores",
    "ShapeExtractor",
    "composite",
]
