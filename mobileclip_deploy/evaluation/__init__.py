"""Task accuracy of anything that embeds images and texts: zero-shot classification and retrieval."""
