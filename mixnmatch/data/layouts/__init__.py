"""The layouts that pictures with boxes come in, one module each; ``known`` finds them."""
