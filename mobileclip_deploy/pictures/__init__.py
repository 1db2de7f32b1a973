"""Pictures and texts: found, decoded, embedded and cached."""
