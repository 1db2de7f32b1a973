"""Pages for browsers: a server on the loopback address, onnxruntime-web's files, and the page that shows a bundle."""
