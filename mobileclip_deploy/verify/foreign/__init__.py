"""Files that other tools wrote: the model in them, the inputs that they expect, and the causes of differences."""
