"""The model: the variants' cards, the network, its tokenizer and preprocessing, precisions, provenance."""
