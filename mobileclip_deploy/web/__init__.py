"""Pages for browsers: the page that shows a bundle, and the commands for it."""
